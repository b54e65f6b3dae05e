"""What the writers write, read back by dpkt, by tshark's capinfos and by hand."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import dpkt
import pytest

from vpnforensics.capture.linktypes import ETHERNET, LINUX_SLL2, RAW
from vpnforensics.capture.writer import PcapngWriter, PcapWriter, write_pcap

from . import blocks

FRAME = bytes(range(100))
START_NS = 1_700_000_000_123_456_789


def test_pcap_by_dpkt(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a.pcap", [START_NS, START_NS + 1], [FRAME, FRAME[:7]], linktype=RAW, snaplen=64)
    with (tmp_path / "a.pcap").open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        assert (reader.datalink(), reader.snaplen) == (RAW, 64)
        assert [raw for _, raw in reader] == [FRAME[:64], FRAME[:7]]


def test_pcap_by_hand(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a.pcap", [START_NS], [FRAME], snaplen=64)
    assert (tmp_path / "a.pcap").read_bytes() == blocks.pcap_file(
        [(START_NS, FRAME)], magic=0xA1B23C4D, snaplen=64
    )


def test_original_lengths_of_frames_cut_before(tmp_path: Path) -> None:
    write_pcap(tmp_path / "a.pcap", [START_NS], [FRAME], original_bytes=[1500])
    assert (tmp_path / "a.pcap").read_bytes()[24 + 8 : 24 + 16] == (100).to_bytes(4, "little") + (
        1500
    ).to_bytes(4, "little")


def test_the_caller_keeps_a_file_of_its_own() -> None:
    file = io.BytesIO()
    with PcapWriter(file) as writer:
        writer.write(START_NS, FRAME)
    assert len(file.getvalue()) == 24 + 16 + 100


@pytest.mark.parametrize("ts_ns", [-1, (1 << 32) * 10**9])
def test_times_a_pcap_cannot_hold(ts_ns: int) -> None:
    with PcapWriter(io.BytesIO()) as writer, pytest.raises(ValueError, match="cannot hold the time"):
        writer.write(ts_ns, FRAME)


def pcapng(path: Path) -> bytes:
    with PcapngWriter(path) as writer:
        outside = writer.add_interface(ETHERNET, name="eth0", snaplen=80)
        inside = writer.add_interface(LINUX_SLL2)
        writer.write(START_NS, FRAME, interface=outside, comment="carried by tunnel T3")
        writer.write(START_NS + 1, FRAME[:6], interface=inside, comment=["first", "sécond"])
        writer.write(START_NS + 2, FRAME[:5], interface=inside, original_bytes=60)
    return path.read_bytes()


def test_pcapng_by_hand(tmp_path: Path) -> None:
    one_comment = blocks.option(1, b"carried by tunnel T3") + blocks.option(0, b"")
    two_comments = blocks.option(1, b"first") + blocks.option(1, "sécond".encode()) + blocks.option(0, b"")
    assert pcapng(tmp_path / "a") == b"".join(
        [
            blocks.section(),
            blocks.interface(ETHERNET, name=b"eth0", resolution=9, snaplen=80),
            blocks.interface(LINUX_SLL2, resolution=9, snaplen=262144),
            blocks.enhanced(START_NS, FRAME[:80], original=100, options=one_comment),
            blocks.enhanced(START_NS + 1, FRAME[:6], interface=1, options=two_comments),
            blocks.enhanced(START_NS + 2, FRAME[:5], interface=1, original=60),
        ]
    )


def test_pcapng_is_the_same_every_time(tmp_path: Path) -> None:
    assert pcapng(tmp_path / "a") == pcapng(tmp_path / "b")


@pytest.mark.needs("tshark")
def test_pcapng_comments_by_tshark(tmp_path: Path) -> None:
    pcapng(tmp_path / "a")
    fields = ["-e", "frame.comment", "-e", "frame.interface_name", "-e", "frame.len"]
    command = ["tshark", "-r", str(tmp_path / "a"), "-T", "fields", "-E", "separator=|", "-E", "aggregator=;"]
    out = subprocess.run([*command, *fields], capture_output=True, text=True, check=True).stdout
    lines = out.splitlines()
    assert lines[0] == "carried by tunnel T3|eth0|100"
    assert lines[1].startswith("first;sécond|")
    assert lines[2].startswith("|")
    assert lines[2].endswith("|60")


def test_what_a_pcapng_cannot_hold(tmp_path: Path) -> None:
    with PcapngWriter(tmp_path / "a") as writer:
        writer.add_interface()
        with pytest.raises(ValueError, match="cannot hold the time"):
            writer.write(-1, FRAME)
        with pytest.raises(ValueError, match="at most 65,535 bytes"):
            writer.write(1, FRAME, comment="x" * 65_536)
