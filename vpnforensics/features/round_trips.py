"""Round trips to the client, as the VPN server's two sides see them.

A segment for the client passes with TSval v; some time later a segment of the client echoes v as TSecr.
Echoes are matched by value, so retransmissions do not confuse them (RFC 7323, 4; Karn & Partridge 1987);
only the first segment with a TSval and the first echo that acknowledges something new count. Without
timestamps, the SYN-ACK and what answers it give one sample. On a tunnel over datagrams the protocol's
handshakes remain, if they were captured (:class:`vpnforensics.tunnels.protocol.Handshake`).

Jiang & Dovrolis 2002 (SYN and slow-start estimators); Veal, Li & Lowenthal 2005 (timestamp echoes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import TCP_ACK, TCP_SYN, PacketTable
from vpnforensics.tunnels.table import Tunnel

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int32]

_MOST_NS = 5_000_000_000
"""Longer is no round trip: a retransmission was echoed."""
_FLOOR_NS = 200_000
"""Below this the server's own jitter is what is measured."""


@dataclass(frozen=True, eq=False)
class RoundTrips:
    """Samples by conversation: ``start[k]:start[k + 1]`` are conversation k's, in order of the capture."""

    start: Ints
    ts_ns: Ints
    """When the echo came."""
    rtt_ns: Ints

    @property
    def count(self) -> Ints:
        """Samples of each conversation."""
        return np.diff(self.start)

    @property
    def least_ns(self) -> Ints:
        """The shortest of each conversation, at least 0.2 ms; 0 without any."""
        some = np.flatnonzero(self.count)
        least = np.zeros(len(self.start) - 1, np.int64)
        if len(some):
            least[some] = np.maximum(np.minimum.reduceat(self.rtt_ns, self.start[some]), _FLOOR_NS)
        return least

    def span_ns(self) -> tuple[Ints, Ints]:
        """First and last sample of each conversation, in order of the capture; 0 without any."""
        some = np.flatnonzero(self.count)
        first, last = (np.zeros(len(self.start) - 1, np.int64) for _ in range(2))
        first[some], last[some] = self.ts_ns[self.start[some]], self.ts_ns[self.start[some + 1] - 1]
        return first, last


def round_trips(packets: PacketTable, start: Ints, rows: Rows, up: Flags, ts_ns: Ints) -> RoundTrips:
    """Client-side round trips of TCP conversations: echoes; without any, the handshake.

    Parameters
    ----------
    packets : PacketTable
    start : ndarray of int64, shape (conversations + 1,)
        ``start[k]:start[k + 1]`` are conversation k's packets.
    rows : ndarray of int32, shape (n,)
        Their rows, in order of the capture.
    up : ndarray of bool, shape (n,)
    ts_ns : ndarray of int64, shape (n,)
        Their times, on the clock to be used.
    """
    conversations = len(start) - 1
    of = np.repeat(np.arange(conversations), np.diff(start))
    group, answered_ns, rtt_ns = _echoes(packets, of, rows, up, ts_ns)
    met_ns, took_ns = handshakes(start, up, ts_ns, packets.tcp_flags[rows])
    without = np.bincount(group, minlength=conversations) == 0
    once = np.flatnonzero(without & (took_ns > 0) & (took_ns < _MOST_NS))
    group = np.r_[group, once]
    order = np.argsort(group, kind="stable")
    return RoundTrips(
        np.searchsorted(group[order], np.arange(conversations + 1)),
        np.r_[answered_ns, met_ns[once]][order],
        np.r_[rtt_ns, took_ns[once]][order],
    )


def tunnel_round_trips(conversations: FlowTable, tunnel: Tunnel) -> RoundTrips:
    """Client-side round trips of a tunnel's outer association, as its one conversation."""
    packets = conversations.packets
    rows = conversations.rows_of(tunnel.conversation)
    up = conversations.up[rows] == (conversations.source(tunnel.conversation) == tunnel.client)
    ts_ns = packets.ts_ns[rows]
    if tunnel.transport == "tcp":
        return round_trips(packets, np.array([0, len(rows)]), rows, up, ts_ns)
    offered, replies = ts_ns[list(tunnel.handshake.offers)], ts_ns[list(tunnel.handshake.answers)]
    at = np.searchsorted(replies, offered, side="right")
    offered, at = offered[at < len(replies)], at[at < len(replies)]
    rtt_ns = replies[at] - offered
    sound = (rtt_ns > 0) & (rtt_ns < _MOST_NS)
    return RoundTrips(np.array([0, int(sound.sum())]), replies[at][sound], rtt_ns[sound])


def _echoes(packets: PacketTable, group: Ints, rows: Rows, up: Flags, ts_ns: Ints) -> tuple[Ints, Ints, Ints]:
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
    ahead = (np.diff(acked) - 1) & 0xFFFFFFFF  # an equal one is behind all
    news[1:] = (ahead < 0x7FFFFFFF) | (np.diff(group[answers]) != 0)
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


def handshakes(start: Ints, up: Flags, ts_ns: Ints, flags: npt.NDArray[np.uint16]) -> tuple[Ints, Ints]:
    """When each flow's SYN-ACK was answered, and how long after it; -1 where no one answer is to one offer.

    Parameters
    ----------
    start : ndarray of int64, shape (flows + 1,)
    up : ndarray of bool, shape (n,)
    ts_ns : ndarray of int64, shape (n,)
    flags : ndarray of uint16, shape (n,)
        TCP flags, in order of the capture.
    """
    flows = len(start) - 1
    flow = np.repeat(np.arange(flows), np.diff(start))
    shake = flags & (TCP_SYN | TCP_ACK)
    offered = np.flatnonzero(~up & (shake == TCP_SYN | TCP_ACK))
    acknowledged = np.flatnonzero(up & (shake == TCP_ACK))[::-1]
    offer, answer = np.full(flows, -1), np.full(flows, -1)
    offer[flow[offered]] = offered
    answer[flow[acknowledged]] = acknowledged  # the first, as the last to be entered
    one = (np.bincount(flow[offered], minlength=flows) == 1) & (answer > offer)  # of two, which is answered?
    answered, took = np.full(flows, -1, np.int64), np.full(flows, -1, np.int64)
    answered[one] = ts_ns[answer[one]]
    took[one] = ts_ns[answer[one]] - ts_ns[offer[one]]
    return answered, took
