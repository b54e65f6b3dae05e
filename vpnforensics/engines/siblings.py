"""Siblings: a flow's IP IDs run on where those of the tunnel's linked flows stand.

Theory of operation
-------------------
Few systems still number all their packets by one counter, but many have one for each destination (Windows
from 8 on; Linux for datagrams of unconnected sockets), and all clients of a VPN ask the same resolver. Once
most flows are linked by their packets, the counter of each client towards each destination is known from
them: at any moment it stands between the IDs of two linked packets. A flow that packets leave open, a lookup
of two packets say, is held against the counters of the tunnels that may have carried it.

Under H1 its IDs stand between those of the linked packets before and after: for each run of its packets
between two of theirs the steps into it and out of it are those of the counter, less the step across that
they replace. Under H2 the flow begins anywhere, at one value in 65,536, and goes on by steps of its own or
at random. Steps are read by the gap law (:mod:`vpnforensics.features.gap_law`), all its scales alike. The
score is the logarithm of the ratio, as in :func:`vpnforensics.features.ip_id_strings.weigh_members`.

Assumes that the linked flows are linked rightly, and that hosts of different tunnels count independently. A
linked flow is held against the others of its tunnel, never against itself. Never speaks against a pair: a
host may have a counter for each socket. Silent where flows have no IDs (zero, IPv6), where no other linked
flow of the tunnel goes to the same destination, and without links.

RFC 6864; Bellovin 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import EngineScores, Pairs, in_order, silent
from vpnforensics.engines.upstream import field, inner_upstream
from vpnforensics.features.gap_law import IDS, LOG_CHANCE, LOG_P
from vpnforensics.features.wraparound import signed_difference
from vpnforensics.flows.grouping import changes, runs

NAME = "siblings"

_LOG_STEP = np.log(np.exp(LOG_P).mean(axis=1))
"""Log-probability of a step, whatever the counter's scale: how busy a host is differs by the minute."""


@dataclass(frozen=True, eq=False)
class _Counters:
    """Packets of linked flows with an ID, by tunnel and destination, in order of time."""

    key: Ints
    ts_ns: Ints
    ip_id: Ints
    flow: Ints
    before: Ints
    """Row of the packet of another flow before each one's run; -1 without."""
    after: Ints
    """And of the one after it; -1 without."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """Scores of flows in tunnels whose linked flows count towards the same destination."""
    linked = case.linked
    if linked is None or not (linked >= 0).any():
        return silent(NAME, {"no flow is linked by its packets": len(case.flows)})
    sent = inner_upstream(case)
    packets = case.flows.packets
    sent = sent.keep(packets.ip_id[sent.row] > 0)
    silence = {}
    if bare := int(np.sum(np.diff(sent.start) == 0)):
        silence["flow without IP IDs (zero, or IPv6)"] = bare
    pairs = in_order(only, len(case.flows), len(case.tunnels))
    ids, to = field(packets, sent, "ip_id"), field(packets, sent, "dst")
    destinations = len(packets.addresses.texts)
    counters = _counters(linked[sent.owner].astype(np.int64), sent.owner, sent.ts_ns, ids, to, destinations)
    if not len(counters.key):
        return silent(NAME, {"no linked flow has IP IDs": len(case.flows)})
    of, row = runs(sent.start[pairs.flow], sent.start[pairs.flow + 1])
    key = pairs.tunnel[of].astype(np.int64) * destinations + to[row]
    before, after = _neighbours(counters, key, sent.ts_ns[row], sent.owner[row])
    value, met = _weigh(counters, of, ids[row], before, after, len(pairs))
    for_it = np.flatnonzero(value > 0)
    if unspoken := int(np.sum(~met)):
        silence["pair without other linked flows to the same destination"] = unspoken
    if against := int(np.sum(met & (value <= 0))):
        silence["pair whose IP IDs do not run on from the tunnel's linked flows"] = against
    return EngineScores(
        NAME,
        pairs.flow[for_it],
        pairs.tunnel[for_it],
        value[for_it],
        np.diff(sent.start)[pairs.flow[for_it]].astype(np.int32),
        ("IP IDs run on from linked flows to the same destination",) * len(for_it),
        silence,
    )


def _counters(tunnel: Ints, flow: Ints, ts_ns: Ints, ip_id: Ints, to: Ints, destinations: int) -> _Counters:
    """What linked flows sent; arrays have one entry a packet, ``tunnel`` is -1 of those not linked."""
    mine = np.flatnonzero(tunnel >= 0)
    key = tunnel[mine] * destinations + to[mine]
    order = np.lexsort((ts_ns[mine], key))
    mine, key = mine[order], key[order]
    begins = np.flatnonzero(changes(key, flow[mine]))
    ends = np.r_[begins[1:], len(mine)]
    run = np.repeat(np.arange(len(begins)), ends - begins)
    first_of_key = changes(key)
    before = np.where(first_of_key[begins], -1, begins - 1)
    after = np.where(np.r_[first_of_key, True][ends], -1, ends)
    return _Counters(key, ts_ns[mine], ip_id[mine], flow[mine], before[run], after[run])


def _neighbours(counters: _Counters, key: Ints, ts_ns: Ints, flow: Ints) -> tuple[Ints, Ints]:
    """Rows of the counter's packets of other flows before and after each packet; -1 without."""
    count = len(counters.key)
    order = np.lexsort((np.r_[counters.ts_ns, ts_ns], np.r_[counters.key, key]))
    place = np.empty(len(order), np.int64)
    place[order] = np.cumsum(order < count)  # rows of the counter so far
    after = place[count:]
    before = after - 1
    own = (after < count) & (np.r_[counters.flow, -1][after] == flow)
    after = np.where(own & (np.r_[counters.key, -1][after] == key), np.r_[counters.after, -1][after], after)
    after = np.where(np.r_[counters.key, -1][after] == key, after, -1)
    own = (before >= 0) & (counters.flow[before] == flow) & (counters.key[before] == key)
    before = np.where(own, counters.before[before], before)
    before = np.where((before >= 0) & (counters.key[before] == key), before, -1)
    return before, after


def _weigh(
    counters: _Counters, pair: Ints, ip_id: Ints, before: Ints, after: Ints, pairs: int
) -> tuple[Floats, Bools]:
    """log10 of P(IDs | the tunnel's counter) over P(IDs | another) of each pair; whether there was any."""
    begins = np.flatnonzero(changes(pair, before, after))
    ends = np.r_[begins[1:], len(pair)] - 1
    of = pair[begins]
    near, far = before[begins], after[begins]
    value = counters.ip_id
    into = _log_p(ip_id[begins], value[near], near >= 0)
    out = _log_p(value[far], ip_id[ends], far >= 0)
    across = _log_p(value[far], value[near], (near >= 0) & (far >= 0))
    again = np.r_[False, of[1:] == of[:-1]]
    own = _log_p(ip_id[begins], ip_id[ends[np.arange(len(ends)) - 1]], again)
    own = np.where(again, np.maximum(own, LOG_CHANCE), 0.0)  # IDs drawn at random are an H2 as well
    total = np.bincount(of, into + out - across - own, pairs) - LOG_CHANCE
    met = np.bincount(of, (near >= 0) | (far >= 0), pairs) > 0
    return np.where(met, total / np.log(10.0), 0.0), met


def _log_p(ip_id: Ints, since: Ints, known: Bools) -> Floats:
    """Log-probability of the step to an ID from the one since; 0 where there is none."""
    return np.where(known, _LOG_STEP[signed_difference(ip_id, since, 16) % IDS], 0.0)
