"""The pcap file header."""

from __future__ import annotations

import struct

import pytest

from vpnforensics.capture.pcap import PcapHeader, is_pcap
from vpnforensics.errors import CaptureError

from . import blocks


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("magic", "header_bytes", "tick_ns"),
    [(0xA1B2C3D4, 16, 1000), (0xA1B23C4D, 16, 1), (0xA1B2CD34, 24, 1000)],
)
def test_forms(order: str, magic: int, header_bytes: int, tick_ns: int) -> None:
    raw = blocks.pcap_file([], order=order, magic=magic, linktype=113, snaplen=96)
    assert is_pcap(raw[:4])
    assert PcapHeader.parse(raw, "x") == PcapHeader(order == ">", header_bytes, tick_ns, 96, 113)


def test_frame_check_sequence_bits_are_no_part_of_the_link_type() -> None:
    raw = blocks.pcap_file([])[:20] + struct.pack("<I", 0x2400_0001)
    assert PcapHeader.parse(raw, "x").linktype == 1


def test_what_is_no_header() -> None:
    assert not is_pcap(b"\xa1\xb2\xc3")
    assert not is_pcap(b"\xa1\xb2\xc3\xd5")
    raw = blocks.pcap_file([])
    with pytest.raises(CaptureError, match="x: byte 23: cut inside"):
        PcapHeader.parse(raw[:23], "x")
    with pytest.raises(CaptureError, match=r"x: byte 4: pcap version 9\.4 is not known"):
        PcapHeader.parse(raw[:4] + b"\x09\0" + raw[6:], "x")
