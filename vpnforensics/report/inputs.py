"""Where a case's packets came from: the result contract's ``inputs``, and frames named by their file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.arrays import Ints
from vpnforensics.capture.source import StoredFile
from vpnforensics.packets.table import PacketTable


def input_row(role: str, packets: PacketTable) -> dict[str, Any]:
    """One of ``inputs``; of a table that was not read from a file, what can be said."""
    source = packets.source
    return {
        "role": role,
        "path": source.path if source else None,
        "sha256": source.sha256 if source else None,
        "bytes": source.bytes if source else None,
        "format": source.format if source else None,
        "linktypes": list(source.linktypes) if source else [],
        "decap": source.decap if source else None,
        "packets": len(packets),
        "selection": _selection(packets),
        **_times(packets.ts_ns),
        "health": source.health.to_dict() if source else None,
        "files": _file_rows(source.files, packets) if source else [],
    }


def _selection(packets: PacketTable) -> dict[str, Any] | None:
    """Which of an input's packets were read, and of how many; None for all."""
    source = packets.source
    return {"which": source.selection, "of": source.packets} if source and source.selection else None


def _file_rows(files: Sequence[StoredFile], packets: PacketTable) -> list[dict[str, Any]]:
    """The files of an input, each as it was stored, and what of the packets it holds."""
    of = file_of(packets.frame, [file.first_frame for file in files])
    rows = []
    for number, file in enumerate(files):
        ts_ns = packets.ts_ns[of == number] if len(files) > 1 else packets.ts_ns
        rows.append(
            {
                "path": file.path,
                "sha256": file.sha256(),
                "bytes": file.bytes,
                "packets": len(ts_ns),
                "first_frame": file.first_frame,
                **_times(ts_ns),
            }
        )
    return rows


def _times(ts_ns: Ints) -> dict[str, int | None]:
    if not len(ts_ns):
        return {"first_ns": None, "last_ns": None}
    return {"first_ns": int(ts_ns.min()), "last_ns": int(ts_ns.max())}


def file_of(frame: npt.NDArray[Any], first_frames: Sequence[int] | Ints) -> Ints:
    """Which of an input's files holds each frame.

    Parameters
    ----------
    frame : ndarray of int, shape (n,)
        Numbers within the whole input, from 1.
    first_frames : sequence of int
        Number of each file's first frame, ascending.

    >>> file_of(np.array([1, 3, 4, 9]), [1, 4]).tolist()
    [0, 0, 1, 1]
    """
    # Of files without a frame the last one begins where it does: it is the one that has it.
    return np.searchsorted(np.asarray(first_frames, np.int64), frame, side="right") - 1


def by_file(pairings: pd.DataFrame, inputs: list[dict[str, Any]]) -> pd.DataFrame:
    """The pairings with frames named by their file and numbered within it, as other programs count them.

    Parameters
    ----------
    pairings : DataFrame
        Of :mod:`vpnforensics.report.pairings`: frames are numbered through all files of an input.
    inputs : list of dict
        The result contract's.
    """
    made: dict[str, Any] = {}
    sides = {f"{side['role']}_frame": side for side in inputs}
    for name in pairings.columns:
        column = pairings[name]
        if name in sides:
            files = sides[name]["files"]
            first = np.array([file["first_frame"] for file in files] or [1], np.int64)
            number = file_of(column.to_numpy(np.int64, na_value=1), first)
            column = column - (first[number] - 1)
            codes = np.where(column.notna() & bool(files), number, -1)
            paths = pd.Index([file["path"] for file in files], dtype=object)
            made[name.replace("frame", "file")] = pd.Categorical.from_codes(codes, categories=paths)
        made[name] = column
    return pd.DataFrame(made)
