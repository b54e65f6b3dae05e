"""Round trips: the client is as far away inside the tunnel as outside.

Theory of operation
-------------------
At egress, a segment from the Internet passes with TSval v; some time later a segment from the client echoes
v as TSecr. Between the two lie the way through the server to the client and back: the client's round trip as
the VPN server sees it. Echoes are matched by value, so retransmissions do not confuse them (RFC 7323, 4;
Karn & Partridge 1987); only the first segment with a TSval and the first echo that acknowledges something
new count. Without timestamps, the SYN-ACK and what answers it give one sample.

At ingress, the same is measured on the tunnel's own outer connection where it is TCP; on UDP the handshakes
remain (WireGuard: response to first transport message; OpenVPN: reset to its answer), if they were captured.

*Level*: the least round trip of the flow lies just above the least of the tunnel, by the inner stack's
delay. Under H1 ``log(flow / tunnel)`` has a narrow density, mixed with a broad one for delayed
acknowledgements and queues; under H2 the flow's round trip comes from a broad population of Internet paths.
The population is fixed, so that a score does not depend on who else is in the case.

*Co-variation*: where both sides have samples in the same seconds, queues on the access line move both; rank
correlation over seconds, by Fisher's z.

Assumptions: the device that answers is the tunnel's end or near it (a router's clients add their LAN);
clients do not delay every acknowledgement.

Silent on flows without a sample (no TCP, or one-way captures), and on tunnels without one.

Known weaknesses: clients of one access network have the same round trip; it is evidence of a place, not of a
tunnel.

References: Karn & Partridge 1987; Jiang & Dovrolis 2002 (SYN and slow-start estimators); Veal, Li &
Lowenthal 2005 (timestamp echoes, passively).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.engines.grouped import handshakes
from vpnforensics.engines.scores import EngineScores, Pairs, every_pair, silent
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_SYN, PacketTable
from vpnforensics.tunnels.openvpn import CLIENT_RESETS, SERVER_RESETS
from vpnforensics.tunnels.table import Tunnel
from vpnforensics.tunnels.wireguard import RESPONSE, TRANSPORT

NAME = "rtt"
CITATION = "timestamp echoes: RFC 7323, Veal, Li & Lowenthal 2005; Karn & Partridge 1987"

_MOST_NS = 5_000_000_000
_FLOOR_NS = 200_000
_NARROW, _EXCESS = 0.15, 0.08
"""Spread and middle of log(flow / tunnel) of least round trips under H1, in nats."""
_BROAD_SHARE, _BROAD = 0.35, 0.8
_POPULATION_NS, _POPULATION_SPREAD = 30e6, 1.2
_SECOND_NS = 1_000_000_000
_LEAST_SECONDS = 8
_USUAL_CORRELATION = 0.4
_CAP = 1.5


@dataclass(frozen=True, eq=False)
class RoundTrips:
    """Samples of one conversation's client-side round trip, in order of time."""

    ts_ns: npt.NDArray[np.int64]
    """When the echo came."""
    rtt_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ts_ns)

    @property
    def least_ns(self) -> int:
        """The shortest, at least 0.2 ms (below that, the server's own jitter is what is measured)."""
        return max(int(self.rtt_ns.min()), _FLOOR_NS)

    def by_second(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Seconds with samples, and the least of each."""
        order = np.argsort(self.ts_ns, kind="stable")  # files need not be in order of time
        distinct, first = np.unique(self.ts_ns[order] // _SECOND_NS, return_index=True)
        return distinct, np.minimum.reduceat(self.rtt_ns[order], first).astype(np.float64)


def echo_round_trips(
    packets: PacketTable, rows: npt.NDArray[np.int32], up: npt.NDArray[np.bool_], ts_ns: npt.NDArray[np.int64]
) -> RoundTrips:
    """Client-side round trips of one TCP conversation.

    Parameters
    ----------
    packets : PacketTable
    rows : ndarray of int32, shape (n,)
        Its packets, in order of the capture.
    up : ndarray of bool, shape (n,)
    ts_ns : ndarray of int64, shape (n,)
        Their times, on the clock to be used.
    """
    _, answered_ns, rtt = _echoes(packets, np.zeros(len(rows), np.int64), rows, up, ts_ns)
    return RoundTrips(answered_ns, rtt) if len(rtt) else _syn_round_trip(packets, rows, up, ts_ns)


def _echoes(
    packets: PacketTable,
    group: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int32],
    up: npt.NDArray[np.bool_],
    ts_ns: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Group, time and round trip of each first echo of a TSval, of many conversations at once.

    Packets stand by ``group``, ascending, in order of the capture within it.
    """
    # What a middlebox blanked to 0 is the same in all packets: whose echo is whose cannot be told.
    given = np.where(up, packets.tsecr[rows], packets.tsval[rows]) != 0
    stamped = (packets.has_ts[rows] == 1) & given
    asks = packets.payload_bytes[rows] > 0
    asks |= packets.tcp_flags[rows] & TCP_SYN != 0
    asking = np.flatnonzero(~up & stamped & asks)
    value, first = np.unique(group[asking] << 32 | packets.tsval[rows[asking]], return_index=True)
    asked_ns = ts_ns[asking[first]]
    answers = np.flatnonzero(up & stamped & (packets.tcp_flags[rows] & TCP_ACK != 0))
    echo = group[answers] << 32 | packets.tsecr[rows[answers]]
    acked = packets.ack[rows[answers]].astype(np.int64)
    news = np.ones(len(answers), np.bool_)
    news[1:] = ((np.diff(acked) & 0xFFFFFFFF) - 1 < 0x7FFFFFFF) | (np.diff(group[answers]) != 0)
    # Only the first echo of a value: a retransmission's would be too long (Karn & Partridge).
    chosen = np.zeros(len(answers), np.bool_)
    chosen[np.unique(echo, return_index=True)[1]] = True
    answers, echo = answers[chosen & news], echo[chosen & news]
    at = np.searchsorted(value, echo)
    known = at < len(value)
    known[known] = value[at[known]] == echo[known]
    rtt = ts_ns[answers[known]] - asked_ns[at[known]]
    sound = (rtt > 0) & (rtt < _MOST_NS)
    answered = answers[known][sound]
    return group[answered], ts_ns[answered], rtt[sound]


def _syn_round_trip(
    packets: PacketTable, rows: npt.NDArray[np.int32], up: npt.NDArray[np.bool_], ts_ns: npt.NDArray[np.int64]
) -> RoundTrips:
    """From the last SYN-ACK to what answers it: the one sample of a conversation without timestamps."""
    whole = np.array([0, len(rows)], np.int64)
    answered, took = handshakes(whole, up, ts_ns, packets.tcp_flags[rows])
    sound = (took > 0) & (took < _MOST_NS)
    return RoundTrips(answered[sound], took[sound])


def tunnel_round_trips(conversations: FlowTable, tunnel: Tunnel) -> RoundTrips:
    """Client-side round trips of a tunnel's outer association."""
    packets = conversations.packets
    rows = conversations.rows_of(tunnel.conversation)
    forward = conversations.source(tunnel.conversation) == tunnel.client
    up = conversations.up[rows] == forward
    ts_ns = packets.ts_ns[rows]
    if tunnel.transport == "tcp":
        return echo_round_trips(packets, rows, up, ts_ns)
    first = np.frombuffer(tunnel.opening, np.uint8)
    if tunnel.protocol == "wireguard":
        return _answered(first == RESPONSE, first == TRANSPORT, up, ts_ns)
    if tunnel.protocol == "openvpn":
        opcode = first >> 3
        offers = np.isin(opcode, SERVER_RESETS)
        return _answered(offers, ~np.isin(opcode, CLIENT_RESETS), up, ts_ns)
    none = np.zeros(0, np.int64)
    return RoundTrips(none, none)


def _answered(
    offers: npt.NDArray[np.bool_],
    answers: npt.NDArray[np.bool_],
    up: npt.NDArray[np.bool_],
    ts_ns: npt.NDArray[np.int64],
) -> RoundTrips:
    """From each offer of the server to the client's next packet that can answer it."""
    up, ts_ns = up[: len(offers)], ts_ns[: len(offers)]
    replies = ts_ns[answers & up]
    offered = ts_ns[offers & ~up]
    at = np.searchsorted(replies, offered, side="right")
    met = at < len(replies)
    rtt = replies[np.minimum(at, max(len(replies) - 1, 0))] - offered if len(replies) else offered
    sound = met & (rtt > 0) & (rtt < _MOST_NS)
    return RoundTrips(offered[sound] + rtt[sound], rtt[sound])


def score(case: Case, only: Pairs | None = None) -> EngineScores:
    """Level and co-variation of the round trips of every flow and tunnel that have samples.

    Parameters
    ----------
    case : Case
    only : Pairs, optional
        The pairs to compare; without, all.

    Returns
    -------
    EngineScores
        ``n`` is the number of the flow's samples.
    """
    flows = case.flows
    if not case.alignment.usable:
        return silent(NAME, {"the two clocks cannot be aligned": len(flows)})
    outer = [tunnel_round_trips(case.conversations, t) for t in case.tunnels.tunnels]
    heard = [t for t, trips in enumerate(outer) if len(trips)]
    silence = {}
    if len(heard) < len(outer):
        silence["tunnel without a round trip at ingress"] = len(outer) - len(heard)
    if not heard:
        return silent(NAME, silence or {"no tunnels": len(flows)})
    inner = _flow_round_trips(case)
    pairs = (every_pair(len(flows), len(outer)) if only is None else only).in_order()
    pairs = pairs.take(np.isin(pairs.tunnel, heard))
    without = len(np.unique(pairs.flow[inner.count[pairs.flow] == 0]))
    if without:
        silence["flow without a round trip at egress"] = without
    pairs = pairs.take(inner.count[pairs.flow] > 0)
    first = np.array([t.first_ns for t in case.tunnels.tunnels])[pairs.tunnel]
    last = np.array([t.last_ns for t in case.tunnels.tunnels])[pairs.tunnel]
    pairs = pairs.take((inner.last_ns[pairs.flow] >= first) & (inner.first_ns[pairs.flow] <= last))
    if not len(pairs):
        return silent(NAME, silence)
    inside = inner.least_ns[pairs.flow]
    outside = np.array([trips.least_ns if len(trips) else _FLOOR_NS for trips in outer])[pairs.tunnel]
    varies, common = _covariations(inner, outer, pairs)
    notes = (
        f"{a / 1e6:.1f} ms inside, {b / 1e6:.1f} ms outside"
        + (f", {n} common seconds" if n >= _LEAST_SECONDS else "")
        for a, b, n in zip(inside.tolist(), outside.tolist(), common.tolist(), strict=True)
    )
    return EngineScores(
        NAME,
        pairs.flow,
        pairs.tunnel,
        _level(inside, outside) + varies,
        inner.count[pairs.flow].astype(np.int32),
        tuple(notes),
        silence,
    )


@dataclass(frozen=True, eq=False)
class _FlowRoundTrips:
    """Round trips of all flows: ``start[f]:start[f + 1]`` are flow f's, in order of the capture."""

    start: npt.NDArray[np.int64]
    answered_ns: npt.NDArray[np.int64]
    rtt_ns: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    """Samples of each flow; the following are of no meaning where there are none."""
    least_ns: npt.NDArray[np.int64]
    first_ns: npt.NDArray[np.int64]
    last_ns: npt.NDArray[np.int64]

    def of(self, flow: int) -> RoundTrips:
        """One flow's."""
        mine = slice(int(self.start[flow]), int(self.start[flow + 1]))
        return RoundTrips(self.answered_ns[mine], self.rtt_ns[mine])


def _flow_round_trips(case: Case) -> _FlowRoundTrips:
    """Echoes of every flow; of TCP flows without, the handshake."""
    flows, egress = case.flows, case.egress
    of_flow = np.repeat(np.arange(len(flows)), np.diff(egress.start))
    group, answered_ns, rtt_ns = _echoes(flows.packets, of_flow, egress.row, egress.up, egress.ts_ns)
    flags = flows.packets.tcp_flags[egress.row]
    met_ns, took_ns = handshakes(egress.start, egress.up, egress.ts_ns, flags)
    without = np.bincount(group, minlength=len(flows)) == 0
    once = np.flatnonzero(without & (flows.proto == PROTO_TCP) & (took_ns > 0) & (took_ns < _MOST_NS))
    group = np.r_[group, once]
    order = np.argsort(group, kind="stable")
    start = np.searchsorted(group[order], np.arange(len(flows) + 1))
    answered_ns, rtt_ns = np.r_[answered_ns, met_ns[once]][order], np.r_[rtt_ns, took_ns[once]][order]
    count = np.diff(start)
    some = np.flatnonzero(count)
    least, first, last = (np.zeros(len(flows), np.int64) for _ in range(3))
    if len(some):
        least[some] = np.maximum(np.minimum.reduceat(rtt_ns, start[some]), _FLOOR_NS)
        first[some], last[some] = answered_ns[start[some]], answered_ns[start[some + 1] - 1]
    return _FlowRoundTrips(start, answered_ns, rtt_ns, count, least, first, last)


def _covariations(
    inner: _FlowRoundTrips, outer: list[RoundTrips], pairs: Pairs
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Log10 ratio of the co-variation of each pair, and the seconds in common; most have too few samples."""
    ratio, common = np.zeros(len(pairs)), np.zeros(len(pairs), np.int64)
    sampled = np.array([len(trips) for trips in outer])
    worth = (inner.count[pairs.flow] >= _LEAST_SECONDS) & (sampled[pairs.tunnel] >= _LEAST_SECONDS)
    mine = np.flatnonzero(worth)
    inside = {f: inner.of(f).by_second() for f in np.unique(pairs.flow[mine]).tolist()}
    outside = {t: outer[t].by_second() for t in np.unique(pairs.tunnel[mine]).tolist()}
    for i in mine.tolist():
        ratio[i], common[i] = _covariation(inside[int(pairs.flow[i])], outside[int(pairs.tunnel[i])])
    return ratio, common


def _level(inner_ns: npt.NDArray[np.int64], outer_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Log10 ratio of the least round trips' densities, H1 over H2, both over log(inner)."""
    above = np.log(inner_ns / outer_ns)
    narrow = _normal(above, _EXCESS, _NARROW)
    # Delayed acknowledgements and full queues only add: the broad part is for longer ones.
    broad = np.where(above > 0, 2.0, 0.02) * _normal(above, 0.0, _BROAD)
    carried = (1 - _BROAD_SHARE) * narrow + _BROAD_SHARE * broad
    chance = _normal(np.log(inner_ns / _POPULATION_NS), 0.0, _POPULATION_SPREAD)
    return np.clip(np.log10(np.maximum(carried, 1e-9) / np.maximum(chance, 1e-9)), -_CAP, _CAP)


def _covariation(
    inner: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
    outer: tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]],
) -> tuple[float, int]:
    """Log10 ratio of a rank correlation over common seconds, and their number."""
    if min(len(inner[0]), len(outer[0])) < _LEAST_SECONDS:
        return 0.0, 0
    _, a, b = np.intersect1d(inner[0], outer[0], assume_unique=True, return_indices=True)
    n = len(a)
    if n < _LEAST_SECONDS:
        return 0.0, n
    ranks = [np.argsort(np.argsort(side)).astype(np.float64) for side in (inner[1][a], outer[1][b])]
    rho = float(np.corrcoef(ranks[0], ranks[1])[0, 1])
    z = np.arctanh(np.clip(rho, -0.99, 0.99)) * np.sqrt(n - 3)
    usual = float(np.arctanh(_USUAL_CORRELATION) * np.sqrt(n - 3))
    # Round trips of neighbouring seconds are alike, which doubles the variance of z, about.
    carried, chance = _normal(z, usual / 2, np.sqrt(2.0) + usual / 2), _normal(z, 0.0, np.sqrt(2.0))
    return float(np.clip(np.log10(carried / np.maximum(chance, 1e-12)), -_CAP / 3, _CAP)), n


def _normal(x: npt.NDArray[np.float64], mean: float, spread: float) -> npt.NDArray[np.float64]:
    return np.asarray(np.exp(-0.5 * ((x - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi)))
