"""The packets of one tap on disk: each part of the case in order of time, to be read by spans of time.

A case may be larger than memory. Its time is cut into `BINS` of equal length; every part says where its
packets of a bin begin, so that a span of bins is read out of all parts without looking at the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.frames import RECORD, frame_bytes
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.spec import Capture
from vpnforensics.groundtruth.simulate.surroundings import Records, joined

BINS = 2048
_GATHERED_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Tape:
    """Records of one tap.

    Parameters
    ----------
    folder : Path
        Of this tap alone.
    parts : int
        How many parts the case has.
    end_ns : int
        When the simulation stops; what a slow capturing machine stamps later is in the last bin.
    """

    folder: Path
    parts: int
    end_ns: int

    def create(self) -> None:
        """Make the folder, with room for where bins begin."""
        self.folder.mkdir()
        with (self.folder / "cuts").open("wb") as file:
            file.truncate(np.dtype(np.uint32).itemsize * self.parts * (BINS + 1))

    @property
    def _cuts(self) -> npt.NDArray[np.uint32]:
        """Where the bins of each part begin, shape (parts, BINS + 1): zero in a part that has no packets."""
        if not self.parts:
            return np.zeros((0, BINS + 1), np.uint32)
        return np.memmap(self.folder / "cuts", np.uint32, "r", shape=(self.parts, BINS + 1))

    def packets(self) -> Ints:
        """Packets of each bin, of all parts together; shape (BINS,)."""
        begin: Ints = self._cuts.sum(axis=0, dtype=np.int64)
        return begin[1:] - begin[:-1]

    def put(self, part: int, records: Records, capture: Capture) -> Ints:
        """Store the packets of a part, of equal times in the order given.

        Returns
        -------
        ndarray of int64, shape (BINS,)
            The bytes that its packets of each bin take in the capture file.
        """
        if not len(records.rows):
            return np.zeros(BINS, np.int64)
        rows = records.rows[np.argsort(records.rows["ts_ns"], kind="stable")]
        starts = rows["content"].copy()
        # What is not captured is not needed.
        rows["content_length"] = np.minimum(rows["content_length"], capture.snaplen)
        length = rows["content_length"].astype(np.int64)
        rows["content"] = np.cumsum(length) - length
        with self._path(part, "content").open("wb") as file:
            for at in range(0, len(rows), _GATHERED_AT_ONCE):
                some = slice(at, at + _GATHERED_AT_ONCE)
                file.write(records.content[_places(starts[some], length[some])].data)
        self._path(part, "rows").write_bytes(rows.view(np.uint8).data)
        bins = np.minimum(rows["ts_ns"] // self._bin_ns, BINS - 1)
        cuts = np.searchsorted(bins, np.arange(BINS + 1)).astype(np.uint32)
        with (self.folder / "cuts").open("r+b") as file:
            file.seek(part * cuts.nbytes)
            file.write(cuts.data)
        sizes = frame_bytes(rows, capture)
        return np.bincount(bins, weights=sizes, minlength=BINS).astype(np.int64)

    def read(self, first: int, last: int) -> Records:
        """Packets of the bins from `first` to before `last`, part by part."""
        cuts = self._cuts
        begin, end = cuts[:, first], cuts[:, last]
        return joined(
            [
                self._read(part, int(begin[part]), int(end[part]))
                for part in np.flatnonzero(end > begin).tolist()
            ]
        )

    def _read(self, part: int, begin: int, end: int) -> Records:
        rows = np.fromfile(self._path(part, "rows"), RECORD, end - begin, offset=begin * RECORD.itemsize)
        start, stop = int(rows["content"][0]), int(rows["content"][-1]) + int(rows["content_length"][-1])
        rows["content"] -= start
        return Records(rows, np.fromfile(self._path(part, "content"), np.uint8, stop - start, offset=start))

    def _path(self, part: int, what: str) -> Path:
        return self.folder / f"{part}.{what}"

    @property
    def _bin_ns(self) -> int:
        return self.end_ns // BINS + 1


def _places(starts: Ints, length: Ints) -> Ints:
    """Indices of runs of elements, one after the other."""
    before = np.cumsum(length) - length
    return np.repeat(starts - before, length) + np.arange(int(length.sum()))


def spans(packets: Ints, most: int) -> list[tuple[int, int]]:
    """Spans of bins with at most so many packets together, or of one bin that has more.

    Parameters
    ----------
    packets : ndarray of int64, shape (BINS,)
    most : int

    Returns
    -------
    list of (int, int)
        First bin, and the one after the last; together they are all bins that have packets.
    """
    found = []
    through = np.concatenate([[0], np.cumsum(packets)])
    first = 0
    while through[first] < through[-1]:
        last = max(int(np.searchsorted(through, through[first] + most, side="right")) - 1, first + 1)
        found.append((first, last))
        first = last
    return found
