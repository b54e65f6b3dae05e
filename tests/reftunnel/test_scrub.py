import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.scrub import Scrub, Scrubber, TimestampMap

from .pair import ipv4, ipv6, seeded
from .test_kernels import ones_complement, tcp_packet

TICKS = st.integers(0, 2**32 - 1)
NUMERATORS = st.integers(1 << 20, (1 << 20) + 1100)


def option(tsval, tsecr, before=b"\1\1"):
    return before + b"\10\12" + struct.pack(">II", tsval, tsecr)


def timestamps(packet, version=4, at=2):
    start = (20 if version == 4 else 40) + 20 + at
    return struct.unpack_from(">II", packet, start + 2)


def checksums_are_right(packet, version=4):
    if version == 4 and ones_complement(packet[:20]) != 0xFFFF:
        return False
    l4, addresses = (20, packet[12:20]) if version == 4 else (40, packet[8:40])
    return ones_complement(addresses + struct.pack(">II", len(packet) - l4, 6) + packet[l4:]) == 0xFFFF


@given(TICKS, TICKS, NUMERATORS, st.integers(0, 2**31))
def test_the_map_of_timestamps_is_exactly_invertible(base, offset, numerator, elapsed):
    change = TimestampMap(base, offset, numerator)
    ticks = (base + elapsed) % 2**32
    assert change.backward(change.forward(ticks)) == ticks


@given(TICKS, TICKS, NUMERATORS, st.integers(0, 2**31), st.integers(1, 1000))
def test_the_map_keeps_order(base, offset, numerator, elapsed, step):
    change = TimestampMap(base, offset, numerator)
    first, second = change.forward(base + elapsed), change.forward(base + elapsed + step)
    assert 0 < (second - first) % 2**32 <= step + 2


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("before", [b"\1\1", b"\1", b""], ids=["even", "odd", "none"])
def test_answers_get_back_what_was_sent(version, before):
    scrubber = Scrubber(Scrub(timestamps=True), seeded(1))
    for ticks in (5_000, 5_010, 4_999, 1_000_000):
        packet = bytearray(tcp_packet(version, b"data", options=option(ticks, 77, before)))
        scrubber.leaving(memoryview(packet))
        assert checksums_are_right(packet, version)
        seen, echo = timestamps(packet, version, len(before))
        assert echo == 77
        assert seen != ticks
        answer = bytearray(tcp_packet(version, b"", options=option(88, seen, before), ports=(2, 1)))
        # The answer goes the other way: its addresses are swapped.
        if version == 4:
            answer[12:20] = answer[16:20] + answer[12:16]
        else:
            answer[8:40] = answer[24:40] + answer[8:24]
        scrubber.returning(memoryview(answer))
        assert checksums_are_right(answer, version)
        assert timestamps(answer, version, len(before)) == (88, ticks)


def test_flows_do_not_share_a_clock():
    scrubber = Scrubber(Scrub(timestamps=True), seeded(2))
    seen = set()
    for port in range(50):
        packet = bytearray(tcp_packet(4, b"", options=option(1_000_000, 0), ports=(port, 80)))
        scrubber.leaving(memoryview(packet))
        seen.add(timestamps(packet)[0])
    assert len(seen) == 50


def test_ip_id_and_ttl():
    packet = tcp_packet(4, b"data", ip_id=1234, ttl=57)
    for policy, check in (
        ("zero", lambda ip_id: ip_id == 0),
        ("random", lambda ip_id: ip_id not in (0, 1234)),
    ):
        changed = bytearray(packet)
        Scrubber(Scrub(ip_id=policy, ttl=64), seeded(3)).leaving(memoryview(changed))
        assert check(struct.unpack_from(">H", changed, 4)[0])
        assert changed[8] == 64
        assert checksums_are_right(changed)
    six = bytearray(ipv6("fd00::1", "fd00::2"))
    Scrubber(Scrub(ttl=99)).leaving(memoryview(six))
    assert six[7] == 99


def test_fragments_keep_their_id():
    packet = bytearray(ipv4("10.0.0.1", "10.0.0.2"))
    packet[6:8] = b"\x20\0"
    before = bytes(packet)
    Scrubber(Scrub(ip_id="random"), seeded(3)).leaving(memoryview(packet))
    assert packet == before


def test_without_switches_nothing_changes():
    assert not Scrub().is_on
    packet = bytearray(tcp_packet(4, b"data", options=option(1, 2)))
    before = bytes(packet)
    scrubber = Scrubber(Scrub())
    scrubber.leaving(memoryview(packet))
    scrubber.returning(memoryview(packet))
    assert packet == before


@given(st.binary(min_size=20, max_size=120), st.booleans())
def test_rubbish_is_never_an_exception(rubbish, is_tcp):
    data = bytearray(rubbish)
    if is_tcp:
        data[0], data[6], data[9] = 0x45, 0, 6
    scrubber = Scrubber(Scrub(timestamps=True, ip_id="random", ttl=64), seeded(4))
    scrubber.leaving(memoryview(data))
    scrubber.returning(memoryview(data))
    assert len(data) == len(rubbish)


def test_memory_of_flows_is_bounded(monkeypatch):
    monkeypatch.setattr("vpnforensics.reftunnel.scrub._FLOWS_REMEMBERED", 100)
    scrubber = Scrubber(Scrub(timestamps=True), seeded(5))
    for port in range(1000):
        scrubber.leaving(memoryview(bytearray(tcp_packet(4, b"", options=option(1, 0), ports=(port, 80)))))
    assert len(scrubber._flows) == 100
