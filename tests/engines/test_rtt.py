from __future__ import annotations

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.engines import rtt
from vpnforensics.engines.case import Case
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.table import Tunnel, TunnelSet, no_records

CLIENT, SERVER = ("10.0.0.1", 5000), ("10.9.9.9", 443)
START_S = 1000.0


def talk(round_trips_s, *, client=CLIENT, server=SERVER, start_s=START_S, step_s=0.4, tick_hz=1000):
    """Segments from the server, each echoed by the client after the given time."""
    rows, seq = [], 1
    for i, wait_s in enumerate(round_trips_s):
        sent_s = start_s + i * step_s
        stamp = {"has_ts": 1, "tsval": int(sent_s * tick_hz), "tsecr": 7}
        rows.append(tcp(sent_s, *server, *client, seq=seq, payload_bytes=100, **stamp))
        seq += 100
        echo = {"has_ts": 1, "tsval": 9 + i, "tsecr": stamp["tsval"]}
        rows.append(tcp(sent_s + wait_s, *client, *server, ack=seq, **echo))
    return rows


def trips_of(rows):
    packets = table(sorted(rows, key=lambda row: row["ts_ns"]))
    texts = packets.addresses.texts
    up = np.array([texts[s] == CLIENT[0] for s in packets.src])
    return rtt.echo_round_trips(packets, np.arange(len(packets)), up, packets.ts_ns)


def test_echoes_give_the_round_trip_to_the_nanosecond():
    waits = [0.02, 0.0213, 0.05]
    found = trips_of(talk(waits))
    assert found.rtt_ns.tolist() == pytest.approx([w * 1e9 for w in waits], abs=2)
    assert found.least_ns == pytest.approx(20e6, abs=2)


def test_retransmissions_and_duplicate_acknowledgements_do_not_confuse():
    rows = talk([0.02, 0.02])
    again = dict(rows[0], ts_ns=rows[0]["ts_ns"] + 300_000_000, tsval=rows[0]["tsval"] + 300)
    late_echo = dict(rows[1], ts_ns=rows[1]["ts_ns"] + 900_000_000)  # the same TSecr, nothing new
    found = trips_of([*rows, again, late_echo])
    assert found.rtt_ns.tolist() == pytest.approx([20e6, 20e6], abs=2)


def test_without_timestamps_the_handshake_gives_one_sample():
    rows = [
        tcp(1.0, *CLIENT, *SERVER, 0x02),
        tcp(1.001, *SERVER, *CLIENT, 0x12),
        tcp(1.031, *CLIENT, *SERVER, 0x10),
    ]
    assert trips_of(rows).rtt_ns.tolist() == [30_000_000]
    twice = [*rows, tcp(1.0005, *SERVER, *CLIENT, 0x12)]
    assert len(trips_of(twice)) == 0


def test_zero_timestamps_one_way_and_nothing_are_silence():
    assert len(trips_of([row for row in talk([0.02] * 5) if row["src"] == CLIENT[0]])) == 0
    assert len(trips_of([dict(row, has_ts=0) for row in talk([0.02] * 5)])) == 0


def case_of(outer_waits, inner_waits):
    outer = [
        row for t, waits in enumerate(outer_waits) for row in talk(waits, client=(f"10.0.0.{t + 1}", 5000))
    ]
    ingress = table(sorted(outer, key=lambda row: row["ts_ns"]))
    conversations = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    tunnels = []
    for t in range(len(outer_waits)):
        name = f"10.0.0.{t + 1}:5000"
        c = next(
            c
            for c in range(len(conversations))
            if name in (conversations.source(c), conversations.destination(c))
        )
        first, last = int(conversations.first_ns[c]), int(conversations.last_ns[c])
        tunnels.append(Tunnel(name, "10.9.9.9:443", "tcp", "openvpn", "", 0.9, first, last, 9, 9, (), c))
    inner = talk(inner_waits, client=("198.51.100.1", 6000), server=("192.0.2.1", 80))
    opening = tcp(START_S - 1, "198.51.100.1", 6000, "192.0.2.1", 80, 0x02)
    egress = assemble_flows(table([opening, *sorted(inner, key=lambda row: row["ts_ns"])]))
    found = TunnelSet(tuple(tunnels), no_records(), np.zeros(0, np.int64))
    return Case(conversations, found, egress, same_clock("made up"), (), np.full(len(tunnels), -1, np.int64))


def test_level_and_covariation_prefer_the_true_tunnel():
    rng = np.random.default_rng(1)
    load = np.repeat(rng.exponential(0.02, 40), 3)  # queues that last a second or so
    other = np.repeat(rng.exponential(0.02, 40), 3)
    near, far = 0.02 + load, 0.06 + other
    scores = rtt.score(case_of([near, far], near + 0.002 + rng.exponential(0.0005, 120)))
    by_tunnel = dict(zip(scores.tunnel.tolist(), scores.score.tolist(), strict=True))
    assert by_tunnel[0] > 0.8
    assert by_tunnel[1] < 0
    assert "common seconds" in scores.note[0]


def test_equal_levels_are_told_apart_by_covariation_only():
    rng = np.random.default_rng(2)
    load, other = (np.repeat(rng.exponential(0.02, 60), 3) for _ in range(2))
    scores = rtt.score(case_of([0.02 + load, 0.02 + other], 0.0215 + load))
    by_tunnel = dict(zip(scores.tunnel.tolist(), scores.score.tolist(), strict=True))
    assert by_tunnel[0] > by_tunnel[1] + 0.5


def test_a_score_does_not_depend_on_other_tunnels():
    waits = [np.full(30, 0.02), np.full(30, 0.1)]
    both = rtt.score(case_of(waits, np.full(30, 0.022)))
    one = rtt.score(case_of(waits[:1], np.full(30, 0.022)))
    assert both.score[0] == one.score[0]


def test_wireguard_handshake_gives_the_tunnels_round_trip():
    client, server = ("10.0.0.1", 5000), ("10.9.9.9", 51820)
    rows = [
        udp(1.0, *client, *server, 148, head=b"\1"),
        udp(1.001, *server, *client, 92, head=b"\2"),
        udp(1.041, *client, *server, 32, head=b"\4"),
        udp(1.05, *server, *client, 80, head=b"\4"),
    ]
    conversations = assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)
    (tunnel,) = find_tunnels(conversations).tunnels
    assert rtt.tunnel_round_trips(conversations, tunnel).rtt_ns.tolist() == [40_000_000]


def test_silence_has_reasons():
    case = case_of([np.full(5, 0.02)], np.full(5, 0.02))
    blind = Case(
        case.conversations, case.tunnels, case.flows, Alignment("not_identifiable", reason="test"), (),
        case.map_of_tunnel,
    )  # fmt: skip
    assert "the two clocks cannot be aligned" in rtt.score(blind).silence
    mute = Case(
        case.conversations, case.tunnels.select(np.zeros(1, np.bool_)), case.flows, case.alignment, (),
        np.zeros(0, np.int64),
    )  # fmt: skip
    assert len(rtt.score(mute)) == 0
