"""Captures in another container: pcapng, or both sides in one file."""

from __future__ import annotations

import heapq
import struct
from collections.abc import Iterator
from pathlib import Path

from vpnforensics.capture.writer import PcapngWriter
from vpnforensics.groundtruth.simulate.frames import LINKTYPES
from vpnforensics.groundtruth.simulate.spec import Capture, SimulationSpec

Frame = tuple[int, int, bytes, int]
"""Time, side, bytes kept, original length."""


def contain(folder: Path, spec: SimulationSpec) -> list[str]:
    """Turn the plain captures of a case into the containers asked for; returns the names of the files."""
    sides = (("ingress", spec.ingress), ("egress", spec.egress))
    plain = [folder / f"{name}.pcap" for name, _ in sides]
    if spec.single_file:
        both = heapq.merge(*(_frames(plain[i], i, capture) for i, (_, capture) in enumerate(sides)))
        _write(folder / "capture.pcapng", list(sides), both)
        for path in plain:
            path.unlink()
        return ["capture.pcapng"]
    names = []
    for path, (name, capture) in zip(plain, sides, strict=True):
        if capture.pcapng:
            target = path.with_suffix(".pcapng")
            _write(target, [(name, capture)], _frames(path, 0, capture))
            path.unlink()
            path = target
        names.append(path.name)
    return names


def _frames(path: Path, side: int, capture: Capture) -> Iterator[Frame]:
    unit_ns = 1 if capture.resolution_ns == 1 else 1000
    with path.open("rb") as file:
        file.seek(24)
        while len(head := file.read(16)) == 16:
            seconds, fraction, kept, original = struct.unpack("<IIII", head)
            frame = file.read(kept)
            if len(frame) == kept:
                yield seconds * 1_000_000_000 + fraction * unit_ns, side, frame, original


def _write(path: Path, sides: list[tuple[str, Capture]], frames: Iterator[Frame]) -> None:
    with path.open("wb") as file, PcapngWriter(file) as writer:
        for name, capture in sides:
            writer.add_interface(LINKTYPES[capture.linktype], name=name, snaplen=capture.snaplen)
        for ts_ns, side, frame, original in frames:
            writer.write(ts_ns, frame, interface=side, original_bytes=original)
