"""The walkers of both formats against their slow twins: sound, cut, corrupted, in tiny windows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vpnforensics.capture import _kernels, stream
from vpnforensics.capture.opening import RecordWalker, open_records
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.errors import CaptureError

from . import blocks
from .twin import Walk, walk_pcap, walk_pcapng

FRAME = bytes(range(60))
FRAMES = [FRAME[:n] for n in (60, 42, 0, 57)]


def pcap_forms() -> dict[str, bytes]:
    records = [(1_700_000_000_000_000 + i, f) for i, f in enumerate(FRAMES)]
    return {
        f"{magic:x}{order}": blocks.pcap_file(records, order=order, magic=magic)
        for order in "<>"
        for magic in (0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34)
    }


def pcapng_file(order: str) -> bytes:
    other = ">" if order == "<" else "<"
    return b"".join(
        [
            blocks.section(order, options=blocks.option(4, b"recorder", order)),
            blocks.interface(1, order=order, name=b"eth0"),
            blocks.interface(101, order=order, resolution=9, snaplen=50),
            blocks.enhanced(1_700_000_000_000_000, FRAMES[0], order=order),
            blocks.enhanced(1_700_000_000_123_456_789, FRAMES[1], interface=1, order=order, original=90),
            blocks.block(5, bytes(12), order),
            blocks.block(0x7777, b"whatever", order),
            blocks.obsolete(1_700_000_000_000_002, FRAMES[3], order=order),
            blocks.simple(FRAMES[0], order=order),
            blocks.section(other),
            blocks.interface(113, order=other, resolution=0x80 | 30, offset_s=-77),
            blocks.enhanced(
                (1_700_000_000 << 30) + 12345,
                FRAMES[1],
                order=other,
                options=blocks.option(1, b"note", other),
            ),
            blocks.simple(FRAMES[2], order=other),
        ]
    )


def walk_all(path: Path, window_bytes: int | None = None, capacity: int = 3) -> tuple[Walk, RecordWalker]:
    """All records by the walkers, as the twin writes them, with offsets in the file."""
    found = Walk()
    batch = RecordBatch.with_room(capacity)
    with stream.CaptureStream(str(path), window_bytes) as opened:
        window = opened.first_window()
        records = open_records(opened, window, InterfaceNumbers())
        pos = records.body
        while True:
            step = records.walk(window, pos, batch)
            for at, captured, wire, ns, interface in zip(
                *(a[: step.count].tolist() for a in batch), strict=True
            ):
                time = None if ns == _kernels.NO_TIME else ns
                found.records.append((window.offset_of(at), captured, wire, time, interface))
            pos = step.pos
            if step.status == _kernels.DAMAGED:
                found.stopped_at = window.offset_of(pos)
                found.cut_tail = opened.drain(window, pos)
                break
            if step.status == _kernels.MORE:
                following = opened.next_window(window, min(pos, window.end))
                if following is None:
                    at = records.long_block_offset if pos > window.end else window.offset_of(pos)
                    found.cut_tail = window.offset_of(window.end) - at
                    break
                pos = following.start + max(0, pos - window.end)
                window = following
    found.damaged, found.unknown = records.damaged_records, records.unknown_blocks
    return found, records


def assert_like_twin(path: Path, raw: bytes, window_bytes: int | None = None) -> None:
    path.write_bytes(raw)
    try:
        found, _ = walk_all(path, window_bytes)
    except CaptureError:
        assert raw[:4] not in (b"\x0a\x0d\x0d\x0a",) or len(raw) >= 12
        return
    expected = walk_pcapng(raw) if raw[:4] == b"\x0a\x0d\x0d\x0a" else walk_pcap(raw)
    expected.linktypes = []
    assert found == expected


@pytest.mark.parametrize("form", pcap_forms())
def test_pcap_forms(form: str, tmp_path: Path) -> None:
    raw = pcap_forms()[form]
    assert_like_twin(tmp_path / "a", raw)
    found, _ = walk_all(tmp_path / "a")
    assert [raw[at : at + n] for at, n, *_ in found.records] == FRAMES
    assert found.cut_tail == found.damaged == 0


@pytest.mark.parametrize("order", "<>")
def test_pcapng_forms(order: str, tmp_path: Path) -> None:
    raw = pcapng_file(order)
    assert_like_twin(tmp_path / "a", raw)
    found, records = walk_all(tmp_path / "a")
    assert [ns for *_, ns, _ in found.records] == [
        1_700_000_000_000_000_000,
        1_700_000_000_123_456_789,
        1_700_000_000_000_002_000,
        None,
        1_699_999_923_000_011_497,
        None,
    ]
    assert [raw[at : at + n] for at, n, *_ in found.records] == [
        FRAMES[0],
        FRAMES[1],
        FRAMES[3],
        FRAMES[0],
        FRAMES[1],
        FRAMES[2],
    ]
    assert (found.unknown, found.damaged, found.cut_tail) == (1, 0, 0)
    assert records.linktypes == ("ETHERNET", "RAW", "LINUX_SLL")


@pytest.mark.parametrize("window_bytes", [24, 25, 61, 100, 1000])
def test_windows_of_any_size_give_the_same_records(window_bytes: int, tmp_path: Path) -> None:
    for raw in (pcapng_file("<"), pcap_forms()["a1b2c3d4>"]):
        assert_like_twin(tmp_path / "a", raw, window_bytes)
    long_block = pcapng_file("<") + blocks.block(0x8888, bytes(3 << 20)) + pcapng_file(">")
    assert_like_twin(tmp_path / "a", long_block, 1 << 20)


@pytest.mark.parametrize("form", ["pcap", "pcapng", "modified"])
def test_cut_at_every_byte(form: str, tmp_path: Path) -> None:
    raw = {
        "pcap": pcap_forms()["a1b2c3d4<"],
        "pcapng": pcapng_file("<"),
        "modified": pcap_forms()["a1b2cd34>"],
    }[form]
    for n in range(len(raw)):
        assert_like_twin(tmp_path / "a", raw[:n])


@pytest.mark.parametrize("value", [0x00, 0xFF, 0x01, 0x80])
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_every_byte_corrupted(form: str, value: int, tmp_path: Path) -> None:
    raw = pcap_forms()["a1b23c4d<"] if form == "pcap" else pcapng_file("<")
    for i in range(len(raw)):
        assert_like_twin(tmp_path / "a", raw[:i] + bytes([value]) + raw[i + 1 :])


def test_packet_lengths_around_the_end_of_their_block(tmp_path: Path) -> None:
    raw = b"".join([blocks.section(), blocks.interface()])
    for claimed in range(70):
        for kind, at in ((blocks.enhanced(5, FRAME[:40]), 20), (blocks.obsolete(5, FRAME[:40]), 20)):
            raw += kind[:at] + claimed.to_bytes(4, "little") + kind[at + 4 :]
        raw += blocks.simple(FRAME[:40], original=claimed)
    for size in range(0, 40, 4):
        raw += blocks.block(6, bytes(size)) + blocks.block(2, bytes(size)) + blocks.block(3, bytes(size))
    assert_like_twin(tmp_path / "a", raw)
    found, _ = walk_all(tmp_path / "a")
    assert found.damaged > 60
    assert len(found.records) > 100


@given(
    st.sampled_from([*pcap_forms().values(), pcapng_file("<"), pcapng_file(">")]),
    st.lists(st.tuples(st.integers(4, 2000), st.binary(min_size=1, max_size=8)), max_size=3),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_corrupted_anyhow(tmp_path: Path, raw: bytes, changes: list[tuple[int, bytes]]) -> None:
    for at, patch in changes:
        at %= len(raw)
        raw = raw[: max(4, at)] + patch + raw[max(4, at) + len(patch) :]
    assert_like_twin(tmp_path / "a", raw)


LAST = 9_223_372_035


@given(
    st.integers(0, 255),
    st.integers(0, (1 << 64) - 1) | st.integers(0, 1 << 40),
    st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-(10**6), 10**6),
)
@example(9, LAST * 10**9, 1)
@example(9, LAST * 10**9, 0)
@example(0, LAST, 1)
@example(0, LAST + 1, 0)
@example(6, LAST * 10**6 + 999_999, 0)
@example(0, 0, -LAST)
@example(0, 0, -LAST - 1)
@example(0, 0, LAST)
@example(0, 1, LAST)
@example(0x80, LAST, 1)
@example(0x80 | 34, (1 << 64) - 1, 0)
@example(0x80 | 63, (1 << 64) - 1, 0)
@example(28, (1 << 64) - 1, 0)
def test_times_of_every_resolution(resolution: int, ticks: int, offset_s: int) -> None:
    from .twin import Interface

    ns, fits = _kernels.to_ns(ticks >> 32, ticks & 0xFFFFFFFF, resolution, offset_s)
    expected = Interface(1, 0, resolution, offset_s).ns(ticks)
    assert (int(ns) if fits else None) == expected


def test_more_interfaces_than_there_is_room_for_at_first(tmp_path: Path) -> None:
    parts = [blocks.section()]
    for i in range(100):
        parts += [blocks.interface(resolution=9, offset_s=i), blocks.enhanced(i, FRAME, interface=i)]
    assert_like_twin(tmp_path / "a", b"".join(parts))
    found, _ = walk_all(tmp_path / "a")
    assert [ns for *_, ns, _ in found.records] == [i * 10**9 + i for i in range(100)]
