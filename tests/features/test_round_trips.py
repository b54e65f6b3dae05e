from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tests.echoes import CLIENT, SERVER, talk
from tests.tables import table, tcp, udp
from vpnforensics.features.round_trips import RoundTrips, handshakes, round_trips, tunnel_round_trips
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.protocol import Handshake
from vpnforensics.tunnels.table import Tunnel

SYN, ACK = 2, 16


def trips_of(rows):
    packets = table(sorted(rows, key=lambda row: row["ts_ns"]))
    texts = packets.addresses.texts
    up = np.array([texts[s] == CLIENT[0] for s in packets.src])
    return round_trips(packets, np.array([0, len(packets)]), np.arange(len(packets)), up, packets.ts_ns)


def test_echoes_give_the_round_trip_to_the_nanosecond():
    waits = [0.02, 0.0213, 0.05]
    found = trips_of(talk(waits))
    assert found.rtt_ns.tolist() == pytest.approx([w * 1e9 for w in waits], abs=2)
    assert found.least_ns.tolist() == pytest.approx([20e6], abs=2)


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
    assert trips_of(twice).count.tolist() == [0]


def test_zero_timestamps_one_way_and_nothing_are_silence():
    assert trips_of([row for row in talk([0.02] * 5) if row["src"] == CLIENT[0]]).count.tolist() == [0]
    assert trips_of([dict(row, has_ts=0) for row in talk([0.02] * 5)]).count.tolist() == [0]


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
    assert tunnel_round_trips(conversations, tunnel).rtt_ns.tolist() == [40_000_000]


@pytest.mark.parametrize("seed", range(8))
def test_handshakes(seed):
    rng = np.random.default_rng(seed)
    start = np.r_[0, np.cumsum(rng.integers(0, 8, 200))]
    ts = np.sort(rng.integers(0, 100_000, start[-1]))
    up = rng.random(len(ts)) < 0.5
    flags = rng.choice([SYN, SYN | ACK, ACK, ACK, 0], len(ts)).astype(np.uint8)
    answered, took = handshakes(start, up, ts, flags)
    spoke = 0
    for f in range(200):
        mine = range(start[f], start[f + 1])
        offers = [i for i in mine if not up[i] and flags[i] == SYN | ACK]
        answers = [i for i in mine if up[i] and flags[i] == ACK]
        if len(offers) == 1 and answers and answers[0] > offers[0]:
            spoke += 1
            assert (answered[f], took[f]) == (ts[answers[0]], ts[answers[0]] - ts[offers[0]])
        else:
            assert took[f] == -1
    assert spoke


def test_openvpn_resets_give_the_tunnels_round_trip():
    client, server = ("10.0.0.1", 5000), ("10.9.9.9", 1194)
    reset = lambda opcode, mine: bytes([opcode << 3]) + mine + bytes(5)  # noqa: E731
    rows = [
        udp(1.0, *client, *server, 14, head=reset(7, b"clientid")),
        udp(1.001, *server, *client, 26, head=bytes([8 << 3]) + b"serverid" + b"\1" + bytes(4) + b"clientid"),
        udp(1.002, *client, *server, 14, head=reset(7, b"clientid")),
        udp(1.031, *client, *server, 22, head=bytes([5 << 3]) + b"clientid" + b"\1" + bytes(4) + b"serverid"),
        udp(1.05, *client, *server, 80, head=bytes([4 << 3]) + b"clientid" + b"\0" + bytes(4)),
    ]
    conversations = assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)
    (tunnel,) = find_tunnels(conversations).tunnels
    assert tunnel.protocol == "openvpn"
    assert tunnel_round_trips(conversations, tunnel).rtt_ns.tolist() == [30_000_000]


def made_tunnel(transport, offers=(), answers=()):
    return Tunnel(
        "10.0.0.1:5000", "10.9.9.9:443", transport, "x", "", 1.0, 0, 0, 0, 0, (), 0,
        handshake=Handshake(offers, answers),
    )  # fmt: skip


def test_an_offer_is_answered_by_the_next_reply_within_five_seconds():
    ms = 1_000_000
    ts = np.array([0, 0, 30, 1000, 5999, 6000, 11_000, 20_000]) * ms
    packets = SimpleNamespace(ts_ns=ts)
    made = SimpleNamespace(
        packets=packets,
        rows_of=lambda number: np.arange(8),
        up=np.zeros(8, np.bool_),
        source=lambda number: "b",
    )
    # Offers at 0, 1 s, 6 s and 20 s; a reply at the same moment answers nothing, and none came to the last.
    found = tunnel_round_trips(made, made_tunnel("udp", (0, 3, 5, 7), (1, 2, 4, 6)))
    assert found.ts_ns.tolist() == [30 * ms, 5999 * ms]
    assert found.rtt_ns.tolist() == [30 * ms, 4999 * ms]
    assert found.count.tolist() == [2]


def test_a_tunnel_over_tcp_is_measured_by_its_echoes_and_a_datagram_without_handshake_not_at_all():
    rows = sorted(talk([0.02, 0.03]), key=lambda row: row["ts_ns"])
    conversations = assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)
    found = tunnel_round_trips(conversations, made_tunnel("tcp"))
    assert found.rtt_ns.tolist() == pytest.approx([20e6, 30e6], abs=2)
    assert tunnel_round_trips(conversations, made_tunnel("udp")).count.tolist() == [0]


def test_samples_of_several_conversations():
    found = RoundTrips(
        np.array([0, 2, 2, 5]), np.array([5, 9, 1, 7, 8]), np.array([3, 2, 4, 1, 6]) * 1_000_000
    )
    assert found.count.tolist() == [2, 0, 3]
    assert found.least_ns.tolist() == [2_000_000, 0, 1_000_000]
    first, last = found.span_ns()
    assert (first.tolist(), last.tolist()) == ([5, 0, 1], [9, 0, 8])
    assert RoundTrips(np.array([0, 1]), np.array([5]), np.array([7])).least_ns.tolist() == [200_000]


def test_echoes_are_kept_apart_by_conversation():
    """The same TSval in both: each is answered in its own."""
    one, other = talk([0.02]), talk([0.05])
    packets = table([*one, *other])
    up = np.array([False, True, False, True])
    found = round_trips(packets, np.array([0, 2, 4]), np.arange(4), up, packets.ts_ns)
    assert found.rtt_ns.tolist() == pytest.approx([20e6, 50e6], abs=2)
    assert found.count.tolist() == [1, 1]


def test_an_echo_five_seconds_late_is_none_and_one_that_acknowledges_nothing_new_neither():
    assert trips_of(talk([4.999], step_s=9)).count.tolist() == [1]
    assert trips_of(talk([5.0], step_s=9)).count.tolist() == [0]
    rows = talk([0.02, 0.02])
    again = dict(rows[3], ack=rows[1]["ack"], tsecr=rows[2]["tsval"])
    assert trips_of([*rows[:3], again]).rtt_ns.tolist() == pytest.approx([20e6], abs=2)
    back = dict(rows[3], ack=rows[1]["ack"] - 1)
    assert trips_of([*rows[:3], back]).rtt_ns.tolist() == pytest.approx([20e6], abs=2)


def test_a_segment_without_data_asks_nothing_but_a_syn_does():
    rows = talk([0.02])
    assert trips_of([dict(rows[0], payload_bytes=0), rows[1]]).count.tolist() == [0]
    assert trips_of([dict(rows[0], payload_bytes=0, tcp_flags=SYN | ACK), rows[1]]).count.tolist() == [1]
    assert trips_of([rows[0], dict(rows[1], tcp_flags=4)]).count.tolist() == [0]  # a reset
