"""Exact matching: both sides are readable, and what NAT leaves alone is equal on both.

Theory of operation
-------------------
Where the ingress side is not encrypted (a plain NAT, a tap on the tunnel's inner interface, a decrypted
capture), a packet keeps its TCP sequence and acknowledgement numbers, timestamps, flags and length, or its
UDP payload, and the address and port of its server; those of its client change. Each packet's invariants are
hashed to 64 bits; equal hashes in the same direction are the same packet seen twice, unless their times,
once the clocks are known, say otherwise. A flow belongs to the ingress conversation with which it shares
packets, and that to a client address, which takes a tunnel's place in the result. What several clients sent
alike (a time request, a discovery datagram) names none of them, and is not missed either.

The first shared packet of a TCP flow matches a wrong one with a chance of about (packets) / 2^32, its initial
sequence number being random (RFC 6528); later packets follow from it and only confirm. A UDP payload's first
bytes are taken to be worth 16 bits (a DNS identifier). The score is the decimal logarithm of that, with one
confirmation counted once more, less a penalty for packets that should have matched and did not. The same
packet again confirms nothing, and a packet that matches another client takes a confirmation back.

The server is part of it because numbers alone prove nothing where programs choose them: connections written
by a script begin with the same ones and agree with each other for as long as they last, whoever they talk
to. So no length of such a match makes up for another server. Where the server itself is translated (a
forwarded port, names redirected to a resolver of one's own) nothing is linked, and nothing denied either:
packets with equal numbers were seen.

No alignment is needed: the matched packets give one. Silent on datagrams without captured payload, and
where a proxy or a scrubber rewrote the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines.case import LONGEST_STAY_NS
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import PROTO_TCP, PROTO_UDP, PacketTable

NAME = "exact"

_TCP_BITS, _UDP_BITS = 32, 16
"""Chance in a sequence number, and in a payload's first bytes (an identifier of DNS)."""
_PENALTY = 1.5
"""Decimal logarithms for a packet that should have matched: captures lose about three in a hundred."""
_MISSING_FORGIVEN = 0.25
"""Share of a flow's packets that may be missing at no cost: a snapped or dropping capture."""
_MOST_ALIKE = 4
"""A packet seen more often (keep-alives, equal datagrams) names nobody; a few are retransmissions or taps."""
_MIX = np.uint64(0x9E3779B97F4A7C15)
"""Splitmix64's odd constant, of the golden ratio."""


@dataclass(frozen=True, eq=False)
class ExactMatches:
    """Egress flows with the ingress conversation they share packets with; one entry a flow."""

    conversation: Ints
    """Ingress conversation, -1 without a match."""
    shared: Ints
    """Packets of the flow seen in it."""
    score: Floats
    """Decimal logarithm; -inf without a match."""
    ingress_row: Ints
    """For each egress packet, its ingress row in that conversation, or -1."""
    comparable: Bools
    """For each egress packet, whether there is something to compare."""
    seen: Bools
    """For each egress packet, whether it may be in the ingress capture, in this conversation or another."""


def match_exactly(
    conversations: FlowTable,
    flows: FlowTable,
    *,
    one_capture: bool = False,
    alignment: Alignment | None = None,
) -> ExactMatches:
    """The ingress conversation of each egress flow, by equal invariants.

    Parameters
    ----------
    conversations : FlowTable
        Of the ingress capture.
    flows : FlowTable
        Of the egress capture.
    one_capture : bool
        Both are of one capture: a packet does not match itself.
    alignment : Alignment, optional
        Where the clocks' relation is known, equal packets too far apart in time are not the same.
    """
    numbers_in, bits_in = _invariants(conversations.packets, conversations.up)
    numbers_out, bits_out = _invariants(flows.packets, flows.up)
    key_in, key_out = _with_server(conversations, numbers_in), _with_server(flows, numbers_out)
    usable = np.flatnonzero(bits_in > 0)
    order = usable[np.argsort(key_in[usable], kind="stable")]
    sorted_keys = key_in[order]
    first = np.searchsorted(sorted_keys, key_out, side="left")
    alike = np.searchsorted(sorted_keys, key_out, side="right") - first
    packet = np.flatnonzero((bits_out > 0) & (alike > 0) & (alike <= _MOST_ALIKE))
    number = np.arange(_MOST_ALIKE)
    row = order[np.minimum(first[packet, None] + number, len(order) - 1)]
    same = number < alike[packet, None]
    if one_capture:
        same &= conversations.flow[row] != _same_flow(conversations, flows, packet)[:, None]
    if alignment is not None and alignment.usable:
        there_ns = alignment.to_ingress(flows.packets.ts_ns[packet])[:, None]
        same &= np.abs(conversations.packets.ts_ns[row] - there_ns) <= LONGEST_STAY_NS
    of_one = _of_one_client(conversations.src[conversations.flow[row]], same)
    shared_by_many = (bits_out > 0) & (alike > _MOST_ALIKE)
    shared_by_many[packet] = same.any(axis=1) & ~of_one
    able = (bits_out > 0) & ~shared_by_many
    at, nth = np.nonzero(same & of_one[:, None])
    conversation, ingress_row, shared, score = _tally(
        conversations, flows, row[at, nth], packet[at], key_out, np.where(able, bits_out, 0)
    )
    of_another_server = (bits_out > 0) & (alike == 0) & np.isin(numbers_out, numbers_in[usable])
    seen = shared_by_many | of_another_server | (ingress_row >= 0)
    return ExactMatches(conversation, shared, score, ingress_row, bits_out > 0, seen)


def _of_one_client(client: Int32s, same: Bools) -> Bools:
    """Packets whose like, the entries ``same`` of each row, are all of one client."""
    most = np.where(same, client, -1).max(axis=1, initial=-1)
    least = np.where(same, client, np.iinfo(np.int32).max).min(axis=1, initial=np.iinfo(np.int32).max)
    return np.asarray(most == least)


def _same_flow(conversations: FlowTable, flows: FlowTable, packets: npt.NDArray[np.intp]) -> Int32s:
    """The ingress conversation that an egress packet of the same capture belongs to."""
    frames = conversations.packets.frame
    return conversations.flow[np.searchsorted(frames, flows.packets.frame[packets])]


def _tally(
    conversations: FlowTable,
    flows: FlowTable,
    row: npt.NDArray[np.intp],
    packet: npt.NDArray[np.intp],
    key: npt.NDArray[np.uint64],
    bits: Ints,
) -> tuple[Ints, Ints, Ints, Floats]:
    """Conversation of each flow, ingress row of each egress packet, packets shared, and score.

    Most distinct packets win, ties the earlier conversation; those of another client speak against it.

    Parameters
    ----------
    row, packet : ndarray of intp
        Ingress and egress rows of each match.
    key : ndarray of uint64
        Invariants of each egress packet.
    bits : ndarray of int64
        What each egress packet's are worth, 0 where nothing is expected of it.
    """
    count = len(flows)
    conversation = np.full(count, -1, np.int64)
    score = np.full(count, -np.inf)
    ingress_row = np.full(len(flows.packets), -1, np.int64)
    able = np.bincount(flows.flow[bits > 0], minlength=count)
    if not len(row):
        return conversation, ingress_row, np.zeros(count, np.int64), score
    flow, of_row = flows.flow[packet].astype(np.int64), conversations.flow[row]
    pair, votes = _distinct_votes(flow * len(conversations) + of_row, key[packet])
    voter, chosen = np.divmod(pair, len(conversations))
    order = np.lexsort((chosen, -votes, voter))
    lead = order[changes(voter[order])]
    conversation[voter[lead]] = chosen[lead]
    distinct, rival = np.zeros(count, np.int64), np.zeros(count, np.int64)
    distinct[voter[lead]] = votes[lead]
    others = conversations.src[chosen] != conversations.src[conversation[voter]]
    np.maximum.at(rival, voter[others], votes[others])
    mine = of_row == conversation[flow]
    ingress_row[packet[mine]] = row[mine]
    matched = ingress_row >= 0
    shared = np.bincount(flows.flow[matched], minlength=count)
    worth = np.zeros(count)
    np.maximum.at(worth, flows.flow[matched], bits[matched].astype(np.float64))
    chance = worth * np.log10(2.0) - np.log10(max(len(conversations.packets), 1))
    missing = np.maximum(0.0, able - shared - _MISSING_FORGIVEN * able)
    found = shared > 0
    score[found] = (chance * np.clip(distinct - rival, 0, 2) - _PENALTY * missing)[found]
    return conversation, ingress_row, shared, score


def _distinct_votes(pair: Ints, key: npt.NDArray[np.uint64]) -> tuple[Ints, Ints]:
    """Pairs of flow and conversation, ascending, and how many distinct packets they share."""
    order = np.lexsort((key, pair))
    pair, key = pair[order], key[order]
    found, votes = np.unique(pair[changes(pair, key)], return_counts=True)
    return found, votes


def _invariants(packets: PacketTable, up: Bools) -> tuple[npt.NDArray[np.uint64], Ints]:
    """A 64-bit key of what NAT keeps, and how many bits of chance are in it (0: says nothing)."""
    tcp = packets.proto == PROTO_TCP
    spoken = (packets.proto == PROTO_UDP) & packets.head.any(axis=1)
    key = np.zeros(len(packets), np.uint64)
    for column in (
        up,
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


def _with_server(flows: FlowTable, numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The packets' invariants together with the address and port of their flow's server."""
    address = np.ascontiguousarray(flows.packets.addresses.packed).view(np.uint64)[flows.dst]
    server = _mixed(_mixed(address[:, 0], address[:, 1]), flows.dport.astype(np.uint64))
    return _mixed(numbers, server[flows.flow])


def _mixed(key: npt.NDArray[np.uint64], value: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Fold a value into a hash (multiply and xor-shift, as splitmix64)."""
    mixed = (key ^ value) * _MIX
    return np.asarray(mixed ^ (mixed >> np.uint64(29)))
