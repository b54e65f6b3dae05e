"""A simulated session whose ingress side can be read: taps inside the clients' tunnels, put together."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import SimulationSpec

_HEADER, _RECORD = 24, struct.Struct("<IIII")


def write_readable(folder: Path, spec: SimulationSpec, seed: int) -> Path:
    """The case with what is inside the tunnels as its ingress side, and clients by their inner address."""
    simulate(replace(spec, inner=True), folder, seed)
    inside = sorted(folder.glob("inner-*.pcap"))
    records = sorted(
        (record for path in inside for record in _records(path.read_bytes())), key=lambda r: r[:2]
    )
    header = inside[0].read_bytes()[:_HEADER]
    (folder / "ingress.pcap").write_bytes(header + b"".join(body for _, _, body in records))
    for path in inside:
        path.unlink()
    truth = json.loads((folder / "truth.json").read_text())
    inner = {flow["client"]: flow["inner"].rpartition(":")[0] + ":0" for flow in truth["flows"]}
    truth["tunnels"] = [
        row | {"client": inner[row["client"]]} for row in truth["tunnels"] if row["client"] in inner
    ]
    truth["flows"] = [row | {"client": inner[row["client"]]} for row in truth["flows"]]
    (folder / "truth.json").write_text(json.dumps(truth))
    return folder


def _records(capture: bytes) -> list[tuple[int, int, bytes]]:
    found, at = [], _HEADER
    while at < len(capture):
        seconds, fraction, length, _ = _RECORD.unpack_from(capture, at)
        found.append((seconds, fraction, capture[at : at + _RECORD.size + length]))
        at += _RECORD.size + length
    return found
