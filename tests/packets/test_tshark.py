"""Every column against tshark, on every link type and format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tshark_oracle import assert_equal_to_tshark
from vpnforensics.capture import linktypes
from vpnforensics.capture.writer import PcapngWriter, write_pcap

from . import frames
from .test_kernels import LINKTYPES, in_link

pytestmark = pytest.mark.needs("tshark")

START_NS = 1_700_000_000_123_456_789


def variety(linktype: int) -> list[bytes]:
    captured = frames.variety()
    if linktype == linktypes.ETHERNET:
        return captured
    found = []
    for frame in captured:
        ethertype = int.from_bytes(frame[12:14], "big")
        version_fits = {228: 0x0800, 229: 0x86DD}.get(linktype, ethertype) == ethertype
        if ethertype in (0x0800, 0x86DD) and len(frame) > 34 and version_fits:
            found.append(in_link(frame[14:], ethertype, linktype))
    return found


@pytest.mark.parametrize("linktype", LINKTYPES)
def test_link_types(linktype: int, tmp_path: Path) -> None:
    captured = variety(linktype)
    write_pcap(
        tmp_path / "a.pcap", START_NS + np.arange(len(captured)) * 1_000_003, captured, linktype=linktype
    )
    assert assert_equal_to_tshark(tmp_path / "a.pcap") >= 9


def test_snapped(tmp_path: Path) -> None:
    captured = [f for f in frames.variety() if len(f) > 14]
    write_pcap(tmp_path / "a.pcap", START_NS + np.arange(len(captured)), captured, snaplen=110)
    assert assert_equal_to_tshark(tmp_path / "a.pcap") >= 20


def test_interfaces_of_a_pcapng(tmp_path: Path) -> None:
    with PcapngWriter(tmp_path / "a.pcapng") as writer:
        ethernet = writer.add_interface(linktypes.ETHERNET, name="eth0")
        raw = writer.add_interface(linktypes.RAW, name="wg0")
        for i, frame in enumerate(frames.variety()):
            if frame[12:14] in (b"\x08\x00", b"\x86\xdd") and len(frame) > 34:
                writer.write(START_NS + i, frame, interface=ethernet, comment="as seen outside")
                writer.write(START_NS + i, frame[14:], interface=raw)
    assert assert_equal_to_tshark(tmp_path / "a.pcapng") >= 40


def test_random_traffic(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    captured = []
    for _ in range(2000):
        body = rng.bytes(int(rng.integers(0, 60)))
        options = frames.timestamps(int(rng.integers(1 << 32)), int(rng.integers(1 << 32)))
        sport, dport = (int(x) for x in rng.integers(20_000, 30_000, 2))
        segment = frames.tcp(
            body,
            sport=sport,
            dport=dport,
            seq=int(rng.integers(1 << 32)),
            ack=int(rng.integers(1 << 32)),
            flags=int(rng.integers(1 << 12)),
            window=int(rng.integers(1 << 16)),
            options=options if rng.random() < 0.7 else b"",
        )
        datagram = frames.udp(body, sport=sport, dport=dport)
        proto, payload = (6, segment) if rng.random() < 0.5 else (17, datagram)
        if rng.random() < 0.5:
            packet = frames.ipv4(
                payload, proto, ident=int(rng.integers(1 << 16)), ttl=int(rng.integers(1, 256)),
                tos=int(rng.integers(256)), src=f"10.0.{rng.integers(4)}.{rng.integers(1, 255)}",
            )  # fmt: skip
            captured.append(frames.ethernet(packet))
        else:
            packet = frames.ipv6(
                payload, proto, traffic_class=int(rng.integers(256)), src=f"fd00::{rng.integers(1, 9999)}"
            )
            captured.append(frames.ethernet(packet, 0x86DD))
    ts_ns = START_NS + np.cumsum(rng.integers(-1000, 10**9, len(captured)))
    write_pcap(tmp_path / "a.pcap", ts_ns, captured)
    assert assert_equal_to_tshark(tmp_path / "a.pcap") == 2000
