"""Packets captured twice are compared once; packets sent twice stay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vpnforensics as vf
from tests.tables import table, tcp, udp
from tests.taps import write_behind_a_router
from vpnforensics import samples
from vpnforensics.flows.copies import without_copies

NAT, WEB = "203.0.113.1", "192.0.2.10"
RST = 0x04
APART_S = 0.01


def _times(rows: list[dict[str, Any]]) -> list[int]:
    return without_copies(table(rows)).packets.ts_ns.tolist()


def _sound(count: int = 10) -> list[dict[str, Any]]:
    return [udp(10 + n, NAT, 5000, WEB, 53, ip_id=100 + n) for n in range(count)]


@pytest.mark.parametrize(
    ("row", "again", "kept"),
    [
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {}, 1),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ip_id": 8}, 2),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ttl": 63}, 1),  # before and behind a router
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ttl": 63, "iface": 1}, 1),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ttl": 61}, 1),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ttl": 65}, 2),  # the next probe for a route
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"ttl": 63, "ip_id": 8}, 2),  # sent again, another road
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=0), {"ttl": 63}, 1),  # the same bytes, over another road
        (tcp(1.0, NAT, 4000, WEB, 443, ip_id=0, ack=9), {"ttl": 63}, 2),  # acknowledged twice, another road
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7), {"iface": 1}, 2),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=7, head=b"a"), {"head": b"b"}, 2),
        (udp(1.0, NAT, 5000, WEB, 53, ip_id=0), {}, 2),  # a question asked again
        (tcp(1.0, NAT, 4000, WEB, 443, ip_id=0, ack=9), {}, 2),  # a duplicate acknowledgement
        (tcp(1.0, NAT, 4000, WEB, 443, RST, ip_id=5), {}, 2),
        (tcp(1.0, NAT, 4000, WEB, 443, payload_bytes=9, has_ts=1, tsval=3), {}, 1),
        (tcp(1.0, NAT, 4000, WEB, 443, payload_bytes=9, has_ts=1, tsval=3), {"tsval": 4}, 2),
    ],
)
def test_a_copy_is_equal_where_the_sender_tells_its_packets_apart(
    row: dict[str, Any], again: dict[str, Any], kept: int
) -> None:
    second = {**row, **again, "ts_ns": row["ts_ns"] + 20_000}
    assert len(_times([row, second, *_sound()])) == kept + 10


def test_the_first_of_several_stays_and_time_ends_it() -> None:
    rows = [udp(1.0 + s, NAT, 5000, WEB, 53, ip_id=7) for s in (0.0, 0.001, 0.009, 0.0101, 0.011)]
    assert _times([*rows, *_sound()])[:2] == [1_000_000_000, 1_010_100_000]


def test_in_a_capture_of_everything_twice_packets_without_an_id_are_copies_too() -> None:
    rows = [
        *_sound(),
        *(tcp(30 + n, NAT, 4000, WEB, 443, flags, ip_id=0) for n, flags in enumerate((16, RST))),
    ]
    twice = [{**row, "ts_ns": row["ts_ns"] + later} for row in rows for later in (0, 3000)]
    assert _times(twice) == [row["ts_ns"] for row in rows]


def test_at_two_hops_packets_without_an_id_or_data_are_copies_if_all_others_are() -> None:
    rows = [udp(10 + n, NAT, 5000, WEB, 53, ip_id=0, head=bytes([n])) for n in range(10)]
    rows += [tcp(30, NAT, 4000, WEB, 443, ip_id=0, ack=9)]
    twice = [
        {**row, "ts_ns": row["ts_ns"] + later, "ttl": 64 - (later > 0)} for row in rows for later in (0, 3000)
    ]
    assert _times(twice) == [row["ts_ns"] for row in rows]


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(0, 8)), max_size=40))
def test_equal_to_a_search_through_all_packets_before(packets: list[tuple[int, int, int]]) -> None:
    at_ms = np.cumsum([step for _, _, step in packets]).tolist()
    kept: list[int] = []
    for n, (ip_id, port, _) in enumerate(packets):
        like = [k for k in kept if packets[k][:2] == (ip_id, port)]
        if not any(at_ms[n] - at_ms[k] <= 1000 * APART_S for k in like):
            kept.append(n)
    rows = [
        udp(ms / 1000, NAT, port, WEB, 53, ip_id=ip_id)
        for (ip_id, port, _), ms in zip(packets, at_ms, strict=True)
    ]
    assert without_copies(table(rows)).packets.frame.tolist() == [n + 1 for n in kept]


def test_a_mirrored_egress_costs_no_link() -> None:
    sample = samples.load("two-clocks")
    once = vf.read_capture(sample.egress)
    twice = once.take(np.repeat(np.arange(len(once)), 2))
    assert without_copies(once).packets is once  # reading it found none to speak of
    mirrored = vf.PacketTable(**dict(_columns(twice)), addresses=twice.addresses)
    expected = vf.correlate(sample.ingress, once)
    case = vf.correlate(sample.ingress, mirrored)
    assert case.links["tunnel"].tolist() == expected.links["tunnel"].tolist()
    assert case.links["verdict"].tolist() == expected.links["verdict"].tolist()
    assert any(f"the egress capture holds {len(once):,} packets twice" in said for said in case.warnings)


@pytest.mark.parametrize("name", ["wireguard", "openvpn-udp"])
def test_an_egress_seen_at_two_hops_costs_no_link(name: str, tmp_path: Path) -> None:
    sample = samples.load(name)
    routed = tmp_path / "routed.pcap"
    count = write_behind_a_router(Path(sample.egress), routed)
    expected = vf.correlate(sample.ingress, sample.egress)
    case = vf.correlate(sample.ingress, routed)
    assert case.links["tunnel"].tolist() == expected.links["tunnel"].tolist()
    assert case.links["verdict"].tolist() == expected.links["verdict"].tolist()
    assert any("packets at two hops, before and behind a router" in said for said in case.warnings)
    source = vf.read_capture(routed).source
    assert source is not None
    assert 0.99 * count <= source.health.later_hops <= count


def _columns(packets: vf.PacketTable) -> list[tuple[str, Any]]:
    return [(spec.name, column) for spec, column in packets.columns()]
