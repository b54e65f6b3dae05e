"""A simulated case made longer: again and again, each time later and with other clients and destinations.

Copies are shifted by whole periods on the clock of their side, and get addresses of their own, so that every
copy adds tunnels and flows that behave as those of the case do. Frame by frame, in the memory of a window.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.stream import CaptureStream
from vpnforensics.capture.walk import RecordWalk

SERVER = (0xC0000201, 0xCB007101)
"""192.0.2.1 and 203.0.113.1, the simulated server's addresses: those stay."""
APART = 1 << 17
"""From the addresses of one copy to the next: clients are in 100.64.0.0/16, destinations in 198.18.0.0/15."""
FIRST_DESTINATION = 0xC6120000
_HEADER, _ETHERNET = 16, 14
_SECOND_NS = 1_000_000_000


def tile(source: Path, target: Path, copies: int, period_ns: float) -> None:
    """Write a capture (nanosecond pcap, Ethernet, IPv4) so many times over into one.

    Parameters
    ----------
    source, target : Path
    copies : int
        At most 100.
    period_ns : float
        From one copy to the next, on the clock of this side.
    """
    with target.open("wb") as out:
        out.write(source.read_bytes()[:24])
        for copy in range(copies):
            _write(source, out, copy, round(copy * period_ns))


def _write(source: Path, out: object, copy: int, shift_ns: int) -> None:
    batch = RecordBatch.with_room()
    with CaptureStream(str(source)) as stream:
        walk = RecordWalk(stream, InterfaceNumbers(), batch)
        for count in walk:
            at, buf = batch.at[:count], walk.window.buf
            time_ns = batch.ts_ns[:count] + shift_ns
            _put(buf, at - _HEADER, (time_ns // _SECOND_NS).astype("<u4"))
            _put(buf, at - _HEADER + 4, (time_ns % _SECOND_NS).astype("<u4"))
            for end in (12, 16):
                place = at + _ETHERNET + end
                address = buf[place[:, None] + np.arange(4)].copy().view(">u4")[:, 0].astype(np.int64)
                moved = np.where(np.isin(address, SERVER), address, address + copy * APART)
                _put(buf, place, moved.astype(">u4"))
            first, last = int(at[0]) - _HEADER, int(at[-1] + batch.captured_bytes[count - 1])
            out.write(buf[first:last].data)


def _put(buf: np.ndarray, place: np.ndarray, values: np.ndarray) -> None:
    buf[place[:, None] + np.arange(4)] = values.view(np.uint8).reshape(-1, 4)
