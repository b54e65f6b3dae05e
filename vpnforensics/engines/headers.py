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

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import EngineScores, Pairs, every_pair, silent
from vpnforensics.tunnels.table import Tunnel

NAME = "headers"
CITATION = "RFC 6040, RFC 2983 (ECN and DSCP in tunnels); Jin, Wang & Shin 2007 (initial TTL)"

_MISS = 0.03
_VETO_PACKETS = 3
_FULL_RECORDS = 5
_COPIES_ECN = ("wireguard", "esp")
_ECN_MISS = 0.02
_ECN_SHARE = 0.05
"""Of tunnels with ECN-capable packets at any given time, among those whose protocol copies the field."""
_SAME_DEVICE = 0.7
_TTL_POPULATION = {32: 0.01, 64: 0.70, 128: 0.24, 255: 0.05}
"""Of initial TTLs among client devices, rounded from passive fingerprinting surveys."""
_INITIAL_TTLS = np.array([32, 64, 128, 255])
_EDGE_NS = 200_000_000


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """What the fields allow, forbid and suggest, of every flow and tunnel alive at its time.

    Parameters
    ----------
    case : Case
    only : Pairs, optional
        The pairs to compare; without, all.

    Returns
    -------
    EngineScores
        ``n`` is the number of packets of the flow that were compared.
    """
    flows, tunnels = len(case.flows), len(case.tunnels)
    if not case.alignment.usable:
        return silent(NAME, {"the two clocks cannot be aligned": flows})
    if not tunnels or not flows:
        return silent(NAME, {"no tunnels or no flows": max(flows, tunnels)})
    begin = case.alignment.to_ingress(case.flows.first_ns)
    end = case.alignment.to_ingress(case.flows.last_ns)
    largest = _largest_inner(case)
    longest = {up: _longest_packets(case, up) for up in (True, False)}
    flow_ttl, outer_ttl = _flow_ttl(case), _tunnel_ttl(case)
    capable_flow = _ecn_capable(case)
    columns: list[tuple[npt.NDArray[np.int64], int, npt.NDArray[np.float64], list[str]]] = []
    compared = np.zeros(flows, np.bool_)
    wanted = (every_pair(flows, tunnels) if only is None else only).by_tunnel(tunnels)
    for t, tunnel in enumerate(case.tunnels.tunnels):
        mine = wanted[t]
        mine = mine[(end[mine] >= tunnel.first_ns - _EDGE_NS) & (begin[mine] <= tunnel.last_ns + _EDGE_NS)]
        if not len(mine):
            continue
        ways = np.stack([_size_step(longest[up], largest[t, int(up)], mine) for up in (True, False)])
        size = np.where(np.isnan(ways).all(axis=0), np.nan, np.nansum(ways, axis=0))
        ttl = _ttl_step(flow_ttl[mine], int(outer_ttl[t]))
        ecn = _ecn_step(case, tunnel, capable_flow[mine], begin[mine], end[mine])
        total = np.nan_to_num(size) + np.nan_to_num(ttl) + np.nan_to_num(ecn)
        known = ~(np.isnan(size) & np.isnan(ttl) & np.isnan(ecn))
        compared[mine[known]] = True
        listed = np.flatnonzero(known & (total != 0.0))
        columns.append((mine[listed], t, total[listed], _notes(listed, size, ttl, ecn)))
    silence = {"nothing in common to compare": int((~compared).sum())} if not compared.all() else {}
    packets = np.diff(case.egress.start)
    flow = np.concatenate([c[0] for c in columns] or [np.zeros(0, np.int64)]).astype(np.int32)
    if not len(flow):
        return silent(NAME, silence or {"the fields say the same of every tunnel": flows})
    return EngineScores(
        NAME,
        flow,
        np.concatenate([np.full(len(c[0]), c[1], np.int32) for c in columns]),
        np.concatenate([c[2] for c in columns]),
        packets[flow].astype(np.int32),
        tuple(note for c in columns for note in c[3]),
        silence,
    )


def initial_ttl(ttl: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """The least usual initial TTL that is not below what arrived."""
    return _INITIAL_TTLS[np.minimum(np.searchsorted(_INITIAL_TTLS, ttl), len(_INITIAL_TTLS) - 1)]


def _largest_inner(case: Case) -> npt.NDArray[np.int64]:
    """Longest inner packet each tunnel has shown room for, by direction (down, up); -1 where not known.

    The record size that full packets have is the largest one seen a few times.
    """
    records = case.tunnels.records
    out = np.full((len(case.tunnels), 2), -1, np.int64)
    inner = np.arange(20, 9001)
    order = np.argsort(records.tunnel, kind="stable")
    bounds = np.searchsorted(records.tunnel[order], np.arange(len(case.tunnels) + 1))
    for t in range(len(case.tunnels)):
        number = case.map_of_tunnel[t]
        if number < 0:
            continue
        index = order[bounds[t] : bounds[t + 1]]
        outer = case.maps[number].outer(inner)
        for up in (0, 1):
            sizes = records.size[index][records.up[index] == bool(up)]
            if len(sizes) < 10 * _FULL_RECORDS:
                continue
            largest = int(sizes.max())
            if (sizes == largest).sum() >= _FULL_RECORDS:
                fits = inner[outer <= largest]
                out[t, up] = fits[-1] if len(fits) else -1
    return out


def _longest_packets(case: Case, up: bool) -> tuple[npt.NDArray[np.int64], ...]:
    """Sorted keys ``flow * 2^17 + length`` of one direction's packets, and each flow's place in them."""
    egress = case.egress
    sizes = np.diff(egress.start)
    flow = np.repeat(np.arange(len(sizes)), sizes)
    mine = egress.up == up
    keys = np.sort(flow[mine] << 17 | np.minimum(egress.inner_bytes[mine], (1 << 17) - 1))
    stop = np.searchsorted(keys, np.arange(1, len(sizes) + 1) << 17)
    return keys, stop


def _size_step(
    longest: tuple[npt.NDArray[np.int64], ...], largest: int, flows: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Log10 of the chance that the capture missed all packets too long for the tunnel; NaN if unknown."""
    keys, stop = longest
    if largest < 0:
        return np.full(len(flows), np.nan)
    over = stop[flows] - np.searchsorted(keys, (flows << 17) + largest, side="right")
    return np.where(over > 0, np.minimum(over, _VETO_PACKETS) * np.log10(_MISS), 0.0)


def _flow_ttl(case: Case) -> npt.NDArray[np.int64]:
    """Initial TTL of each flow's client side; 0 where no packet or not constant."""
    packets, flows = case.flows.packets, case.flows
    up = flows.up
    low = np.full(len(flows), 256)
    high = np.zeros(len(flows), np.int64)
    np.minimum.at(low, flows.flow[up], packets.ttl[up])
    np.maximum.at(high, flows.flow[up], packets.ttl[up])
    steady = (high > 0) & (high - low <= 1)
    # One hop, the VPN server, lies between the tunnel and egress in any case.
    return np.where(steady, initial_ttl(high + 1), 0)


def _tunnel_ttl(case: Case) -> npt.NDArray[np.int64]:
    """Initial TTL of each tunnel's outer packets from the client; 0 where unknown or not constant."""
    conversations, packets = case.conversations, case.conversations.packets
    out = np.zeros(len(case.tunnels), np.int64)
    for t, tunnel in enumerate(case.tunnels.tunnels):
        rows = conversations.rows_of(tunnel.conversation)
        forward = conversations.source(tunnel.conversation) == tunnel.client
        ttl = packets.ttl[rows[conversations.up[rows] == forward]]
        if len(ttl):
            usual = int(np.bincount(ttl).argmax())
            out[t] = int(initial_ttl(np.array([usual]))[0]) if (ttl == usual).mean() > 0.5 else 0
    return out


def _ttl_step(flow_ttl: npt.NDArray[np.int64], outer: int) -> npt.NDArray[np.float64]:
    if outer == 0:
        return np.full(len(flow_ttl), np.nan)
    population = np.array([_TTL_POPULATION.get(int(v), np.nan) for v in flow_ttl])
    same = flow_ttl == outer
    return np.asarray(np.log10((_SAME_DEVICE * same + (1 - _SAME_DEVICE) * population) / population))


def _ecn_capable(case: Case) -> npt.NDArray[np.int64]:
    """ECN-capable packets from the client side of each flow."""
    flows = case.flows
    capable = flows.up & (flows.packets.tos & 3 != 0)
    return np.bincount(flows.flow[capable], minlength=len(flows))


def _ecn_step(
    case: Case,
    tunnel: Tunnel,
    capable: npt.NDArray[np.int64],
    begin: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """For flows with ECN-capable packets: does the tunnel show as many while the flow lasts?"""
    step = np.full(len(capable), np.nan)
    if tunnel.protocol not in _COPIES_ECN or not capable.any():
        return step
    conversations, packets = case.conversations, case.conversations.packets
    rows = conversations.rows_of(tunnel.conversation)
    forward = conversations.source(tunnel.conversation) == tunnel.client
    sent = rows[conversations.up[rows] == forward]
    times = np.sort(packets.ts_ns[sent[packets.tos[sent] & 3 != 0]])
    shown = np.searchsorted(times, end + _EDGE_NS) - np.searchsorted(times, begin - _EDGE_NS)
    asked = capable > 0
    enough = shown >= np.ceil(0.9 * capable)
    step[asked & enough] = np.log10((1 - _ECN_MISS) / max(_ECN_SHARE, len(times) / max(len(sent), 1)))
    step[asked & ~enough] = np.log10(_ECN_MISS / (1 - _ECN_SHARE))
    return step


def _notes(
    listed: npt.NDArray[np.int64],
    size: npt.NDArray[np.float64],
    ttl: npt.NDArray[np.float64],
    ecn: npt.NDArray[np.float64],
) -> list[str]:
    notes = []
    for f in listed.tolist():
        said = []
        if size[f] < 0:
            said.append("packets too long for the tunnel")
        if not np.isnan(ttl[f]):
            said.append("same initial TTL" if ttl[f] > 0 else "other initial TTL")
        if not np.isnan(ecn[f]):
            said.append("ECN copied" if ecn[f] > 0 else "ECN not copied")
        notes.append(", ".join(said))
    return notes
