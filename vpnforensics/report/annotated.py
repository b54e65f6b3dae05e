"""Both captures as one for Wireshark: two interfaces, one clock, and a comment on every attributed packet."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from itertools import count
from typing import Any, NamedTuple

from vpnforensics.align.alignment import Alignment
from vpnforensics.capture import linktypes
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.stream import CaptureStream
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.capture.writer import PcapngWriter
from vpnforensics.errors import CaptureError, CaseError
from vpnforensics.report.dataframes import plain, plain_rows
from vpnforensics.report.escaping import visible
from vpnforensics.report.frames import checked_path
from vpnforensics.report.quantities import ratio, span
from vpnforensics.report.result import CaseResult
from vpnforensics.report.straight_times import CommonClock

_PIECE_BYTES = 1 << 20
_LINKTYPES = {
    linktypes.KIND_ETHERNET: linktypes.ETHERNET,
    linktypes.KIND_RAW: linktypes.RAW,
    linktypes.KIND_NULL: linktypes.NULL,
    linktypes.KIND_SLL: linktypes.LINUX_SLL,
    linktypes.KIND_SLL2: linktypes.LINUX_SLL2,
    linktypes.KIND_PPP: linktypes.PPP,
}


class _Stored(NamedTuple):
    ts_ns: int
    """On the ingress clock; where that was set, as it stood longest."""
    order: int
    role: str
    number: int
    """Of the frame in the whole input, from 1."""
    kind: int
    wire_bytes: int
    frame: bytes


def annotated(case: CaseResult) -> Iterator[bytes]:
    """A pcapng of all frames of both captures in order of time on the ingress clock, piece by piece.

    Where a capture's clock was set while it ran, times go on as if it had not been.

    Parameters
    ----------
    case : CaseResult
        Of files that are still there, with clocks that are aligned.

    Raises
    ------
    CaptureError
        A file is gone, or is no longer the one that was read.
    CaseError
        The clocks are not aligned, the case was made from packets in no file, or one file is both sides.
    """
    if not case.alignment.usable:
        raise CaseError(f"the clocks are not aligned, so there is no common time: {case.alignment.reason}")
    sides = {side["role"]: side for side in case.inputs}
    if not all(side["files"] for side in sides.values()):
        raise CaseError("made from packets that were in no file: there are no frames to annotate")
    one = [file["sha256"] for file in sides["ingress"]["files"]] == [
        file["sha256"] for file in sides["egress"]["files"]
    ]
    comments = _comments(case)
    if one:  # both sides of it have comments; each frame is written once
        for number, texts in comments["egress"].items():
            comments["ingress"][number] += texts
    roles = ("ingress",) if one else ("ingress", "egress")
    numbering = count()
    # To the digits that a saved case has, so that its times are the same to the nanosecond.
    alignment = Alignment.from_dict(case.alignment.to_dict())
    merged = heapq.merge(*(_frames(sides[role], alignment, numbering) for role in roles))
    yield from _written(merged, comments, {role: str(sides[role]["path"]) for role in roles})


def _written(
    frames: Iterator[_Stored], comments: dict[str, defaultdict[int, list[str]]], paths: dict[str, str]
) -> Iterator[bytes]:
    sink = BytesIO()
    writer = PcapngWriter(sink)
    interfaces: dict[tuple[str, int], int] = {}
    for frame in frames:
        linktype = _LINKTYPES.get(frame.kind)
        if linktype is None:
            continue  # of a link type that is not decoded
        key = (frame.role, linktype)
        if key not in interfaces:
            name = f"{frame.role}: {visible(paths[frame.role])}"
            interfaces[key] = writer.add_interface(linktype, name=name, snaplen=0)
        writer.write(
            frame.ts_ns,
            frame.frame,
            interface=interfaces[key],
            original_bytes=max(frame.wire_bytes, len(frame.frame)),
            comment=comments[frame.role].get(frame.number, ()),
        )
        if sink.tell() > _PIECE_BYTES:
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _frames(side: dict[str, Any], alignment: Alignment, numbering: Iterator[int]) -> Iterator[_Stored]:
    """All frames of an input in order of its files, their times on the common clock."""
    numbers, batch = InterfaceNumbers(), RecordBatch.with_room()
    clock = CommonClock(alignment, side["role"])
    number = 0
    for file in side["files"]:
        path = checked_path(file)
        with CaptureStream(str(path)) as stream:
            walk = RecordWalk(stream, numbers, batch)
            for n in walk:
                times = clock.of(batch.ts_ns[:n])
                if n and int(times.min()) < 0:
                    raise CaptureError(path, None, "on the ingress clock it begins before 1970")
                for i in range(n):
                    at, length = int(batch.at[i]), int(batch.captured_bytes[i])
                    number += 1
                    yield _Stored(
                        int(times[i]),
                        next(numbering),
                        side["role"],
                        number,
                        int(walk.records.kinds[batch.iface[i]]),
                        int(batch.wire_bytes[i]),
                        walk.window.buf[at : at + length].tobytes(),
                    )


def _comments(case: CaseResult) -> dict[str, defaultdict[int, list[str]]]:
    """What to say beside each attributed frame of a side, by its number in the whole input."""
    said: dict[str, defaultdict[int, list[str]]] = {
        "ingress": defaultdict(list),
        "egress": defaultdict(list),
    }
    about = {row["flow"]: row for row in plain_rows(case.beside)}
    whole, named = case.lists.make_pairings(), case.pairings
    columns: Sequence[list[Any]] = [
        plain(table[name])
        for table, name in (
            (whole, "flow"), (whole, "egress_frame"), (whole, "ingress_frame"), (named, "egress_frame"),
            (named, "ingress_frame"), (whole, "delay_ns"),
        )
    ]  # fmt: skip
    for flow, egress, ingress, egress_name, ingress_name, delay_ns in zip(*columns, strict=True):
        row = about[flow]
        link = f"{flow} in {row['tunnel']} of {row['user'] or row['client']}"
        strength = f"LLR {ratio(row['llr'], row['llr_bounded'])}"
        if ingress is None:
            said["egress"][egress].append(visible(f"{link}, {strength}: no outer packet found"))
            continue
        delay = f"delay {span(delay_ns)}"
        said["egress"][egress].append(visible(f"{link}, {strength}: ingress frame {ingress_name}, {delay}"))
        name = row["names"].partition(" ")[0]
        to = f"{row['proto']} to {row['dst']}" + (f" ({name})" if name else "")
        said["ingress"][ingress].append(
            visible(f"{row['tunnel']} carried {flow}, {to}: egress frame {egress_name}, {delay}")
        )
    return said
