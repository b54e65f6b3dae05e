from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.cover import QUEUED_PACKETS, Cover
from vpnforensics.reftunnel.drops import Drop
from vpnforensics.reftunnel.outbound import Outbound
from vpnforensics.reftunnel.shaping import Padding, Shaping, parse_padding

from .pair import UP, make_pair

PADDINGS = st.one_of(
    st.just(Padding()),
    st.just(Padding("mtu", ())),
    st.integers(1, 100).map(lambda blocks: Padding("block", (16 * blocks,))),
    st.lists(st.integers(1, 2000), min_size=1, max_size=5).map(
        lambda sizes: Padding("buckets", tuple(sizes))
    ),
)


@given(PADDINGS, st.integers(576, 9000), st.integers(20, 9000))
def test_padded_packets_hold_their_packet_and_fit_the_mtu(padding, mtu, length):
    padded = padding.rule(mtu)(length)
    assert padded >= length
    assert padded <= max(mtu, length)
    # WireGuard's own form: a multiple of 16, or the MTU.
    assert padded in (length, mtu) or padded % 16 == 0


@given(PADDINGS, st.integers(576, 9000))
def test_padding_never_shrinks_with_length(padding, mtu):
    rule = padding.rule(mtu)
    sizes = [rule(length) for length in range(20, mtu + 1, 7)]
    assert sizes == sorted(sizes)


def test_what_each_padding_leaves_to_see():
    assert {Padding("mtu", ()).rule(1420)(length) for length in range(20, 1421)} == {1420}
    assert {parse_padding("buckets:128,512,1000").rule(1420)(length) for length in range(20, 1421)} == {
        *(128, 512, 1008, 1420)
    }
    assert {parse_padding("block:256").rule(1420)(length) for length in range(20, 1421)} == {
        *(256, 512, 768, 1024, 1280, 1420)
    }
    assert Padding().rule(1420)(1415) == 1420
    assert Shaping(cover_hz=5).rule(1420)(20) == 1420


@pytest.mark.parametrize(
    "text", ["", "mtu:3", "block", "block:0", "block:17", "block:16,32", "buckets:", "pad:16"]
)
def test_wrong_paddings(text):
    with pytest.raises(TunnelError):
        parse_padding(text)


RATE_HZ = 128.0
"""A power of two: times of ticks are exact in floating point, and so are these tests."""


class Emitted:
    def __init__(self):
        self.at = []

    def __call__(self, peer, packets, now):
        self.at += [(now, packet) for packet in packets]


def run(cover, start, seconds):
    """Ticks at exactly the times that are asked for."""
    now = start
    while now < start + seconds:
        cover.tick(now)
        assert cover.wake_at() > now
        now = cover.wake_at()
    return now


def connected():
    wire, client, _ = make_pair()
    wire.send(client, UP)
    return wire, client


def test_one_datagram_a_tick_whatever_there_is_to_send():
    wire, client = connected()
    emitted = Emitted()
    cover = Cover(client.device, RATE_HZ, emitted)
    half = run(cover, wire.now, 5.0)
    assert {packet for _, packet in emitted.at} == {b""}
    rows = [memoryview(bytearray(f"packet {number}".encode())) for number in range(50)]
    assert cover.hold(client.only_peer, rows, [len(row) for row in rows])
    run(cover, half, 5.0)
    assert [bytes(packet) for _, packet in emitted.at if packet] == [bytes(row) for row in rows]
    assert [at for at, _ in emitted.at] == [wire.now + number / RATE_HZ for number in range(1280)]


@given(st.lists(st.integers(0, 127), min_size=1, max_size=200))
def test_wake_ups_that_are_late_by_less_than_a_tick_lose_none_and_shift_none(lateness):
    """In 128ths of a tick: the next tick is due by the clock, and not by when the last one was sent."""
    wire, client = connected()
    emitted = Emitted()
    cover = Cover(client.device, RATE_HZ, emitted)
    start = wire.now
    cover.tick(start)
    expected = [start]
    for number, late in enumerate(lateness, 1):
        assert cover.wake_at() == start + number / RATE_HZ
        expected.append(cover.wake_at() + late / 128 / RATE_HZ)
        cover.tick(expected[-1])
    assert [at for at, _ in emitted.at] == expected


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=100), st.sampled_from([1.0, 128.0, 1024.0, 4096.0]))
def test_whenever_it_wakes_it_never_sends_more_than_the_clock_says(gaps_s, rate_hz):
    wire, client = connected()
    emitted = Emitted()
    cover = Cover(client.device, rate_hz, emitted)
    now = start = wire.now
    for gap_s in [0.0, *gaps_s]:
        before = len(emitted.at)
        now += gap_s
        cover.tick(now)
        assert len(emitted.at) - before <= max(1, rate_hz / 100)  # 10 ms worth, after whatever stall
        assert len(emitted.at) <= int((now - start) * rate_hz) + 1


def test_on_the_wire_cover_and_packets_are_of_one_size_and_on_the_clock():
    """The fast path from end to end, but for sockets and the clock."""
    wire, client, server = make_pair()
    client.device.padded = Shaping(cover_hz=RATE_HZ).rule(1420)
    sent = []

    class Carrier:
        port = 0

        def send(self, data, segment, endpoint):
            sent.extend(bytes(data[at : at + segment]) for at in range(0, len(data), segment))
            return {}

        def close(self):
            pass

    wire.send(client, UP)
    before = len(server.delivered())
    outbound = Outbound(SimpleNamespace(fd=-1), client.device, Carrier(), row_bytes=1516)
    outbound.cover = cover = Cover(client.device, RATE_HZ, outbound.emit)
    after = run(cover, wire.now, 1.0)
    rows = [memoryview(bytearray(UP))] * 20
    assert cover.hold(client.only_peer, rows, [len(UP)] * 20)
    run(cover, after, 1.0)
    assert [len(datagram) for datagram in sent] == [1452] * 256
    for datagram in sent:
        server.device.receive(datagram, client.endpoint, wire.now)
    wire.settle()
    assert server.delivered()[before:] == [UP] * 20
    assert server.device.drops == {Drop.NOT_IP: 236}


def test_above_the_rate_packets_are_dropped_and_counted():
    _, client = connected()
    cover = Cover(client.device, 10.0, Emitted())
    rows = [memoryview(bytearray(b"x"))] * (QUEUED_PACKETS + 5)
    cover.hold(client.only_peer, rows, [1] * len(rows))
    assert client.device.drops[Drop.QUEUE_FULL] == 5


def test_no_cover_before_a_session_but_a_packet_asks_for_one():
    wire, client, _ = make_pair()
    emitted = Emitted()
    cover = Cover(client.device, 10.0, emitted)
    run(cover, wire.now, 1.0)
    assert emitted.at == []
    cover.hold(client.only_peer, [memoryview(bytearray(UP))], [len(UP)])
    run(cover, wire.now + 1.0, 1.0)
    assert [packet for _, packet in emitted.at] == [UP]


def test_a_stall_is_not_made_up_for():
    wire, client = connected()
    emitted = Emitted()
    cover = Cover(client.device, 100.0, emitted)
    run(cover, wire.now, 0.1)
    emitted.at.clear()
    cover.tick(wire.now + 10.0)
    assert len(emitted.at) == 1
