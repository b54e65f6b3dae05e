"""Length maps learned from the case.

Of size-incompatible pairs nothing can be said, so a tunnel of unknown protocol needs its length map first.
It is found in the pairs (egress packet, record) of one direction that stand close in time: right pairs agree
on the map, wrong ones on nothing. For every map of the family (block and extra, see
:mod:`vpnforensics.tunnels.length_map`) the overhead that most pairs agree on is counted, less what the same
count gives when the two sides are shifted by some seconds; the map with the largest excess wins.

Acknowledgements and full-size packets are most of any traffic and agree on a wrong map too, so every size
counts only up to a fixed number of times. Thinning both sides parts packets from their partners, the more the
longer the captures are; so of long captures only slices are looked at, the same on both sides.

The search covers thousands of maps, so a map is believed only if its excess is far beyond what the shifted
sides reach with *their* best map, and explains a fair share of the conversation. A record cannot be shorter
than the packet in it: a conversation that is itself NATed to the egress side (its overhead is negative) is
no tunnel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import nearest_of_size, pairs_beside
from vpnforensics.scratch import beside, blocks, counted, rows_where
from vpnforensics.tunnels.find import RecordTable
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap
from vpnforensics.tunnels.write_law import LengthLaw

_NEAR_NS = 20_000_000
_SAME_SIZE = 60
_LEAST_SAMPLE, _MOST_SAMPLE = 3_000, 20_000  # a share is then known to a percent or two
_SLICES, _SLICE_PACKETS = 16, 1_000
_PAIRS = 120_000
_BLOCKS = (1, 4, 8, 16, 32, 64, 128)
_LEAST_OVERHEAD = 8
_MOST_OVERHEAD = 400
_NULL_SHIFTS_NS = (3_100_000_000, -4_700_000_000, 7_300_000_000)
_LEAST_PAIRS = 15
_CLEAR_OF_NULL = 4.0
_LEAST_SHARE = 0.25
_ONE_SIZE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Learned:
    """A length map with the evidence for it."""

    length_map: LengthMap
    share: float
    """Of the records (or of the egress packets, where those are fewer) that agree on it, less chance."""


@dataclass(frozen=True, eq=False)
class EgressLengths:
    """Egress packets on the ingress clock (or near it), ascending in time."""

    ts_ns: npt.NDArray[np.int64]
    inner_bytes: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class _Side:
    """Packets of one side, for looking them up beside the other's."""

    ts_ns: npt.NDArray[np.int64]
    size: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]

    def take(self, index: npt.NDArray[np.intp] | slice) -> _Side:
        return _Side(self.ts_ns[index], self.size[index], self.up[index])

    @property
    def kinds(self) -> npt.NDArray[np.int64]:
        """How many packets there are of each :meth:`kind`."""
        counts = np.zeros(2 * int(self.size.max(initial=0)) + 2, np.int64)
        for rows in blocks(len(self.size)):
            counts += np.bincount(self.kind(rows), minlength=len(counts))
        return counts

    def kind(self, rows: slice) -> npt.NDArray[np.int32]:
        """Size and direction of some packets as one number."""
        return self.size[rows] * 2 + self.up[rows]


def learn_length_map(
    records: RecordTable,
    egress: EgressLengths,
    rng: np.random.Generator,
    *,
    near_ns: int = _NEAR_NS,
) -> Learned | None:
    """The length map of some records that one protocol made, or ``None`` where nothing is proved.

    Parameters
    ----------
    records : RecordTable
    egress : EgressLengths
    rng : numpy.random.Generator
        Thins the common sizes.
    near_ns : int
        How far apart the two packets of a pair may stand.
    """
    if len(records) < _LEAST_PAIRS or not len(egress.ts_ns):
        return None
    counts = counted(records.size)
    if hides_lengths(records, egress.inner_bytes):
        return _one_size(int(np.argmax(counts)), records, egress, rng)
    pairs = _pairs(records, egress, 0, near_ns, rng)
    if len(pairs.outer) < _LEAST_PAIRS:
        return None
    nulls = [_pairs(records, egress, shift, near_ns, rng) for shift in _NULL_SHIFTS_NS]
    null_best = max(_agreement(null)[0] * pairs.looked_up / null.looked_up for null in nulls)
    found, (block, extra, overhead) = _agreement(pairs)
    share = (found - null_best) / pairs.of
    if found < _CLEAR_OF_NULL * max(null_best, 4) or share < _LEAST_SHARE:
        return None
    largest = len(counts) - 1 - overhead
    reached = -(-(int(egress.inner_bytes.max()) + extra) // block) * block
    cap = largest if block > 1 and largest < reached else UNCAPPED
    return Learned(LengthMap(overhead, block, extra, cap, "learned"), min(1.0, share))


def hides_lengths(records: RecordTable, inner_bytes: npt.NDArray[np.int32]) -> bool:
    """Whether nearly all records have one size while the egress packets have many: padding."""
    if not len(records) or not len(inner_bytes):
        return False
    return bool(
        counted(records.size).max() > _ONE_SIZE_SHARE * len(records)
        and counted(inner_bytes).max() <= _ONE_SIZE_SHARE * len(inner_bytes)
    )


def share_obeying(
    length_map: LengthLaw, records: RecordTable, egress: EgressLengths, rng: np.random.Generator
) -> float:
    """Share of the records with an egress packet nearby that obeys a known map, less chance.

    Of the egress packets with a record, where they are fewer. All sizes count alike.
    """
    outer_of = length_map.outer(np.arange(int(egress.inner_bytes.max(initial=0)) + 1)).astype(np.int32)
    few, many = sorted(
        (
            _Side(records.ts_ns, records.size, records.up),
            _Side(egress.ts_ns, beside(egress.ts_ns).taken(outer_of, egress.inner_bytes), egress.up),
        ),
        key=lambda side: len(side.ts_ns),
    )
    few = _sample(few, rng)
    if not len(few.ts_ns):
        return 0.0

    def apart_ns(shift_ns: int) -> npt.NDArray[np.int64]:
        return np.asarray(
            nearest_of_size(few.ts_ns + shift_ns, few.size, few.up, many.ts_ns, many.size, many.up, _NEAR_NS)
        )

    by_chance = np.concatenate([apart_ns(shift) for shift in _NULL_SHIFTS_NS])
    # Where packets are dense, all have one of any size nearby: there, only those nearer tell.
    within_ns = min(_NEAR_NS, float(np.median(by_chance)))
    chance = float(np.mean(by_chance <= within_ns))
    return (float(np.mean(apart_ns(0) <= within_ns)) - chance) / (1 - chance) if chance < 1 else 0.0


def _even(side: _Side, each: float) -> npt.NDArray[np.float32]:
    """Chances of packets to be kept, so that no size of a direction stands much more than ``each`` times."""
    chance = np.minimum(1, np.float32(each) / np.maximum(side.kinds, 1).astype(np.float32))
    return beside(side.size).filled(len(side.size), np.float32, lambda rows: chance[side.kind(rows)])


def _drawn(chance: npt.NDArray[np.float32], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return rows_where(
        len(chance), lambda rows: rng.random(rows.stop - rows.start, np.float32) <= chance[rows]
    )


def _sample(side: _Side, rng: np.random.Generator) -> _Side:
    """Packets of which no size stands much oftener than others, but for so few sizes that all are rare."""
    sizes = int(np.count_nonzero(side.kinds))
    kept = _even(side, max(_SAME_SIZE, _LEAST_SAMPLE / max(1, sizes)))
    kept *= min(1, _MOST_SAMPLE / max(1, float(kept.sum())))
    return side.take(_drawn(kept, rng))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Lengths of packets that stand near each other."""

    outer: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]
    looked_up: int
    """Packets of the smaller side whose pairs these are."""
    of: int
    """How many of those can have a partner."""


def _pairs(
    records: RecordTable, egress: EgressLengths, shift_ns: int, near_ns: int, rng: np.random.Generator
) -> _Pairs:
    """Pairs of one direction within ``near_ns``, of slices of both sides, in which no size is common."""
    outer = _Side(records.ts_ns + shift_ns, records.size, records.up)
    inner = _Side(egress.ts_ns, egress.inner_bytes, egress.up)
    records_are_fewer = len(records) <= len(egress.ts_ns)
    few, many = (outer, inner) if records_are_fewer else (inner, outer)
    if len(few.ts_ns) > _SLICES * _SLICE_PACKETS:
        from_ns, to_ns = _slices(few.ts_ns)
        few = few.take(_inside(few.ts_ns, from_ns, to_ns))
        many = many.take(_inside(many.ts_ns, from_ns - near_ns, to_ns + near_ns))
    few, many = (side.take(_drawn(_even(side, _SAME_SIZE), rng)) for side in (few, many))
    few = few.take(rng.permutation(len(few.ts_ns)))  # there may be room for some only
    at_few, at_many, looked_up = pairs_beside(few.ts_ns, few.up, many.ts_ns, many.up, near_ns, _PAIRS)
    sizes = few.size[at_few].astype(np.int64), many.size[at_many].astype(np.int64)
    return _Pairs(
        *(sizes if records_are_fewer else sizes[::-1]),
        max(1, int(looked_up)),
        max(1, min(int(looked_up), len(many.ts_ns))),
    )


def _slices(ts_ns: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """First and last times of slices of so many packets, spread evenly over them all."""
    start = np.linspace(0, len(ts_ns) - _SLICE_PACKETS, _SLICES).astype(np.int64)
    return ts_ns[start], ts_ns[start + _SLICE_PACKETS - 1]


def _inside(
    ts_ns: npt.NDArray[np.int64], from_ns: npt.NDArray[np.int64], to_ns: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Rows within any of some spans of time, both ascending, each row once."""
    start, stop = np.searchsorted(ts_ns, from_ns), np.searchsorted(ts_ns, to_ns, side="right")
    start = np.maximum(start, np.r_[0, stop[:-1]])
    return np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)])


def _agreement(pairs: _Pairs) -> tuple[int, tuple[int, int, int]]:
    """Most pairs that agree on a map, and the map: block, extra, overhead."""
    best = (0, (1, 0, _LEAST_OVERHEAD))
    for block in _BLOCKS:
        step = max(1, block // 16)
        for extra in range(0, block, step):
            count, overhead = _most_agreed(pairs, block, extra)
            # A larger block fits more by chance and must do clearly better than a smaller one.
            if count > best[0] * (1.05 if block > best[1][0] else 1.0):
                best = (count, (block, extra, overhead))
    block, near, _ = best[1]
    step = max(1, block // 16)
    for extra in range(max(0, near - step + 1), min(block, near + step)):
        count, overhead = _most_agreed(pairs, block, extra)
        if count > best[0]:
            best = (count, (block, extra, overhead))
    return best


def _most_agreed(pairs: _Pairs, block: int, extra: int) -> tuple[int, int]:
    """The overhead that most pairs have under one block and extra: how many, and it."""
    overhead = pairs.outer - -(-(pairs.inner + extra) // block) * block
    plausible = (overhead >= _LEAST_OVERHEAD) & (overhead <= _MOST_OVERHEAD)
    if not plausible.any():
        return 0, _LEAST_OVERHEAD
    counts = np.bincount(overhead[plausible])
    top = int(np.argmax(counts))
    return int(counts[top]), top


def _one_size(
    size: int, records: RecordTable, egress: EgressLengths, rng: np.random.Generator
) -> Learned | None:
    """Padding to one size leaves only that nearly every egress packet has a record beside it, and fits in."""
    if np.mean(egress.inner_bytes <= size) < 0.5:
        return None
    padded = LengthMap(size - 1, 2048, 0, 1, "learned")
    share = share_obeying(padded, records, egress, rng)
    return Learned(padded, share) if share >= _LEAST_SHARE else None
