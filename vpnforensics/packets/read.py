"""A stored capture to a packet table: the way in for everything else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vpnforensics.capture import encapsulations
from vpnforensics.capture.pcapng import InterfaceNumbers
from vpnforensics.capture.records import RecordBatch
from vpnforensics.capture.rotation import CaptureFiles, capture_files, several
from vpnforensics.capture.source import CaptureSource, StoredFile
from vpnforensics.capture.stream import CaptureStream, Stored, name_of
from vpnforensics.capture.walk import RecordWalk
from vpnforensics.errors import CaptureError
from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.table import PacketTable

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all (0 where unknown)."""


AUTO = "auto"


def read_capture(
    path: Stored | Sequence[Stored], *, decap: str = AUTO, progress: Progress | None = None
) -> PacketTable:
    """Read a capture into a packet table.

    Parameters
    ----------
    path : str, Path or binary file, or a sequence of them
        A pcap or pcapng file, plain, gzip or zstd (told by content); a folder of rotated captures, or
        several captures, read as one in the order of their first packets; ``-`` for standard input; or
        an open file, as ``io.BytesIO``.
    decap : str
        The encapsulation of a tap to read through: ``auto`` for one that the whole capture is in (see
        :mod:`vpnforensics.capture.encapsulations`), ``none``, or its name.
    progress : callable, optional
        Called now and then with the bytes read so far and in all (0 where unknown).

    Returns
    -------
    PacketTable
        One row an IP packet, in the order of the file, with ``source`` filled in. Damage that
        leaves packets readable is counted in ``source.health``.

    Raises
    ------
    NotACaptureError
        The file is empty or something else; the folder holds no capture.
    UnsupportedLinkTypeError
        No interface of the capture has a link type that is decoded.
    CaptureError
        It cannot be opened or read, or is damaged before its first packet.
    ValueError
        No such encapsulation.
    """
    if decap not in (AUTO, *encapsulations.NAMES):
        raise ValueError(f"decap is {AUTO} or one of {', '.join(encapsulations.NAMES)}; not {decap!r}")
    found = capture_files(path)
    files = found.files
    total_bytes = sum(_stored_bytes(file) for file in files)
    reading = _Reading(total_bytes, progress, decap)
    for file in files:
        reading.read(file)
    if decap == AUTO and reading.is_misjudged():
        reading = _Reading(total_bytes, progress, encapsulations.NAMES[reading.columns.whole_wrapping()])
        for file in files:
            reading.read(file)
    return reading.table(", ".join(map(name_of, several(path))), found)


def _stored_bytes(path: Stored) -> int:
    """Size of a file; 0 for what has none or cannot be asked (opening it will say why)."""
    try:
        return Path(path).stat().st_size if isinstance(path, str) and path != "-" else 0
    except (OSError, ValueError):
        return 0


class _Reading:
    """Files read one after the other into one set of columns."""

    def __init__(self, total_bytes: int, progress: Progress | None, decap: str) -> None:
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

    def read(self, source: Stored) -> None:
        path = name_of(source)
        frames_before = self.columns.frames
        with CaptureStream(source) as stream:
            walk = RecordWalk(stream, self.interface_numbers, self.batch)
            for count in walk:
                read_bytes = self.done_bytes + stream.consumed_bytes
                self._decode(walk, count, read_bytes / self.total_bytes if self.total_bytes else 0.0)
                if self.progress is not None:
                    self.progress(read_bytes, self.total_bytes)
            tail = walk.tail()
            self.stored.append(replace(stream.stored_file(), first_frame=frames_before + 1))
            self.done_bytes += stream.consumed_bytes
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
        self.columns.decode(*batch)
        if self.is_undecided:
            self.is_undecided = False
            if whole := self.columns.whole_wrapping():
                self.columns = PacketColumns(whole)
                self.columns.decode(*batch)

    def is_misjudged(self) -> bool:
        """Whether the capture is not wrapped as its first batch was, and can be read again."""
        again = all(file.known_sha256 is None for file in self.stored)
        return again and self.columns.whole_wrapping() != self.columns.decap

    def table(self, path: str, found: CaptureFiles) -> PacketTable:
        if self.first_fault is not None and self.columns.frames == 0:
            raise self.first_fault
        health = self.columns.health(
            cut_tail_bytes=self.cut_tail_bytes,
            damaged_records=self.damaged_records,
            unknown_blocks=self.unknown_blocks,
            first_damage_offset=self.first_damage_offset,
            skipped_files=found.skipped,
            skipped_folders=found.folders,
            copied_files=len(found.copies),
        )
        columns = self.columns.columns()
        ts_ns = columns["ts_ns"]
        source = CaptureSource(
            path=path,
            bytes=sum(file.bytes for file in self.stored),
            format=", ".join(dict.fromkeys(self.formats)),
            linktypes=tuple(dict.fromkeys(self.linktypes)),
            packets=len(ts_ns),
            first_ns=int(ts_ns.min()) if len(ts_ns) else 0,
            last_ns=int(ts_ns.max()) if len(ts_ns) else 0,
            health=health,
            decap=encapsulations.NAMES[self.columns.decap],
            files=tuple(self.stored),
        )
        return PacketTable(**columns, addresses=self.columns.addresses(), source=source)
