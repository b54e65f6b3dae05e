"""Stored captures decoded file by file, into columns that are kept or handed on as they fill."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from vpnforensics.capture import encapsulations
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.rotation import CaptureFiles, several
from vpnforensics.capture.source import CaptureSource, StoredFile
from vpnforensics.capture.stream import CaptureStream, Stored, name_of
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.errors import CaptureError
from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.selection import Selection, Sieve

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all (0 where unknown)."""

AUTO = "auto"


class Taker(Protocol):
    """Takes packets out of the columns while they are decoded, so that these never hold all of them."""

    def begin(self, decap: str) -> None:
        """Called before the first packet; again where the capture has to be read with another ``decap``."""

    def take(self, columns: PacketColumns, path: str, ended: bool) -> None:
        """Called after each batch of a file, and once at its end."""


def decode_files(
    path: Stored | Sequence[Stored],
    found: CaptureFiles,
    decap: str,
    progress: Progress | None,
    taker: Taker | None = None,
    selection: Selection | None = None,
) -> Decoding:
    """Decode all files of a capture.

    Parameters
    ----------
    path
        As the user named it.
    found : CaptureFiles
        The files that it stands for.
    decap : str
        An encapsulation to read through, or ``auto``.
    progress : callable or None
    taker : Taker, optional
    selection : Selection, optional
        Which packets to keep.

    Raises
    ------
    CaptureError, ValueError
        As :func:`vpnforensics.packets.read.read_capture`.
    """
    if decap not in (AUTO, *encapsulations.NAMES):
        raise ValueError(f"decap is {AUTO} or one of {', '.join(encapsulations.NAMES)}; not {decap!r}")
    total_bytes = sum(_stored_bytes(file) for file in found.files)
    decoding = Decoding(path, found, total_bytes, progress, decap, taker, selection)
    decoding.read_all()
    if decap == AUTO and decoding.is_misjudged():
        right = encapsulations.NAMES[decoding.columns.whole_wrapping()]
        decoding = Decoding(path, found, total_bytes, progress, right, taker, selection)
        decoding.read_all()
    return decoding


def _stored_bytes(path: Stored) -> int:
    """Size of a file; 0 for what has none or cannot be asked (opening it will say why)."""
    try:
        return Path(path).stat().st_size if isinstance(path, str) and path != "-" else 0
    except (OSError, ValueError):
        return 0


class Decoding:
    """Files read one after the other into one set of columns; see :func:`decode_files`."""

    def __init__(
        self,
        path: Stored | Sequence[Stored],
        found: CaptureFiles,
        total_bytes: int,
        progress: Progress | None,
        decap: str,
        taker: Taker | None,
        selection: Selection | None,
    ) -> None:
        self.path = ", ".join(map(name_of, several(path)))
        self.found = found
        self.taker = taker
        self.selection = selection
        self.total_bytes = total_bytes
        self.progress = progress
        self.is_undecided = decap == AUTO
        self.columns = PacketColumns(0 if decap == AUTO else encapsulations.NAMES.index(decap))
        self.batch = RecordBatch.with_room()
        self.interface_numbers = InterfaceNumbers()
        self.stored: list[StoredFile] = []
        self.formats: list[str] = []
        self.linktypes: list[str] = []
        self.done_bytes = 0
        self.cut_tail_bytes = 0
        self.damaged_records = 0
        self.unknown_blocks = 0
        self.first_damage_offset = -1
        self.first_fault: CaptureError | None = None
        self._begin()

    def read_all(self) -> None:
        """Decode the files, one after the other."""
        for file in self.found.files:
            self._read(file)
        if self.first_fault is not None and self.columns.frames == 0:
            raise self.first_fault

    def _read(self, source: Stored) -> None:
        path = name_of(source)
        frames_before = self.columns.frames
        with CaptureStream(source) as stream:
            walk = RecordWalk(stream, self.interface_numbers, self.batch)
            for count in walk:
                read_bytes = self.done_bytes + stream.consumed_bytes
                share = read_bytes / self.total_bytes if self.total_bytes and not self.taker else 0.0
                self._decode(walk, count, share)
                if self.taker is not None:
                    self.taker.take(self.columns, path, False)
                if self.progress is not None:
                    self.progress(read_bytes, self.total_bytes)
            tail = walk.tail()
            self.stored.append(replace(stream.stored_file(), first_frame=frames_before + 1))
            self.done_bytes += stream.consumed_bytes
        if self.taker is not None:
            self.taker.take(self.columns, path, True)
        if self.progress is not None:
            self.progress(self.done_bytes, self.total_bytes)
        records = walk.records
        records.check(path)
        if tail.fault and self.first_fault is None:
            self.first_fault = CaptureError(path, tail.fault_at, f"no packet can be read: {tail.fault}")
        self.cut_tail_bytes += tail.cut_bytes
        self.damaged_records += records.damaged_records
        self.unknown_blocks += records.unknown_blocks
        damage = [at for at in (records.first_damage_offset, tail.fault_at) if at >= 0]
        if damage and self.first_damage_offset < 0:
            self.first_damage_offset = min(damage)
        compression = f"+{stream.compression}" if stream.compression else ""
        self.formats.append(records.format + compression)
        self.linktypes += records.linktypes

    def _decode(self, walk: RecordWalk, count: int, share_done: float) -> None:
        """Decode a batch; the first one twice where it shows a tap's wrapping around all packets."""
        records = walk.records
        batch = (walk.window.buf, count, walk.batch, records.kinds, records.numbers, share_done)
        before = self.columns.rows
        self.columns.decode(*batch)
        if self.is_undecided:
            self.is_undecided = False
            if whole := self.columns.whole_wrapping():
                self.columns = PacketColumns(whole)
                self._begin()
                self.columns.decode(*batch)
        if self.sieve is not None and self.columns.rows > before:
            self.columns.keep(before, self.sieve.mask(self.columns.between(before, self.columns.rows)))

    def _begin(self) -> None:
        columns = self.columns
        self.sieve = Sieve(self.selection, columns.addresses) if self.selection is not None else None
        if self.taker is not None:
            self.taker.begin(encapsulations.NAMES[self.columns.decap])

    def is_misjudged(self) -> bool:
        """Whether the capture is not wrapped as its first batch was, and can be read again."""
        again = all(file.known_sha256 is None for file in self.stored)
        return again and self.columns.whole_wrapping() != self.columns.decap

    def source(self, first_ns: int, last_ns: int) -> CaptureSource:
        """Provenance of what was decoded, of that span."""
        health = self.columns.health(
            cut_tail_bytes=self.cut_tail_bytes,
            damaged_records=self.damaged_records,
            unknown_blocks=self.unknown_blocks,
            first_damage_offset=self.first_damage_offset,
            skipped_files=self.found.skipped,
            skipped_folders=self.found.folders,
            copied_files=len(self.found.copies),
        )
        return CaptureSource(
            path=self.path,
            bytes=sum(file.bytes for file in self.stored),
            format=", ".join(dict.fromkeys(self.formats)),
            linktypes=tuple(dict.fromkeys(self.linktypes)),
            packets=self.columns.decoded,
            first_ns=first_ns,
            last_ns=last_ns,
            health=health,
            decap=encapsulations.NAMES[self.columns.decap],
            files=tuple(self.stored),
            selection=self.selection.text if self.selection else "",
        )
