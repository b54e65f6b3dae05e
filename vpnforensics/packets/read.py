"""A stored capture to a packet table: the way in for everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vpnforensics.capture.rotation import capture_files, several
from vpnforensics.capture.stream import Stored
from vpnforensics.errors import CaptureError
from vpnforensics.packets.column_files import ColumnFiles
from vpnforensics.packets.decoding import AUTO, Progress, decode_files
from vpnforensics.packets.folder.layout import is_folder_of_columns
from vpnforensics.packets.folder.read import read_folder
from vpnforensics.packets.selection import Selection
from vpnforensics.packets.table import PacketTable
from vpnforensics.scratch import Scratch


def read_capture(
    path: Stored | Sequence[Stored],
    *,
    decap: str = AUTO,
    select: str = "",
    scratch: str | Path | Scratch | None = None,
    progress: Progress | None = None,
) -> PacketTable:
    """Read a capture into a packet table.

    Parameters
    ----------
    path : str, Path or binary file, or a sequence of them
        A pcap or pcapng file, plain, gzip or zstd (told by content); a folder of rotated captures, or
        several captures, read as one in the order of their first packets; ``-`` for standard input;
        an open file, as ``io.BytesIO``; or a folder that ``vpnf convert`` wrote.
    decap : str
        The encapsulation of a tap to read through: ``auto`` for one that the whole capture is in (see
        :mod:`vpnforensics.capture.encapsulations`), ``none``, or its name.
    select : str
        Which packets to keep, in the manner of tcpdump (see :mod:`vpnforensics.packets.selection`); what is
        not kept takes no memory. ``source.health`` is of the whole capture.
    scratch : str, Path or Scratch, optional
        A folder in whose files the columns are put instead of into memory, on a disk with room for about
        105 bytes a packet. Nothing is left there.
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
    OSError
        The scratch files cannot be written: the disk is full.
    ValueError
        No such encapsulation, or a selection that cannot be understood.
    """
    selection = Selection.parse(select)
    if scratch is None:
        return _read(path, decap, selection, None, progress)
    with ColumnFiles(scratch) as files:
        return _read(path, decap, selection, files, progress)


def _read(
    path: Stored | Sequence[Stored],
    decap: str,
    selection: Selection | None,
    files: ColumnFiles | None,
    progress: Progress | None,
) -> PacketTable:
    given = several(path)
    if any(map(is_folder_of_columns, given)):
        if len(given) > 1:
            raise CaptureError(str(given[0]), None, "a folder of columns is a capture of its own")
        return read_folder(str(given[0]), decap=decap, selection=selection, files=files, progress=progress)
    decoding = decode_files(path, capture_files(path), decap, progress, files, selection)
    columns = decoding.columns.columns() if files is None else files.columns()
    ts_ns = columns["ts_ns"]
    span = (int(ts_ns.min()), int(ts_ns.max())) if len(ts_ns) else (0, 0)
    source = decoding.source(*span)
    return PacketTable(**columns, addresses=decoding.columns.addresses(), source=source)
