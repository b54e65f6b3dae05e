"""Header fields: what a tunnel can have carried at all, and what its client's stack looks like.

Theory of operation
-------------------
Three comparisons of a flow with a tunnel, each weak in favour, two of them strong against:

*Size.* A packet longer than the largest record the tunnel ever sent in that direction can hold was not in it
(largest by the length map; a tunnel's MTU shows in its records after a few full packets). Each such packet
that the tunnel should have shown costs as much as a packet the ingress capture missed.

*ECN.* WireGuard copies the inner ECN field to the outer header (RFC 6040; wireguard(4)), Linux IPsec ECN and
DSCP. Where a tunnel of such a protocol shows no ECN-capable packet while the flow has some at egress, it did
not carry them. Where it shows some at just those times, that is evidence for it.

*TTL.* A packet reaches egress with the client's initial TTL less the hops inside, the outer packet reaches
ingress with its own stack's less the hops outside. With the VPN client on the device itself, both begin with
the same power of two (64 Linux, Apple, BSD; 128 Windows; 255 routers): same class is evidence, other class
not much against, for a router may run the VPN for others.

Assumptions: TTLs are not rewritten; a tunnel that has not shown a full packet says nothing of larger ones.

Silent on a pair where none of the three has anything to compare. Never more than a hint in favour: the score
is capped, the veto goes as far as the capture's miss rate allows.

Not used: the SYN's MSS. OpenVPN and tinc rewrite it, a PEP or firewall clamps it, and a smaller one than the
tunnel's MTU allows says nothing.

References: RFC 6040 (ECN in tunnels), RFC 2983 (DSCP), RFC 4301, 5.1.2 (IPsec); initial TTLs: Jin, Wang &
Shin 2007, "Hop-count filtering".
"""

from __future__ import annotations

from itertools import product

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import USUAL_MISS, Case
from vpnforensics.engines.grouped import count_between, extremes, largest_values, longest_packets
from vpnforensics.engines.scores import EngineScores, Pairs, in_order, silent
from vpnforensics.engines.upstream import Upstream, field

NAME = "headers"

_FULL_RECORDS = 5
"""A size seen so often is that of full packets, and no stray; of ten times as many records."""
_ECN_MISS = 0.02
"""Share of carried ECN-capable packets that are not seen as such."""
_ECN_SHARE = 0.05
"""Of tunnels with ECN-capable packets at any given time, among those whose protocol copies the field."""
_SAME_DEVICE = 0.7
"""Share of flows whose device runs the VPN itself; the others come from behind a router's."""
_TTL_POPULATION = {32: 0.01, 64: 0.70, 128: 0.24, 255: 0.05}
"""Of initial TTLs among client devices, rounded from passive fingerprinting surveys."""
_INITIAL_TTLS = np.array(list(_TTL_POPULATION))
_EDGE_NS = 200_000_000
"""By which a flow's time is widened: delays, and what is open in the alignment."""


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """What the fields allow, forbid and suggest, of every flow and tunnel alive at its time.

    ``n`` is the number of the flow's packets.
    """
    flows, tunnels = len(case.flows), len(case.tunnels)
    if not tunnels or not flows:
        return silent(NAME, {"no tunnels or no flows": max(flows, tunnels)})
    begin = case.alignment.to_ingress(case.flows.first_ns)
    end = case.alignment.to_ingress(case.flows.last_ns)
    pairs = in_order(only, flows, tunnels)
    first = case.tunnels.first_ns[pairs.tunnel] - _EDGE_NS
    last = case.tunnels.last_ns[pairs.tunnel] + _EDGE_NS
    pairs = pairs.take((end[pairs.flow] >= first) & (begin[pairs.flow] <= last))
    outer = case.outer
    size = _size_step(case, pairs)
    ttl = _ttl_step(_flow_ttl(case)[pairs.flow], _tunnel_ttl(case, outer)[pairs.tunnel])
    ecn = _ecn_step(case, outer, pairs, begin, end)
    total = np.nan_to_num(size) + np.nan_to_num(ttl) + np.nan_to_num(ecn)
    known = ~(np.isnan(size) & np.isnan(ttl) & np.isnan(ecn))
    compared = np.zeros(flows, np.bool_)
    compared[pairs.flow[known]] = True
    listed = np.flatnonzero(known & (total != 0.0))
    silence = {"nothing in common to compare": int((~compared).sum())} if not compared.all() else {}
    if not len(listed):
        return silent(NAME, silence or {"the fields say the same of every tunnel": flows})
    flow = pairs.flow[listed]
    return EngineScores(
        NAME,
        flow,
        pairs.tunnel[listed],
        total[listed],
        np.diff(case.egress.start)[flow].astype(np.int32),
        _notes(size[listed], ttl[listed], ecn[listed]),
        silence,
    )


def initial_ttl(ttl: npt.NDArray[np.integer]) -> Ints:
    """The least usual initial TTL that is not below what arrived."""
    return _INITIAL_TTLS[np.minimum(np.searchsorted(_INITIAL_TTLS, ttl), len(_INITIAL_TTLS) - 1)]


def _largest_inner(case: Case) -> Ints:
    """Longest inner packet each tunnel has shown room for, by direction (down, up); -1 where not known.

    The record size that full packets have is the largest one seen a few times.
    """
    records, tunnels = case.tunnels.records, len(case.tunnels)
    largest, times, size = (
        found.reshape(tunnels, 2)
        for found in largest_values(2 * records.tunnel + records.up, records.size, 2 * tunnels)
    )
    full = (size >= 10 * _FULL_RECORDS) & (times >= _FULL_RECORDS)
    out = np.full((tunnels, 2), -1, np.int64)
    inner = np.arange(20, 65_536)  # from a bare header to all that an IP packet can have
    for number, length_map in enumerate(case.maps):
        outer = length_map.outer(inner)  # never falls
        fits = np.r_[-1, inner][np.searchsorted(outer, largest, side="right")]
        out = np.where(full & (case.map_of_tunnel == number)[:, None], fits, out)
    return out


def _size_step(case: Case, pairs: Pairs) -> Floats:
    """Log10 of the chance that the capture missed all packets too long for the tunnel; NaN if unknown."""
    egress = case.egress
    longest = longest_packets(egress.start, egress.up, egress.inner_bytes)[pairs.flow]
    largest = _largest_inner(case)[pairs.tunnel]
    over = (longest > largest[:, :, None]).sum(axis=2)  # of the longest three: more make it no surer
    known = largest > 0
    missed = (over * np.log10(USUAL_MISS)).sum(axis=1, where=known)
    return np.where(known.any(axis=1), missed, np.nan)


def _flow_ttl(case: Case) -> Ints:
    """Initial TTL of each flow's client side; 0 where no packet or not constant."""
    flows = case.flows
    low, high = extremes(flows.flow, flows.packets.ttl, flows.up, len(flows))
    steady = (high > 0) & (high - low <= 1)
    # One hop, the VPN server, lies between the tunnel and egress in any case.
    return np.where(steady, initial_ttl(high + 1), 0)


def _tunnel_ttl(case: Case, outer: Upstream) -> Ints:
    """Initial TTL of each tunnel's outer packets from the client; 0 where unknown or not constant."""
    seen = outer.owner * 256 + field(case.conversations.packets, outer, "ttl")
    counts = np.bincount(seen, minlength=256 * len(outer)).reshape(-1, 256)
    usual = counts.argmax(axis=1)
    return np.where(counts.max(axis=1) > 0.5 * np.diff(outer.start), initial_ttl(usual), 0)


def _ttl_step(flow_ttl: Ints, outer: Ints) -> Floats:
    share = np.full(256, np.nan)
    share[list(_TTL_POPULATION)] = list(_TTL_POPULATION.values())
    population = np.where(outer == 0, np.nan, share[flow_ttl])
    same = flow_ttl == outer
    return np.asarray(np.log10((_SAME_DEVICE * same + (1 - _SAME_DEVICE) * population) / population))


def _ecn_capable(case: Case) -> Ints:
    """ECN-capable packets from the client side of each flow."""
    flows = case.flows
    capable = flows.up & (flows.packets.tos & 3 != 0)
    return np.bincount(flows.flow[capable], minlength=len(flows))


def _ecn_step(case: Case, outer: Upstream, pairs: Pairs, begin: Ints, end: Ints) -> Floats:
    """For flows with ECN-capable packets: does the tunnel show as many while the flow lasts?"""
    copies = np.array([t.copies_ecn for t in case.tunnels.tunnels])
    capable = _ecn_capable(case)[pairs.flow]
    asked = np.flatnonzero(copies[pairs.tunnel] & (capable > 0))
    flow, tunnel = pairs.flow[asked], pairs.tunnel[asked]
    marked = outer.keep(field(case.conversations.packets, outer, "tos") & 3 != 0)
    shown = count_between(marked.start, marked.ts_ns, tunnel, begin[flow] - _EDGE_NS, end[flow] + _EDGE_NS)
    enough = shown >= np.ceil(0.9 * capable[asked])
    share = np.diff(marked.start) / np.maximum(np.diff(outer.start), 1)
    there = np.log10((1 - _ECN_MISS) / np.maximum(_ECN_SHARE, share))[tunnel]
    step = np.full(len(pairs), np.nan)
    step[asked] = np.where(enough, there, np.log10(_ECN_MISS / (1 - _ECN_SHARE)))
    return step


def _notes(size: Floats, ttl: Floats, ecn: Floats) -> tuple[str, ...]:
    """What was compared, of each pair; there are few different answers."""
    words = (
        ("", "packets too long for the tunnel"),
        ("", "same initial TTL", "other initial TTL"),
        ("", "ECN copied", "ECN not copied"),
    )
    answers = [", ".join(part for part in said if part) for said in product(*words)]
    way_of_ttl, way_of_ecn = (np.where(np.isnan(s), 0, np.where(s > 0, 1, 2)) for s in (ttl, ecn))
    return tuple(answers[i] for i in ((size < 0) * 9 + way_of_ttl * 3 + way_of_ecn).tolist())
