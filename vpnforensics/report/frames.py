"""The stored bytes of a flow's packets and of the outer packets that carried them, as dpkt packets.

Needs the ``frames`` extra; dpkt is imported when frames are read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vpnforensics.capture import linktypes
from vpnforensics.capture.health import CaptureHealth
from vpnforensics.capture.payloads import chosen_frames
from vpnforensics.capture.source import CaptureSource, StoredFile
from vpnforensics.errors import CaptureError


class Frame(NamedTuple):
    """One stored frame."""

    ts_ns: int
    """As captured, on the clock of its side."""
    packet: Any
    """Of dpkt: ``dpkt.ethernet.Ethernet`` and the like; bytes where dpkt cannot parse it, as where it was
    snapped.
    """
    role: str
    """``ingress`` or ``egress``."""
    file: str
    frame: int
    """Number in the file, from 1."""


def frames_of(pairings: pd.DataFrame, inputs: Sequence[dict[str, Any]]) -> Iterator[Frame]:
    """The frames that a flow's pairings name, each side in order of the file: first egress, then ingress.

    Parameters
    ----------
    pairings : DataFrame
        As :meth:`vpnforensics.report.result.CaseResult.explain` gives them.
    inputs : sequence of dict
        The result contract's.

    Raises
    ------
    CaptureError
        A file is gone, or is no longer the one that was read.
    """
    for role in ("egress", "ingress"):
        side = next(each for each in inputs if each["role"] == role)
        known = pairings[pairings[f"{role}_file"].notna()]
        for file in side["files"]:
            mine = known[known[f"{role}_file"] == file["path"]]
            if len(mine):
                yield from _frames(role, file, mine[f"{role}_frame"], mine[f"{role}_ns"])


def _frames(role: str, file: dict[str, Any], frame: pd.Series[Any], ts_ns: pd.Series[Any]) -> Iterator[Frame]:
    numbers, first = np.unique(frame.to_numpy(np.int64), return_index=True)
    times = ts_ns.to_numpy(np.int64)[first].tolist()
    for batch in chosen_frames(_unchanged(file), numbers):
        for i, (at, length, kind) in enumerate(zip(batch.at, batch.captured_bytes, batch.link, strict=True)):
            stored = batch.buf[at : at + length].tobytes()
            row = batch.first + i
            yield Frame(times[row], _parsed(stored, int(kind)), role, file["path"], int(numbers[row]))


def checked_path(file: dict[str, Any]) -> Path:
    """Where a file of an input is, if it still is the one that was read.

    Raises
    ------
    CaptureError
        It is gone, or another one.
    """
    path = Path(file["path"])
    try:
        with path.open("rb") as stored:
            digest = hashlib.file_digest(stored, "sha256").hexdigest()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CaptureError(path, None, f"cannot be read again: {why}") from error
    if digest != file["sha256"]:
        raise CaptureError(path, None, "changed since the case was made")
    return path


def _unchanged(file: dict[str, Any]) -> CaptureSource:
    """A file as a capture, if it still is the one that was read."""
    path = checked_path(file)
    status = path.stat()
    files = (StoredFile(str(path), status.st_size, status.st_mtime_ns),)
    return CaptureSource(str(path), status.st_size, "", (), 0, 0, 0, CaptureHealth(), files)


def _parsed(stored: bytes, kind: int) -> Any:
    import dpkt

    parsers: dict[int, Callable[[bytes], Any]] = {
        linktypes.KIND_ETHERNET: dpkt.ethernet.Ethernet,
        linktypes.KIND_SLL: dpkt.sll.SLL,
        linktypes.KIND_SLL2: dpkt.sll2.SLL2,
        linktypes.KIND_NULL: dpkt.loopback.Loopback,
        linktypes.KIND_PPP: dpkt.ppp.PPP,
        linktypes.KIND_RAW: dpkt.ip6.IP6 if stored[:1] and stored[0] >> 4 == 6 else dpkt.ip.IP,
    }
    try:
        return parsers[kind](stored)
    except (dpkt.UnpackError, KeyError, IndexError, ValueError):
        return stored
