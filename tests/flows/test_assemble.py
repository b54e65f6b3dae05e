from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tables import table, tcp, udp
from vpnforensics.flows.assemble import assemble_flows

NAT, WEB, DNS = "203.0.113.1", "192.0.2.10", "192.0.2.53"
SYN, SYN_ACK, ACK, FIN, RST_ACK = 0x02, 0x12, 0x10, 0x11, 0x14


def test_two_directions_are_one_flow_and_up_is_from_the_opener() -> None:
    flows = assemble_flows(
        table(
            [
                tcp(0.0, NAT, 4000, WEB, 443, SYN, seq=1),
                tcp(0.1, WEB, 443, NAT, 4000, SYN_ACK, seq=9),
                tcp(0.2, NAT, 4000, WEB, 443, ACK),
            ]
        )
    )
    assert len(flows) == 1
    assert flows.up.tolist() == [True, False, True]
    assert (flows.source(0), flows.destination(0)) == (f"{NAT}:4000", f"{WEB}:443")
    assert (flows.packets_up[0], flows.packets_down[0]) == (2, 1)


def test_a_flow_whose_opening_was_missed_follows_its_address() -> None:
    flows = assemble_flows(
        table(
            [
                tcp(0.0, WEB, 443, NAT, 4001, ACK),  # already under way, first seen coming down
                tcp(0.1, NAT, 4000, WEB, 443, SYN, seq=1),
                tcp(0.2, NAT, 4002, DNS, 53, SYN, seq=2),
            ]
        )
    )
    assert flows.source(0) == f"{NAT}:4001"
    assert not flows.up[0]


def _visits(hosts: int) -> list[dict[str, object]]:
    """The server opens one answered TCP connection and asks one question of each host; one was under way."""
    rows = [tcp(0.0, WEB, 443, NAT, 3999, ACK), tcp(0.01, NAT, 3999, WEB, 443, ACK)]
    for n in range(hosts):
        far = f"192.0.2.{100 + n}"
        rows += [
            tcp(1 + n, NAT, 4000 + n, far, 443, SYN, seq=n),
            tcp(1.1 + n, far, 443, NAT, 4000 + n, SYN_ACK),
        ]
        rows += [udp(1.2 + n, NAT, 5000 + n, far, 53), udp(1.3 + n, far, 53, NAT, 5000 + n)]
    return rows


def _knocks(number: int, *, hosts: int, answer: int | None) -> list[dict[str, object]]:
    """Connections from the Internet to the server's port 22, and what it says to them."""
    rows = []
    for n in range(number):
        host, port = f"198.51.100.{1 + n % hosts}", 30_000 + n
        rows.append(tcp(2 + n / number, host, port, NAT, 22, SYN, seq=n))
        if answer is not None:
            rows.append(tcp(2.001 + n / number, NAT, 22, host, port, answer))
    return rows


@pytest.mark.parametrize(
    "knocks",
    [
        _knocks(200, hosts=200, answer=None),  # dropped
        _knocks(200, hosts=200, answer=RST_ACK),  # refused
        _knocks(200, hosts=2, answer=SYN_ACK),  # passwords are tried
    ],
)
def test_connections_from_the_internet_turn_no_flow_round(knocks: list[dict[str, object]]) -> None:
    flows = assemble_flows(table([*_visits(5), *knocks]))
    assert {flows.source(f).rsplit(":", 1)[0] for f in range(11)} == {NAT}


def test_who_was_seen_to_open_is_the_client_even_of_an_address_that_accepts_more() -> None:
    flows = assemble_flows(table([*_visits(3), *_knocks(50, hosts=50, answer=SYN_ACK)]))
    opened = [f for f in range(len(flows)) if flows.destination(f).endswith(":443") and f > 0]
    assert {flows.source(f).rsplit(":", 1)[0] for f in opened} == {NAT}


def test_a_port_that_leads_into_a_tunnel_is_the_client_side() -> None:
    flows = assemble_flows(table([*_visits(5), *_knocks(1, hosts=1, answer=SYN_ACK)]))
    assert flows.source(len(flows) - 1) == f"{NAT}:22"
    assert flows.up[-2:].tolist() == [False, True]


def test_in_one_direction_alone_openings_count_unanswered() -> None:
    packets = table(_visits(5))
    for side in (packets.src, packets.dst):
        flows = assemble_flows(packets.take(side == packets.addresses.texts.index(NAT)))
        tcp_flows = np.flatnonzero(flows.proto == 6)
        assert {flows.source(f).rsplit(":", 1)[0] for f in tcp_flows.tolist() if f > 0} == {NAT}


def test_an_answer_without_its_opening_is_not_an_opening() -> None:
    flows = assemble_flows(table([tcp(0.0, WEB, 443, NAT, 4000, SYN_ACK, seq=1)]))
    assert flows.source(0) == f"{NAT}:4000"


def test_reuse_after_the_end_is_a_new_flow() -> None:
    flows = assemble_flows(
        table(
            [
                tcp(0, NAT, 4000, WEB, 80, SYN, seq=1),
                tcp(1, NAT, 4000, WEB, 80, FIN),
                tcp(2, NAT, 4000, WEB, 80, SYN, seq=70_000),
                tcp(3, NAT, 4000, WEB, 80, SYN, seq=70_000),  # the same SYN again
            ]
        )
    )
    assert flows.flow.tolist() == [0, 0, 1, 1]


def test_idle_time_splits() -> None:
    packets = table([udp(0, NAT, 5000, DNS, 53), udp(29, NAT, 5000, DNS, 53), udp(60, NAT, 5000, DNS, 53)])
    assert assemble_flows(packets).flow.tolist() == [0, 0, 1]
    assert assemble_flows(packets, idle_other_s=np.inf).flow.tolist() == [0, 0, 0]


def test_pings_are_told_apart_by_their_identifier() -> None:
    def ping(ts: float, identifier: int, kind: int, src: str, dst: str) -> dict[str, object]:
        head = bytes([kind, 0, 0, 0]) + identifier.to_bytes(2, "big")
        return {
            "ts_ns": round(ts * 1e9),
            "proto": 1,
            "src": src,
            "dst": dst,
            "sport": kind,
            "dport": 0,
            "head": head,
        }

    flows = assemble_flows(
        table(
            [
                ping(0, 7, 8, NAT, WEB),
                ping(0.1, 8, 8, NAT, WEB),
                ping(0.2, 7, 0, WEB, NAT),
                ping(0.3, 8, 0, WEB, NAT),
            ]
        )
    )
    assert flows.flow.tolist() == [0, 1, 0, 1]
    assert flows.source(1) == f"{NAT}:8"
    assert flows.up.tolist() == [True, True, False, False]


def test_icmp_errors_are_told_apart_by_the_ports_that_they_quote() -> None:
    """They have the ports of the conversation that they are about, and are a flow of their own."""

    def error(ts: float, src: str, dst: str, source_port: int, port: int) -> dict[str, object]:
        ports = {"sport": 3, "dport": 3, "seq": source_port << 16 | port}
        return {"ts_ns": round(ts * 1e9), "proto": 1, "src": src, "dst": dst, **ports}

    flows = assemble_flows(
        table(
            [
                udp(0, NAT, 5000, DNS, 53),
                error(0.1, NAT, DNS, 53, 5000),
                error(0.2, NAT, DNS, 53, 5001),
                error(0.3, NAT, DNS, 53, 5000),
                error(0.4, DNS, NAT, 5001, 53),
                error(0.5, NAT, DNS, 0, 0),
            ]
        )
    )
    assert flows.flow.tolist() == [0, 1, 2, 1, 2, 3]
    assert (flows.source(1), flows.destination(1)) == (f"{NAT}:5000", f"{DNS}:53")
    assert flows.icmp_type.tolist() == [0, 3, 3, 3]


def test_later_fragments_join_the_flow_of_their_first() -> None:
    first = udp(0, NAT, 5000, WEB, 9, frag=1, ip_id=77)
    later = {**udp(0.001, NAT, 0, WEB, 0, frag=2, ip_id=77)}
    stray = {**udp(0.002, NAT, 0, WEB, 0, frag=2, ip_id=78)}
    assert assemble_flows(table([first, later, stray])).flow.tolist() == [0, 0, 1]


endpoint = st.tuples(st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1"]), st.integers(1, 3))


@settings(max_examples=150)
@given(st.lists(st.tuples(endpoint, endpoint, st.sampled_from([6, 17])), min_size=1, max_size=60))
def test_grouping_equals_a_dictionary_of_unordered_pairs(
    pairs: list[tuple[tuple[str, int], tuple[str, int], int]],
) -> None:
    packets = table(
        tcp(n * 1e-3, a[0], a[1], b[0], b[1], 0x10, proto=proto) for n, (a, b, proto) in enumerate(pairs)
    )
    found = assemble_flows(packets)
    numbers: dict[tuple[frozenset[tuple[str, int]], int], int] = defaultdict(lambda: len(numbers))
    assert found.flow.tolist() == [numbers[frozenset((a, b)), proto] for a, b, proto in pairs]


def test_many_conversations_grow_the_table() -> None:
    rows = [udp(n * 1e-4, NAT, 1024 + n % 6000, f"198.51.{n % 7}.{n % 200 + 1}", 53) for n in range(9000)]
    found = assemble_flows(table(rows))
    keys = {(row["sport"], row["dst"]) for row in rows}
    assert len(found) == len(keys)
    assert sum(len(found.rows_of(f)) for f in range(len(found))) == len(rows)
