"""Columns under construction: grown as packets come, trimmed to their number at the end."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.capture._kernels import NO_TIME
from vpnforensics.capture.encapsulations import COLLECTORS, GTPU, NAMES, NONE, WHOLE_SHARE
from vpnforensics.capture.health import CaptureHealth
from vpnforensics.capture.linktypes import KIND_NOTHING, KIND_RAW
from vpnforensics.capture.records import RecordBatch
from vpnforensics.packets import _counters
from vpnforensics.packets._address_kernels import rebuild_slots
from vpnforensics.packets._kernels import RECENT, decode_frames
from vpnforensics.packets._unwrap_kernels import unwrap_frames
from vpnforensics.packets.table import AddressTable, PacketTable

_SMALLEST_SLOTS = 1 << 14


class PacketColumns:
    """Decodes batches of records into growing columns.

    Parameters
    ----------
    decap : int, optional
        Encapsulation that is read through, a number of :mod:`vpnforensics.capture.encapsulations`.
    """

    def __init__(self, decap: int = NONE) -> None:
        self.decap = decap
        self.counters = np.zeros(_counters.COUNTERS, np.int64)
        self.counters[_counters.LAST_NS] = NO_TIME
        self._capacity = 0
        self._given_away = 0
        # The 32 bytes of `head` are written as four words.
        self._columns: list[npt.NDArray[Any]] = [
            np.empty((0, spec.width // 8), np.uint64) if spec.width > 1 else np.empty(0, spec.dtype)
            for spec in PacketTable.schema()
        ]
        self._slots = np.full(_SMALLEST_SLOTS, -1, np.int32)
        self._packed = np.empty((_SMALLEST_SLOTS // 2, 2), np.uint64)
        self._versions = np.empty(_SMALLEST_SLOTS // 2, np.uint8)
        self._recent = (
            np.zeros(RECENT, np.uint64),
            np.zeros(RECENT, np.int64),
            np.zeros(RECENT, np.int64),
        )
        self._collectors = np.zeros(1 + COLLECTORS, np.uint64)
        # Keyed, so that no capture can be made whose addresses all collide; numbers do not depend on it.
        self._seed = np.uint64(int.from_bytes(os.urandom(8), "little"))

    @property
    def rows(self) -> int:
        """Packets decoded so far, but for those given away or not kept."""
        return int(self.counters[_counters.ROW])

    @property
    def decoded(self) -> int:
        """Packets decoded so far, all of them."""
        return self.rows + self._given_away

    @property
    def frames(self) -> int:
        """Frames seen so far."""
        return int(self.counters[_counters.FRAME])

    def decode(
        self,
        buf: npt.NDArray[np.uint8],
        count: int,
        batch: RecordBatch,
        kinds: npt.NDArray[np.uint8],
        numbers: npt.NDArray[np.uint16],
        share_done: float,
    ) -> None:
        """Decode the first ``count`` records of the batch.

        ``share_done`` is the part of the capture that has been read, 0 where unknown: a hint for
        how far to grow.
        """
        self._reserve_rows(count, share_done)
        self._reserve_addresses(2 * count)
        if self.decap != NONE:
            self._unwrap(buf, count, batch, kinds)
            raw, nothing = np.full_like(kinds, KIND_RAW), np.full_like(kinds, KIND_NOTHING)
            kinds, numbers = np.concatenate([kinds, raw, nothing]), np.tile(numbers, 3)
        before = int(self.counters[_counters.CANDIDATES])
        decode_frames(
            buf,
            count,
            batch,
            kinds,
            numbers,
            tuple(self._columns),
            (self._slots, self._packed, self._versions),
            self._recent,
            self.counters,
            self._seed,
        )
        if self.decap == NONE and self.counters[_counters.CANDIDATES] > before:
            self._unwrap(buf, count, batch, kinds)

    def _unwrap(
        self, buf: npt.NDArray[np.uint8], count: int, batch: RecordBatch, kinds: npt.NDArray[np.uint8]
    ) -> None:
        unwrap_frames(buf, count, batch, kinds, self.decap, self._collectors, self.counters)

    def whole_wrapping(self) -> int:
        """The encapsulation that a tap put around all that was decoded so far, or ``NONE``."""
        cells = self.counters
        wrapped = cells[_counters.WRAPPED :]
        most = int(np.argmax(wrapped))
        told = self.decoded - cells[_counters.UNTOLD_WRAPPED] + cells[_counters.CUT_WRAPPED]
        if not wrapped[most] or wrapped[most] < WHOLE_SHARE * told:
            return NONE
        return most if most == GTPU or not self.counters[_counters.ANSWERED] else NONE

    def _reserve_rows(self, count: int, share_done: float) -> None:
        needed = self.rows + count
        if needed <= self._capacity:
            return
        expected = self.rows / share_done * 1.02 if share_done > 0 else self.rows * 1.5
        self._capacity = max(needed, int(min(expected, self.rows * 4096))) + count
        for i, old in enumerate(self._columns):
            grown = np.empty((self._capacity, *old.shape[1:]), old.dtype)
            grown[: self.rows] = old[: self.rows]
            self._columns[i] = grown

    def _reserve_addresses(self, count: int) -> None:
        known = int(self.counters[_counters.ADDRESSES])
        if known + count <= len(self._versions):
            return
        size = len(self._slots)
        while known + count > size // 2:
            size *= 2
        packed, versions = np.empty((size // 2, 2), np.uint64), np.empty(size // 2, np.uint8)
        packed[:known], versions[:known] = self._packed[:known], self._versions[:known]
        self._slots, self._packed, self._versions = np.full(size, -1, np.int32), packed, versions
        rebuild_slots(packed, versions, known, self._slots, self._seed)

    def addresses(self, start: int = 0) -> AddressTable:
        """The distinct addresses, in order of appearance, from a number on."""
        known = int(self.counters[_counters.ADDRESSES])
        packed = self._packed[start:known].astype(">u8").view(np.uint8).reshape(known - start, 16)
        return AddressTable(packed, self._versions[start:known].copy())

    def between(self, start: int, end: int) -> dict[str, npt.NDArray[Any]]:
        """Some rows as columns by name, which share memory with this object's."""
        return {
            spec.name: array[start:end].view(np.uint8) if spec.width > 1 else array[start:end]
            for spec, array in zip(PacketTable.schema(), self._columns, strict=True)
        }

    def give_away(self, count: int) -> None:
        """Forget the first rows; those after them are the first ones now."""
        left = self.rows - count
        for array in self._columns:
            array[:left] = array[count : count + left].copy()
        self.counters[_counters.ROW] = left
        self._given_away += count

    def keep(self, start: int, wanted: npt.NDArray[np.bool_]) -> None:
        """Of the rows from ``start`` on, keep those that are wanted."""
        kept = start + int(np.count_nonzero(wanted))
        for array in self._columns:
            array[start:kept] = array[start : self.rows][wanted]
        self._given_away += self.rows - kept
        self.counters[_counters.ROW] = kept

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """The finished columns by name; this object must not be used afterwards."""
        finished: dict[str, npt.NDArray[Any]] = {}
        rows = self.rows
        for i, spec in enumerate(PacketTable.schema()):
            array = self._columns[i]
            self._columns[i] = np.empty(0)
            if len(array) > rows:
                array.resize((rows, *array.shape[1:]), refcheck=False)
            finished[spec.name] = array.view(np.uint8).reshape(rows, spec.width) if spec.width > 1 else array
        return finished

    def health(self, **found: int) -> CaptureHealth:
        """The findings so far, together with those made elsewhere."""
        cells = self.counters
        wrapped = dict(zip(NAMES, cells[_counters.WRAPPED :].tolist(), strict=True))
        wrapped[NAMES[NONE]] = 0
        unwrapped = wrapped.pop(NAMES[self.decap])
        return CaptureHealth(
            snapped=int(cells[_counters.SNAPPED]),
            cut_heads=int(cells[_counters.CUT_HEADS]),
            out_of_order=int(cells[_counters.OUT_OF_ORDER]),
            time_jumps=int(cells[_counters.TIME_JUMPS]),
            duplicates=int(cells[_counters.DUPLICATES]),
            non_ip=int(cells[_counters.NON_IP]),
            malformed=int(cells[_counters.MALFORMED]),
            super_frames=int(cells[_counters.SUPER_FRAMES]),
            fragments=int(cells[_counters.FRAGMENTS]),
            unsupported_linktype=int(cells[_counters.UNSUPPORTED]),
            untimed=int(cells[_counters.UNTIMED]),
            cut_options=int(cells[_counters.CUT_OPTIONS]),
            cut_headers=int(cells[_counters.CUT_HEADERS]),
            later_hops=int(cells[_counters.LATER_HOPS]),
            unwrapped=unwrapped,
            **{name: wrapped.get(name, 0) for name in NAMES[1:]},
            **found,
        )
