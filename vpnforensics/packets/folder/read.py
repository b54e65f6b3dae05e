"""A folder of columns as the packet table that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import CaptureError
from vpnforensics.packets.column_files import ColumnFiles
from vpnforensics.packets.decoding import AUTO, Progress
from vpnforensics.packets.folder.layout import (
    ADDRESSES,
    MANIFEST,
    PACKETS,
    address_schema,
    in_order,
    part_schema,
    read_manifest,
    source_of,
)
from vpnforensics.packets.selection import Selection, Sieve
from vpnforensics.packets.table import HEAD_BYTES, AddressTable, PacketTable

_REMEDY = "convert the captures again"


def read_folder(
    folder: str | Path,
    *,
    decap: str = AUTO,
    selection: Selection | None = None,
    files: ColumnFiles | None = None,
    progress: Progress | None = None,
) -> PacketTable:
    """The packets of a finished conversion.

    Parameters
    ----------
    folder : str or Path
        As :func:`vpnforensics.packets.folder.write.convert` wrote it.
    decap : str
        Either ``auto``, or what the captures were converted with.
    selection : Selection, optional
        Which packets to keep; row groups that cannot hold any are not read.
    files : ColumnFiles, optional
        Where the columns go instead of into memory.
    progress : callable, optional
        Called now and then with the packets read so far and in all.

    Returns
    -------
    PacketTable
        Equal, to the last byte, to that of the captures; its ``source`` is theirs.

    Raises
    ------
    CaptureError
        The conversion was not finished; a part is missing, damaged, or not of this folder.
    """
    manifest = read_manifest(folder)
    try:
        source = source_of(manifest["source"])
        parts = [(Path(folder) / PACKETS / Path(part["name"]).name, part) for part in manifest["parts"]]
        sizes = [(int(part["packets"]), int(part["bytes"])) for _, part in parts]
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(Path(folder) / MANIFEST, None, f"damaged: no {error}; {_REMEDY}") from error
    if decap not in (AUTO, source.decap):
        raise CaptureError(
            folder, None, f"converted with --decap {source.decap}; convert the captures again to read {decap}"
        )
    addresses = _addresses(Path(folder) / ADDRESSES)
    opened = [_Part(path, *size) for (path, _), size in zip(parts, sizes, strict=True)]
    columns = _read(opened, addresses, selection, files, progress)
    sound = sum(part.packets for part in opened) == source.packets
    if not sound or not _is_sound(columns):
        raise CaptureError(folder, None, f"its packets contradict its manifest or one another; {_REMEDY}")
    if selection is not None:
        ts_ns = columns["ts_ns"]
        span = (int(ts_ns.min()), int(ts_ns.max())) if len(ts_ns) else (0, 0)
        source = replace(source, selection=selection.text, first_ns=span[0], last_ns=span[1])
    return PacketTable(**columns, addresses=addresses, source=source)


class _Part:
    """One part that is there, whole and of the right kind."""

    def __init__(self, path: Path, packets: int, size: int) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = path
        try:
            if path.stat().st_size != size:
                raise CaptureError(
                    path, None, f"damaged: {path.stat().st_size:,} bytes, not the {size:,} written; {_REMEDY}"
                )
            self.file = pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=True)
        except FileNotFoundError as error:
            raise CaptureError(path, None, f"a part is missing; {_REMEDY}") from error
        except (OSError, pa.ArrowException) as error:
            raise CaptureError(path, None, f"damaged: {_first_line(error)}; {_REMEDY}") from error
        if not self.file.schema_arrow.equals(part_schema(), check_metadata=False):
            raise CaptureError(path, None, f"of another schema than this program writes; {_REMEDY}")
        self.packets = packets
        if self.file.metadata.num_rows != packets:
            raise CaptureError(path, None, f"holds {self.file.metadata.num_rows:,} packets, not {packets:,}")

    def meant(self, selection: Selection | None) -> list[int]:
        """Row groups that may hold packets that are meant."""
        groups = range(self.file.metadata.num_row_groups)
        if selection is None:
            return list(groups)
        return [group for group in groups if selection.may_hold(self._bounds(group))]

    def _bounds(self, group: int) -> dict[str, tuple[Any, Any]]:
        bounds = {}
        columns = self.file.metadata.row_group(group)
        for number in range(columns.num_columns):
            column = columns.column(number)
            told = column.statistics
            if told is not None and told.has_min_max:
                bounds[column.path_in_schema] = (told.min, told.max)
        return bounds

    def rows(self, groups: list[int]) -> int:
        """Packets in row groups."""
        return sum(self.file.metadata.row_group(group).num_rows for group in groups)

    def batches(self, groups: list[int]) -> Iterator[Any]:
        """The record batches of row groups: of each group, all its rows at once."""
        import pyarrow as pa

        try:
            for group in groups:
                rows = self.file.metadata.row_group(group).num_rows
                yield from self.file.iter_batches(batch_size=max(rows, 1), row_groups=[group])
        except MemoryError:  # which Arrow's own is, too
            raise
        except (OSError, pa.ArrowException) as error:
            raise CaptureError(self.path, None, f"damaged: {_first_line(error)}; {_REMEDY}") from error


def _read(
    parts: list[_Part],
    addresses: AddressTable,
    selection: Selection | None,
    files: ColumnFiles | None,
    progress: Progress | None,
) -> dict[str, npt.NDArray[Any]]:
    meant = [(part, part.meant(selection)) for part in parts]
    total = sum(part.rows(groups) for part, groups in meant)
    kept = files or _Room(total)
    sieve = Sieve(selection, addresses.since) if selection is not None else None
    number = {text: i for i, text in enumerate(addresses.texts)}
    names = [spec.name for spec in PacketTable.schema()]
    done = 0
    for part, groups in meant:
        for batch in part.batches(groups):
            read = {name: _plain(name, batch.column(name), number, part.path) for name in names}
            read = _by_frame(read)
            if sieve is not None:
                wanted = sieve.mask(read)
                read = {name: column[wanted] for name, column in read.items()}
            kept.append(read)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return kept.columns()


def _by_frame(columns: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """The rows of a row group in the order of their frames."""
    frame = columns["frame"]
    if (frame[1:] > frame[:-1]).all():
        return columns
    least, span = int(frame.min()), int(frame.max()) - int(frame.min()) + 1
    if span <= 4 * len(frame):  # as good as all frames are packets: each is put where it belongs
        place = np.full(span, -1, np.int64)
        place[frame - least] = np.arange(len(frame))
        order = place[place >= 0]
    else:
        order = np.argsort(frame)
    return in_order(columns, order)


class _Room:
    """Columns in memory, of as many rows as there may be: what is never written to is never taken."""

    def __init__(self, rows: int) -> None:
        self._rows = 0
        self._columns = {
            spec.name: np.empty((rows, HEAD_BYTES) if spec.name == "head" else rows, spec.dtype)
            for spec in PacketTable.schema()
        }

    def append(self, columns: dict[str, npt.NDArray[Any]]) -> None:
        count = len(columns["ts_ns"])
        for name, column in self._columns.items():
            column[self._rows : self._rows + count] = columns[name]
        self._rows += count

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        for column in self._columns.values():
            column.resize((self._rows, *column.shape[1:]), refcheck=False)
        return self._columns


def _plain(name: str, array: Any, number: dict[str, int], path: Path) -> npt.NDArray[Any]:
    """A column of a batch as the packet table has it."""
    if name == "head":
        raw = np.frombuffer(array.buffers()[1], np.uint8)
        return raw.reshape(-1, HEAD_BYTES)[array.offset : array.offset + len(array)]
    if name not in ("src", "dst"):
        return np.asarray(array.to_numpy(zero_copy_only=False))
    try:
        ids = np.array([number[text] for text in array.dictionary.to_pylist()], np.int32)
    except KeyError as error:
        raise CaptureError(path, None, f"has an address that {ADDRESSES} has not; {_REMEDY}") from error
    return np.asarray(ids[array.indices.to_numpy(zero_copy_only=False)])


def _addresses(path: Path) -> AddressTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
    except FileNotFoundError as error:
        raise CaptureError(path, None, f"is missing; {_REMEDY}") from error
    except (OSError, pa.ArrowException) as error:
        raise CaptureError(path, None, f"damaged: {_first_line(error)}; {_REMEDY}") from error
    if not table.schema.equals(address_schema(), check_metadata=False):
        raise CaptureError(path, None, f"of another schema than this program writes; {_REMEDY}")
    packed = b"".join(table.column("packed").to_pylist())
    version = table.column("version").to_numpy().astype(np.uint8)
    if not np.isin(version, (4, 6)).all():
        raise CaptureError(path, None, f"damaged: an address of no IP version; {_REMEDY}")
    return AddressTable(np.frombuffer(packed, np.uint8).reshape(-1, 16).copy(), version)


def _is_sound(columns: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether what everything after relies on holds, whoever wrote the folder."""
    frame, length, payload = columns["frame"], columns["ip_len_bytes"], columns["payload_bytes"]
    return bool((frame[1:] > frame[:-1]).all() and (payload >= 0).all() and (length >= payload).all())


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
