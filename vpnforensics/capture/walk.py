"""All records of one stored capture, batch by batch, over the borders of windows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vpnforensics.capture._kernels import DAMAGED, FULL
from vpnforensics.capture.opening import open_records
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.stream import CaptureStream


class Tail(NamedTuple):
    """How a walk ended: where and why early, or -1 and nothing where it did not."""

    fault_at: int = -1
    fault: str = ""
    cut_bytes: int = 0
    """At the end of the capture, in no record that can be read."""


class RecordWalk:
    """Iterates over numbers of records: those in ``batch``, which lie in ``window``, until the next.

    Parameters
    ----------
    stream : CaptureStream
        Not read from yet.
    interface_numbers : InterfaceNumbers
    batch : RecordBatch
        Filled again and again.

    Raises
    ------
    NotACaptureError
        It is neither pcap nor pcapng.
    """

    def __init__(
        self, stream: CaptureStream, interface_numbers: InterfaceNumbers, batch: RecordBatch
    ) -> None:
        self._stream = stream
        self.batch = batch
        self.window = stream.first_window()
        self.records = open_records(stream, self.window, interface_numbers)
        self._pos = self.records.body
        self._is_damaged = False

    def __iter__(self) -> Iterator[int]:
        while True:
            step = self.records.walk(self.window, self._pos, self.batch)
            self._pos = step.pos
            if step.count:
                yield step.count
            if step.status == FULL:
                continue
            if step.status == DAMAGED:
                self._is_damaged = True
                return
            following = self._stream.next_window(self.window, min(self._pos, self.window.end))
            if following is None:
                return
            self._pos = following.start + max(0, self._pos - self.window.end)
            self.window = following

    def tail(self) -> Tail:
        """How the finished walk ended; reads what is left of a damaged capture."""
        window, pos = self.window, self._pos
        if self._is_damaged:
            return Tail(window.offset_of(pos), self.records.damage, self._stream.drain(window, pos))
        end = window.offset_of(window.end)
        at = self.records.long_block_offset if pos > window.end else window.offset_of(pos)
        if self._stream.fault:
            return Tail(end, self._stream.fault, max(1, end - at))
        if at < end:
            why = "the file ends inside a record (cut while it was written or copied?)"
            return Tail(at, why, end - at)
        return Tail()
