"""A second look into a stored capture: the bytes of chosen frames.

The packet table keeps the first bytes of each payload only. What needs more (record boundaries inside TCP
segments) names the frames it wants and gets them batch by batch, straight out of the windows of the stream
that the first reading used; nothing of the file is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.source import CaptureSource
from vpnforensics.capture.stream import CaptureStream
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.errors import CaptureError


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """Some of the chosen frames; valid until the next batch is asked for.

    ``at`` and ``captured_bytes`` say where a frame lies in ``buf``, ``link`` how its IP packet is found (one
    of the kinds of :mod:`vpnforensics.capture.linktypes`).
    """

    first: int
    """Index of the batch's first frame among the chosen ones."""
    buf: npt.NDArray[np.uint8]
    at: npt.NDArray[np.int64]
    captured_bytes: npt.NDArray[np.int64]
    link: npt.NDArray[np.uint8]


def can_be_read_again(source: CaptureSource | None) -> bool:
    """Whether the files behind a packet table are still there, unchanged since they were read."""
    return source is not None and bool(source.files) and all(file.is_there() for file in source.files)


def chosen_frames(source: CaptureSource, frames: npt.NDArray[np.integer]) -> Iterator[FrameBatch]:
    """The bytes of chosen frames, in order.

    Parameters
    ----------
    source : CaptureSource
        Of the packet table that numbered the frames.
    frames : ndarray of int, shape (n,)
        Frame numbers as in the packet table (from 1), strictly ascending.

    Yields
    ------
    FrameBatch
        Frames that can no longer be read (the file was cut meanwhile) are missing at the end.

    Raises
    ------
    CaptureError
        A file is gone, or is no longer the one that was read.
    """
    wanted = frames.astype(np.int64)
    numbers, batch = InterfaceNumbers(), RecordBatch.with_room()
    before, position = 0, 0
    for file in source.files:
        if position == len(wanted):
            return
        if not file.is_there():
            raise CaptureError(file.path, None, "changed since it was read, or gone")
        with CaptureStream(file.path) as stream:
            walk = RecordWalk(stream, numbers, batch)
            for count in walk:
                until = position + int(np.searchsorted(wanted[position:], before + count, side="right"))
                if until > position:
                    picked = wanted[position:until] - before - 1
                    yield FrameBatch(
                        position,
                        walk.window.buf,
                        batch.at[picked],
                        batch.captured_bytes[picked].astype(np.int64),
                        walk.records.kinds[batch.iface[picked]],
                    )
                position = until
                before += count
                if position == len(wanted):
                    return
