"""Which record carried which packet, once it is known which tunnel carried which flow.

Scoring takes for each packet the likeliest record, one packet at a time, by a delay law learned from rare
sizes. For links that is enough. For the packets of a burst it is not: equal ones swap places, and where the
server was busy, all of them may lie outside the law. But a server keeps the order of packets of one
direction, so counting tells more than timing: between two quiet moments, if as many packets of a size left
on one side as came on the other, the first is the first, and so on.

So in each lane (a tunnel, a direction, an outer size) the two sides are cut at their common quiet moments;
what balances is paired in order, and what does not is cut finer. The rest (losses, records of flows that
were not linked) keeps the records that scoring gave it, put into order.

Known weakness: where a capture lost one of a burst of equal packets, which one cannot be told, and those
behind it may be off by one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import SizeClasses, classify_records
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision

_QUIET_NS = (20_000_000, 5_000_000, 2_000_000, 1_000_000)
"""How long both sides of a lane are silent at a cut, in turn; the longest bridges a busy server's queue."""

Ints = npt.NDArray[np.int64]


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
        The record that each packet has where counting does not help, or -1.

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
    for quiet_ns in _QUIET_NS:
        packet_block, record_block = _blocks(
            packet_lane[packet], packet_ns[packet], record_lane[record], record_ns[record], quiet_ns
        )
        blocks = 1 + max(packet_block.max(initial=-1), record_block.max(initial=-1))
        balances = np.bincount(packet_block, minlength=blocks) == np.bincount(record_block, minlength=blocks)
        matched[packet[balances[packet_block]]] = record[balances[record_block]]
        packet, record = packet[~balances[packet_block]], record[~balances[record_block]]
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
