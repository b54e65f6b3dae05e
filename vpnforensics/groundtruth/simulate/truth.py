"""What is true of a simulated case, and the file that says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpnforensics.groundtruth.simulate.frames import IPV6_PREFIX
from vpnforensics.groundtruth.simulate.spec import ClockModel, IpIdModel


@dataclass(frozen=True, slots=True)
class FlowTruth:
    """One egress flow; times and packets as the egress capture shows them."""

    proto: str
    src: str
    dst: str
    first_ns: int
    last_ns: int
    packets: int
    client: str
    inner: str | None
    """``None`` at a relay, where there is no inner packet."""
    device: str
    kind: str
    connection: str | None = None
    """Of the client with the relay that opened it: the client's end; of what no relay opened, ``None``."""


@dataclass(frozen=True, slots=True)
class TunnelTruth:
    """One tunnel, as the ingress capture shows it."""

    client: str
    server: str
    protocol: str
    name: str
    also: tuple[str, ...] = ()
    """A relay's other connections of the client."""
    captured: bool = True


@dataclass(frozen=True, slots=True)
class DeviceTruth:
    """The models behind one device."""

    clock: ClockModel
    ip_id: IpIdModel
    client: str


@dataclass(frozen=True, slots=True)
class AlignmentTruth:
    """Egress clock minus ingress clock is offset + drift (t - reference), both on the egress clock."""

    offset_ns: int
    drift_ppm: float
    reference_ns: int


@dataclass(frozen=True, slots=True)
class Truth:
    """All of it."""

    flows: tuple[FlowTruth, ...]
    tunnels: tuple[TunnelTruth, ...]
    devices: dict[str, DeviceTruth]
    alignment: AlignmentTruth
    unattributed: tuple[dict[str, Any], ...]
    """Egress flows that no tunnel carried, with the reason."""

    def write(self, path: Path) -> None:
        """As `truth.json`, in the form of the lab's; row by row, for there may be millions."""
        devices = {
            name: {"client": d.client, "clock": _plain(d.clock), "ip_id": _plain(d.ip_id)}
            for name, d in self.devices.items()
        }
        with path.open("w", encoding="utf-8") as file:
            file.write('{\n "schema_version": 1,\n "flows": ')
            file.writelines(_listed(_flow(flow) for flow in self.flows))
            file.write(',\n "tunnels": ')
            file.writelines(_listed(_plain(tunnel) for tunnel in self.tunnels))
            rest = {
                "devices": devices,
                "alignment": _plain(self.alignment),
                "unattributed": list(self.unattributed),
            }
            file.write("," + json.dumps(rest, indent=1)[1:] + "\n")


def _listed(rows: Iterator[dict[str, Any]]) -> Iterator[str]:
    """The pieces of a list, as `json.dumps` would write it into a document with an indent of one."""
    before = "["
    for row in rows:
        yield before + "\n  " + json.dumps(row, indent=1).replace("\n", "\n  ")
        before = ","
    yield "[]" if before == "[" else "\n ]"


def _flow(flow: FlowTruth) -> dict[str, Any]:
    """Only what came through a relay names a connection."""
    row = _plain(flow)
    if flow.connection is None:
        del row["connection"]
    return row


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def address_text(address: int, port: int, version: int = 4) -> str:
    """``addr:port`` of an IPv4 address as an integer, or of the IPv6 address in its place."""
    if version == 6:
        return f"[{IPV6_PREFIX}{address >> 16:x}:{address & 0xFFFF:x}]:{port}"
    return f"{address >> 24}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}:{port}"


def address_number(text: str) -> int:
    """An IPv4 address as an integer."""
    a, b, c, d = (int(part) for part in text.split("."))
    return (a << 24) | (b << 16) | (c << 8) | d
