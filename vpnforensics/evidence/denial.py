"""What speaks against every tunnel: packets of a flow that its tunnel would have, and none has.

Theory of operation
-------------------
A flow is in no tunnel of the capture if each would have lost so much of it only seldom. Only what a tunnel
would have carried as one packet can be missing from it:

- a packet longer than any that the tunnels of its length map carry was cut on its way, or sent beside them
  (tinc sends over TCP what its datagrams cannot hold): it says nothing of either;
- a server that stalls, or a burst that overruns the capture, takes all packets of a moment: those of the
  same tenth of a second, from the flow's first packet on, count as one, found as far as they were;
- a tunnel over datagrams may send packets through a TCP connection of its own (tinc does until it knows that
  datagrams arrive): of a flow during which that one was busy nothing is known;
- before and after the ingress capture, in a silence of all of it that is out of its ordinary (a rotated file
  is missing, a disk was full), and of ICMP errors, which the server itself sends, nothing is known;
- nor is it, where tunnels are looked into, in a moment about which no packet of a linked flow has its record.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence._denial_kernels import count_bouts
from vpnforensics.evidence.likelihood import share_of_carried
from vpnforensics.packets.table import PROTO_ICMP, PROTO_ICMPV6

_BOUT_NS = 100_000_000
_TWIN_EDGE_NS = 1_000_000_000
_TWIN_SHARE = 0.03
_SILENCE_NS = 5_000_000_000
"""Shorter silences are ordinary: a few clients do pause together for some seconds."""
_MOMENT_NS, _MOST_MOMENTS = 1_000_000_000, 1_000_000
"""Moments are longer in captures that would have more of them, for memory's sake."""
_UNUSUAL = 10
"""A silence is out of the ordinary if half of the other time lies in gaps this much shorter. Of packets at
random one moment in a million lies in such a gap; clients pause together more often, and lose a denial."""


def per_flow(case: Case, whole: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Packets of each flow among ``whole``, shape (maps, flows).

    Parameters
    ----------
    case : Case
    whole : ndarray of bool, shape (maps, packets)
        Egress packets that the tunnels of each length map would carry as one.
    """
    return np.add.reduceat(whole, case.egress.start[:-1], axis=1, dtype=np.int64)


def chance_of_so_little(
    case: Case, whole: npt.NDArray[np.bool_], scores: ScoreTable, miss: float
) -> npt.NDArray[np.float64]:
    """P(so little found of the flow in any tunnel | one of them carried it), shape (flows,).

    Parameters
    ----------
    case : Case
    whole : ndarray of bool, shape (maps, packets)
        Observable egress packets that the tunnels of each length map would carry as one.
    scores : ScoreTable
        Pairs with hits; in all others nothing was found.
    miss : float
        Share of carried packets without a record.
    """
    chance: npt.NDArray[np.float64] = np.max([chance_of_nothing(case, fits, miss) for fits in whole], axis=0)
    np.maximum.at(chance, scores.flow, share_of_carried_in_bouts(case, whole, scores, miss))
    return chance


def share_of_carried_in_bouts(
    case: Case, whole: npt.NDArray[np.bool_], scores: ScoreTable, miss: float
) -> npt.NDArray[np.float64]:
    """P(so many packets found, or fewer | the tunnel carried the flow), of each pair; those of a bout as one.

    Parameters
    ----------
    case : Case
    whole : ndarray of bool, shape (maps, packets)
        Observable egress packets that the tunnels of each length map would carry as one.
    scores : ScoreTable
    miss : float
        Share of carried packets without a record.
    """
    egress = case.egress
    number = case.map_of_tunnel[scores.tunnel]
    packets = per_flow(case, whole)[number, scores.flow]
    bouts = np.stack([count_bouts(egress.start, egress.ts_ns, fits, _BOUT_NS) for fits in whole])
    bouts = bouts[number, scores.flow]
    found = np.ceil(np.minimum(scores.hits / np.maximum(packets, 1), 1.0) * bouts)
    return share_of_carried(found.astype(np.int32), bouts, miss)


def chance_of_nothing(case: Case, packets: npt.NDArray[np.bool_], miss: float) -> npt.NDArray[np.float64]:
    """P(none of these packets of a flow found | they were carried), shape (flows,).

    Parameters
    ----------
    case : Case
    packets : ndarray of bool, shape (packets,)
        Egress packets that can be looked for.
    miss : float
        Share of carried packets that are not found.
    """
    bouts = count_bouts(case.egress.start, case.egress.ts_ns, packets, _BOUT_NS)
    return share_of_carried(np.zeros(len(bouts), np.int32), bouts, miss)


def can_be_denied(case: Case) -> npt.NDArray[np.bool_]:
    """Flows of which the ingress capture can say that a tunnel did not have them."""
    return _within_ingress(case) & _mostly_observable(case) & ~is_error(case) & ~_beside(case)


def at_work(case: Case) -> npt.NDArray[np.bool_]:
    """Egress packets at whose time the ingress capture was at work, shape (packets,)."""
    start, end = unusual_silences(case.conversations.packets.ts_ns)
    before = np.searchsorted(start, case.egress.ts_ns)  # silences that began before the packet
    return np.asarray(before == np.searchsorted(end, case.egress.ts_ns, side="right"))


def observable(case: Case) -> npt.NDArray[np.bool_]:
    """Those of them, shape (packets,), whose time on the ingress clock is known: the others deny nothing."""
    known = at_work(case)
    for first, last in case.alignment.astray:
        known &= (case.egress.row < first) | (case.egress.row > last)
    return known


def proven(case: Case, record: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Egress packets about whose time a linked one has its record, shape (packets,).

    There both captures were at work, and the two clocks as the alignment has them.

    Parameters
    ----------
    case : Case
    record : ndarray of int32, shape (packets,)
        Record of each linked flow's packets, or -1.
    """
    since_ns = case.egress.ts_ns - case.egress.ts_ns.min()
    moment = since_ns // max(_MOMENT_NS, int(since_ns.max()) // _MOST_MOMENTS)
    seen = np.bincount(moment[record >= 0], minlength=moment.max() + 1)
    return np.asarray((np.convolve(seen, np.ones(3), "same") > 0)[moment])


def unusual_silences(
    ts_ns: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Start and end of the gaps in a capture that its other gaps do not lead one to expect.

    Judged by time, not by number: most packets of a burst follow one another closely, and say nothing of
    how long the pauses between bursts are.
    """
    gap = np.diff(ts_ns)
    if (gap < 0).any():
        ts_ns = np.sort(ts_ns)
        gap = np.diff(ts_ns)
    at = np.flatnonzero(gap > _SILENCE_NS)
    least = _SILENCE_NS // _UNUSUAL
    longer = np.sort(gap[gap > least])
    # Time spent in gaps up to a length; no length below ``least`` is asked for.
    total = int(gap.sum())
    spent = total - int(longer.sum()) + np.r_[0, np.cumsum(longer)]
    in_shorter = spent[np.searchsorted(longer, gap[at] // _UNUSUAL, side="right")]
    at = at[2 * in_shorter >= total - gap[at]]
    return ts_ns[at], ts_ns[at + 1]


def is_error(case: Case) -> npt.NDArray[np.bool_]:
    """ICMP other than echo: routers and the server send it, too, and several clients' look like one flow."""
    flows = case.flows
    icmp = np.isin(flows.proto, (PROTO_ICMP, PROTO_ICMPV6))
    return np.asarray(icmp & (flows.sport == 0) & (flows.dport == 0))


def _within_ingress(case: Case) -> npt.NDArray[np.bool_]:
    """Flows within the time of the ingress capture; of others it cannot say that no tunnel had them."""
    if not case.alignment.usable:
        return np.zeros(len(case.flows), np.bool_)
    outer = case.conversations.packets.ts_ns
    first = case.alignment.to_ingress(case.flows.first_ns)
    last = case.alignment.to_ingress(case.flows.last_ns)
    return np.asarray((first >= outer.min()) & (last <= outer.max()))


def _mostly_observable(case: Case) -> npt.NDArray[np.bool_]:
    """Flows most of whose packets the ingress capture was at work for."""
    return np.asarray(2 * per_flow(case, observable(case)[None])[0] > np.diff(case.egress.start))


def _beside(case: Case) -> npt.NDArray[np.bool_]:
    """Flows of which a tunnel's TCP twin may have carried more than captures lose."""
    first = case.alignment.to_ingress(case.flows.first_ns) - _TWIN_EDGE_NS
    last = case.alignment.to_ingress(case.flows.last_ns) + _TWIN_EDGE_NS
    packets = case.conversations.packets
    beside = np.zeros(len(case.flows), np.bool_)
    for twin in {tunnel.twin for tunnel in case.tunnels.tunnels} - {-1}:
        rows = case.conversations.rows_of(twin)
        order = np.argsort(packets.ts_ns[rows], kind="stable")
        ts_ns = packets.ts_ns[rows][order]
        sent = np.r_[0, np.cumsum(packets.payload_bytes[rows][order], dtype=np.int64)]
        during = sent[np.searchsorted(ts_ns, last, side="right")] - sent[np.searchsorted(ts_ns, first)]
        beside |= during >= _TWIN_SHARE * case.flows.bytes
    return beside
