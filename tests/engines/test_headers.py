from __future__ import annotations

from dataclasses import replace
from math import log10

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import same_clock
from vpnforensics.engines import headers
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import Pairs
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable, Tunnel, TunnelSet

SERVER = "10.9.9.9"


def made(ttl=(64, 128), largest=(1420, 1280), ecn=(0, 0), flow=None, packets=40, marked=range(120)):
    """Two tunnels like WireGuard, and a flow at their time; a field may be one for each packet.

    The tunnels' packets stand each 0.1 s from 10 s on, the ``marked`` with ``ecn``; the flow's from 12 s.
    """
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
                    tos=ecn[t] if i in marked else 0,
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
            **{
                name: value[i % len(value)] if isinstance(value, tuple) else value
                for name, value in ({"ttl": 63, "ip_len_bytes": 500} | (flow or {})).items()
            },
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


UNSTEADY = {"ttl": (63, 61)}
"""A flow of which the TTL says nothing: somewhere on its way packets took other roads."""
POPULATION = {32: 0.01, 64: 0.70, 128: 0.24, 255: 0.05}


@pytest.mark.parametrize("inside", POPULATION)
@pytest.mark.parametrize("outside", POPULATION)
def test_seven_of_ten_devices_run_the_tunnel_themselves_and_the_others_have_any_ttl(inside, outside):
    (score, note), _ = scores_of(made(ttl=(outside, outside), flow={"ttl": inside - 1})).values()
    usual = POPULATION[inside]
    assert score == pytest.approx(log10((0.7 * (inside == outside) + 0.3 * usual) / usual))
    assert note == ("same" if inside == outside else "other") + " initial TTL"


def test_a_ttl_counts_where_it_is_steady_and_the_server_takes_one():
    assert scores_of(made(flow=UNSTEADY)) == {}
    assert scores_of(made(flow={"ttl": 1}))[0][1] == "other initial TTL"
    assert scores_of(made(flow={"ttl": 0})) == {}  # of no packet
    assert len(scores_of(made(flow={"ttl": (63, 62)}))) == 2
    assert scores_of(made(flow={"ttl": 64}))[1][1] == "same initial TTL"  # it was 65 or more inside
    assert scores_of(made(flow={"ttl": 63}))[0][1] == "same initial TTL"


def test_the_ttl_of_a_tunnel_is_what_most_of_its_packets_have():
    case = made(flow={"ttl": 63})
    outer = case.conversations.packets
    seen = np.cumsum(case.conversations.flow == case.tunnels.tunnels[0].conversation)
    for others, known in ((59, True), (60, False)):
        ttl = np.where((seen <= others) & (outer.ttl == 57), 56, outer.ttl).astype(outer.ttl.dtype)
        packets = replace(outer, ttl=ttl)
        mixed = replace(case, conversations=replace(case.conversations, packets=packets))
        assert (0 in scores_of(mixed)) == known


def with_records(sizes, up=True, packets=1, **flow):
    """One of the tunnels has these records; the flow's packets have nothing else to compare."""
    case = made(flow=UNSTEADY | flow, packets=max(packets, 2))
    n = len(sizes)
    records = RecordTable(
        np.arange(n), np.zeros(n, np.int32), np.full(n, up), np.array(sizes, np.int32), np.full(n, -1),
        np.zeros(n, np.int32),
    )  # fmt: skip
    return replace(case, tunnels=replace(case.tunnels, records=records))


@pytest.mark.parametrize(
    ("sizes", "length", "over"),
    [
        ([232] * 45 + [532] * 5, 501, 2),
        ([232] * 45 + [532] * 5, 500, 0),  # five full packets of L + 32
        ([232] * 44 + [532] * 5, 501, 0),  # too few to tell
        ([232] * 46 + [532] * 4, 501, 0),  # a stray may be larger
        ([52] * 50, 21, 2),
        ([51] * 50, 1500, 0),  # nothing fits: another kind of record
    ],
)
def test_a_record_size_seen_five_times_in_fifty_is_that_of_full_packets(sizes, length, over):
    found = scores_of(with_records(sizes, ip_len_bytes=length))
    assert found == ({0: (pytest.approx(2 * log10(0.03)), "packets too long for the tunnel")} if over else {})


def test_of_a_burst_too_long_three_packets_count():
    found = scores_of(with_records([532] * 50, packets=9, ip_len_bytes=600))
    assert found[0][0] == pytest.approx(3 * log10(0.03))


def test_a_tunnel_of_long_records_carries_long_packets():
    assert scores_of(with_records([9132] * 50, ip_len_bytes=9100)) == {}
    assert scores_of(with_records([9132] * 50, ip_len_bytes=9101))[0][0] < -3


def test_a_direction_that_showed_no_full_packet_says_nothing():
    assert scores_of(with_records([532] * 50, up=False, ip_len_bytes=600)) == {}
    case = with_records([532] * 50, ip_len_bytes=600)
    assert scores_of(replace(case, map_of_tunnel=np.array([-1, 0]))) == {}


@pytest.mark.parametrize(
    ("marked", "there"), [(range(20, 56), log10(0.98 / 0.3)), (range(20, 55), log10(0.02 / 0.95))]
)
def test_nine_of_ten_marks_have_to_be_in_the_tunnel_at_their_time(marked, there):
    """Forty packets are marked; thirty-six in the tunnel are enough, and three of ten of its own."""
    found = scores_of(made(ecn=(2, 2), marked=marked, flow=UNSTEADY | {"tos": 2}))
    assert found[0][0] == pytest.approx(there)
    assert found[0][1] == ("ECN copied" if there > 0 else "ECN not copied")


@pytest.mark.parametrize(
    ("marked", "copied"), [((18, 22), True), ((17, 20), False), ((20, 23), False), ((20, 21), True)]
)
def test_marks_are_looked_for_from_a_fifth_of_a_second_before_to_a_fifth_after(marked, copied):
    """Two packets at 12.0 and 12.1 s; seldom marked tunnels count as marked for a twentieth."""
    found = scores_of(made(ecn=(1, 1), marked=marked, packets=2, flow=UNSTEADY | {"tos": 3}))
    assert found[0][0] == pytest.approx(log10(0.98 / 0.05) if copied else log10(0.02 / 0.95))


def test_marks_are_asked_of_tunnels_that_copy_them_about_flows_that_have_them():
    case = made(ecn=(2, 2), flow=UNSTEADY | {"tos": 2})
    first, second = case.tunnels.tunnels
    tunnels = replace(case.tunnels, tunnels=(first, replace(second, copies_ecn=False)))
    assert set(scores_of(replace(case, tunnels=tunnels))) == {0}
    assert scores_of(made(ecn=(2, 2), flow=UNSTEADY | {"tos": 4})) == {}  # DSCP is not ECN


def test_what_is_said_adds_up():
    case = made(ttl=(64, 64), largest=(1420, 480), ecn=(0, 2), flow={"tos": 2})
    fits, too_long = (scores_of(case)[tunnel] for tunnel in (0, 1))
    same = log10(0.91 / 0.7)
    assert fits == (pytest.approx(same + log10(0.02 / 0.95)), "same initial TTL, ECN not copied")
    assert too_long[0] == pytest.approx(same + log10(0.98 / 1.0) + 3 * log10(0.03))
    assert too_long[1].startswith("packets too long for the tunnel, same initial TTL, ECN")
    assert headers.score(case).n.tolist() == [40, 40]


@pytest.mark.parametrize(
    ("first_ms", "last_ms", "compared"),
    [(0, 11_800, True), (0, 11_799, False), (12_300, 99_000, True), (12_301, 99_000, False)],
)
def test_flow_and_tunnel_meet_in_time(first_ms, last_ms, compared):
    """The flow lasts from 12.0 to 12.1 s; clocks and delays may be off by 0.2 s."""
    case = made(packets=2)
    first, second = case.tunnels.tunnels
    first = replace(first, first_ns=first_ms * 1_000_000, last_ns=last_ms * 1_000_000)
    moved = replace(case, tunnels=replace(case.tunnels, tunnels=(first, second)))
    assert (0 in scores_of(moved)) == compared
    assert 1 in scores_of(moved)
    asked = Pairs(np.zeros(1, np.int32), np.zeros(1, np.int32))
    assert headers.score(moved, asked).tunnel.tolist() == [0] * compared


def test_silence():
    case = made()
    assert headers.score(case).silence == {}
    empty = replace(case, tunnels=case.tunnels.select(np.zeros(2, np.bool_)))
    assert headers.score(empty).silence == {"no tunnels or no flows": 1}
    assert len(headers.score(empty)) == 0
    fits = with_records([532] * 50)
    assert headers.score(fits).silence == {"the fields say the same of every tunnel": 1}
    unknown = replace(fits, map_of_tunnel=np.array([-1, -1]))
    assert headers.score(unknown).silence == {"nothing in common to compare": 1}
