"""A case's own arithmetic: packets by flow, copies moved on the circle, tables of scores."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import Alignment
from vpnforensics.engines.case import Case, ScoreTable, concatenate
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable, TunnelSet, no_records

S = 1_000_000_000
ALIGNMENT = Alignment("aligned", 2 * S, (2 * S, 2 * S), 0.0, (0.0, 0.0), 0, 9)


def made(records=True):
    """Twenty flows of three packets, one each five seconds, beside datagrams each half second."""
    outer = [udp(0.5 * i, "10.0.0.1", 5000, "10.9.9.9", 51820, 100) for i in range(220)]
    inner = [
        tcp(4 + 5 * f + 0.1 * i, "198.51.100.1", 4000 + f, "192.0.2.1", 443, 0x10 if i else 0x02,
            ip_len_bytes=100 + i)
        for f in range(20)
        for i in (0, 2, 1)
    ]  # fmt: skip
    conversations = assemble_flows(table(outer), idle_tcp_s=np.inf, idle_other_s=np.inf)
    n = len(outer)
    every = RecordTable(
        conversations.packets.ts_ns, np.zeros(n, np.int32), np.ones(n, np.bool_), np.full(n, 100, np.int32),
        np.full(n, -1), np.arange(n, dtype=np.int32),
    )  # fmt: skip
    found = TunnelSet((), every if records else no_records(), np.zeros(0, np.int64))
    return Case(
        conversations, found, assemble_flows(table(inner)), ALIGNMENT, (LengthMap(32),), np.zeros(1, np.int64)
    )


def test_packets_stand_by_flow_in_the_files_order_on_the_ingress_clock():
    case = made()
    egress = case.egress
    assert egress.start.tolist() == list(range(0, 61, 3))
    assert egress.inner_bytes[:3].tolist() == [100, 102, 101]
    assert (egress.row == np.arange(60)).all()
    assert egress.up.all()
    assert egress.ts_ns.tolist() == ALIGNMENT.to_ingress(case.flows.packets.ts_ns).tolist()
    assert case.begin_ns.tolist() == ALIGNMENT.to_ingress(case.flows.packets.ts_ns[::3]).tolist()


def test_the_circle_is_of_the_records_or_of_all_outer_packets():
    assert made().circle.period_ns == made(records=False).circle.period_ns == 219 * S // 2
    case = made()
    few = TunnelSet((), case.tunnels.records.take(np.arange(100)), case.tunnels.plain)
    short = Case(case.conversations, few, case.flows, ALIGNMENT, case.maps, case.map_of_tunnel)
    assert short.circle.period_ns == 99 * S // 2


def test_a_turned_case_has_its_flows_whole_elsewhere_and_all_else_in_place():
    case = made()
    vars(case)["outer"] = vars(case)["devices"] = vars(case)["outer_ip_ids"] = "in place"
    turned, away = case.turned(0.4)
    moved = turned.flows.packets.ts_ns - case.flows.packets.ts_ns
    by_flow = moved.reshape(20, 3)
    assert (by_flow == by_flow[:, :1]).all()
    expected, expected_away = case.circle.turned(case.begin_ns, 0.4)
    assert by_flow[:, 0].tolist() == expected.tolist()
    assert away.tolist() == expected_away.tolist()
    assert away.any()
    assert turned.conversations is case.conversations
    assert {turned.outer, turned.devices, turned.outer_ip_ids} == {"in place"}
    assert (turned.egress.ts_ns - case.egress.ts_ns).tolist() == moved.tolist()
    fresh, _ = made().turned(0.4)
    assert "outer" not in vars(fresh)


@pytest.mark.parametrize(
    ("transports", "by_writes"), [([], False), (["stream"] * 2, True), (["stream", "udp"], False)]
)
def test_a_case_is_by_writes_where_all_its_tunnels_are_carriers(transports, by_writes):
    tunnels = SimpleNamespace(tunnels=[SimpleNamespace(transport=each) for each in transports])
    assert replace(made(), tunnels=tunnels).by_writes == by_writes


def test_tables_of_scores_end_to_end():
    one = ScoreTable(
        np.array([1], np.int32), np.array([2], np.int32), np.array([3.0]), np.array([4], np.int32)
    )
    two = concatenate([one, one.take(np.zeros(0, np.intp)), one])
    assert (len(one), len(two), len(concatenate([]))) == (1, 2, 0)
    for column, value in (("flow", 1), ("tunnel", 2), ("score", 3.0), ("hits", 4)):
        assert len(getattr(concatenate([]), column)) == 0
        assert getattr(two, column).tolist() == [value] * 2
        assert getattr(two, column).dtype == getattr(concatenate([]), column).dtype
