"""Size classes: the common alphabet of the two sides.

A record of outer size P and an egress packet of inner length L may be the same packet only if they travel
in the same direction and P is what the tunnel's length map makes of L. So records are sorted by
(map, direction, P) and time, and an egress packet is a look-up key per map.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import Sorted, Unsorted, look_up_lengths, sort_by_class
from vpnforensics.scratch import beside
from vpnforensics.tunnels.find import RecordTable
from vpnforensics.tunnels.write_law import LengthLaw

IN_PIECES = -2
"""In place of a class: of a packet that no tunnel carries as one."""

SIZE_BITS = 17
"""Of a key, those of the size; above them stand the direction (1: up) and the number of the map."""
_SIZES = 1 << SIZE_BITS  # more than any outer payload


@dataclass(frozen=True, eq=False)
class SizeClasses:
    """Records of some tunnels, sorted by size class and time.

    ``start[c]:start[c+1]`` are class c's rows of ``ts_ns``, ``tunnel`` and ``record``.
    """

    maps: tuple[LengthLaw, ...]
    key: npt.NDArray[np.int64]
    """Ascending keys of the classes that have records."""
    start: npt.NDArray[np.int64]
    ts_ns: npt.NDArray[np.int64]
    tunnel: npt.NDArray[np.int32]
    record: npt.NDArray[np.int32]
    """Row in the RecordTable."""

    def __len__(self) -> int:
        return len(self.key)

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Records of each class."""
        return np.diff(self.start)

    @property
    def all_padded(self) -> bool:
        """Whether there is one size only, by all length maps: times are all that tells records apart."""
        return bool(self.maps) and all(each.kind == "padded" for each in self.maps)

    def keep(self, kept: npt.NDArray[np.bool_]) -> SizeClasses:
        """The same classes with only the records where ``kept`` (over this object's rows) is true."""
        each = [np.count_nonzero(kept[first:after]) for first, after in pairwise(self.start.tolist())]
        start = np.r_[0, np.cumsum(each, dtype=np.int64)]
        ts_ns, tunnel, record = (
            beside(array).taken(array, kept) for array in (self.ts_ns, self.tunnel, self.record)
        )
        return SizeClasses(self.maps, self.key, start, ts_ns, tunnel, record)

    def class_of(
        self, map_number: int, inner_bytes: npt.NDArray[np.int32], up: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.int32]:
        """Class of egress packets under one length map.

        -1 where no record has that size; :data:`IN_PIECES` where no record is that large, or the packet
        exceeds the tunnels' MTU: it was cut on its way or sent beside them, so that its size says nothing.
        """
        if len(self.key) == 0 or not len(inner_bytes):
            return np.full(len(inner_bytes), -1, np.int32)
        # There are fewer lengths than packets.
        lengths = np.arange(int(inner_bytes.max()) + 1)
        length_map = self.maps[map_number]
        outer = length_map.outer(lengths)
        wanted = np.concatenate([_key(map_number, np.full(len(lengths), side), outer) for side in (0, 1)])
        at = np.minimum(np.searchsorted(self.key, wanted), len(self.key) - 1)
        known = np.where(self.key[at] == wanted, at, -1).astype(np.int32)
        sizes = self.key[self.key // (2 * _SIZES) == map_number] % _SIZES
        too_long = outer > sizes.max(initial=0)
        if length_map.kind == "block":  # its cap is the MTU
            too_long |= lengths > length_map.cap
        known[np.tile(too_long, 2)] = IN_PIECES
        found = beside(up).empty(len(inner_bytes), np.int32)
        look_up_lengths(known.reshape(2, -1), inner_bytes, up, found)
        return found


def classify_records(
    records: RecordTable, map_of_tunnel: npt.NDArray[np.int64], maps: tuple[LengthLaw, ...]
) -> SizeClasses:
    """Sort records into size classes.

    Parameters
    ----------
    records : RecordTable
    map_of_tunnel : ndarray of int64, shape (tunnels,)
        Number of each tunnel's length map in ``maps``; -1 leaves the tunnel out.
    maps : tuple of LengthMap or WriteLaw
    """
    sizes = min(int(records.size.max(initial=0)) + 1, _SIZES)
    scratch, unsorted = beside(records.ts_ns), (records.tunnel, records.up, records.size, records.ts_ns)
    found = Sorted(*(scratch.empty(len(records), kind) for kind in (np.int64, np.int32, np.int32)))
    by_size = scratch.empty(len(records), np.int32)
    side, size, start, count = sort_by_class(
        map_of_tunnel, Unsorted(*unsorted), len(maps), sizes, by_size, found
    )
    order = np.argsort(start)
    key = _key(side >> 1, side & 1, size)[order]
    ts_ns, tunnel, record = found.ts_ns[:count], found.tunnel[:count], found.record[:count]
    return SizeClasses(maps, key, np.r_[start[order], count], ts_ns, tunnel, record)


def _key(
    number: int | npt.NDArray[np.int64],
    up: npt.NDArray[np.integer[Any]],
    size: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    return (np.int64(number) * 2 + up) * _SIZES + np.minimum(size, _SIZES - 1)
