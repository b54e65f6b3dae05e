"""A second look into the capture: the payloads of a few packets, whole as the capture has them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.capture import encapsulations
from vpnforensics.capture.payloads import can_be_read_again, chosen_frames
from vpnforensics.packets.table import PacketTable
from vpnforensics.scratch import blocks
from vpnforensics.tunnels._kernels import locate_payloads


@dataclass(frozen=True, slots=True)
class Payload:
    """The transport payload of one packet; ``is_cut`` where the capture has less than was on the wire."""

    row: int
    octets: bytes
    is_cut: bool


def payloads(packets: PacketTable, rows: npt.NDArray[np.integer]) -> Iterator[Payload]:
    """The payloads of some packets, in the order of the capture; nothing of the file is kept.

    A super-frame that was split into rows counts as one packet, its first row.

    Parameters
    ----------
    packets : PacketTable
        Read from a file, of which :func:`can_be_read_again` is true.
    rows : ndarray of int
        Which packets, in any order.

    Raises
    ------
    CaptureError
        A file is gone, or is no longer the one that was read.
    """
    source = packets.source
    assert source is not None
    assert can_be_read_again(source)
    frames, first = np.unique(packets.frame[rows], return_index=True)
    chosen = np.asarray(rows, np.int64)[first]
    length = np.zeros(len(frames), np.int64)
    for some in blocks(len(packets)) if len(frames) else ():
        frame = packets.frame[some]
        place = np.minimum(np.searchsorted(frames, frame), len(frames) - 1)
        mine = frames[place] == frame
        np.add.at(length, place[mine], packets.payload_bytes[some][mine])
    headers = (packets.ip_len_bytes[chosen] - packets.payload_bytes[chosen]).astype(np.int64)
    decap = encapsulations.NAMES.index(source.decap)
    for batch in chosen_frames(source, frames):
        n = len(batch.at)
        here = slice(batch.first, batch.first + n)
        start, got = np.empty(n, np.int64), np.empty(n, np.int64)
        locate_payloads(
            batch.buf, batch.at, batch.captured_bytes, batch.link, decap, headers[here], start, got
        )
        whole = length[here]
        got = np.minimum(got, whole)
        spans = zip(chosen[here].tolist(), start.tolist(), got.tolist(), whole.tolist(), strict=True)
        for row, begin, size, announced in spans:
            yield Payload(row, batch.buf[begin : begin + size].tobytes(), size < announced)
