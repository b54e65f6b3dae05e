"""What a folder of columns holds, and where.

::

    FOLDER/capture.json                     what was converted, and which parts there are; written last
    FOLDER/addresses.parquet                every address, in order of appearance
    FOLDER/packets/00001-00001.parquet      by capture file, then by time: at most PART_PACKETS each
    FOLDER/unfinished.json                  in place of capture.json while the conversion is not done

The parts have the columns of the packet table under their names and types, but for ``src`` and ``dst``, which
are text, so that a part says all it knows without another file; and ``head``, which is a binary string. In a
row group, the packets of a flow and direction stand together, in the order in which they came: so their
columns hardly change from row to row, and take little. ``frame`` says where each belongs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.capture.health import CaptureHealth
from vpnforensics.capture.source import CaptureSource, StoredFile
from vpnforensics.errors import CaptureError
from vpnforensics.packets.table import HEAD_BYTES, PacketTable

FORMAT = "vpnforensics packet columns"
VERSION = 2
READABLE = (1, VERSION)
"""Version 1 had its rows in order of frames, and is read all the same."""
MANIFEST = "capture.json"
UNFINISHED = "unfinished.json"
ADDRESSES = "addresses.parquet"
PACKETS = "packets"
METADATA_KEY = b"vpnforensics"
GROUP_PACKETS = 1 << 18
"""In a row group, what is read or passed over at once: 27 MB in memory, some 6 MB stored."""
PART_PACKETS = 16 * GROUP_PACKETS
"""In a part: what a killed conversion loses is less than this."""


def is_folder_of_columns(path: object) -> bool:
    """Whether a conversion was written here, finished or not."""
    if not isinstance(path, str | Path) or not str(path) or str(path) == "-":
        return False
    try:
        return any((Path(path) / name).is_file() for name in (MANIFEST, UNFINISHED))
    except (OSError, ValueError):
        return False


@cache
def part_schema() -> Any:
    """The Arrow schema of a part, with unit and meaning of each column."""
    import pyarrow as pa

    text = pa.dictionary(pa.int32(), pa.string())
    columns = []
    for spec in PacketTable.schema():
        kind = (
            text
            if spec.name in ("src", "dst")
            else pa.binary(HEAD_BYTES)
            if spec.name == "head"
            else pa.from_numpy_dtype(spec.dtype)
        )
        told = {"unit": spec.unit, "meaning": spec.meaning.removesuffix(", index into the address table")}
        columns.append(pa.field(spec.name, kind, nullable=False, metadata=told))
    return pa.schema(columns)


@cache
def address_schema() -> Any:
    """The Arrow schema of the addresses: as text, and as the packet table has them."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("address", pa.string(), nullable=False),
            pa.field("packed", pa.binary(16), nullable=False),
            pa.field("version", pa.uint8(), nullable=False),
        ]
    )


def in_order(
    columns: dict[str, npt.NDArray[Any]], order: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """The rows of a row group in another order."""
    moved = {}
    for name, column in columns.items():
        if name == "head":  # whole heads are moved, not their bytes
            whole = column.view(f"V{HEAD_BYTES}")[:, 0]
            moved[name] = np.take(whole, order).view(np.uint8).reshape(-1, HEAD_BYTES)
        else:
            same = (column == column[0]).all()
            moved[name] = column if same else np.take(column, order)
    return moved


def source_row(source: CaptureSource) -> dict[str, Any]:
    """Where the packets came from, as it stands in the manifest; takes the files' digests."""
    files = [
        {**asdict(file), "known_sha256": file.sha256(), "absolute": str(Path(file.path).absolute())}
        for file in source.files
    ]
    return {
        "path": source.path,
        "bytes": source.bytes,
        "format": source.format,
        "linktypes": list(source.linktypes),
        "packets": source.packets,
        "first_ns": source.first_ns,
        "last_ns": source.last_ns,
        "decap": source.decap,
        "health": source.health.to_dict(),
        "sha256": source.sha256,
        "files": files,
    }


def source_of(row: dict[str, Any]) -> CaptureSource:
    """The inverse of :func:`source_row`: files that moved with the working folder are found where they were.

    Raises
    ------
    KeyError, TypeError, ValueError
        It was written by something else.
    """
    files = []
    for each in row["files"]:
        path = str(each["path"])
        if not Path(path).exists() and Path(str(each["absolute"])).exists():
            path = str(each["absolute"])
        files.append(
            StoredFile(
                path,
                int(each["bytes"]),
                int(each["modified_ns"]),
                str(each["known_sha256"]),
                int(each["first_frame"]),
            )
        )
    known = {field.name for field in fields(CaptureHealth)}
    health = {name: int(count) for name, count in row["health"].items() if name in known}
    return CaptureSource(
        path=str(row["path"]),
        bytes=int(row["bytes"]),
        format=str(row["format"]),
        linktypes=tuple(map(str, row["linktypes"])),
        packets=int(row["packets"]),
        first_ns=int(row["first_ns"]),
        last_ns=int(row["last_ns"]),
        health=CaptureHealth(**health),
        files=tuple(files),
        decap=str(row["decap"]),
    )


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a finished conversion, of a version that is known.

    Raises
    ------
    CaptureError
        The conversion was not finished, or the manifest is damaged or of another version.
    """
    path = Path(folder) / MANIFEST
    try:
        if not path.is_file():
            raise CaptureError(
                folder, None, "this conversion was not finished; the same vpnf convert again goes on with it"
            )
        manifest = json.loads(path.read_bytes())
    except OSError as error:
        raise CaptureError(path, None, f"cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CaptureError(path, None, f"damaged: {error}; convert the captures again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise CaptureError(path, None, "not written by vpnf convert")
    if manifest.get("version") not in READABLE:
        raise CaptureError(
            path,
            None,
            f"of version {manifest.get('version')!r}, and this program reads version {VERSION}; convert the"
            " captures again",
        )
    return manifest
