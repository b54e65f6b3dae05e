"""Captures to a folder of columns, in bounded memory; what was killed goes on where it stopped.

A part appears under its name when it is whole, and the manifest when all parts are. To go on, the captures
are decoded again from their beginning, which takes a fifth of the time of writing, and parts that are there
are passed over: so nothing of the decoder's state has to be kept, and the parts are the same, byte for byte,
as without the interruption.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics._version import __version__
from vpnforensics.capture.rotation import CaptureFiles, capture_files, several
from vpnforensics.capture.stream import Stored
from vpnforensics.errors import CaptureError, ConversionError
from vpnforensics.packets.columns import PacketColumns
from vpnforensics.packets.decoding import AUTO, Progress, decode_files
from vpnforensics.packets.folder._kernels import Ends, flows_together
from vpnforensics.packets.folder.layout import (
    ADDRESSES,
    FORMAT,
    GROUP_PACKETS,
    MANIFEST,
    METADATA_KEY,
    PACKETS,
    PART_PACKETS,
    UNFINISHED,
    VERSION,
    address_schema,
    in_order,
    is_folder_of_columns,
    part_schema,
    source_row,
)

_LEVEL = 1
"""Of zstd, for columns in which flows stand together: further ones gain one part in a hundred."""
_HEAD_LEVEL = 2
"""For `head`, of which much is zero, and the rest does not compress: 4 bytes a packet less than level 1."""
_GROWING = ["ts_ns", "frame", "ip_id", "seq", "ack", "window", "tsval", "tsecr"]
"""Columns stored as differences: within a flow, those are small."""
_PARTIAL = ".unfinished"


def convert(
    path: Stored | Sequence[Stored],
    folder: str | Path,
    *,
    decap: str = AUTO,
    progress: Progress | None = None,
    part_packets: int = PART_PACKETS,
) -> dict[str, Any]:
    """Write the packet table of a capture as a folder of Parquet, or go on with it.

    Parameters
    ----------
    path : str, Path or binary file, or a sequence of them
        As :func:`vpnforensics.read_capture` takes it.
    folder : str or Path
        A new or empty folder, or one where the same conversion was interrupted.
    decap : str
        As :func:`vpnforensics.read_capture` takes it.
    progress : callable, optional
        Called now and then with the bytes read so far and in all (0 where unknown).
    part_packets : int
        Packets in a part at most.

    Returns
    -------
    dict
        The manifest: ``source``, ``parts``, ``frames``, ``addresses``.

    Raises
    ------
    CaptureError
        The capture cannot be read.
    ConversionError
        The folder holds something else, or cannot be made.
    OSError
        It cannot be written to: the disk is full.
    """
    part_schema()  # where pyarrow is missing, that shows before anything is made
    target = Path(folder)
    if any(map(is_folder_of_columns, several(path))):
        raise CaptureError(str(several(path)[0]), None, "has been converted")
    found = capture_files(path)
    with _ours(target, _begun(found, decap, part_packets)):
        writer = _PartWriter(target / PACKETS, part_packets)
        decoding = decode_files(path, found, decap, progress, writer)
        writer.drop_others()
        addresses = decoding.columns.addresses()
        _whole_table(
            target / ADDRESSES,
            [addresses.texts, [row.tobytes() for row in addresses.packed], addresses.version],
        )
        first_ns = min((part["first_ns"] for part in writer.parts), default=0)
        last_ns = max((part["last_ns"] for part in writer.parts), default=0)
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "tool": {"name": "vpnforensics", "version": __version__},
            "source": source_row(decoding.source(first_ns, last_ns)),
            "frames": decoding.columns.frames,
            "addresses": len(addresses),
            "parts": writer.parts,
        }
        _whole_file(target / MANIFEST, manifest)
    return manifest


def _begun(found: CaptureFiles, decap: str, part_packets: int) -> dict[str, Any]:
    """What makes two conversions the same."""
    files: list[list[Any]] = []
    for each in found.files:
        if isinstance(each, str | Path) and Path(each).exists():
            status = Path(each).stat()
            files.append([str(Path(each).absolute()), status.st_size, status.st_mtime_ns])
        else:
            files.append([str(each), 0, 0])
    return {
        "format": FORMAT, "version": VERSION, "files": files, "decap": decap, "part_packets": part_packets,
    }  # fmt: skip


@contextmanager
def _ours(folder: Path, begun: dict[str, Any]) -> Iterator[None]:
    """The folder, made or found to be of this conversion, and locked; removed where nothing came of it."""
    try:
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        unfinished = folder / UNFINISHED
        if (folder / MANIFEST).exists():
            raise ConversionError(f"{folder}: holds a finished conversion; nothing is written over")
        fresh = not unfinished.exists()
        if fresh and any(folder.iterdir()):
            raise ConversionError(f"{folder}: is not empty; name a folder that is new")
        with unfinished.open("a+b") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise ConversionError(f"{folder}: another conversion is writing here") from error
            lock.seek(0)
            text = lock.read()
            if text and not fresh and text != _json(begun):
                raise ConversionError(
                    f"{folder}: holds the beginning of a conversion of other captures, or with other options"
                )
            if not text:
                lock.write(_json(begun))
                lock.flush()
            (folder / PACKETS).mkdir(exist_ok=True)
            yield
            unfinished.unlink()
    except FileNotFoundError as error:
        raise ConversionError(f"{folder}: cannot be made: {error.strerror}") from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ConversionError(f"{folder}: is no folder") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise OSError(
            error.errno, f"cannot be written: {why}; started again, it goes on", str(folder)
        ) from error
    except (CaptureError, ValueError):
        if made and not any((folder / PACKETS).glob("*.parquet")):  # the capture was none
            shutil.rmtree(folder, ignore_errors=True)
        raise


class _PartWriter:
    """Packets as they are decoded, into parts; takes those of an interrupted run for its own."""

    def __init__(self, folder: Path, part_packets: int) -> None:
        self.folder = folder
        self.part_packets = part_packets
        self.parts: list[dict[str, Any]] = []
        self._texts: list[str] = []
        self.begin("")

    def begin(self, decap: str) -> None:
        self.decap = decap
        self.parts.clear()
        self._file, self._slice = 1, 1
        self._part: _Part | None = None
        self._texts.clear()

    def take(self, columns: PacketColumns, path: str, ended: bool) -> None:
        """Write out whole row groups, and at the end of a file what is left."""
        while columns.rows >= GROUP_PACKETS or (ended and columns.rows):
            room = self.part_packets - (self._part.packets if self._part else 0)
            count = min(columns.rows, GROUP_PACKETS, room)
            group = columns.between(0, count)
            if self._part is None:
                self._part = self._opened(path, int(group["frame"][0]))
            self._part.add(group, self._known(columns))
            columns.give_away(count)
            if self._part.packets == self.part_packets:
                self._close()
        if ended:
            self._close()
            self._file, self._slice = self._file + 1, 1

    def drop_others(self) -> None:
        """Remove parts that an interrupted run wrote otherwise: through another encapsulation."""
        names = {part["name"] for part in self.parts}
        for path in self.folder.iterdir():
            if path.name not in names:
                path.unlink()

    def _opened(self, path: str, first_frame: int) -> _Part:
        name = f"{self._file:05}-{self._slice:05}.parquet"
        told = {
            "format": FORMAT, "version": VERSION, "capture": path, "decap": self.decap,
            "first_frame": first_frame,
        }  # fmt: skip
        self._slice += 1
        return _Part(self.folder / name, told)

    def _close(self) -> None:
        if self._part is not None:
            self.parts.append(self._part.close())
            self._part = None

    def _known(self, columns: PacketColumns) -> list[str]:
        """The addresses so far, as text."""
        self._texts += columns.addresses(len(self._texts)).texts
        return self._texts


class _Part:
    """One part: written under another name first, or there already."""

    def __init__(self, path: Path, told: dict[str, Any]) -> None:
        import pyarrow.parquet as pq

        self.path = path
        self.packets = 0
        self.first_ns, self.last_ns = np.iinfo(np.int64).max, np.iinfo(np.int64).min
        self.there = _is_whole(path, told)
        self._writer: Any = None
        if self.there is None:
            path.unlink(missing_ok=True)
            schema = part_schema()
            self._writer = pq.ParquetWriter(
                path.with_name(path.name + _PARTIAL),
                schema.with_metadata({METADATA_KEY: json.dumps(told)}),
                compression="zstd",
                compression_level={name: _HEAD_LEVEL if name == "head" else _LEVEL for name in schema.names},
                use_dictionary=[name for name in schema.names if name not in (*_GROWING, "head")],
                column_encoding={**dict.fromkeys(_GROWING, "DELTA_BINARY_PACKED"), "head": "PLAIN"},
                write_statistics=[name for name in schema.names if name != "head"],
                write_page_checksum=True,
            )  # fmt: skip

    def add(self, group: dict[str, npt.NDArray[Any]], texts: list[str]) -> None:
        """A row group more."""
        ts_ns = group["ts_ns"]
        self.packets += len(ts_ns)
        self.first_ns = min(self.first_ns, int(ts_ns.min()))
        self.last_ns = max(self.last_ns, int(ts_ns.max()))
        if self._writer is not None:
            self._writer.write_table(_arrow(_by_flow(group), texts), row_group_size=GROUP_PACKETS)

    def close(self) -> dict[str, Any]:
        """Its row in the manifest."""
        if self._writer is not None:
            self._writer.close()
            _settle(self.path.with_name(self.path.name + _PARTIAL), self.path)
        elif self.there != self.packets:
            raise ConversionError(
                f"{self.path}: holds {self.there:,} packets of {self.packets:,}; remove it, and start again"
            )
        return {
            "name": self.path.name,
            "packets": self.packets,
            "bytes": self.path.stat().st_size,
            "first_ns": self.first_ns,
            "last_ns": self.last_ns,
        }


def _is_whole(path: Path, told: dict[str, Any]) -> int | None:
    """Packets in a part that an interrupted run left whole, and of the same origin; None otherwise."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException):
        return None
    if (metadata.metadata or {}).get(METADATA_KEY) != json.dumps(told).encode():
        return None
    return int(metadata.num_rows)


def _by_flow(group: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """A row group with the packets of a flow and direction together."""
    packets = len(group["frame"])
    slots = np.full(1 << int(packets * 2).bit_length(), -1, np.int32)
    order = np.empty(packets, np.int64)
    ends = Ends(*(group[name] for name in Ends._fields))
    flows_together(ends, np.uint64(int.from_bytes(os.urandom(8), "little")), slots, order)
    return in_order(group, order)


def _arrow(group: dict[str, npt.NDArray[Any]], texts: list[str]) -> Any:
    """A row group as an Arrow table; its dictionaries hold the addresses that it has, in order of number."""
    import pyarrow as pa

    columns = []
    for field, (name, array) in zip(part_schema(), group.items(), strict=True):
        if name in ("src", "dst"):
            used = np.zeros(len(texts), np.bool_)
            used[array] = True
            place = np.cumsum(used, dtype=np.int32) - np.int32(1)
            words = pa.array([texts[number] for number in np.flatnonzero(used).tolist()], pa.string())
            columns.append(pa.DictionaryArray.from_arrays(pa.array(place[array]), words))
        elif name == "head":
            columns.append(
                pa.FixedSizeBinaryArray.from_buffers(field.type, len(array), [None, pa.py_buffer(array)])
            )
        else:
            columns.append(pa.array(array))
    return pa.table(columns, schema=part_schema())


def _whole_table(path: Path, columns: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(path.name + _PARTIAL)
    schema = address_schema()
    table = pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
    _settle(partial, path)


def _whole_file(path: Path, content: dict[str, Any]) -> None:
    partial = path.with_name(path.name + _PARTIAL)
    partial.write_bytes(_json(content))
    _settle(partial, path)


def _settle(partial: Path, path: Path) -> None:
    """Give a file its name once its bytes are on the disk."""
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.rename(path)


def _json(content: dict[str, Any]) -> bytes:
    # Names of files need not be UTF-8: such bytes go through as Python has them.
    return (json.dumps(content, indent=1) + "\n").encode()
