"""Segmentation against slow obvious twins, and against each other."""

from __future__ import annotations

import ipaddress
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.reftunnel import _kernels
from vpnforensics.reftunnel.tun import vnet_header

WIDTH = 1600
VNET = 10


def ones_complement(data: bytes) -> int:
    """RFC 1071, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def tcp_packet(
    version, payload, *, seq=1000, ip_id=7, flags=0x10, options=b"", ports=(1, 2), ack=9, ttl=64, tos=0
):
    options += b"\1" * (-len(options) % 4)
    header_bytes = 20 + len(options)
    tcp = (
        struct.pack(">HHIIBBHHH", *ports, seq & 0xFFFFFFFF, ack, header_bytes // 4 << 4, flags, 500, 0, 0)
        + options
    )
    if version == 4:
        addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
        ip = struct.pack(
            ">BBHHHBBH", 0x45, tos, 20 + len(tcp) + len(payload), ip_id & 0xFFFF, 0x4000, ttl, 6, 0
        )
        ip += addresses
        ip = ip[:10] + struct.pack(">H", 0xFFFF ^ ones_complement(ip)) + ip[12:]
    else:
        addresses = ipaddress.ip_address("fd00::1").packed + ipaddress.ip_address("fd00::2").packed
        ip = struct.pack(">IHBB", 6 << 28 | tos << 20, len(tcp) + len(payload), 6, ttl) + addresses
    pseudo = addresses + struct.pack(">II", len(tcp) + len(payload), 6)
    value = 0xFFFF ^ ones_complement(pseudo + tcp + payload)
    return ip + tcp[:16] + struct.pack(">H", value) + tcp[18:] + payload


def slow_cut(version, payload, segment, **fields):
    """The packets that a super-segment stands for, each built from scratch."""
    flags = fields.pop("flags", 0x10)
    seq, ip_id = fields.pop("seq", 1000), fields.pop("ip_id", 7)
    pieces = [payload[at : at + segment] for at in range(0, len(payload), segment)]
    packets = []
    for number, piece in enumerate(pieces):
        now = flags
        if number < len(pieces) - 1:
            now &= ~0x09
        if number:
            now &= ~0x80
        packets.append(
            tcp_packet(version, piece, seq=seq + number * segment, ip_id=ip_id + number, flags=now, **fields)
        )
    return packets


def fast_cut(packet, l4, segment, rows=64):
    frame = np.frombuffer(bytes(VNET) + packet, np.uint8).copy()
    out, lengths = np.zeros((rows, WIDTH), np.uint8), np.zeros(rows, np.int64)
    packets, first = [], 0
    while count := _kernels.cut(frame, VNET, len(frame), l4, segment, first, out, lengths):
        packets += [out[number, : lengths[number]].tobytes() for number in range(count)]
        first += count
    return packets


def joined(packets):
    """Super-segments as written to the TUN: (virtio fields, bytes)."""
    rows, lengths = np.full((64, VNET + WIDTH), 0xEE, np.uint8), np.zeros(64, np.int64)
    for number, packet in enumerate(packets):
        rows[number, VNET : VNET + len(packet)] = np.frombuffer(packet, np.uint8)
        lengths[number] = len(packet)
    if not packets:
        return []
    groups, headers = np.zeros(64, np.int64), np.zeros(64, np.int64)
    found = _kernels.join(rows, VNET, lengths, len(packets), groups, headers)
    out = []
    ends = [*groups[1:found].tolist(), len(packets)]
    for start, end, header in zip(groups[:found].tolist(), ends, headers[:found].tolist(), strict=True):
        data = rows[start, : VNET + lengths[start]].tobytes()
        for row in range(start + 1, end):
            data += rows[row, VNET + header : VNET + lengths[row]].tobytes()
        out.append((vnet_header.unpack_from(data), data[VNET:]))
    return out


FIELDS = st.fixed_dictionaries(
    {
        "seq": st.one_of(st.integers(0, 2**32 - 1), st.just(2**32 - 1000)),
        "ip_id": st.one_of(st.integers(0, 65535), st.just(65534)),
        "flags": st.sampled_from([0x10, 0x18, 0x11, 0x19, 0x90, 0x98]),
        "options": st.sampled_from([b"", b"\1\1\10\12" + bytes(range(8))]),
        "tos": st.sampled_from([0, 2]),
    }
)


@given(
    st.sampled_from([4, 6]),
    st.binary(min_size=1, max_size=300),
    st.integers(1, 1400),
    st.integers(1, 40),
    FIELDS,
)
@settings(max_examples=150)
def test_cutting_gives_the_packets_built_from_scratch(version, seed, segment, times, fields):
    payload = seed * (times * segment // len(seed) + 1)
    payload = payload[: min(len(payload), 60_000)]
    whole = tcp_packet(version, payload, **fields) if len(payload) < 65_000 else b""
    assert fast_cut(whole, 20 if version == 4 else 40, segment, rows=16) == slow_cut(
        version, payload, segment, **fields
    )


@given(st.sampled_from([4, 6]), st.integers(2, 30), st.integers(1, 1400), st.integers(0, 1399), FIELDS)
@settings(max_examples=150)
def test_joining_is_undone_by_cutting(version, count, segment, short, fields):
    fields["flags"] &= 0x18
    payload = bytes(index % 251 for index in range(segment * (count - 1) + 1 + short % segment))
    packets = slow_cut(version, payload, segment, **fields)
    again = []
    for (flags, kind, header, size, start, offset), data in joined(packets):
        if kind == 0:
            again.append(data)
            continue
        assert (flags, kind, size, start, offset) == (
            1,
            1 if version == 4 else 4,
            segment,
            20 if version == 4 else 40,
            16,
        )
        assert header == start + 20 + len(fields["options"])
        # What is left in the checksum field is the sum over the pseudo header: completed, it is the checksum.
        frame = np.frombuffer(data, np.uint8).copy()
        _kernels.finish_checksum(frame, start, start + 16, len(frame))
        addresses = data[12:20] if version == 4 else data[8:40]
        pseudo = addresses + struct.pack(">II", len(data) - start, 6)
        assert ones_complement(pseudo + frame[start:].tobytes()) == 0xFFFF
        again += fast_cut(data, start, size)
    assert again == packets
    assert len(joined(packets)) <= -(-len(payload) // 60_000) + 1


CHANGES = {
    "another flow": {"ports": (1, 3)},
    "another acknowledgement": {"ack": 10},
    "another TTL": {"ttl": 63},
    "another TOS": {"tos": 4},
    "an ID that jumps": {"ip_id": 9},
    "a gap": {"seq": 1101},
    "a SYN": {"flags": 0x12},
    "a FIN": {"flags": 0x11},
    "an ECN echo": {"flags": 0x50},
    "another timestamp": {"options": b"\1\1\10\12" + bytes(8)},
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("version", [4, 6])
def test_what_differs_is_not_joined(version, change):
    if version == 6 and change == "an ID that jumps":
        change = "a gap"  # IPv6 has no ID
    options = b"\1\1\10\12" + b"12345678"
    one = tcp_packet(version, b"a" * 100, options=options)
    other = tcp_packet(
        version, b"b" * 100, **{"seq": 1100, "ip_id": 8, "options": options, **CHANGES[change]}
    )
    assert [data for _, data in joined([one, other])] == [one, other]
    same = tcp_packet(version, b"b" * 100, seq=1100, ip_id=8, options=options)
    assert len(joined([one, same])) == 1


@pytest.mark.parametrize("version", [4, 6])
def test_damage_is_not_laundered(version):
    one, other = slow_cut(version, b"a" * 200, 100)
    for damaged in ([one[:-1] + b"x", other], [one, other[:-1] + b"x"]):
        assert [data for _, data in joined(damaged)] == damaged
    if version == 4:
        bad_header = one[:10] + b"\0\0" + one[12:]
        assert [data for _, data in joined([bad_header, other])] == [bad_header, other]


def test_a_larger_packet_does_not_follow_a_smaller():
    packets = [tcp_packet(4, b"a" * 50), tcp_packet(4, b"b" * 60, seq=1050, ip_id=8)]
    assert len(joined(packets)) == 2


def test_a_push_ends_a_run():
    packets = [
        tcp_packet(4, b"a" * 50, flags=0x18),
        tcp_packet(4, b"b" * 50, seq=1050, ip_id=8),
        tcp_packet(4, b"c" * 50, seq=1100, ip_id=9, flags=0x18),
        tcp_packet(4, b"d" * 50, seq=1150, ip_id=10),
    ]
    assert [len(data) for _, data in joined(packets)] == [90, 140, 90]


@given(st.lists(st.binary(min_size=20, max_size=100), max_size=8))
def test_rubbish_goes_through_unchanged(packets):
    assert [data for _, data in joined(packets)] == packets


@given(st.binary(min_size=20, max_size=100))
def test_cutting_rubbish_writes_inside_its_rows(rubbish):
    for l4, segment in ((20, 10), (40, 0), (20, 5000)):
        if l4 + 13 < len(rubbish):
            assert all(len(packet) <= WIDTH for packet in fast_cut(rubbish, l4, segment))


@given(st.binary(min_size=30, max_size=2000), st.integers(0, 8))
def test_a_finished_checksum_verifies(data, start):
    frame = np.frombuffer(data, np.uint8).copy()
    at = start + 16
    _kernels.finish_checksum(frame, start, at, len(frame))
    # The field held the sum over the pseudo header, which the receiver adds for itself.
    assert ones_complement(data[at : at + 2] + frame[start:].tobytes()) == 0xFFFF
