from __future__ import annotations

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.engines import headers
from vpnforensics.engines.case import Case
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable, Tunnel, TunnelSet

SERVER = "10.9.9.9"


def made(ttl=(64, 128), largest=(1420, 1280), ecn=(0, 0), flow=None, packets=40):
    """Two tunnels of WireGuard's kind and one flow at their time."""
    outer, rows = [], []
    for t in range(2):
        for i in range(120):
            size = (largest[t] if i % 3 else 52) + 32
            rows.append((len(outer), t, size, i))
            outer.append(
                udp(
                    10 + 0.1 * i + 0.01 * t,
                    f"10.0.0.{t}",
                    5000,
                    SERVER,
                    51820,
                    size,
                    ttl=ttl[t] - 7,
                    tos=ecn[t],
                )
            )
    order = np.argsort([row["ts_ns"] for row in outer], kind="stable")
    ingress = table([outer[i] for i in order])
    conversations = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    place = np.argsort(order)
    tunnels, ts, number, sizes, row = [], [], [], [], []
    for t in range(2):
        c = next(c for c in range(2) if conversations.source(c) == f"10.0.0.{t}:5000")
        first, last = int(conversations.first_ns[c]), int(conversations.last_ns[c])
        tunnels.append(
            Tunnel(
                f"10.0.0.{t}:5000",
                f"{SERVER}:51820",
                "udp",
                "wireguard",
                "",
                0.9,
                first,
                last,
                120,
                0,
                (),
                c,
                copies_ecn=True,
            )
        )
    for at, t, size, _ in rows:
        ts.append(outer[at]["ts_ns"])
        number.append(t)
        sizes.append(size)
        row.append(place[at])
    order = np.argsort(ts, kind="stable")
    n = len(ts)
    records = RecordTable(
        np.array(ts)[order], np.array(number, np.int32)[order], np.ones(n, np.bool_),
        np.array(sizes, np.int32)[order], np.full(n, -1), np.array(row)[order],
    )  # fmt: skip
    egress = table(
        tcp(
            12 + 0.1 * i,
            "198.51.100.1",
            4000,
            "192.0.2.7",
            443,
            **{"ttl": 63, "ip_len_bytes": 500} | (flow or {}),
        )
        for i in range(packets)
    )
    return Case(
        conversations, TunnelSet(tuple(tunnels), records, np.zeros(0, np.int64)), assemble_flows(egress),
        same_clock("made up"), (LengthMap(32),), np.zeros(2, np.int64),
    )  # fmt: skip


def scores_of(case):
    scores = headers.score(case)
    return {int(t): (s, note) for t, s, note in zip(scores.tunnel, scores.score, scores.note, strict=True)}


def test_initial_ttl():
    assert headers.initial_ttl(np.array([1, 32, 33, 57, 64, 65, 128, 129, 255])).tolist() == [
        32, 32, 64, 64, 64, 128, 128, 255, 255,
    ]  # fmt: skip


def test_the_same_initial_ttl_is_weakly_for_and_another_weakly_against():
    linux, windows = made(), made(flow={"ttl": 127})
    assert scores_of(linux)[0][0] == pytest.approx(np.log10((0.7 + 0.3 * 0.7) / 0.7))
    assert scores_of(linux)[1][0] == pytest.approx(np.log10(0.3))
    assert scores_of(windows)[1][0] > scores_of(linux)[0][0]  # rarer, so it says more
    assert scores_of(windows)[1][1] == "same initial TTL"


def test_a_packet_longer_than_a_tunnel_ever_carried_was_not_in_it():
    found = scores_of(made(ttl=(64, 64), flow={"ip_len_bytes": 1400}))
    assert found[0][0] > 0
    assert found[1][0] < -4
    assert found[1][1].startswith("packets too long")
    assert scores_of(made(ttl=(64, 64), flow={"ip_len_bytes": 1400}, packets=1))[1][0] > -2


def test_ecn_has_to_come_through_where_it_is_copied():
    found = scores_of(made(ttl=(64, 64), ecn=(2, 0), flow={"tos": 2}))
    assert found[1][0] < found[0][0] - 1
    assert "ECN not copied" in found[1][1]
    assert "ECN copied" not in scores_of(made(ttl=(64, 64)))[0][1]


def test_silence():
    case = made()
    blind = Case(
        case.conversations, case.tunnels, case.flows, Alignment("not_identifiable", reason="test"), case.maps,
        case.map_of_tunnel,
    )  # fmt: skip
    assert "the two clocks cannot be aligned" in headers.score(blind).silence
    none = case.tunnels.select(np.zeros(2, np.bool_))
    empty = Case(case.conversations, none, case.flows, case.alignment, (), np.zeros(0, np.int64))
    assert len(headers.score(empty)) == 0
