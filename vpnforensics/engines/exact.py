"""Exact matching: both sides are readable, and what NAT leaves alone is equal on both.

Theory of operation
-------------------
Where the ingress side is not encrypted (a plain NAT, a tap on the tunnel's inner interface, a decrypted
capture), a packet keeps its TCP sequence and acknowledgement numbers, timestamps, flags and length, or its
UDP payload, while addresses and ports change. Each packet's invariants are hashed to 64 bits; equal hashes
in the same direction are the same packet seen twice. A flow belongs to the ingress conversation with which it
shares packets, and that to a client address, which takes a tunnel's place in the result.

The first shared packet of a TCP flow matches a wrong one with a chance of about (packets) / 2^32, its initial
sequence number being random (RFC 6528); later packets follow from it and only confirm. A UDP payload's first
bytes are taken to be worth 16 bits (a DNS identifier). The score is the decimal logarithm of that, with one
confirmation counted once more, less a penalty for packets that should have matched and did not.

No alignment is needed: the matched packets give one. Silent on datagrams without captured payload, and
where a proxy or a scrubber rewrote the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP, PROTO_UDP, PacketTable

NAME = "exact"

_TCP_BITS, _UDP_BITS = 32, 16
_PENALTY = 1.5
_MISSING_FORGIVEN = 0.25
_MIX = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, eq=False)
class ExactMatches:
    """Egress flows with the ingress conversation they share packets with; one entry a flow."""

    conversation: npt.NDArray[np.int64]
    """Ingress conversation, -1 without a match."""
    shared: npt.NDArray[np.int64]
    """Packets of the flow seen in it."""
    score: npt.NDArray[np.float64]
    """Decimal logarithm; -inf without a match."""
    ingress_row: npt.NDArray[np.int64]
    """For each egress packet, its ingress row in that conversation, or -1."""
    readable: npt.NDArray[np.bool_]
    """Whether any packet of the flow has something to compare."""


def match_exactly(conversations: FlowTable, flows: FlowTable, *, one_capture: bool = False) -> ExactMatches:
    """The ingress conversation of each egress flow, by equal invariants.

    Parameters
    ----------
    conversations : FlowTable
        Of the ingress capture.
    flows : FlowTable
        Of the egress capture.
    one_capture : bool
        Both are of one capture: a packet does not match itself.
    """
    outer, inner = conversations.packets, flows.packets
    key_in, bits_in = _invariants(outer, conversations.up)
    key_out, bits_out = _invariants(inner, flows.up)
    usable = np.flatnonzero(bits_in > 0)
    order = usable[np.argsort(key_in[usable], kind="stable")]
    sorted_keys = key_in[order]
    votes_flow: list[npt.NDArray[np.int64]] = []
    votes_row: list[npt.NDArray[np.int64]] = []
    votes_packet: list[npt.NDArray[np.int64]] = []
    first = np.searchsorted(sorted_keys, key_out, side="left")
    last = np.searchsorted(sorted_keys, key_out, side="right")
    # A key seen many times (keep-alives, equal datagrams) names nobody; a few are retransmissions or taps.
    for copy in range(4):
        at = first + copy
        hit = np.flatnonzero((bits_out > 0) & (at < last) & (last - first <= 4))
        rows = order[at[hit]]
        if one_capture:
            other = conversations.flow[rows] != _same_flow(conversations, flows, hit)
            hit, rows = hit[other], rows[other]
        votes_flow.append(flows.flow[hit].astype(np.int64))
        votes_row.append(rows)
        votes_packet.append(hit)
    flow, row, packet = (np.concatenate(v) for v in (votes_flow, votes_row, votes_packet))
    return _tally(conversations, flows, flow, row, packet, bits_out)


def _same_flow(
    conversations: FlowTable, flows: FlowTable, packets: npt.NDArray[np.intp]
) -> npt.NDArray[np.int32]:
    """The ingress conversation that an egress packet of the same capture belongs to."""
    frames = conversations.packets.frame
    return conversations.flow[np.searchsorted(frames, flows.packets.frame[packets])]


def _tally(
    conversations: FlowTable,
    flows: FlowTable,
    flow: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
    packet: npt.NDArray[np.intp],
    bits: npt.NDArray[np.int64],
) -> ExactMatches:
    """Most shared packets win, ties the earlier conversation."""
    count = len(flows)
    conversation = np.full(count, -1, np.int64)
    shared = np.zeros(count, np.int64)
    score = np.full(count, -np.inf)
    ingress_row = np.full(len(flows.packets), -1, np.int64)
    able = np.bincount(flows.flow[bits > 0], minlength=count)
    if not len(flow):
        return ExactMatches(conversation, shared, score, ingress_row, able > 0)
    pair = flow * len(conversations) + conversations.flow[row]
    distinct, votes = np.unique(pair, return_counts=True)
    order = np.lexsort((distinct, -votes, distinct // len(conversations)))
    owner = distinct[order] // len(conversations)
    lead = order[np.r_[True, owner[1:] != owner[:-1]]]
    winner = distinct[lead] // len(conversations)
    conversation[winner] = distinct[lead] % len(conversations)
    mine = conversations.flow[row] == conversation[flow]
    ingress_row[packet[mine]] = row[mine]
    matched = ingress_row >= 0
    shared = np.bincount(flows.flow[matched], minlength=count)
    worth = np.zeros(count)
    np.maximum.at(worth, flows.flow[matched], bits[matched].astype(np.float64))
    chance = worth * np.log10(2.0) - np.log10(max(len(conversations.packets), 1))
    missing = np.maximum(0.0, able - shared - _MISSING_FORGIVEN * able)
    found = shared > 0
    score[found] = (chance * np.minimum(shared, 2) - _PENALTY * missing)[found]
    return ExactMatches(conversation, shared, score, ingress_row, able > 0)


def _invariants(
    packets: PacketTable, up: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """A 64-bit key of what NAT keeps, and how many bits of chance are in it (0: says nothing)."""
    tcp = packets.proto == PROTO_TCP
    spoken = (packets.proto == PROTO_UDP) & packets.head.any(axis=1)
    key = np.where(up, np.uint64(1), np.uint64(0))
    for column in (
        packets.seq,
        packets.ack,
        packets.tsval,
        packets.tsecr,
        packets.tcp_flags,
        packets.payload_bytes,
        packets.proto,
    ):
        key = _mixed(key, column.astype(np.uint64))
    words = np.ascontiguousarray(packets.head).view(np.uint64)
    for n in range(words.shape[1]):
        key = np.where(spoken, _mixed(key, words[:, n]), key)
    return key, np.where(tcp, _TCP_BITS, np.where(spoken, _UDP_BITS, 0)).astype(np.int64)


def _mixed(key: npt.NDArray[np.uint64], value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Fold a value into a hash (multiply and xor-shift, as splitmix64)."""
    mixed = (key ^ value) * _MIX
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))
