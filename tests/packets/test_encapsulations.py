"""Packets are read through what a tap wrapped them in: where it wrapped all, or where it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpnforensics as vf
from tests import taps
from vpnforensics import samples
from vpnforensics.capture import encapsulations, linktypes
from vpnforensics.capture.writer import write_pcap
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable

from . import frames, wrapping
from .test_kernels import kernel_rows

CASES = Path(__file__).parent.parent / "cases"
INSIDE = [
    frames.ethernet(frames.ipv4(frames.tcp(bytes(30), options=frames.timestamps(n, 5)), 6, ident=n))
    for n in range(1, 4)
] + [frames.ethernet(frames.ipv4(frames.udp(bytes([n]) * 40), 17, ident=n)) for n in range(4, 7)]
WAYS = pytest.mark.parametrize(("name", "wrap"), wrapping.EVERY, ids=[w.__name__ for _, w in wrapping.EVERY])
NS = 1_000_000


def number(name: str) -> int:
    return encapsulations.NAMES.index(name)


def assert_same(found: PacketTable, expected: PacketTable, *but: str) -> None:
    for spec, array in expected.columns():
        if spec.name not in but:
            assert np.array_equal(array, getattr(found, spec.name)), spec.name
    assert found.addresses.texts == expected.addresses.texts


@WAYS
def test_the_packets_inside_are_as_without_the_wrapping(name: str, wrap: wrapping.Wrap) -> None:
    expected, _ = kernel_rows(INSIDE, [len(f) for f in INSIDE], linktypes.ETHERNET)
    wrapped = [wrap(frame) for frame in INSIDE]
    found, columns = kernel_rows(wrapped, [len(f) for f in wrapped], linktypes.ETHERNET, number(name))
    assert_same(found, expected)
    assert columns.whole_wrapping() == number(name)
    health = columns.health()
    assert (health.unwrapped, health.malformed, health.snapped, health.duplicates) == (len(INSIDE), 0, 0, 0)
    left, columns = kernel_rows(wrapped, [len(f) for f in wrapped], linktypes.ETHERNET)
    assert len(set(left.dst.tolist())) == 1
    assert getattr(columns.health(), name) == len(INSIDE)


@WAYS
def test_cut_at_every_byte(name: str, wrap: wrapping.Wrap) -> None:
    """No read beyond what was captured (which would end this process), and no contradiction from a snap."""
    frame = wrap(INSIDE[0])
    cut = [frame[:n] for n in range(len(frame) + 1)]
    rows, columns = kernel_rows(cut, [len(frame)] * len(cut), linktypes.ETHERNET, number(name))
    health = columns.health()
    assert health.malformed == 0
    inner = len(frame) - len(INSIDE[0]) + 14
    whole = rows.take(rows.frame > inner + 20)
    assert set(whole.ip_len_bytes.tolist()) == {len(INSIDE[0]) - 14}
    assert set(whole.proto.tolist()) == {6}


@given(
    st.sampled_from(wrapping.EVERY),
    st.lists(st.tuples(st.integers(12, 140), st.integers(0, 255)), max_size=4),
    st.integers(0, 200),
    st.integers(0, 300),
)
def test_mutated_wrappings_are_read_within_bounds(
    way: tuple[str, wrapping.Wrap], changes: list[tuple[int, int]], kept: int, extra: int
) -> None:
    raw = bytearray(way[1](INSIDE[0]))
    for at, value in changes:
        raw[at % len(raw)] = value
    frame = bytes(raw[:kept])
    for decap in range(len(encapsulations.NAMES)):
        kernel_rows([frame], [len(frame) + extra], linktypes.ETHERNET, decap)


def test_labels_and_extensions_without_end_are_bounded() -> None:
    stacked = frames.ethernet(bytes(100_000), 0x8847)
    tagged = frames.ethernet(b"\0\0\x81\0" * 25_000, 0x8100)
    extended = wrapping.gtpu(INSIDE[0])[:42] + b"\x34\xff\xff\xff" + bytes(7) + b"\1" + b"\1\0\0\1" * 10_000
    captured = [stacked, tagged, extended]
    for name in encapsulations.NAMES:
        rows, _ = kernel_rows(captured, [len(f) for f in captured], linktypes.ETHERNET, number(name))
        assert len(rows) <= 1


def test_a_tap_that_sends_on_the_first_bytes_only_snaps() -> None:
    whole = wrapping.vxlan(INSIDE[0])
    short = wrapping.vxlan(INSIDE[0][:60])
    rows, columns = kernel_rows([short], [len(short)], linktypes.ETHERNET, encapsulations.VXLAN)
    expected, _ = kernel_rows([whole], [len(whole)], linktypes.ETHERNET, encapsulations.VXLAN)
    assert (rows.ip_len_bytes[0], rows.seq[0]) == (expected.ip_len_bytes[0], expected.seq[0])
    health = columns.health()
    assert (health.snapped, health.malformed, health.cut_options) == (1, 0, 1)


def stored(path: Path, captured: list[bytes]) -> Path:
    write_pcap(path, [(n + 1) * NS for n in range(len(captured))], captured)
    return path


def many(count: int) -> list[bytes]:
    return [
        frames.ethernet(frames.ipv4(frames.udp(bytes(20), sport=1000 + n), 17, ident=n + 1))
        for n in range(count)
    ]


def health_of(table: PacketTable) -> tuple[str, int, int]:
    assert table.source is not None
    return table.source.decap, table.source.health.unwrapped, table.source.health.vxlan


def test_a_capture_wrapped_as_a_whole_is_read_through_and_part_of_one_is_named(tmp_path: Path) -> None:
    wrapped = [wrapping.vxlan(frame) for frame in many(95)]
    whole = stored(tmp_path / "whole.pcap", wrapped + many(5))
    table = read_capture(whole)
    assert health_of(table) == ("vxlan", 95, 0)
    assert len(table) == 100  # the collector's own packets stay
    assert health_of(read_capture(whole, decap="none")) == ("none", 0, 95)
    part = stored(tmp_path / "part.pcap", wrapped + many(6))
    assert health_of(read_capture(part)) == ("none", 0, 95)
    assert health_of(read_capture(part, decap="vxlan")) == ("vxlan", 95, 0)


def test_packets_that_are_answered_are_a_networks_own_and_not_a_taps(tmp_path: Path) -> None:
    there_and_back = [(wrapping.TAP, wrapping.COLLECTOR), (wrapping.COLLECTOR, wrapping.TAP)]
    wrapped = [wrapping.vxlan(frame, *there_and_back[n % 2]) for n, frame in enumerate(many(40))]
    assert health_of(read_capture(stored(tmp_path / "a.pcap", wrapped))) == ("none", 0, 40)
    mobile = [wrapping.gtpu(frame, *there_and_back[n % 2]) for n, frame in enumerate(many(40))]
    assert health_of(read_capture(stored(tmp_path / "b.pcap", mobile)))[:2] == ("gtpu", 40)


def test_packets_to_many_places_are_no_taps(tmp_path: Path) -> None:
    wrapped = [wrapping.vxlan(frame, dst=f"198.18.1.{n % 9}") for n, frame in enumerate(many(40))]
    assert health_of(read_capture(stored(tmp_path / "a.pcap", wrapped))) == ("none", 0, 40)
    few = [wrapping.vxlan(frame, dst=f"198.18.1.{n % 8}") for n, frame in enumerate(many(40))]
    assert health_of(read_capture(stored(tmp_path / "b.pcap", few))) == ("vxlan", 40, 0)


def test_pptp_is_no_wrapping() -> None:
    inside = frames.ipv4(frames.udp(b"inner"), 17)
    packet = frames.ethernet(
        frames.ipv4(b"\x30\x01\x88\x0b\0\x20\0\1" + bytes(4) + b"\xff\x03\0\x21" + inside, 47)
    )
    rows, columns = kernel_rows([packet], [len(packet)], linktypes.ETHERNET, encapsulations.GRE)
    assert rows.proto.tolist() == [47]
    assert columns.health().gre == 0


def test_what_is_no_ip_inside_is_counted_as_such(tmp_path: Path) -> None:
    arp = frames.ethernet(b"\x00\x01\x08\x00\x06\x04\x00\x01" + bytes(20), 0x0806)
    wrapped = [wrapping.vxlan(frame) for frame in [*many(10), arp, arp]]
    table = read_capture(stored(tmp_path / "a.pcap", wrapped))
    assert health_of(table) == ("vxlan", 10, 0)
    assert table.source is not None
    assert (len(table), table.source.health.non_ip) == (10, 2)


@pytest.mark.parametrize("is_wrapped_first", [True, False])
def test_a_beginning_unlike_the_rest_does_not_decide(tmp_path: Path, is_wrapped_first: bool) -> None:
    plain, wrapped = many(5000), [wrapping.vxlan(frame) for frame in many(5000)]
    if is_wrapped_first:
        path, expected = stored(tmp_path / "a.pcap", wrapped + plain), ("none", 0, 5000)
    else:
        path, expected = stored(tmp_path / "a.pcap", plain[:200] + wrapped), ("vxlan", 5000, 0)
    assert health_of(read_capture(path)) == expected


def test_standard_input_is_judged_by_its_beginning(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.pcap", [wrapping.vxlan(frame) for frame in many(50)])
    script = "import vpnforensics as vf; print(vf.read_capture('-').source.decap)"
    with path.open("rb") as file:
        done = subprocess.run([sys.executable, "-c", script], stdin=file, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "vxlan"


def test_an_unknown_encapsulation_is_refused() -> None:
    with pytest.raises(ValueError, match="decap is auto or one of none, vxlan"):
        read_capture(CASES / "encap-vxlan.pcap", decap="qinq")


@pytest.mark.parametrize(("name", "decap"), [("encap-vxlan", "vxlan"), ("encap-mpls", "none")])
def test_cases(name: str, decap: str) -> None:
    table = read_capture(CASES / f"{name}.pcap")
    assert table.source is not None
    assert (len(table), table.source.decap) == (250, decap)
    health = table.source.health
    assert (health.duplicates, health.non_ip, health.malformed) == (0, 0, 0)


@pytest.mark.parametrize("sample_name", ["wireguard", "openvpn-tcp"])
def test_mirrored_captures_give_the_same_result(sample_name: str, tmp_path: Path) -> None:
    """With records that are read from the file once more (openvpn-tcp), too."""
    sample = samples.load(sample_name)
    mirrored = []
    for side in (sample.ingress, sample.egress):
        wrapped = [
            taps.Frame(frame.ts_ns, *wrapping_of_part(frame)) for frame in taps.frames_of(Path(str(side)))
        ]
        mirrored.append(tmp_path / Path(str(side)).name)
        taps.write_frames(mirrored[-1], wrapped)
    expected = vf.correlate(sample.ingress, sample.egress)
    case = vf.correlate(*mirrored)
    assert case.links["tunnel"].tolist() == expected.links["tunnel"].tolist()
    np.testing.assert_array_equal(case.links["llr"], expected.links["llr"])


def wrapping_of_part(frame: taps.Frame) -> tuple[bytes, int]:
    """A snapped frame, as it would be had a tap wrapped the whole and the collector snapped."""
    whole = wrapping.vxlan(frame.captured.ljust(frame.wire_bytes, b"\0"))
    added = len(whole) - frame.wire_bytes
    return whole[: len(frame.captured) + added], len(whole)
