from __future__ import annotations

import subprocess

import dpkt
import numpy as np
import pytest

from vpnforensics.groundtruth.scenario import Capture, Side
from vpnforensics.groundtruth.scenario_capture import Frames, as_linktype, clock, degrade, write_captures

LOCAL = b"\x02\x00\x5e\x10\x01\x01"
FAR = b"\x02\x00\x5e\x10\x04\x01"
START_NS = 1_700_000_000_123_456_789


def frames(n: int) -> Frames:
    bare = bytes.fromhex("4500003000004000401100000a0800020a08000110e110e1001c0000") + bytes(20)
    made = [(FAR + LOCAL if i % 2 else LOCAL + FAR) + b"\x08\x00" + bare for i in range(n)]
    ts_ns = START_NS + np.arange(n, dtype=np.int64) * 1_000_000
    return Frames(ts_ns, made, np.arange(n, dtype=np.int32) % 3, np.arange(n, dtype=np.int64))


def seen(side: Side, n: int = 3000) -> Frames:
    rng = np.random.default_rng(1)
    return degrade(side, frames(n), origin_ns=START_NS, names=["a", "b", "c"], rng=rng)


def test_nothing_asked_nothing_done():
    result = seen(Side())
    assert np.array_equal(result.ts_ns, frames(3000).ts_ns)
    assert np.array_equal(result.source, np.arange(3000))


def test_clock_loss_omission_and_late_start():
    result = seen(Side(clock_offset_s=-5.5, clock_drift_ppm=40, loss=0.1, without=("b",), start_s=1.0))
    assert set(result.client.tolist()) == {0, 2}
    assert result.source.min() >= 1000
    assert abs(len(result.frames) - 2000 * 2 / 3 * 0.9) < 60
    true_ns = START_NS + result.source * 1_000_000
    expected = true_ns - 5_500_000_000 + np.rint((true_ns - START_NS) * 40e-6).astype(np.int64)
    assert np.array_equal(result.ts_ns, expected)


def test_clock_is_exact_at_its_origin():
    side = Side(clock_offset_s=4393.217, clock_drift_ppm=-80)
    shown = clock(side, np.array([START_NS, START_NS + 10**9]), START_NS)
    assert shown[0] - START_NS == 4_393_217_000_000
    assert shown[1] - shown[0] == 10**9 - 80_000


def test_jitter_keeps_the_file_in_order():
    result = seen(Side(jitter_ms=5.0))
    assert (np.diff(result.ts_ns) >= 0).all()
    late_ns = result.ts_ns - (START_NS + result.source * 1_000_000)
    assert late_ns.min() >= 0
    assert 4.5e6 < late_ns.mean() < 5.5e6
    assert not np.array_equal(result.source, np.arange(3000))


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("linktype", ["ethernet", "raw", "sll2"])
@pytest.mark.parametrize("form", ["pcap", "pcapng"])
@pytest.mark.parametrize("precision", ["ns", "us"])
def test_tshark_reads_every_format(tmp_path, linktype, form, precision):
    side = Side(linktype=linktype, format=form, precision=precision, snaplen=40)
    given = frames(4)
    paths = write_captures(tmp_path, Capture(side, side), given, given, local={LOCAL})
    assert [p.name for p in paths] == [f"ingress.{form}", f"egress.{form}"]
    columns = ["-e", "frame.time_epoch", "-e", "frame.cap_len", "-e", "frame.len", "-e", "ip.src"]
    argv = ["tshark", "-r", paths[1], "-T", "fields", *columns]
    rows = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")[:4]
    added = {"ethernet": 14, "raw": 0, "sll2": 20}[linktype]
    for i, row in enumerate(rows):
        when, kept, length, source = row.split("\t")
        assert (
            when
            == f"1700000000.{123456789 + i * 10**6 if precision == 'ns' else (123456 + i * 1000) * 1000:09d}"
        )
        assert (int(kept), int(length), source) == (40, 48 + added, "10.8.0.2")


def test_cooked_frames_say_which_way_they_went():
    outgoing, incoming = (as_linktype(f, "sll2", 7, {LOCAL}) for f in frames(2).frames[::-1])
    assert (outgoing[10], incoming[10]) == (4, 0)
    assert outgoing[4:8] == (7).to_bytes(4, "big")
    assert outgoing[12:18] == LOCAL
    assert incoming[12:18] == FAR


@pytest.mark.needs("tshark")
@pytest.mark.parametrize(("linktype", "name"), [("sll2", "capture.pcap"), ("ethernet", "capture.pcapng")])
def test_both_sides_in_one_file_in_time_order(tmp_path, linktype, name):
    side = Side(linktype=linktype)
    other = frames(5)
    later = Frames(other.ts_ns + 500, other.frames, other.client, other.source)
    capture = Capture(side, side, single=True)
    (path,) = write_captures(tmp_path, capture, other, later, local={LOCAL})
    assert path.name == name
    field = "sll.ifindex" if linktype == "sll2" else "frame.interface_id"
    argv = ["tshark", "-r", path, "-T", "fields", "-e", field]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert said == (["2", "3"] if linktype == "sll2" else ["0", "1"]) * 5


def test_cut_file(tmp_path):
    side = Side(cut_bytes=17)
    paths = write_captures(tmp_path, Capture(side, Side()), frames(3), frames(3), local=set())
    assert paths[1].stat().st_size - paths[0].stat().st_size == 17
    with paths[1].open("rb") as file:
        assert len(list(dpkt.pcap.Reader(file))) == 3
