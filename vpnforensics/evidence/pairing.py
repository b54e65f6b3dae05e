"""Which record carried which packet, once it is known which tunnel carried which flow.

Scoring takes for each packet the likeliest record, one packet at a time, by a delay law learned from rare
sizes. For links that is enough. For the packets of a burst it is not: equal ones swap places, and where the
server was busy, all of them may lie outside the law. But a server keeps the order of packets of one
direction, and its delay changes little from one packet to the next.

So in each lane (a tunnel, a direction, an outer size) the two sides are cut at their common quiet moments,
and each block's packets and records are aligned as two sequences of which either lacks some: in order, with
as even a delay and as few absent as possible. A block too large for that is cut finer; what is still too
large keeps the records that scoring gave it, put into order.

Known weakness: where a capture lost one of a burst of equal packets that came evenly, which one cannot be
told, and those beside it may be off by one. Jitter beyond the gaps between equal packets leaves their order
alone.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.align.classes import SizeClasses, classify_records
from vpnforensics.arrays import Ints
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence._pairing_kernels import align_blocks
from vpnforensics.evidence.decision import Decision

_QUIET_NS = (20_000_000, 5_000_000, 2_000_000, 1_000_000)
"""How long both sides of a lane are silent at a cut, in turn; the longest bridges a busy server's queue."""

_ABSENT = 8.0
"""Nats: of a packet in a hundred lost, which one may be guessed among a few dozen."""
_SLACK, _PACKETS_A_SLACK, _MOST_SLACK = 16, 64, 128
"""How far pairs may leave the diagonal: some packets, one more for each 64 of a block, and a limit."""
_MOST_CELLS = 8_000_000
"""Of a block's table, a byte each: larger blocks are cut finer."""
_USUAL_NS, _LEAST_USUAL_NS = 1e5, 1e4
"""Delay of a packet on its own, where none is; and not taken smaller than clocks and captures can tell."""


def pair_in_order(case: Case, decision: Decision) -> Ints:
    """RecordTable row that carried each egress packet (rows as in EgressRows), or -1.

    Parameters
    ----------
    case : Case
    decision : Decision
        Packets of flows that it links are paired; an engine that reads both sides has paired them already.

    Returns
    -------
    ndarray of int64, shape (egress packets,)
    """
    record = decision.record.astype(np.int64)
    if decision.engine != packets_engine.NAME:
        return record
    classes = classify_records(case.tunnels.records, case.map_of_tunnel, case.maps)
    packet, packet_lane = _lanes_of_packets(case, decision, classes)
    if not len(packet):
        return record
    number = np.repeat(np.arange(len(classes)), classes.counts)
    record_lane = classes.tunnel.astype(np.int64) * len(classes) + number
    wanted = np.isin(record_lane, packet_lane)
    row, record_lane = classes.record[wanted].astype(np.int64), record_lane[wanted]
    matched = match_lanes(
        packet_lane,
        case.egress.ts_ns[packet],
        record_lane,
        classes.ts_ns[wanted],
        _places(record[packet], row, len(case.tunnels.records)),
    )
    record[packet] = np.where(matched >= 0, row[matched], -1)
    return record


def match_lanes(
    packet_lane: Ints, packet_ns: Ints, record_lane: Ints, record_ns: Ints, likeliest: Ints
) -> Ints:
    """Pair packets with records of their lane, in order.

    Parameters
    ----------
    packet_lane, packet_ns : ndarray of int64, shape (n,)
        Lane and time of each packet, in any order.
    record_lane, record_ns : ndarray of int64, shape (m,)
        Likewise of each record, on the same clock.
    likeliest : ndarray of int64, shape (n,)
        The record that each packet has in a block too large to align, or -1.

    Returns
    -------
    ndarray of int64, shape (n,)
        Record of each packet, or -1; no record stands twice.
    """
    matched = np.full(len(packet_lane), -1, np.int64)
    if not len(record_lane):
        return matched
    packet = np.lexsort((packet_ns, packet_lane))
    record = np.lexsort((record_ns, record_lane))
    usual_ns = 0.0
    for quiet_ns in _QUIET_NS:
        packet_block, record_block = _blocks(
            packet_lane[packet], packet_ns[packet], record_lane[record], record_ns[record], quiet_ns
        )
        blocks = 1 + max(packet_block.max(initial=-1), record_block.max(initial=-1))
        packets, records = (np.bincount(of, minlength=blocks) for of in (packet_block, record_block))
        if not usual_ns:
            lone = (packets == 1) & (records == 1)
            delays = packet_ns[packet[lone[packet_block]]] - record_ns[record[lone[record_block]]]
            usual_ns = max(float(np.median(np.abs(delays))), _LEAST_USUAL_NS) if len(delays) else _USUAL_NS
        slack = np.minimum(_SLACK + packets // _PACKETS_A_SLACK, _MOST_SLACK)
        small = (packets + 1) * (np.abs(records - packets) + 2 * slack + 1) <= _MOST_CELLS
        mine, theirs = packet[small[packet_block]], record[small[record_block]]
        found = np.full(len(mine), -1, np.int64)
        align_blocks(
            packet_ns[mine],
            record_ns[theirs],
            np.r_[0, np.cumsum(packets[small])],
            np.r_[0, np.cumsum(records[small])],
            slack[small],
            usual_ns,
            _ABSENT,
            found,
        )
        matched[mine] = np.where(found >= 0, theirs[found], -1) if len(theirs) else -1
        packet, record = packet[~small[packet_block]], record[~small[record_block]]
    free = np.zeros(len(record_lane), np.bool_)
    free[record] = True
    likely = likeliest[packet]
    known = packet[(likely >= 0) & free[likely] & (record_lane[likely] == packet_lane[packet])]
    chosen = likeliest[known]
    matched[known] = chosen[np.lexsort((record_ns[chosen], record_lane[chosen]))]
    return matched


def _blocks(
    packet_lane: Ints, packet_ns: Ints, record_lane: Ints, record_ns: Ints, quiet_ns: int
) -> tuple[Ints, Ints]:
    """Number of the block of each packet and each record: a lane's time between two quiet moments."""
    lane, ns = np.concatenate((packet_lane, record_lane)), np.concatenate((packet_ns, record_ns))
    order = np.lexsort((ns, lane))
    lane, ns = lane[order], ns[order]
    begins = (lane[1:] != lane[:-1]) | (ns[1:] - ns[:-1] > quiet_ns)
    block = np.empty(len(order), np.int64)
    block[order] = np.cumsum(np.r_[False, begins][: len(order)])
    return block[: len(packet_lane)], block[len(packet_lane) :]


def _lanes_of_packets(case: Case, decision: Decision, classes: SizeClasses) -> tuple[Ints, Ints]:
    """Egress packets of linked flows that have a size class in their tunnel, and their lanes."""
    egress = case.egress
    tunnel = np.repeat(decision.tunnel, np.diff(egress.start)).astype(np.int64)
    packet = np.flatnonzero(tunnel >= 0)
    tunnel = tunnel[packet]
    number = np.full(len(packet), -1, np.int64)
    for each in range(len(case.maps)):
        mine = case.map_of_tunnel[tunnel] == each
        number[mine] = classes.class_of(each, egress.inner_bytes[packet[mine]], egress.up[packet[mine]])
    known = number >= 0
    return packet[known], tunnel[known] * len(classes) + number[known]


def _places(record: Ints, row: Ints, records: int) -> Ints:
    """Where in ``row`` each RecordTable row stands; -1 stays."""
    place = np.full(records + 1, -1, np.int64)
    place[row] = np.arange(len(row))
    return place[record]
