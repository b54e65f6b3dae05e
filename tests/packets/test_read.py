"""Captures to tables, end to end: every container, every kind of damage, one clear error or a result."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dpkt
import numpy as np
import pytest
import zstandard

from tests.capture import blocks
from vpnforensics.capture import stream
from vpnforensics.capture.writer import PcapngWriter, write_pcap
from vpnforensics.errors import CaptureError, NotACaptureError, UnsupportedLinkTypeError
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable

from . import frames

START_NS = 1_700_000_000_000_000_000
VARIETY = frames.variety()
IP_FRAMES = sum(f[12:14] != b"\x08\x06" and len(f) > 14 for f in VARIETY)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "a.pcap"
    write_pcap(path, START_NS + np.arange(len(VARIETY)) * 1000, VARIETY)
    return path


def same(a: PacketTable, b: PacketTable) -> bool:
    columns = all(np.array_equal(x, getattr(b, spec.name)) for spec, x in a.columns())
    return columns and a.addresses.texts == b.addresses.texts


def compressed(raw: bytes, how: str) -> bytes:
    middle = len(raw) // 2
    if how == "gzip":
        return gzip.compress(raw)
    if how == "gzip members":
        return gzip.compress(raw[:middle]) + gzip.compress(b"") + gzip.compress(raw[middle:]) + bytes(512)
    if how == "zstd":
        return zstandard.compress(raw)
    return (
        zstandard.compress(raw[:middle]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(raw[middle:])
    )


def test_source(capture: Path) -> None:
    table = read_capture(str(capture))
    source = table.source
    assert source is not None
    raw = capture.read_bytes()
    assert (source.path, source.bytes, source.format) == (str(capture), len(raw), "pcap")
    assert source.sha256 == hashlib.sha256(raw).hexdigest()
    assert source.linktypes == ("ETHERNET",)
    assert source.packets == len(table) == IP_FRAMES
    assert (source.first_ns, source.last_ns) == (table.ts_ns.min(), table.ts_ns.max())
    assert source.health.non_ip == 2
    assert not source.health.damaged


@pytest.mark.parametrize("how", ["gzip", "gzip members", "zstd", "zstd frames"])
def test_compressed(capture: Path, how: str) -> None:
    plain = read_capture(capture)
    raw = compressed(capture.read_bytes(), how)
    path = capture.with_suffix(".anything")
    path.write_bytes(raw)
    table = read_capture(path)
    assert same(table, plain)
    assert table.source is not None
    assert table.source.format == f"pcap+{how.split()[0]}"
    assert table.source.sha256 == hashlib.sha256(raw).hexdigest()
    assert not table.source.health.damaged


@pytest.mark.parametrize("how", ["gzip", "gzip members", "zstd", "zstd frames"])
def test_compressed_cut_and_corrupted_anywhere(capture: Path, how: str) -> None:
    plain = read_capture(capture)
    raw = compressed(capture.read_bytes(), how)
    path = capture.with_suffix(".z")
    errors: list[CaptureError] = []
    flipped = [raw[:i] + bytes([raw[i] ^ 0x55]) + raw[i + 1 :] for i in range(0, len(raw), 7)]
    for bad in [raw[:n] for n in range(0, len(raw), 5)] + flipped:
        path.write_bytes(bad)
        try:
            table = read_capture(path)
        except CaptureError as error:
            errors.append(error)
            continue
        assert table.source is not None
        if len(bad) < len(raw) and bad.strip(b"\0") != raw.strip(b"\0"):
            assert len(table) <= len(plain)
            assert table.source.health.cut_tail_bytes > 0 or len(table) == len(plain)
    assert errors
    assert all(error.path == str(path) for error in errors)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "corrupt"])
def test_damaged_compression_keeps_every_packet_before_it(tmp_path: Path, how: str, damage: str) -> None:
    rng = np.random.default_rng(1)
    # zstd stores noise as it is and would not notice: give it something to compress.
    bodies = [rng.integers(0, 16 if how == "zstd" else 256, 500, dtype=np.uint8) for _ in range(2000)]
    captured = [frames.ethernet(frames.ipv4(frames.udp(body.tobytes()), 17)) for body in bodies]
    path = tmp_path / "a"
    write_pcap(path, START_NS + np.arange(2000), captured)
    plain = read_capture(path)
    raw = compressed(path.read_bytes(), how)
    place = len(raw) // 2
    path.write_bytes(raw[:place] if damage == "cut" else raw[:place] + b"\xff" * place)
    table = read_capture(path)
    assert table.source is not None
    health = table.source.health
    assert health.damaged
    assert health.cut_tail_bytes > 0
    assert health.first_damage_offset > 0
    # Half the packets precede the place; a block of the format around it may be lost or nonsense.
    assert 1000 - 270 <= len(table) <= 1000 + 270
    for spec, column in plain.columns():
        assert np.array_equal(column[:730], getattr(table, spec.name)[:730])


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_cut_at_every_byte(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a"
    if form == "pcap":
        write_pcap(path, START_NS + np.arange(8), VARIETY[:8])
    else:
        with PcapngWriter(path) as writer:
            writer.add_interface(name="eth0")
            for i, frame in enumerate(VARIETY[:8]):
                writer.write(START_NS + i, frame, comment="seen")
    raw = path.read_bytes()
    full = read_capture(path)
    seen = errors_end = first_packet_end = 0
    errors: list[CaptureError] = []
    for n in range(len(raw)):
        path.write_bytes(raw[:n])
        try:
            table = read_capture(path)
        except CaptureError as error:
            errors.append(error)
            errors_end = n
            continue
        assert len(table) >= seen
        if not seen and len(table):
            first_packet_end = n
        seen = len(table)
        assert same(table, full.take(slice(0, seen))) or len(table.addresses) < len(full.addresses)
        assert table.source is not None
        assert table.source.health.cut_tail_bytes == n - (
            table.source.health.first_damage_offset if table.source.health.damaged else n
        )
    assert seen == 7
    assert all(error.offset is not None for error in errors)
    assert errors_end < first_packet_end  # only what is cut before its first packet


def test_standard_input(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = capture.read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    table = read_capture("-")
    assert same(table, read_capture(capture))
    assert table.source is not None
    assert (table.source.path, table.source.bytes) == ("-", len(raw))
    assert table.source.sha256 == hashlib.sha256(raw).hexdigest()


def test_standard_input_is_a_pipe(capture: Path) -> None:
    script = (
        "from vpnforensics.packets.read import read_capture\n"
        "t = read_capture('-'); print(len(t), t.source.format, t.source.sha256)"
    )
    raw = gzip.compress(capture.read_bytes())
    run = subprocess.run([sys.executable, "-c", script], input=raw, capture_output=True, check=True)
    assert run.stdout.split() == [
        str(IP_FRAMES).encode(),
        b"pcap+gzip",
        hashlib.sha256(raw).hexdigest().encode(),
    ]


def test_a_fifo_is_read_like_standard_input(capture: Path) -> None:
    fifo = capture.with_name("fifo")
    os.mkfifo(fifo)
    with subprocess.Popen(["cp", str(capture), str(fifo)]):
        table = read_capture(fifo)
    assert same(table, read_capture(capture))
    assert table.source is not None
    assert table.source.sha256 == hashlib.sha256(capture.read_bytes()).hexdigest()


def test_large_captures_come_in_many_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pcap"
    write_pcap(path, START_NS + np.arange(30_000), [VARIETY[i % len(VARIETY)] for i in range(30_000)])
    plain = read_capture(path)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(stream, "WINDOW_BYTES", 50_000)
    table = read_capture(path, progress=lambda done, total: calls.append((done, total)))
    assert same(table, plain)
    size = path.stat().st_size
    assert len(calls) > 10
    assert calls[-1] == (size, size)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    path.with_suffix(".gz").write_bytes(gzip.compress(path.read_bytes(), 1))
    assert same(read_capture(path.with_suffix(".gz")), plain)


def test_folder_of_rotated_captures(tmp_path: Path) -> None:
    folder = tmp_path / "rotated"
    folder.mkdir()
    half = len(VARIETY) // 2
    ts_ns = START_NS + np.arange(len(VARIETY)) * 1000
    write_pcap(folder / "z-first.pcap", ts_ns[:half], VARIETY[:half])
    write_pcap(folder / "a-second.pcap", ts_ns[half:], VARIETY[half:])
    (folder / "README").write_text("not a capture")
    (folder / "empty.pcap").write_bytes(b"")
    (folder / "copy.pcap").write_bytes((folder / "z-first.pcap").read_bytes())
    (folder / "sub").mkdir()
    write_pcap(tmp_path / "whole.pcap", ts_ns, VARIETY)
    table = read_capture(folder)
    assert same(table, read_capture(tmp_path / "whole.pcap"))
    source = table.source
    assert source is not None
    assert (source.health.skipped_files, source.health.copied_files) == (2, 1)
    digests = [  # of the copies, the first by name is read
        hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in ("copy.pcap", "a-second.pcap")
    ]
    assert source.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_rotated_pcapng_keeps_interface_numbers(tmp_path: Path) -> None:
    for part in range(3):
        with PcapngWriter(tmp_path / f"{part}.pcapng") as writer:
            outside, inside = writer.add_interface(name="eth0"), writer.add_interface(name="wg0")
            writer.write(START_NS + part * 10, VARIETY[4], interface=outside)
            writer.write(START_NS + part * 10 + 1, VARIETY[4], interface=inside)
    assert read_capture(tmp_path).iface.tolist() == [0, 1] * 3


def test_one_unsupported_interface_among_others(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    with PcapngWriter(path) as writer:
        radio, wire = writer.add_interface(127), writer.add_interface(1)
        writer.write(START_NS, b"radio", interface=radio)
        writer.write(START_NS, VARIETY[4], interface=wire)
    table = read_capture(path)
    assert table.source is not None
    assert (len(table), table.source.health.unsupported_linktype, table.source.health.non_ip) == (1, 1, 1)
    with PcapngWriter(path) as writer:
        writer.write(START_NS, b"radio", interface=writer.add_interface(127))
    with pytest.raises(UnsupportedLinkTypeError, match=r"byte 28: link type IEEE802_11_RADIOTAP \(127\)"):
        read_capture(path)


def test_unsupported_link_type_is_named(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a.pcap", [START_NS], [b"radio"], linktype=105)
    with pytest.raises(UnsupportedLinkTypeError, match=r"link type IEEE802_11 \(105\) is not decoded"):
        read_capture(tmp_path / "a.pcap")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty file"),
        (b"time,src,dst\n1,2,3\n", "text"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x00\xff" * 40, "not a pcap or pcapng capture"),
        (gzip.compress(b"", mtime=0), "no bytes inside the gzip data"),
        (gzip.compress(b"hello, analyst", mtime=0), "text"),
        (gzip.compress(b"hello", mtime=0)[:8], "end early"),
        (b"\x1f\x8bgarbage" * 9, "corrupt"),
        (b"\x28\xb5\x2f\xfdgarbage" * 9, "corrupt"),
        (b"\xd4\xc3\xb2", "not a pcap"),
    ],
)
def test_what_is_no_capture(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(raw)
    with pytest.raises(NotACaptureError, match=reason) as raised:
        read_capture(path)
    assert raised.value.offset == 0


def test_what_cannot_be_opened_or_read(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be opened: No such file"):
        read_capture(tmp_path / "absent.pcap")
    with pytest.raises(CaptureError, match="cannot be opened: embedded null byte"):
        read_capture("a\0b")
    with pytest.raises(CaptureError, match="cannot be read: Input/output error"):
        read_capture("/proc/self/mem")
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotACaptureError, match="it holds no files"):
        read_capture(tmp_path / "folder")
    (tmp_path / "folder" / "notes").write_text("nothing")
    with pytest.raises(NotACaptureError, match="none of its 1 files is one"):
        read_capture(tmp_path / "folder")


def test_permission_denied(capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CaptureError, match="cannot be opened: Permission denied"):
        read_capture(capture)


def test_captures_without_ip_packets_give_an_empty_table(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a.pcap", [START_NS], [VARIETY[-1]])
    table = read_capture(tmp_path / "a.pcap")
    assert table.source is not None
    assert (len(table), table.source.health.non_ip, table.source.first_ns) == (0, 1, 0)
    write_pcap(tmp_path / "a.pcap", [], [])
    assert len(read_capture(tmp_path / "a.pcap")) == 0


def test_damage_before_the_first_packet_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    path.write_bytes(blocks.pcap_file([]) + b"\xff" * 50)
    with pytest.raises(CaptureError, match="byte 24: no packet can be read: a record claims"):
        read_capture(path)
    path.write_bytes(blocks.pcap_file([])[:20])
    with pytest.raises(CaptureError, match="byte 20: cut inside the pcap file header"):
        read_capture(path)
    path.write_bytes(blocks.section()[:20])
    with pytest.raises(CaptureError, match="byte 0: no packet can be read: the file ends inside"):
        read_capture(path)
    path.write_bytes(blocks.section(version=7))
    with pytest.raises(CaptureError, match=r"byte 0: .*pcapng version 7"):
        read_capture(path)


def test_a_lying_length_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    good = blocks.pcap_file([(1_700_000_000_000_000, VARIETY[4])])
    path.write_bytes(good + struct.pack("<IIII", 1, 2, 1 << 30, 60) + bytes(100))
    table = read_capture(path)
    assert table.source is not None
    health = table.source.health
    assert (len(table), health.damaged_records, health.first_damage_offset) == (1, 1, len(good))
    assert health.cut_tail_bytes == 116


def test_times_that_jump_or_run_back_are_kept_and_counted(tmp_path: Path) -> None:
    seconds = [100, 99, 5000, 5000, 10**9 + 10**6, 0]
    path = tmp_path / "a.pcap"
    path.write_bytes(
        blocks.pcap_file(
            [
                (s * 10**6, frames.ethernet(frames.ipv4(frames.udp(bytes([i])), 17)))
                for i, s in enumerate(seconds)
            ]
        )
    )
    table = read_capture(path)
    assert (table.ts_ns // 10**9).tolist() == seconds
    assert table.source is not None
    health = table.source.health
    assert (health.out_of_order, health.time_jumps, health.duplicates) == (2, 3, 0)
    assert (table.source.first_ns, table.source.last_ns) == (0, (10**9 + 10**6) * 10**9)


@pytest.mark.parametrize(("payload_bytes", "cut_heads"), [(100, 1), (16, 1), (15, 0)])
def test_datagrams_without_the_bytes_of_a_tunnel_header_are_counted(
    tmp_path: Path, payload_bytes: int, cut_heads: int
) -> None:
    frame = frames.ethernet(frames.ipv4(frames.udp(bytes(payload_bytes)), 17))
    snapped = [frame[: 14 + 20 + 8 + 15], frame[: 14 + 20 + 8 + 16]]
    parts = [blocks.section(), blocks.interface()]
    parts += [blocks.enhanced(0, part, original=len(frame)) for part in snapped]
    path = tmp_path / "a.pcapng"
    path.write_bytes(b"".join(parts))
    source = read_capture(path).source
    assert source is not None
    assert source.health.cut_heads == cut_heads, "of one frame with 15 bytes of payload, one with 16"


def test_negative_and_impossible_times(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    parts = [
        blocks.section(),
        blocks.interface(offset_s=-100),
        blocks.interface(resolution=0),
        blocks.interface(resolution=127),
        blocks.enhanced(0, VARIETY[4]),
        blocks.enhanced(1 << 60, VARIETY[4], interface=1),
        blocks.enhanced(1 << 60, VARIETY[4], interface=2),
        blocks.simple(VARIETY[5]),
    ]
    path.write_bytes(b"".join(parts))
    table = read_capture(path)
    assert table.ts_ns.tolist() == [-100 * 10**9, 0, 0]
    assert table.source is not None
    health = table.source.health
    assert (health.damaged_records, health.untimed, health.out_of_order) == (1, 1, 0)
    assert health.first_damage_offset == sum(len(part) for part in parts[:5])


def test_duplicates_of_the_same_interface_only(tmp_path: Path) -> None:
    with PcapngWriter(tmp_path / "a.pcapng") as writer:
        first, second = writer.add_interface(), writer.add_interface()
        for interface, at_ns in ((first, 0), (second, 10), (first, 20), (first, 50_000_000)):
            writer.write(START_NS + at_ns, VARIETY[1], interface=interface)
    source = read_capture(tmp_path / "a.pcapng").source
    assert source is not None
    assert source.health.duplicates == 1


def test_sections_number_their_unnamed_interfaces_apart(tmp_path: Path) -> None:
    raw = blocks.section() + blocks.interface() + blocks.enhanced(1, VARIETY[4])
    path = tmp_path / "a.pcapng"
    path.write_bytes(raw + raw.replace(blocks.interface(), blocks.interface(name=b"eth9")) + raw)
    assert read_capture(path).iface.tolist() == [0, 1, 2]


def test_the_digest_of_a_file_that_changed_is_refused(capture: Path) -> None:
    source = read_capture(capture).source
    assert source is not None
    with capture.open("ab") as file:
        file.write(b"more")
    with pytest.raises(CaptureError, match="changed since it was read"):
        _ = source.sha256


def test_against_dpkt(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    captured = []
    for i in range(500):
        body = rng.bytes(int(rng.integers(0, 80)))
        options = (
            frames.syn_options(int(rng.integers(500, 1460)), i) if i % 3 else frames.timestamps(i, i + 1)
        )
        captured.append(
            frames.ethernet(frames.ipv4(frames.tcp(body, options=options, seq=i * 77), 6, ident=i))
            if i % 2
            else frames.ethernet(frames.ipv6(frames.udp(body, sport=i), 17), 0x86DD)
        )
    path = tmp_path / "a.pcap"
    write_pcap(path, START_NS + np.arange(500) * 999, captured)
    table = read_capture(path)
    with path.open("rb") as file:
        for i, (_, raw) in enumerate(dpkt.pcap.Reader(file)):
            packet = dpkt.ethernet.Ethernet(raw).data
            transport = packet.data
            assert (table.sport[i], table.dport[i]) == (transport.sport, transport.dport)
            assert table.payload_bytes[i] == len(transport.data)
            assert table.head[i].tobytes() == transport.data[:32].ljust(32, b"\0")
            if i % 2:
                assert (table.ip_len_bytes[i], table.ip_id[i], table.ttl[i]) == (
                    packet.len,
                    packet.id,
                    packet.ttl,
                )
                assert (table.seq[i], table.ack[i], table.tcp_flags[i]) == (
                    transport.seq, transport.ack, transport.flags,
                )  # fmt: skip
                options = dict(dpkt.tcp.parse_opts(transport.opts))
                assert struct.pack(">II", table.tsval[i], table.tsecr[i]) == options[8]
                assert table.mss[i] == int.from_bytes(options.get(2, b"\0\0"), "big")
            else:
                assert (table.ip_len_bytes[i], table.ttl[i]) == (packet.plen + 40, packet.hlim)


def test_two_captures_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.pcap" for i in range(4)]
    for i, path in enumerate(paths):
        write_pcap(path, START_NS + np.arange(9000), [VARIETY[(i + k) % len(VARIETY)] for k in range(9000)])
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(read_capture, paths))
    assert all(same(table, read_capture(path)) for table, path in zip(together, paths, strict=True))
