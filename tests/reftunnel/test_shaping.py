import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.cover import QUEUED_PACKETS, Cover
from vpnforensics.reftunnel.drops import Drop
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


class Emitted:
    def __init__(self):
        self.at = []

    def __call__(self, peer, packets, now):
        self.at += [(now, packet) for packet in packets]


def run(cover, start, seconds):
    now = start
    while now < start + seconds:
        cover.tick(now)
        now = max(now + 1e-6, cover.wake_at())
    return now


def connected():
    wire, client, _ = make_pair()
    wire.send(client, UP)
    return wire, client


def test_one_datagram_a_tick_whatever_there_is_to_send():
    wire, client = connected()
    emitted = Emitted()
    cover = Cover(client.device, 100.0, emitted)
    run(cover, wire.now, 1.0)
    assert len(emitted.at) == pytest.approx(100, abs=1)
    assert {packet for _, packet in emitted.at} == {b""}
    rows = [memoryview(bytearray(f"packet {number}".encode())) for number in range(50)]
    assert cover.hold(client.only_peer, rows, [len(row) for row in rows])
    emitted.at.clear()
    run(cover, wire.now + 1.0, 1.0)
    assert [bytes(packet) for _, packet in emitted.at if packet] == [bytes(row) for row in rows]
    gaps = [later - earlier for (earlier, _), (later, _) in zip(emitted.at, emitted.at[1:], strict=False)]
    assert max(gaps) == pytest.approx(min(gaps), abs=1e-5)


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
