"""The bytes of TCP segments: from the file where it can be read again, else the heads the packet table kept.

Frame boundaries lie anywhere in a segment, and the packet table has 32 bytes of it. Where the capture is a
file, a second pass reads the payloads of the conversations in question, a bounded part at a time. A snapped
capture yields as much of each segment as it has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.capture import encapsulations
from vpnforensics.capture.payloads import can_be_read_again, chosen_frames
from vpnforensics.errors import CaptureError
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import HEAD_BYTES, PacketTable
from vpnforensics.tunnels._kernels import copy_payloads, locate_payloads
from vpnforensics.tunnels.reassembly import Pieces

_PART_BYTES = 32 << 20


@dataclass(frozen=True, eq=False)
class Part:
    """Pieces whose turn it is: piece ``first + i`` has ``got[i]`` bytes, at ``at[i]`` of ``buf``."""

    first: int
    at: npt.NDArray[np.int64]
    got: npt.NDArray[np.int64]
    buf: npt.NDArray[np.uint8]


def readable(packets: PacketTable) -> bool:
    """Whether payloads can be read from the capture file again."""
    in_file_order = bool(np.all(np.diff(packets.frame.astype(np.int64)) > 0))
    return in_file_order and can_be_read_again(packets.source)


def parts_from_heads(packets: PacketTable, pieces: Pieces) -> Iterator[Part]:
    """All pieces at once, with the bytes of the table."""
    heads = packets.head[pieces.row]
    kept = np.minimum(packets.payload_bytes[pieces.row], HEAD_BYTES)
    at = np.arange(len(pieces), dtype=np.int64) * HEAD_BYTES + np.minimum(pieces.skip, HEAD_BYTES)
    yield Part(0, at, np.clip(kept - pieces.skip, 0, pieces.size), heads.ravel())


def parts_from_file(packets: PacketTable, pieces: Pieces, *, part_bytes: int = _PART_BYTES) -> Iterator[Part]:
    """The pieces part by part, with what the capture file has of them.

    Raises
    ------
    CaptureError
        The file cannot be read again.
    """
    assert packets.source is not None
    order = np.argsort(pieces.row, kind="stable")
    rows = pieces.row[order]
    first_of_row = changes(rows)
    segments = rows[first_of_row]  # ascending, each once
    segment_of = np.empty(len(pieces), np.int64)
    segment_of[order] = np.cumsum(first_of_row) - 1
    start = np.zeros(len(segments), np.int64)
    got = np.zeros(len(segments), np.int64)
    header_bytes = (packets.ip_len_bytes[segments] - packets.payload_bytes[segments]).astype(np.int64)
    length = packets.payload_bytes[segments].astype(np.int64)
    # The last piece that needs a segment's bytes; a segment is let go after it.
    last_use = np.zeros(len(segments), np.int64)
    np.maximum.at(last_use, segment_of, np.arange(len(pieces)))
    buf, used, served, read = np.empty(part_bytes, np.uint8), 0, 0, 0

    def hand_over(until: int) -> Part:
        mine = segment_of[served:until]
        skip = pieces.skip[served:until]
        have = np.clip(got[mine] - skip, 0, pieces.size[served:until])
        return Part(served, start[mine] + np.minimum(skip, got[mine]), have, buf)

    decap = encapsulations.NAMES.index(packets.source.decap)
    for batch in chosen_frames(packets.source, packets.frame[segments]):
        n = len(batch.at)
        here = slice(batch.first, batch.first + n)
        found, there = np.empty(n, np.int64), np.empty(n, np.int64)
        locate_payloads(
            batch.buf, batch.at, batch.captured_bytes, batch.link, decap, header_bytes[here], found, there
        )
        np.minimum(there, length[here], out=there)
        needed = int(there.sum())
        if used + needed > len(buf):
            until = int(np.searchsorted(pieces.ready, segments[read - 1], side="right")) if read else 0
            if until > served:
                yield hand_over(until)
                served = until
            held = np.flatnonzero(last_use[:read] >= served)
            kept = int(got[held].sum())
            fresh = np.empty(max(part_bytes, kept + needed), np.uint8)
            at = np.cumsum(got[held]) - got[held]
            copy_payloads(buf, start[held], got[held], fresh, at)
            got[:read][last_use[:read] < served] = 0
            start[held] = at
            buf, used = fresh, kept
        at = used + np.cumsum(there) - there
        copy_payloads(batch.buf, found, there, buf, at)
        start[here], got[here] = at, there
        used += needed
        read = batch.first + n
    yield hand_over(len(pieces))


def opening_bytes(packets: PacketTable, pieces: Pieces, most_bytes: int) -> list[bytes]:
    """First bytes of each stream, as far as they were captured without a gap; nothing without the file."""
    found = [bytearray() for _ in range(pieces.streams)]
    early = pieces.pos < most_bytes
    chosen = replace(pieces, **{name: getattr(pieces, name)[early] for name in _PER_PIECE})
    if not len(chosen) or not readable(packets):
        return [b""] * pieces.streams
    try:
        for part in parts_from_file(packets, chosen):
            for i, (at, got) in enumerate(zip(part.at.tolist(), part.got.tolist(), strict=True), part.first):
                mine = found[chosen.stream[i]]
                if chosen.pos[i] == len(mine):
                    mine += part.buf[at : at + got].tobytes()
    except CaptureError:  # it vanished between the check and now
        return [b""] * pieces.streams
    return [bytes(mine[:most_bytes]) for mine in found]


_PER_PIECE = ("stream", "pos", "size", "skip", "row", "done", "ready")
