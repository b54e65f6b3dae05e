"""Volume: streams that carry many connections, by the bytes that each burst of a flow needs there and then.

Theory of operation
-------------------
One stream of ``ssh -D`` carries all connections of its client, and writes what several of them wrote as one.
Single writes are merged then (:mod:`vpnforensics.engines.writes`), but bytes are not lost: a burst of a flow
(one direction, up to a silence) of n bytes needs what the relay's write law makes of n on its carrier, within
the relay's delay. What is noted of a burst and a carrier:

- *outcome*: whether its bytes are there in pieces of their own; else how many bytes there are, against those
  needed; or not even later, which causality forbids;
- *place*: the time from the burst's beginning to the first of those bytes.

All of it is put into classes, and nothing is assumed of a class: how often pairs that are known have it,
against how often others have it, is counted in the case (:mod:`vpnforensics.evidence.volume`). Where a
carrier has bytes for one burst it is busy, and likelier to have some for the next: outcomes are counted by
what it had for the burst before. Without that, chance left little of a score.

Flows that are known take their bytes out of the streams: bursts that find just theirs first, the others in
order of size. So each byte of a stream is evidence for one flow.

The work is by bursts and the carriers that had any bytes in their windows.

Assumptions: aligned clocks; a known write law; flows that the writes linked, which show how a carrier looks.

Silent for datagrams and flows without payload, where each flow has a connection of its own
(:mod:`vpnforensics.engines.connections`), and where fewer than 20 pairs are known (Tor, padded relays).

Known weaknesses: clients that open like connections at one moment, one of whom was not captured; delays of
more than a burst's pause; several tens of milliseconds of jitter, which leave little but the amounts.

Counting packets: Serjantov & Sewell 2003 (ESORICS); stepping stones: Donoho et al. 2002 (RAID).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vpnforensics.arrays import Bools, Columns, Floats, Ints
from vpnforensics.engines._volume_kernels import Found, Stock, Wanted, look, name_rivals, take
from vpnforensics.engines.case import Case
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import client_is_source
from vpnforensics.tunnels.reassembly import reassemble_streams
from vpnforensics.tunnels.write_law import WriteLaw
from vpnforensics.tunnels.writes import find_writes

NAME = "volume"

_MS = 1_000_000
_QUIET_NS = 20 * _MS
"""Silence between bursts: more than most of a relay's delays, less than round trips of wide areas."""
_COVERED = 0.02, 0.98
"""Of the delay law, what a window covers, within these bounds:"""
_EARLY_NS, _LATE_NS = (5 * _MS, 40 * _MS), (25 * _MS, 60 * _MS)
_EVER_NS, _EVER_NS_A_BYTE = 1_000 * _MS, 1_000
"""A byte that is not there by then (a second, and as long as a line of 8 Mbit/s takes) never was."""
_READS = 4
"""The law adds for each read; a burst is read in so many, at most, to be told as one."""
_BULK_BYTES = 60_000
"""Of larger bursts only whether their bytes ever passed: their carrier spreads them as it can."""
_SHARES_LESS, _SHARES_MORE = np.array([-0.5, -0.02, 0.0]), np.array([0.5, 2.0])
"""Bytes more than needed, as a share of them."""
_NEVER, _LESS, _WHOLE, _MORE, _MUCH, _NOTHING, _OUTCOMES = 0, 1, 4, 5, 7, 8, 9
_FIRST, _WITHOUT, _WITH, _BEFORE = 0, 1, 2, 3
"""What the carrier had for the burst before."""
_PLACE_NS = np.array([-50, -20, -10, -5, -2, -1, -0.5, -0.1, 0, 0.1, 0.3, 0.5, 1, 2, 5, 10, 20, 50]) * _MS
_PLACES = len(_PLACE_NS) + 1
_OF_OUTCOME = 2 * _BEFORE * _OUTCOMES
_NOWHERE_NS = 1 << 60

CLASSES = _OF_OUTCOME + 2 * _OUTCOMES * _PLACES
FEATURES: Ints = np.r_[
    np.repeat(np.arange(2 * _BEFORE), _OUTCOMES),
    2 * _BEFORE + np.repeat(np.arange(2 * _OUTCOMES), _PLACES),
]
"""Of each class, that of which it is one: exactly one class of a feature is noted where it applies."""
_outcome = np.r_[np.arange(_OF_OUTCOME) % _OUTCOMES, np.arange(CLASSES - _OF_OUTCOME) // _PLACES % _OUTCOMES]
AGAINST: Bools = (_outcome < _WHOLE - 1) | (_outcome == _NOTHING)
"""Classes of bursts whose bytes are not there: never evidence for a pair, whatever was counted."""
OF_A_HEAP: Bools = (_outcome >= _MORE) & (_outcome <= _MUCH)
"""Classes of bursts whose bytes are there among others, which may be anybody's."""


@dataclass(frozen=True, eq=False)
class Bursts(Columns):
    """Bursts of flows, by flow and time; on the ingress clock."""

    flow: Ints
    down: Ints
    begin_ns: Ints
    end_ns: Ints
    need: Ints
    """Bytes that its carrier needs for it at least."""
    most: Ints
    """And at most."""

    def moved(self, shift_ns: Ints, of: Bools) -> Bursts:
        """Those of some flows, each flow moved by a time."""
        kept = self.take(of[self.flow])
        by = shift_ns[kept.flow]
        return replace(kept, begin_ns=kept.begin_ns + by, end_ns=kept.end_ns + by)


@dataclass(frozen=True, eq=False)
class Carried:
    """Bytes of the carriers as they came: ``2 t`` is tunnel t's stream up, ``2 t + 1`` its stream down."""

    tunnels: int
    ts_ns: Ints
    size: Ints
    key: Ints
    """Stream and time in one number, ascending."""
    origin_ns: int
    span_us: int

    def rows(self, stream: Ints, at_ns: Ints) -> Ints:
        """First piece of each stream at a time or after it."""
        us = np.clip((at_ns - self.origin_ns) // 1000, 0, self.span_us - 1)
        return np.searchsorted(self.key, stream * self.span_us + us)

    def stock(self) -> Stock:
        """The pieces, of which nothing is taken."""
        return Stock(self.ts_ns, self.size, self.size.copy(), np.full(len(self.size), -1))

    def passed(self, stream: Ints, begin_ns: Ints, end_ns: Ints) -> Ints:
        """Bytes of each stream within a time."""
        before = np.r_[0, np.cumsum(self.size)]
        return np.asarray(before[self.rows(stream, end_ns)] - before[self.rows(stream, begin_ns)])


@dataclass(frozen=True, eq=False)
class Observed(Columns):
    """What is noted of bursts and carriers, but for carriers that had nothing, and nothing before."""

    flow: Ints
    tunnel: Ints
    outcome: Ints
    """Class."""
    place: Ints
    """Class, or -1."""
    instead: Ints
    """Class that would be noted, had the carrier nothing now and before."""

    def counts(self, of: Bools) -> Floats:
        """How much oftener each class is noted in some rows than it would be instead."""
        noted = np.r_[self.outcome[of], self.place[of & (self.place >= 0)]]
        more = np.bincount(noted, minlength=CLASSES) - np.bincount(self.instead[of], minlength=CLASSES)
        return more.astype(np.float64)

    def worth(self, worth: Floats) -> Floats:
        """Of each row, more than instead."""
        placed = np.where(self.place >= 0, worth[self.place], 0.0)
        return np.asarray(worth[self.outcome] + placed - worth[self.instead])


@dataclass(frozen=True, eq=False)
class Compared:
    """Bursts with all carriers that had bytes in their windows."""

    carried: Carried
    bursts: Bursts
    burst: Ints
    """Of each pair; pairs are by tunnel, then burst."""
    tunnel: Ints
    _wanted: Wanted
    _ever: Bools

    def observe(self, stock: Stock, owner: Ints, took: Found) -> Observed:
        """Classes of all pairs.

        Parameters
        ----------
        stock : Stock
            The pieces, after all took theirs.
        owner : ndarray of int64, shape (flows,)
            Tunnel in which each flow has taken its bytes, -1 for none.
        took : Found
            What each burst has taken there.
        """
        bursts, burst = self.bursts, self.burst
        outcome, place = self._noted(stock, self._wanted, self._own(owner, took), took)
        next_to = np.zeros(len(burst) + 1, np.bool_)  # the row before is of the burst before
        next_to[1:-1] = (np.diff(burst) == 1) & (np.diff(self.tunnel) == 0)
        first = changes(bursts.flow)
        had = outcome > _LESS + 1
        follows = next_to[:-1] & np.r_[False, had][:-1]
        before = np.where(first[burst], _FIRST, np.where(follows, _WITH, _WITHOUT))
        # Where a carrier had bytes and then has nothing, that is noted, too.
        lonely = np.flatnonzero(had & ~next_to[1:] & (burst + 1 < len(bursts)))
        lonely = lonely[~first[burst[lonely] + 1]]
        after = burst[lonely] + 1
        feature, instead = bursts.down[burst] * _BEFORE + before, instead_of(bursts)
        return Observed(
            bursts.flow[np.r_[burst, after]],
            np.r_[self.tunnel, self.tunnel[lonely]],
            np.r_[feature, bursts.down[after] * _BEFORE + _WITH] * _OUTCOMES
            + np.r_[outcome, np.full(len(after), _NOTHING)],
            np.r_[place, np.full(len(after), -1)],
            instead[np.r_[burst, after]],
        )

    def given_back(
        self, stock: Stock, owner: Ints, took: Found, observed: Observed, worth: Floats
    ) -> tuple[Ints, Ints, Floats]:
        """What each pair would gain, had the flow that took most of its window not done so.

        Returns
        -------
        rival : ndarray of int64
            That flow, -1 for none; of each pair.
        piece : ndarray of int64
            Its largest piece there.
        gain : ndarray of float64
            Of worth, 0 at least.
        """
        pairs = len(self.burst)
        rival, piece = np.full((2, pairs), -1)
        name_rivals(stock, self._wanted, np.zeros(len(owner), np.int64), rival, piece)
        own = self._own(owner, took)
        outcome, place = self._noted(stock, self._wanted._replace(rival=rival), own, took)
        feature = observed.outcome[:pairs] // _OUTCOMES
        now = Observed(*(getattr(observed, name)[:pairs] for name in observed.__dataclass_fields__))
        then = replace(now, outcome=feature * _OUTCOMES + outcome, place=place)
        gain = np.maximum(then.worth(worth) - now.worth(worth), 0.0)
        return rival, piece, np.where(rival >= 0, gain, 0.0)

    def _own(self, owner: Ints, took: Found) -> Bools:
        """Pairs of a burst with the tunnel in which it took bytes."""
        return np.asarray((owner[self.bursts.flow[self.burst]] == self.tunnel) & (took.size[self.burst] > 0))

    def _noted(self, stock: Stock, wanted: Wanted, own: Bools, took: Found) -> tuple[Ints, Ints]:
        """Outcome of each pair, and class of its place."""
        burst = self.burst
        found = _nothing(len(burst))
        look(stock, wanted, found)
        size = found.size + np.where(own, took.size[burst], 0)
        apart = np.where(own, took.apart_ns[burst], found.apart_ns)
        outcome = self._outcomes(size, np.where(own, took.whole[burst], found.whole))
        of = (self.bursts.down[burst] * _OUTCOMES + outcome) * _PLACES + np.searchsorted(_PLACE_NS, apart)
        placed = (outcome != _NEVER) & (self.bursts.need[burst] <= _BULK_BYTES)
        return outcome, np.where(placed, _OF_OUTCOME + of, -1)

    def _outcomes(self, size: Ints, whole: Bools) -> Ints:
        need, most = self._wanted.need, self._wanted.most
        less = _LESS + np.searchsorted(_SHARES_LESS, (size - need) / need, side="right")
        more = _MORE + np.searchsorted(_SHARES_MORE, (size - most) / need)
        outcome = np.where(size < need, less, more)
        outcome = np.where(whole, _WHOLE, outcome)
        return np.where(self._ever, np.where(need > _BULK_BYTES, _MUCH, outcome), _NEVER)


@dataclass(frozen=True, eq=False)
class Volume:
    """Both sides of a case, to compare burst by burst."""

    carried: Carried
    bursts: Bursts
    of: Bools
    """Tunnels that are compared."""
    early_ns: tuple[int, int]
    late_ns: tuple[int, int]
    """Up, down: time of an outer byte before and after the inner one, as the delay goes."""

    def compare(self, bursts: Bursts) -> Compared:
        """Bursts with every carrier that had bytes then."""
        tunnel, burst = np.flatnonzero(self.of), np.arange(len(bursts))
        begin, end = self._window(bursts)
        found = []
        for t in tunnel.tolist():
            stream = 2 * t + bursts.down
            first, stop = self.carried.rows(stream, begin), self.carried.rows(stream, end)
            some = stop > first
            found.append((burst[some], np.full(int(some.sum()), t), first[some], stop[some]))
        burst, of, first, stop = (
            np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True)
        )
        mine = bursts.take(burst)
        ever = _EVER_NS + mine.need * _EVER_NS_A_BYTE
        begin = mine.begin_ns - np.where(mine.down == 0, ever, _EARLY_NS[1])
        end = mine.end_ns + np.where(mine.down == 1, ever, _EARLY_NS[1])
        passed = self.carried.passed(2 * of + mine.down, begin, end)
        wanted = _wanted(first, stop, mine)
        return Compared(self.carried, bursts, burst, of, wanted, passed >= mine.need)

    def take(self, bursts: Bursts, owner: Ints, claim: Floats) -> tuple[Stock, Found]:
        """What is left of the pieces, and what bursts took whose flows have an owner.

        Parameters
        ----------
        bursts : Bursts
        owner : ndarray of int64, shape (flows,)
            Tunnel, -1 for none.
        claim : ndarray of float64, shape (flows,)
            Of bursts that need as much, those of the flows that are surer come first.
        """
        tunnel = owner[bursts.flow]
        begin, end = self._window(bursts)
        stream = 2 * np.maximum(tunnel, 0) + bursts.down
        first, stop = self.carried.rows(stream, begin), self.carried.rows(stream, end)
        order = np.lexsort((np.arange(len(bursts)), -claim[bursts.flow], bursts.need))
        stock, took = self.carried.stock(), _nothing(len(bursts))
        take(stock, _wanted(first, stop, bursts), order[tunnel[order] >= 0], took)
        return stock, took

    def _window(self, bursts: Bursts) -> tuple[Ints, Ints]:
        """Beginning and end of where each burst's bytes are."""
        up = bursts.down == 0
        return (
            bursts.begin_ns - np.where(up, self.late_ns[0], self.early_ns[1]),
            bursts.end_ns + np.where(up, self.early_ns[0], self.late_ns[1]),
        )


def instead_of(bursts: Bursts) -> Ints:
    """Class that each burst has in a carrier that had nothing, now and before."""
    before = np.where(changes(bursts.flow), _FIRST, _WITHOUT)
    return np.asarray((bursts.down * _BEFORE + before) * _OUTCOMES + _NOTHING)


def prepare(case: Case, tunnels: Bools, law: WriteLaw, delays: dict[str, Any]) -> Volume:
    """The case's bursts and carriers.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers.
    tunnels : ndarray of bool
        Which of them have this law.
    law : WriteLaw
    delays : dict
        Delay law of the writes, as a decision has it.
    """
    early, late = zip(*(_reach(delays, direction) for direction in ("up", "down")), strict=True)
    return Volume(_carried(case), _bursts(case, law), tunnels, early, late)


def _reach(delays: dict[str, Any], direction: str) -> tuple[int, int]:
    """How early and how late an outer byte may be."""
    density = np.asarray(delays[direction])
    share = np.cumsum(density) / max(density.sum(), 1e-300)
    low, high = (delays["low_ns"] + delays["step_ns"] * int(np.searchsorted(share, q)) for q in _COVERED)
    return int(np.clip(-low, *_EARLY_NS)), int(np.clip(high, *_LATE_NS))


def _carried(case: Case) -> Carried:
    table, tunnels = case.conversations, case.tunnels.tunnels
    tunnel_of = np.full(len(table), -1, np.int64)
    for n, tunnel in enumerate(tunnels):
        tunnel_of[[tunnel.conversation, *tunnel.beside]] = n
    forward = client_is_source(table, find_writes(table))
    numbers = np.flatnonzero(tunnel_of >= 0)
    pieces = reassemble_streams(table, numbers)
    conversation, down = numbers[pieces.stream >> 1], pieces.stream & 1
    down = np.where(forward[conversation], down, 1 - down)
    stream, ts_ns = 2 * tunnel_of[conversation] + down, table.packets.ts_ns[pieces.done]
    origin_ns = int(ts_ns.min(initial=_NOWHERE_NS)) if len(ts_ns) else 0
    span_us = (int(ts_ns.max(initial=origin_ns)) - origin_ns) // 1000 + 2
    order = np.lexsort((ts_ns, stream))
    key = (stream * span_us + (ts_ns - origin_ns) // 1000)[order]
    return Carried(len(tunnels), ts_ns[order], pieces.size[order], key, origin_ns, span_us)


def _bursts(case: Case, law: WriteLaw) -> Bursts:
    flows = case.captured or case.flows
    numbers = np.flatnonzero(flows.proto == PROTO_TCP)
    pieces = reassemble_streams(flows, numbers)
    ts_ns = case.alignment.to_ingress(flows.packets.ts_ns[pieces.done])
    order = np.lexsort((ts_ns, pieces.stream))
    stream, ts_ns = pieces.stream[order], ts_ns[order]
    opens = changes(stream)
    opens[1:] |= np.diff(ts_ns) > _QUIET_NS
    first = np.flatnonzero(opens)
    last = np.r_[first[1:], len(stream)].astype(np.int64) - 1 if len(first) else first
    sums = np.r_[0, np.cumsum(pieces.size[order])]
    need = law.outer(sums[last + 1] - sums[first])
    reads = np.minimum(last - first + 1, _READS)
    each = law.frame + law.unit + law.extra
    found = Bursts(
        numbers[stream[first] >> 1], stream[first] & 1, ts_ns[first], ts_ns[last], need, need + reads * each
    )
    return found.take(np.lexsort((found.begin_ns, found.flow)))


def _nothing(many: int) -> Found:
    return Found(np.zeros(many, np.int64), np.full(many, _NOWHERE_NS), np.zeros(many, np.bool_))


def _wanted(first: Ints, stop: Ints, bursts: Bursts) -> Wanted:
    nobody = np.full(len(bursts), -1)
    return Wanted(first, stop, bursts.begin_ns, bursts.need, bursts.most, bursts.flow, nobody)
