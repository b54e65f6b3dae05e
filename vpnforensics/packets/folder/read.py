"""A folder of columns as the packet table that it was made from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.capture.source import CaptureSource
from vpnforensics.errors import CaptureError
from vpnforensics.packets.decoding import AUTO, Progress
from vpnforensics.packets.folder.layout import (
    ADDRESSES,
    GROUP_PACKETS,
    MANIFEST,
    PACKETS,
    address_schema,
    part_schema,
    read_manifest,
    source_of,
)
from vpnforensics.packets.table import HEAD_BYTES, AddressTable, PacketTable

_REMEDY = "convert the captures again"


def read_folder(folder: str | Path, *, decap: str = AUTO, progress: Progress | None = None) -> PacketTable:
    """The packets of a finished conversion.

    Parameters
    ----------
    folder : str or Path
        As :func:`vpnforensics.packets.folder.write.convert` wrote it.
    decap : str
        Either ``auto``, or what the captures were converted with.
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
    columns = _read(opened, addresses, progress)
    _check(folder, columns, source)
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

    def groups(self) -> Iterator[Any]:
        """Its record batches."""
        import pyarrow as pa

        try:
            yield from self.file.iter_batches(batch_size=GROUP_PACKETS)
        except (OSError, pa.ArrowException) as error:
            raise CaptureError(self.path, None, f"damaged: {_first_line(error)}; {_REMEDY}") from error


def _read(
    parts: list[_Part], addresses: AddressTable, progress: Progress | None
) -> dict[str, npt.NDArray[Any]]:
    total = sum(part.packets for part in parts)
    columns = {
        spec.name: np.empty((total, HEAD_BYTES) if spec.name == "head" else total, spec.dtype)
        for spec in PacketTable.schema()
    }
    number = {text: i for i, text in enumerate(addresses.texts)}
    done = 0
    for part in parts:
        for batch in part.groups():
            rows = slice(done, done + len(batch))
            for name, column in columns.items():
                column[rows] = _plain(name, batch.column(name), number, part.path)
            done += len(batch)
            if progress is not None:
                progress(done, total)
    return columns


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


def _check(folder: str | Path, columns: dict[str, npt.NDArray[Any]], source: CaptureSource) -> None:
    """What everything after relies on, whoever wrote the folder."""
    frame, length, payload = columns["frame"], columns["ip_len_bytes"], columns["payload_bytes"]
    sound = (
        len(frame) == source.packets
        and bool((frame[1:] > frame[:-1]).all())
        and bool((payload >= 0).all())
        and bool((length >= payload).all())
    )
    if not sound:
        raise CaptureError(folder, None, f"its packets contradict its manifest or one another; {_REMEDY}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
