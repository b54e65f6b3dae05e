"""The decoding kernel against its slow twin, on sound, cut and corrupted frames."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vpnforensics.capture import linktypes
from vpnforensics.capture.records import RecordBatch
from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.table import PacketTable

from . import frames
from .fence import FENCED
from .twin import CutHeaderError, MalformedError, NotIPError, Row, decode


def kernel_rows(
    captured: list[bytes], wire_bytes: list[int], linktype: int, decap: int = 0
) -> tuple[PacketTable, PacketColumns]:
    """Decode frames each of which ends where memory does: a read beyond one kills the process."""
    columns = PacketColumns(decap)
    batch = RecordBatch.with_room(1)
    at, caplen, wire, ts_ns, iface = batch
    kinds = np.array([linktypes.kind(linktype)], np.uint8)
    for i, frame in enumerate(captured):
        buf = FENCED.holding(frame)
        at[0], caplen[0], wire[0], ts_ns[0], iface[0] = len(buf) - len(frame), len(frame), wire_bytes[i], i, 0
        columns.decode(buf, 1, batch, kinds, np.zeros(1, np.uint16), 0.0)
    addresses = columns.addresses()
    return PacketTable(**columns.columns(), addresses=addresses), columns


def row_of(table: PacketTable, i: int) -> dict[str, object]:
    row: dict[str, object] = {}
    for spec, array in table.columns():
        if spec.name in ("src", "dst"):
            row[spec.name] = ipaddress.ip_address(table.addresses.texts[array[i]]).packed
        elif spec.name == "head":
            row[spec.name] = array[i].tobytes()
        elif spec.name not in ("ts_ns", "frame"):
            row[spec.name] = int(array[i])
    return row


def assert_like_twin(captured: list[bytes], wire_bytes: list[int], linktype: int) -> None:
    table, columns = kernel_rows(captured, wire_bytes, linktype)
    rows: list[Row] = []
    numbers: list[int] = []
    non_ip = malformed = cut_headers = cut_options = super_frames = largest_mss = 0
    for i, (frame, wire) in enumerate(zip(captured, wire_bytes, strict=True)):
        try:
            row = decode(frame, wire, linktype)
        except NotIPError:
            non_ip += 1
            continue
        except MalformedError:
            malformed += 1
            continue
        except CutHeaderError:
            cut_headers += 1
            continue
        rows.append(row)
        numbers.append(i + 1)
        malformed += not row.sound
        cut_headers += row.sound and row.cut == "header"
        cut_options += row.sound and row.cut == "options"
        largest_mss = max(largest_mss, row.mss)
        segment_too_long = row.proto == 6 and largest_mss and row.payload_bytes > max(largest_mss, 1460)
        super_frames += bool(row.huge or row.ip_len_bytes > 9216 or segment_too_long)
    assert table.frame.tolist() == numbers
    for i, row in enumerate(rows):
        expected = asdict(row)
        del expected["sound"], expected["cut"], expected["huge"]
        assert row_of(table, i) == expected
    health = columns.health()
    assert (health.non_ip, health.malformed, health.super_frames) == (non_ip, malformed, super_frames)
    assert (health.cut_headers, health.cut_options) == (cut_headers, cut_options)
    assert health.fragments == sum(row.frag > 0 for row in rows)
    assert health.snapped == sum(len(f) < w for f, w in zip(captured, wire_bytes, strict=True))


def in_link(packet: bytes, ethertype: int, linktype: int) -> bytes:
    if linktype == linktypes.LINUX_SLL:
        return struct.pack(">HHH8sH", 0, 1, 6, bytes(8), ethertype) + packet
    if linktype == linktypes.LINUX_SLL2:
        return struct.pack(">HHIHBB8s", ethertype, 0, 70_003, 1, 4, 6, bytes(8)) + packet
    if linktype == linktypes.PPP:
        return struct.pack(">H", 0x21 if ethertype == 0x800 else 0x57) + packet
    if linktype == linktypes.PPP_HDLC:
        return b"\xff\x03" + (b"\x21" if ethertype == 0x800 else b"\x57") + packet
    if linktype == linktypes.NULL:
        return struct.pack("<I", 2 if ethertype == 0x800 else 30) + packet
    if linktype == linktypes.LOOP:
        return struct.pack(">I", 2 if ethertype == 0x800 else 24) + packet
    return packet


LINKTYPES = [0, 1, 9, 12, 14, 50, 101, 108, 113, 228, 229, 276]


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_sound_frames(linktype: int) -> None:
    captured = frames.variety()
    if linktype != linktypes.ETHERNET:
        captured = [
            in_link(f[14:], int.from_bytes(f[12:14], "big"), linktype)
            for f in captured
            if f[12:14] in (b"\x08\x00", b"\x86\xdd")
        ]
    assert_like_twin(captured, [len(f) for f in captured], linktype)
    table, columns = kernel_rows(captured, [len(f) for f in captured], linktype)
    assert columns.health().malformed == 0
    assert len(table) >= 20


def test_ethernet_under_labels() -> None:
    captured = frames.pseudowires()
    table, _ = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET)
    assert [head.tobytes()[:4] for head in table.head] == [b"wire", b"wire"]


def test_frames_cut_at_every_byte() -> None:
    for frame in [*frames.variety(), *frames.pseudowires()]:
        cut = [frame[:n] for n in range(len(frame) + 1)]
        assert_like_twin(cut, [len(frame)] * len(cut), linktypes.ETHERNET)


def test_every_byte_corrupted() -> None:
    for frame in frames.variety():
        for value in (0x00, 0xFF, 0x80, 0x45, 0x01):
            bad = [frame[:i] + bytes([value]) + frame[i + 1 :] for i in range(len(frame))]
            assert_like_twin(bad, [len(f) for f in bad], linktypes.ETHERNET)


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a machine that is busy with more
@given(
    st.lists(
        st.tuples(
            st.sampled_from(frames.variety()),
            st.lists(st.tuples(st.integers(12, 110), st.integers(0, 255)), max_size=4),
            st.integers(0, 200),
            st.integers(0, 70_000),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_mutated_frames(cases: list[tuple[bytes, list[tuple[int, int]], int, int]]) -> None:
    captured, wires = [], []
    for frame, changes, kept, extra in cases:
        raw = bytearray(frame)
        for at, value in changes:
            raw[at % len(raw)] = value
        captured.append(bytes(raw[:kept]))
        wires.append(len(captured[-1]) + extra)
    assert_like_twin(captured, wires, linktypes.ETHERNET)


@given(st.sampled_from([*LINKTYPES, 147]), st.binary(max_size=120), st.integers(0, 70_000))
def test_random_bytes(linktype: int, raw: bytes, extra: int) -> None:
    assert_like_twin([raw], [len(raw) + extra], linktype)


def test_snapped_frames_give_the_same_rows_but_for_the_head() -> None:
    captured = [f for f in frames.variety() if len(f) > 66]
    wires = [len(f) for f in captured]
    full, _ = kernel_rows(captured, wires, linktypes.ETHERNET)
    snapped, columns = kernel_rows([f[:120] for f in captured], wires, linktypes.ETHERNET)
    for spec, array in full.columns():
        if spec.name != "head":
            assert np.array_equal(array, getattr(snapped, spec.name)), spec.name
    assert columns.health().snapped == sum(wire > 120 for wire in wires) > 0


def test_options_cut_off_by_a_snap_are_absent_and_counted() -> None:
    frame = frames.ethernet(
        frames.ipv4(frames.tcp(b"data" * 9, options=frames.timestamps(7, 8), window=777), 6)
    )
    table, columns = kernel_rows([frame[:64]], [len(frame)], linktypes.ETHERNET)
    assert (table.has_ts[0], table.tsval[0], table.window[0], table.payload_bytes[0]) == (0, 0, 777, 36)
    health = columns.health()
    assert (health.malformed, health.cut_headers, health.cut_options) == (0, 0, 1)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("kept", [8, 13, 14, 33, 41])
def test_a_header_cut_by_a_snap_does_not_contradict_itself(version: int, kept: int) -> None:
    body = frames.udp(bytes(60))
    frame = (
        frames.ethernet(frames.ipv4(body, 17))
        if version == 4
        else frames.ethernet(frames.ipv6(body, 17), 0x86DD)
    )
    _, columns = kernel_rows([frame[:kept]], [len(frame)], linktypes.ETHERNET)
    health = columns.health()
    assert (health.malformed, health.cut_headers) == (0, 1)
    _, columns = kernel_rows([frame[:kept]], [kept], linktypes.ETHERNET)  # all of it: it has no room for more
    health = columns.health()
    assert (health.malformed, health.cut_headers) == (1, 0)


def test_segmentation_offload_takes_the_wire_length() -> None:
    frame = frames.ethernet(frames.ipv4(frames.tcp(bytes(30_000)), 6, total=0))
    table, columns = kernel_rows([frame[:96]], [len(frame)], linktypes.ETHERNET)
    assert table.ip_len_bytes[0] == 30_040
    assert table.payload_bytes[0] == 30_000
    assert columns.health().super_frames == 1


def test_segments_longer_than_any_announced_mss_are_super_frames() -> None:
    syn = frames.ethernet(frames.ipv4(frames.tcp(options=frames.syn_options(1460, 1), flags=2), 6))
    sizes = [1448, 2896, 1460]
    data = [frames.ethernet(frames.ipv4(frames.tcp(bytes(size)), 6)) for size in sizes]
    captured = [syn, *data]
    _, columns = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET)
    assert columns.health().super_frames == 1


def test_jumbo_segments_within_an_announced_mss_are_no_super_frames() -> None:
    mss_only = frames.tcp(options=struct.pack(">BBH", 2, 4, 8960), flags=2)
    syn = frames.ethernet(frames.ipv4(mss_only, 6))
    data = frames.ethernet(frames.ipv4(frames.tcp(bytes(8960)), 6))
    assert_like_twin([syn, data], [len(syn), len(data)], linktypes.ETHERNET)
    table, columns = kernel_rows([syn, data], [len(syn), len(data)], linktypes.ETHERNET)
    assert table.mss.tolist() == [8960, 0]
    assert columns.health().super_frames == 0


def test_big_tcp_and_jumbograms() -> None:
    body = frames.tcp(bytes(50))
    without_length = frames.ethernet(frames.ipv6(body, 6, length=0), 0x86DD)
    jumbo_option = b"\x06\x00\xc2\x04" + struct.pack(">I", 100_008)
    jumbo = frames.ethernet(frames.ipv6(jumbo_option + body, 0, length=0), 0x86DD)
    wires = [14 + 40 + 100_000, 14 + 40 + 100_008]
    assert_like_twin([without_length, jumbo], wires, linktypes.ETHERNET)
    table, columns = kernel_rows([without_length, jumbo], wires, linktypes.ETHERNET)
    assert table.ip_len_bytes.tolist() == [100_040, 100_048]
    assert columns.health().super_frames == 2


def test_link_layer_padding_is_no_payload() -> None:
    frame = frames.ethernet(frames.ipv4(frames.udp(b"ab"), 17)) + b"\xee" * 16
    table, _ = kernel_rows([frame], [len(frame)], linktypes.ETHERNET)
    assert (table.ip_len_bytes[0], table.payload_bytes[0]) == (30, 2)
    assert table.head[0].tobytes() == b"ab" + bytes(30)


def test_echo_identifier_is_readable_in_the_head() -> None:
    frame = frames.ethernet(frames.ipv4(frames.icmp(ident=0x4242), 1))
    table, _ = kernel_rows([frame], [len(frame)], linktypes.ETHERNET)
    assert (table.sport[0], table.dport[0]) == (8, 0)
    assert table.head[0, 4:6].tobytes() == b"\x42\x42"


def test_an_icmp_error_tells_the_ports_that_it_quotes() -> None:
    four, six = frames.quotes(4), frames.quotes(6)
    errors = [frames.ethernet(frames.ipv4(frames.icmp(3, 3, 0, quoted), 1)) for quoted in four + six]
    errors += [
        frames.ethernet(frames.ipv6(frames.icmp(1, 4, 0, quoted), 58), 0x86DD) for quoted in six + four
    ]
    errors.append(frames.ethernet(frames.ipv4(frames.icmp(8, 0, 7, four[0]), 1)))  # an echo quotes nothing
    table, _ = kernel_rows(errors, [len(frame) for frame in errors], linktypes.ETHERNET)
    told = list(zip((table.seq >> 16).tolist(), (table.seq & 0xFFFF).tolist(), strict=True))
    ports = [(53, 40_001), (443, 40_002), (0x4321, 0x4321)]
    assert told[:12] == [*ports, *[(0, 0)] * 9]  # and one version never the other
    assert told[12:] == [(53, 40_003), (0x4321, 0x4321), *[(0, 0)] * 11]


def test_addresses_are_numbered_by_appearance_however_many() -> None:
    rng = np.random.default_rng(5)
    hosts = [str(ipaddress.IPv4Address(int(x))) for x in rng.integers(1, 1 << 31, 3000)]
    hosts += [str(ipaddress.IPv6Address(int(x))) for x in rng.integers(1, 1 << 31, 3000)]
    order = rng.integers(0, len(hosts), 20_000)
    captured = []
    for k in order:
        host = hosts[k]
        packet = (
            frames.ipv6(b"", 59, src=host, dst=host)
            if ":" in host
            else frames.ipv4(b"", 59, src=host, dst=host)
        )
        captured.append(packet)
    table, _ = kernel_rows(captured, [len(p) for p in captured], linktypes.RAW)
    first_seen = {host: number for number, host in enumerate(dict.fromkeys(hosts[k] for k in order))}
    assert table.addresses.texts == list(first_seen)
    assert table.src.tolist() == [first_seen[hosts[k]] for k in order]
    assert np.array_equal(table.src, table.dst)


def test_duplicates_are_equal_packets_a_moment_apart() -> None:
    a = frames.ethernet(frames.ipv4(frames.udp(b"same", sport=1), 17, ident=1))
    b = frames.ethernet(frames.ipv4(frames.udp(b"other", sport=1), 17, ident=1))
    reset = frames.ethernet(frames.ipv4(frames.tcp(flags=4, ack=0), 6, ident=0))
    captured = [a, b, a, a, b, reset, reset]
    _, columns = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET)
    assert columns.health().duplicates == 3


def test_behind_a_router_a_packet_is_the_same_with_a_lower_ttl() -> None:
    ttls = [64, 63, 61, 62, 64]
    captured = [frames.ethernet(frames.ipv4(frames.udp(b"same"), 17, ident=1, ttl=ttl)) for ttl in ttls]
    _, columns = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET)
    assert (columns.health().duplicates, columns.health().later_hops) == (1, 3)


def test_datagrams_without_a_checksum_are_duplicates_only_if_their_content_is_equal() -> None:
    """A tunnel's packets without IDs and checksums differ first in the headers inside."""
    datagrams = [frames.udp(bytes(60) + bytes([n]) + bytes(20), check=0) for n in (1, 2, 1, 3)]
    captured = [frames.ethernet(frames.ipv4(body, 17, ident=0)) for body in datagrams]
    _, columns = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET)
    assert columns.health().duplicates == 1


def test_extension_headers_of_every_length() -> None:
    captured = []
    for proto in (0, 43, 51, 60, 135):
        for claimed in range(12):
            chain = bytes([17, claimed]) + bytes(14) + frames.udp(bytes(16))
            captured.append(frames.ethernet(frames.ipv6(chain, proto), 0x86DD))
            captured.append(frames.ethernet(frames.ipv4(chain, proto)))
    assert_like_twin(captured, [len(f) for f in captured], linktypes.ETHERNET)


def test_header_lengths_of_every_value() -> None:
    body = frames.tcp(bytes(30), options=frames.timestamps(1, 2))
    captured = [frames.ethernet(frames.ipv4(body, 6, total=total)) for total in range(100)]
    captured += [
        frames.ethernet(frames.ipv4(frames.tcp(bytes(30), options=bytes([1] * 40), offset=words), 6))
        for words in range(16)
    ]
    captured += [frames.ethernet(frames.ipv4(frames.udp(bytes(20), length=n), 17)) for n in range(40)]
    captured += [frames.ethernet(frames.ipv6(body, 6, length=n), 0x86DD) for n in range(80)]
    assert_like_twin(captured, [len(f) for f in captured], linktypes.ETHERNET)
