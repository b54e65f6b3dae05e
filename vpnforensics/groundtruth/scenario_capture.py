"""How a side is captured: what a capturing machine's clock, losses, snap length and file format do.

Lab and simulator both end here. They hand over whole Ethernet frames with true times; :func:`degrade`
applies the clock, the loss and the omissions of a :class:`~vpnforensics.groundtruth.scenario.Side`, and
:func:`write_captures` the link type, snap length and format.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from vpnforensics.capture.writer import PcapngWriter
from vpnforensics.groundtruth.scenario import Capture, Side

LINKTYPES = {"ethernet": 1, "raw": 101, "sll2": 276}
_ARPHRD_ETHER = 1
_HOST, _OUTGOING = 0, 4
_MAGIC = {"ns": 0xA1B23C4D, "us": 0xA1B2C3D4}
_MAX_SNAPLEN = 262144


@dataclass(frozen=True, slots=True)
class Frames:
    """Ethernet frames of one side, in capture order.

    Parameters
    ----------
    ts_ns : ndarray of int64, shape (n,)
        Times, nanoseconds since the epoch.
    frames : sequence of bytes, length n
        Whole frames.
    client : ndarray of int32, shape (n,)
        Which client each belongs to, an index; -1 for none.
    source : ndarray of int64, shape (n,)
        Position of each frame in the undegraded capture.
    """

    ts_ns: npt.NDArray[np.int64]
    frames: Sequence[bytes]
    client: npt.NDArray[np.int32]
    source: npt.NDArray[np.int64]

    def take(self, index: npt.NDArray[np.int64], ts_ns: npt.NDArray[np.int64]) -> Frames:
        """The frames at `index`, with new times."""
        chosen = [self.frames[i] for i in index.tolist()]
        return Frames(ts_ns, chosen, self.client[index], self.source[index])


def clock(side: Side, ts_ns: npt.NDArray[np.int64], origin_ns: int) -> npt.NDArray[np.int64]:
    """What the side's clock shows at true times; drift counts from `origin_ns`, where the offset holds."""
    drift: npt.NDArray[np.int64] = np.rint((ts_ns - origin_ns) * (side.clock_drift_ppm * 1e-6)).astype(
        np.int64
    )
    return ts_ns + round(side.clock_offset_s * 1e9) + drift


def degrade(
    side: Side, recorded: Frames, *, origin_ns: int, names: Sequence[str], rng: np.random.Generator
) -> Frames:
    """The side as its capturing machine saw it.

    Parameters
    ----------
    side : Side
        What to apply: late start, omitted clients, loss, stamp jitter, clock.
    recorded : Frames
        True times, whole frames.
    origin_ns : int
        True time that the clock's drift, and ``start_s``, count from.
    names : sequence of str
        Client names by index.
    rng : Generator
        Loss and jitter; a fixed number of draws a frame.
    """
    n = len(recorded.ts_ns)
    lost = rng.random(n) < side.loss
    late_ns = np.rint(rng.standard_exponential(n) * side.jitter_ms * 1e6).astype(np.int64)
    omitted = np.isin(recorded.client, [i for i, name in enumerate(names) if name in side.without])
    early = recorded.ts_ns < origin_ns + round(side.start_s * 1e9)
    index = np.flatnonzero(~(lost | omitted | early))
    seen_ns = recorded.ts_ns[index] + late_ns[index]
    order = np.argsort(seen_ns, kind="stable")
    return recorded.take(index[order], clock(side, seen_ns[order], origin_ns))


def write_captures(
    out: Path, capture: Capture, ingress: Frames, egress: Frames, *, local: set[bytes]
) -> list[Path]:
    """Write both sides, in their formats, to one or two files.

    Parameters
    ----------
    out : Path
        Folder.
    capture : Capture
        Formats; ``single`` puts both sides into one file.
    ingress, egress : Frames
        Degraded frames.
    local : set of bytes
        MAC addresses of the VPN server itself: frames from them are outgoing to a cooked capture.
    """
    sides = (("ingress", capture.ingress, ingress), ("egress", capture.egress, egress))
    if capture.single:
        return [_write_single(out, sides, local)]
    written = []
    for number, (name, side, frames) in enumerate(sides, start=2):
        path = out / f"{name}.{side.format}"
        written.append(path)
        with path.open("wb") as file:
            if side.format == "pcapng":
                writer = PcapngWriter(file)
                writer.add_interface(
                    LINKTYPES[side.linktype], name=name, snaplen=side.snaplen or _MAX_SNAPLEN
                )
                for ts, frame in zip(frames.ts_ns.tolist(), frames.frames, strict=True):
                    linked = as_linktype(frame, side.linktype, number, local)
                    writer.write(
                        _rounded(ts, side), linked[: side.snaplen or None], original_bytes=len(linked)
                    )
            else:
                _pcap_header(file, side)
                for ts, frame in zip(frames.ts_ns.tolist(), frames.frames, strict=True):
                    _pcap_record(file, side, ts, as_linktype(frame, side.linktype, number, local))
        _cut(path, side)
    return written


def as_linktype(frame: bytes, linktype: str, interface: int, local: set[bytes]) -> bytes:
    """An Ethernet frame as another link type shows it."""
    if linktype == "ethernet":
        return frame
    if linktype == "raw":
        return frame[14:]
    sender = frame[6:12]
    kind = _OUTGOING if sender in local else _HOST
    head = struct.pack(">2sHIHBB8s", frame[12:14], 0, interface, _ARPHRD_ETHER, kind, 6, sender)
    return head + frame[14:]


def _write_single(out: Path, sides: Sequence[tuple[str, Side, Frames]], local: set[bytes]) -> Path:
    """Both sides in the order of their stamps."""
    ts_ns = np.concatenate([frames.ts_ns for _, _, frames in sides])
    which = np.repeat([0, 1], [len(frames.ts_ns) for _, _, frames in sides])
    frames = [frame for _, _, part in sides for frame in part.frames]
    order = np.argsort(ts_ns, kind="stable").tolist()
    first = sides[0][1]
    path = out / ("capture.pcap" if first.linktype == "sll2" and first.format == "pcap" else "capture.pcapng")
    with path.open("wb") as file:
        if path.suffix == ".pcap":
            _pcap_header(file, first)
            for i in order:
                linked = as_linktype(frames[i], "sll2", int(which[i]) + 2, local)
                _pcap_record(file, first, int(ts_ns[i]), linked)
        else:
            writer = PcapngWriter(file)
            for name, side, _ in sides:
                writer.add_interface(
                    LINKTYPES[side.linktype], name=name, snaplen=side.snaplen or _MAX_SNAPLEN
                )
            for i in order:
                number = int(which[i])
                side = sides[number][1]
                linked = as_linktype(frames[i], side.linktype, number + 2, local)
                kept = linked[: side.snaplen or None]
                writer.write(
                    _rounded(int(ts_ns[i]), side), kept, interface=number, original_bytes=len(linked)
                )
    _cut(path, first)
    return path


def _pcap_header(file: IO[bytes], side: Side) -> None:
    head = (_MAGIC[side.precision], 2, 4, 0, 0, side.snaplen or _MAX_SNAPLEN, LINKTYPES[side.linktype])
    file.write(struct.pack("<IHHiIII", *head))


def _pcap_record(file: IO[bytes], side: Side, ts_ns: int, frame: bytes) -> None:
    seconds, ns = divmod(ts_ns, 10**9)
    kept = frame[: side.snaplen or None]
    fraction = ns if side.precision == "ns" else ns // 1000
    file.write(struct.pack("<IIII", seconds, fraction, len(kept), len(frame)) + kept)


def _rounded(ts_ns: int, side: Side) -> int:
    return ts_ns if side.precision == "ns" else ts_ns // 1000 * 1000


def _cut(path: Path, side: Side) -> None:
    if side.cut_bytes:
        with path.open("r+b") as file:
            file.truncate(max(path.stat().st_size - side.cut_bytes, 0))
