"""A small case, and dpkt as the independent reader of captures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import dpkt

from vpnforensics.groundtruth.simulate import SimulationSpec, Truth
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.spec import Server

SERVER = "192.0.2.1"
PUBLIC = "203.0.113.1"
_LINK_BYTES = {1: 14, 101: 0, 276: 20}


@dataclass(frozen=True)
class Packet:
    ts_ns: int
    captured: int
    frame_bytes: int
    ip: Any
    src: str
    dst: str

    @property
    def transport(self) -> Any:
        return self.ip.data

    @property
    def payload(self) -> bytes:
        return bytes(self.ip.data.data)


def text(address: bytes) -> str:
    return ".".join(str(byte) for byte in address)


def read(path: Path) -> list[Packet]:
    packets = []
    with path.open("rb") as file:
        reader = dpkt.pcap.Reader(file)
        link = _LINK_BYTES[reader.datalink()]
        while True:
            try:
                head = file.read(16)
                if len(head) < 16:
                    return packets
                seconds, fraction, captured, original = (
                    int.from_bytes(head[i : i + 4], "little") for i in range(0, 16, 4)
                )
                frame = file.read(captured)
                ip = dpkt.ip.IP(frame[link:])
            except dpkt.UnpackError as error:  # pragma: no cover - says which file
                raise AssertionError(f"{path}: {error}") from error
            ts_ns = seconds * 1_000_000_000 + fraction
            packets.append(Packet(ts_ns, captured, original, ip, text(ip.src), text(ip.dst)))


@dataclass(frozen=True)
class Case:
    folder: Path
    spec: SimulationSpec
    truth: Truth

    @cached_property
    def ingress(self) -> list[Packet]:
        return read(self.folder / "ingress.pcap")

    @cached_property
    def egress(self) -> list[Packet]:
        return read(self.folder / "egress.pcap")


def small(protocol: str = "wireguard", **options: Any) -> SimulationSpec:
    """Three clients, a few flows, no loss between the taps."""
    spec = mixed_case(3, 12, protocol, 25.0, scale=0.15, server=Server(loss=0.0), **options)
    return replace(spec, hosts=40)
