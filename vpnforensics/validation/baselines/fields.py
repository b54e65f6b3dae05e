"""Header fields compared connection by connection, as the CapMaster tool does; where both sides are readable.

CapMaster (https://github.com/rickypin/capmaster, its `match` command and README) finds a TCP connection of
one capture in another. Connections that share an IP ID and overlap in time are compared in eight features;
the score is the weight of those that agree over the weight of those that both have. Weights are the README's:
SYN options 0.25, IP ID 0.16, payload of the client 0.15 and of the server 0.08, initial sequence number of
the client 0.12 and of the server 0.06, timestamps 0.10, lengths 0.08 (Jaccard index of their sets of at least
0.6). Its code was read, too; what stands here is written anew, and nothing of it is copied.

Changed, because a NAT stands between the sides: not the whole five-tuple has to agree but the server's
endpoint, and a client has the score of its best connection. What it reads of SYN options and payloads is what
a packet table keeps: MSS, window and whether there are timestamps, and the first 32 bytes.

Silent wherever the ingress side is encrypted: no field of a flow is in it. There are no connections to
compare but those of TCP over IPv4: IPv6 has no IP ID.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines.case import LONGEST_STAY_NS, Case
from vpnforensics.evidence.decision import there
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_SYN
from vpnforensics.validation.baselines.sightings import silent, tunnel_of_conversation
from vpnforensics.validation.comparisons import Scores

_WEIGHTS = {
    "syn_options": 0.25, "isn_client": 0.12, "isn_server": 0.06, "timestamp": 0.10, "payload_client": 0.15,
    "payload_server": 0.08,
}  # fmt: skip
_OF_LENGTHS, _OF_IP_ID = 0.08, 0.16
_LENGTHS_ALIKE = 0.6
NOTHING = -1
"""Of a feature that a connection has not."""


@dataclass(frozen=True, eq=False)
class Connections:
    """Features of each conversation, :data:`NOTHING` without, and sets as (conversation, value) rows."""

    single: dict[str, Ints]
    ids: Ints
    """Shape (k, 2): conversation and IP ID, distinct; of TCP with a server in ``server`` only."""
    lengths: Ints
    """Likewise of payload bytes, negative down."""
    server: Ints
    """Number of the server's endpoint; -1 of what is no TCP."""


def matched(case: Case) -> Scores:
    """Weight of the features that agree; silent where the ingress side cannot be read."""
    tunnels = case.tunnels.tunnels
    if not tunnels or any(tunnel.protocol != "plain" for tunnel in tunnels):
        return silent()
    outer, inner = both_sides(case.conversations, case.flows)
    flow, conversation = _sharing(inner, outer)
    if case.alignment.usable:
        begin, end = (case.alignment.to_ingress(ns) for ns in (case.flows.first_ns, case.flows.last_ns))
        overlap = case.conversations.first_ns[conversation] - LONGEST_STAY_NS <= end[flow]
        overlap &= begin[flow] <= case.conversations.last_ns[conversation] + LONGEST_STAY_NS
        flow, conversation = flow[overlap], conversation[overlap]
    score = _agreement(inner, outer, flow, conversation)
    of, _ = tunnel_of_conversation(case)
    best = np.where(there(case) & (case.flows.proto == PROTO_TCP)[:, None], 0.0, np.nan)
    np.fmax.at(best, (flow, of[conversation]), score)
    flow, tunnel = np.nonzero(~np.isnan(best))
    return Scores(flow, tunnel, best[flow, tunnel], np.nan)


def both_sides(conversations: FlowTable, flows: FlowTable) -> tuple[Connections, Connections]:
    """Features of the connections of both captures; servers are numbered alike."""
    ends = [
        np.column_stack(
            [side.packets.addresses.packed[side.dst], side.dport.astype(">u2").view(np.uint8).reshape(-1, 2)]
        )
        for side in (conversations, flows)
    ]
    _, number = np.unique(np.concatenate(ends), axis=0, return_inverse=True)
    number = number.ravel()
    return _features(conversations, number[: len(ends[0])]), _features(flows, number[len(ends[0]) :])


def _features(side: FlowTable, server: Ints) -> Connections:
    packets, count = side.packets, len(side)
    tcp = side.proto[side.flow] == PROTO_TCP
    syn = tcp & (packets.tcp_flags & TCP_SYN != 0)
    opening = syn & (packets.tcp_flags & TCP_ACK == 0)
    options = packets.mss.astype(np.int64) << 17 | packets.window.astype(np.int64) << 1 | packets.has_ts
    payload = tcp & (packets.payload_bytes > 0) & packets.head.any(axis=1)
    stamped = tcp & (packets.has_ts != 0) & side.up
    single = {
        "syn_options": side.of_first(opening & side.up, options),
        "isn_client": side.of_first(syn & side.up, packets.seq),
        "isn_server": side.of_first(syn & ~side.up, packets.seq),
        "timestamp": side.of_first(stamped, packets.tsval),
        "payload_client": side.of_first(payload & side.up, _digest(packets.head)),
        "payload_server": side.of_first(payload & ~side.up, _digest(packets.head)),
    }
    signed = np.where(side.up, packets.payload_bytes, -packets.payload_bytes)
    return Connections(
        single,
        _distinct(side, tcp & (packets.ip_id >= 0), packets.ip_id),
        _distinct(side, tcp & (packets.payload_bytes > 0), signed),
        np.where(side.proto == PROTO_TCP, server, NOTHING)[:count],
    )


def _digest(head: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Ints:
    """63 bits of each packet's first bytes."""
    words = np.ascontiguousarray(head).view(np.uint64)
    mixed = np.zeros(len(words), np.uint64)
    for column in words.T:
        mixed = (mixed ^ column) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(1)).astype(np.int64)


def _distinct(side: FlowTable, wanted: Bools, value: np.ndarray[tuple[int, ...], np.dtype[np.int32]]) -> Ints:
    rows = np.flatnonzero(wanted)
    return np.unique(np.column_stack([side.flow[rows], value[rows]]).astype(np.int64), axis=0)


def _sharing(inner: Connections, outer: Connections) -> tuple[Ints, Ints]:
    """Pairs with the same server that share an IP ID: each side's rows joined by both."""
    import pandas as pd

    here, away = (
        pd.DataFrame({name: side.ids[:, 0], "id": side.ids[:, 1], "server": side.server[side.ids[:, 0]]})
        for name, side in (("inner", inner), ("outer", outer))
    )
    joined = here.merge(away, on=["server", "id"])[["inner", "outer"]].drop_duplicates()
    return joined["inner"].to_numpy(np.int64), joined["outer"].to_numpy(np.int64)


def _agreement(inner: Connections, outer: Connections, flow: Ints, conversation: Ints) -> Floats:
    raw, available = np.full(len(flow), _OF_IP_ID), np.full(len(flow), _OF_IP_ID)
    for name, weight in _WEIGHTS.items():
        here, away = inner.single[name][flow], outer.single[name][conversation]
        both = (here != NOTHING) & (away != NOTHING)
        available += weight * both
        raw += weight * (both & (here == away))
    alike, both = _alike(inner.lengths, outer.lengths, flow, conversation)
    return np.asarray((raw + _OF_LENGTHS * (alike >= _LENGTHS_ALIKE)) / (available + _OF_LENGTHS * both))


def _alike(inner: Ints, outer: Ints, flow: Ints, conversation: Ints) -> tuple[Floats, Bools]:
    """Jaccard index of the length sets of each pair, and whether both have any."""
    import pandas as pd

    pairs = pd.DataFrame({"pair": np.arange(len(flow)), "flow": flow, "conversation": conversation})
    of_flow = pd.DataFrame({"flow": inner[:, 0], "length": inner[:, 1]})
    of_conversation = pd.DataFrame({"conversation": outer[:, 0], "length": outer[:, 1]})
    shared = pairs.merge(of_flow, on="flow").merge(of_conversation, on=["conversation", "length"])
    common = np.bincount(shared["pair"], minlength=len(flow))
    here = np.bincount(inner[:, 0], minlength=int(flow.max(initial=0)) + 1)[flow]
    away = np.bincount(outer[:, 0], minlength=int(conversation.max(initial=0)) + 1)[conversation]
    return common / np.maximum(here + away - common, 1), (here > 0) & (away > 0)
