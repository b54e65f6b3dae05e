"""A folder of columns is the capture that it was made from, or an error."""

from __future__ import annotations

import errno
import json
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vpnforensics as vf
from tests.packets import frames
from vpnforensics import samples
from vpnforensics.capture.payloads import can_be_read_again
from vpnforensics.capture.writer import write_pcap
from vpnforensics.packets.column_files import release
from vpnforensics.packets.folder import write
from vpnforensics.packets.folder._kernels import Ends, flows_together
from vpnforensics.packets.folder.layout import ADDRESSES, MANIFEST, PACKETS, UNFINISHED
from vpnforensics.report.inputs import input_row

START_NS = 1_700_000_000_000_000_000
VARIETY = frames.variety()
SAMPLES = [samples.load(name) for name in samples.names()]
KINDS = (np.int32, np.int32, np.uint8, np.uint16, np.uint16)
LINKING = ("wireguard", "openvpn-tcp", "two-clocks", "ocserv-dtls")


def same(a: vf.PacketTable, b: vf.PacketTable) -> bool:
    columns = all(np.array_equal(x, getattr(b, spec.name)) for spec, x in a.columns())
    return columns and a.addresses.texts == b.addresses.texts and input_row("", a) == input_row("", b)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "a.pcap"
    chosen = VARIETY * 20
    write_pcap(path, START_NS + np.arange(len(chosen)) * 1000, chosen)
    return path


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that a small capture fills several of."""
    monkeypatch.setattr(write, "GROUP_PACKETS", 16)


@pytest.fixture
def folder(capture: Path, tmp_path: Path, few: None) -> Path:
    vf.convert(capture, tmp_path / "columns", part_packets=64)
    return tmp_path / "columns"


@pytest.mark.parametrize("side", ["ingress", "egress"])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.ingress.parent.name)
def test_every_sample(sample, side, tmp_path):
    path = getattr(sample, side)
    vf.convert(path, tmp_path / "columns", part_packets=1000)
    assert same(vf.read_capture(path), vf.read_capture(tmp_path / "columns"))


@pytest.mark.parametrize("name", LINKING)
def test_the_same_case(name, tmp_path):
    sample = samples.load(name)
    for side in ("ingress", "egress"):
        vf.convert(getattr(sample, side), tmp_path / side, part_packets=1500)
    told = vf.correlate(sample.ingress, sample.egress).to_dict()
    again = vf.correlate(tmp_path / "ingress", tmp_path / "egress").to_dict()
    del told["tool"], again["tool"]
    assert told == again


@settings(deadline=None, max_examples=25)
@given(
    picked=st.lists(
        st.tuples(st.integers(0, len(VARIETY) - 1), st.integers(-(10**9), 10**9)), min_size=1, max_size=120
    ),
    cuts=st.lists(st.integers(1, 119), max_size=3),
    part_packets=st.integers(1, 70),
    group=st.integers(1, 40),
)
def test_any_packets_in_any_parts(tmp_path_factory, picked, cuts, part_packets, group):
    root = tmp_path_factory.mktemp("any")
    captures = root / "captures"
    captures.mkdir()
    edges = sorted({0, *(c for c in cuts if c < len(picked)), len(picked)})
    for i, (begin, end) in enumerate(pairwise(edges)):
        some = picked[begin:end]
        times = START_NS + i * 10**10 + np.array([at for _, at in some])
        write_pcap(captures / f"{i}.pcap", times, [VARIETY[n] for n, _ in some])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "GROUP_PACKETS", group)
        told = vf.convert(captures, root / "columns", part_packets=part_packets)
    assert max((p["packets"] for p in told["parts"]), default=0) <= part_packets
    assert same(vf.read_capture(captures), vf.read_capture(root / "columns"))
    shutil.rmtree(root)


def test_a_folder_of_captures_has_parts_by_file(tmp_path, few):
    for i in range(2):
        write_pcap(tmp_path / f"{i}.pcap", START_NS + i * 10**9 + np.arange(len(VARIETY)), VARIETY)
    told = vf.convert([tmp_path / "0.pcap", tmp_path / "1.pcap"], tmp_path / "columns", part_packets=20)
    assert {part["name"][:5] for part in told["parts"]} == {"00001", "00002"}
    assert told["frames"] == 2 * len(VARIETY)


def test_other_programs_read_it(folder, capture):
    table = vf.read_capture(capture)
    files = f"{folder / PACKETS}/*.parquet"
    duckdb = pytest.importorskip("duckdb")
    told = duckdb.execute(f"select count(*), min(ts_ns), count(head) from '{files}'").fetchall()
    assert told == [(len(table), START_NS, len(table))]
    frame = pd.read_parquet(folder / PACKETS).sort_values("frame")
    expected = table.to_pandas()
    for column in expected.columns:
        assert frame[column].tolist() == expected[column].tolist(), column


def test_the_part_says_units_and_origin(folder, capture):
    schema = pq.read_schema(next((folder / PACKETS).iterdir()))
    assert schema.field("ip_len_bytes").metadata[b"unit"] == b"bytes"
    assert json.loads(schema.metadata[b"vpnforensics"])["capture"] == str(capture)
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["source"]["sha256"] == vf.read_capture(capture).source.sha256


def test_packets_of_a_flow_and_direction_stand_together_in_their_order(folder, capture):
    part = pq.ParquetFile(sorted((folder / PACKETS).iterdir())[0])
    frame = part.read_row_group(0, ["src", "dst", "proto", "sport", "dport", "frame"]).to_pandas()
    assert len(frame) == 16
    rows = frame.to_dict("records")
    ends = [tuple(row.values())[:-1] for row in rows]
    met = sorted(rows, key=lambda row: row["frame"])
    first = {}
    for row in met:
        first.setdefault(tuple(row.values())[:-1], row["frame"])
    assert len(first) > 3
    assert list(zip(map(first.get, ends), frame["frame"], strict=True)) == sorted(
        (first[end], row["frame"]) for end, row in zip(ends, rows, strict=True)
    )


def test_a_folder_whose_rows_are_in_order_of_frames_is_read(capture, tmp_path, few, monkeypatch):
    monkeypatch.setattr(write, "_by_flow", lambda group: group)
    monkeypatch.setattr(write, "VERSION", 1)
    vf.convert(capture, tmp_path / "columns", part_packets=64)
    assert same(vf.read_capture(capture), vf.read_capture(tmp_path / "columns"))


def test_frames_that_hold_few_packets_are_put_in_order_too(tmp_path):
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    chosen = [frame for packet in VARIETY * 3 for frame in (packet, *[arp] * 9)]
    write_pcap(tmp_path / "a.pcap", START_NS + np.arange(len(chosen)), chosen)
    vf.convert(tmp_path / "a.pcap", tmp_path / "columns")
    assert same(vf.read_capture(tmp_path / "a.pcap"), vf.read_capture(tmp_path / "columns"))


@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 5), min_size=1, max_size=60),
    st.integers(0, 2**64 - 1),
)
@settings(deadline=None)
def test_the_order_of_rows_against_a_plain_one(picked, seed):
    ends = Ends(*(np.array(c, kind) for c, kind in zip(zip(*picked, strict=True), KINDS, strict=True)))
    order = np.empty(len(picked), np.int64)
    flows_together(ends, np.uint64(seed), np.full(128, -1, np.int32), order)
    expected = sorted(range(len(picked)), key=lambda row: (picked.index(picked[row]), row))
    assert order.tolist() == expected


class KilledError(Exception):
    pass


@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_killed_conversion_goes_on(capture, tmp_path, few, monkeypatch, after):
    vf.convert(capture, tmp_path / "whole", part_packets=64)
    settle, settled = write._settle, []

    def killed(partial: Path, path: Path) -> None:
        if len(settled) == after:
            raise KilledError
        settled.append(path)
        settle(partial, path)

    monkeypatch.setattr(write, "_settle", killed)
    with pytest.raises(KilledError):
        vf.convert(capture, tmp_path / "columns", part_packets=64)
    monkeypatch.setattr(write, "_settle", settle)
    with pytest.raises(vf.CaptureError, match="was not finished"):
        vf.read_capture(tmp_path / "columns")
    with pytest.raises(vf.ConversionError, match="other captures, or with other options"):
        vf.convert(capture, tmp_path / "columns", part_packets=32)
    times = {path: path.stat().st_mtime_ns for path in settled}
    vf.convert(capture, tmp_path / "columns", part_packets=64)
    assert times == {path: path.stat().st_mtime_ns for path in settled}
    assert contents(tmp_path / "columns") == contents(tmp_path / "whole")


def test_a_full_disk_leaves_nothing_that_is_read(capture, tmp_path, monkeypatch):
    def full(partial: Path, path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(write, "_settle", full)
    with pytest.raises(OSError, match="No space left"):
        vf.convert(capture, tmp_path / "columns")
    with pytest.raises(vf.CaptureError, match="was not finished"):
        vf.read_capture(tmp_path / "columns")


def test_nothing_is_written_over(capture, folder, tmp_path):
    before = contents(folder)
    with pytest.raises(vf.ConversionError, match="finished conversion"):
        vf.convert(capture, folder)
    assert contents(folder) == before
    with pytest.raises(vf.ConversionError, match="not empty"):
        vf.convert(capture, tmp_path)
    with pytest.raises(vf.ConversionError, match="is no folder"):
        vf.convert(capture, capture)
    with pytest.raises(vf.ConversionError, match="cannot be made"):
        vf.convert(capture, tmp_path / "no" / "such")
    with pytest.raises(vf.CaptureError, match="has been converted"):
        vf.convert(folder, tmp_path / "again")


def test_two_at_once(capture, tmp_path):
    with (
        write._ours(tmp_path / "columns", {}),
        pytest.raises(vf.ConversionError, match="another conversion is writing here"),
    ):
        vf.convert(capture, tmp_path / "columns")


def test_no_capture_leaves_no_folder(tmp_path):
    (tmp_path / "text").write_text("no capture")
    with pytest.raises(vf.NotACaptureError):
        vf.convert(tmp_path / "text", tmp_path / "columns")
    assert not (tmp_path / "columns").exists()


def test_a_capture_without_packets(tmp_path):
    write_pcap(tmp_path / "a.pcap", np.array([START_NS]), [bytes(12) + b"\x08\x06" + bytes(46)])
    vf.convert(tmp_path / "a.pcap", tmp_path / "columns")
    assert same(vf.read_capture(tmp_path / "a.pcap"), vf.read_capture(tmp_path / "columns"))


def test_payloads_come_from_the_captures_while_they_are_there(capture, folder):
    assert can_be_read_again(vf.read_capture(folder).source)
    capture.rename(capture.with_name("b.pcap"))
    source = vf.read_capture(folder).source
    assert not can_be_read_again(source)
    assert len(source.sha256) == 64


def damaged(folder: Path, how: str) -> None:
    part = sorted((folder / PACKETS).iterdir())[1]
    manifest = folder / MANIFEST
    if how == "part gone":
        part.unlink()
    elif how == "part cut":
        part.write_bytes(part.read_bytes()[:-10])
    elif how == "part overwritten":
        raw = bytearray(part.read_bytes())
        raw[200:260] = bytes(60)
        part.write_bytes(raw)
    elif how == "parts exchanged":
        other = sorted((folder / PACKETS).iterdir())[0]
        third = part.with_name("x")
        part.rename(third), other.rename(part), third.rename(other)
        told = json.loads(manifest.read_text())
        told["parts"][0]["bytes"], told["parts"][1]["bytes"] = (p.stat().st_size for p in (other, part))
        manifest.write_text(json.dumps(told))
    elif how == "other schema":
        pq.write_table(pa.table({"a": [1]}), part)
        told = json.loads(manifest.read_text())
        told["parts"][1]["bytes"] = part.stat().st_size
        manifest.write_text(json.dumps(told))
    elif how == "addresses gone":
        (folder / ADDRESSES).unlink()
    elif how == "addresses of others":
        table = pq.read_table(folder / ADDRESSES)
        pq.write_table(table.slice(1), folder / ADDRESSES)
    elif how == "other version":
        manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 99'))
    elif how == "manifest cut":
        manifest.write_text(manifest.read_text()[:100])
    elif how == "manifest of something else":
        manifest.write_text("{}")
    else:
        told = json.loads(manifest.read_text())
        del told["source"]["health"]
        manifest.write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("part gone", "a part is missing"),
        ("part cut", "bytes, not the"),
        ("part overwritten", "damaged"),
        ("parts exchanged", "contradict"),
        ("other schema", "another schema"),
        ("addresses gone", "is missing"),
        ("addresses of others", "that addresses.parquet has not"),
        ("other version", "of version 99"),
        ("manifest cut", "damaged"),
        ("manifest of something else", "not written by"),
        ("manifest without health", "damaged: no 'health'"),
    ],
)
def test_damage_is_one_clear_error(folder, how, said):
    damaged(folder, how)
    with pytest.raises(vf.CaptureError, match=said):
        vf.read_capture(folder)


def test_an_encapsulation_is_settled_when_converting(folder):
    with pytest.raises(vf.CaptureError, match="converted with --decap none"):
        vf.read_capture(folder, decap="vxlan")
    assert len(vf.read_capture(folder, decap="none"))
    with pytest.raises(vf.CaptureError, match="a capture of its own"):
        vf.read_capture([folder, folder])


def test_an_unfinished_mark_is_enough_to_be_told(tmp_path):
    (tmp_path / UNFINISHED).write_text("{}")
    with pytest.raises(vf.CaptureError, match="was not finished"):
        vf.read_capture(tmp_path)


def test_columns_in_scratch_files_are_the_same(capture, folder, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    for path in (capture, folder):
        for select in ("", "tcp", "host 9.9.9.9"):
            there = vf.read_capture(path, select=select, scratch=scratch)
            assert not any(scratch.iterdir())
            release(there)
            here = vf.read_capture(path, select=select)
            assert same(there, here)
            assert [a.flags.writeable for _, a in there.columns()] == [True] * 25
    with pytest.raises(OSError, match="none"):
        vf.read_capture(capture, scratch=tmp_path / "none")


def test_what_is_written_to_a_released_column_stays(capture, tmp_path):
    packets = vf.read_capture(capture, scratch=tmp_path)
    packets.ts_ns[3] = 7
    release(packets)
    assert packets.ts_ns[3] == 7


def test_a_wrapped_capture_is_begun_again(tmp_path):
    wrapped = Path(__file__).parents[2] / "cases" / "encap-vxlan.pcap"
    assert same(vf.read_capture(wrapped), vf.read_capture(wrapped, scratch=tmp_path))
    assert vf.read_capture(wrapped).source.decap == "vxlan"
    vf.convert(wrapped, tmp_path / "columns")
    assert same(vf.read_capture(wrapped), vf.read_capture(tmp_path / "columns"))
