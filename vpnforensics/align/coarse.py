"""The first look for the clocks' offset: a histogram of the differences of all size-compatible pairs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import count_offsets, list_offsets
from vpnforensics.align.classes import SizeClasses
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.flows.grouping import changes
from vpnforensics.scratch import beside, counted, rows_where

_COARSE_PAIRS = 4_000_000
COARSE_BIN_NS = 50_000_000
_COARSE_SPAN_S = 600.0
TOLD_BY = 1_000_000  # packets enough to choose that stretch
_FEW_BINS, _DENSE_BINS = 1 << 16, 1 << 22  # 58 h; of longer captures most bins would be empty
_PEAKS = 6
SEPARATION_NS = 2_000_000_000  # piles nearer than this are one pile's burst structure
_APART = SEPARATION_NS // COARSE_BIN_NS


def coarse_offsets(egress: EgressPackets, classes: SizeClasses, rng: np.random.Generator) -> list[int]:
    """Offsets with the most size-compatible pairs, best first."""
    span_ns = _COARSE_SPAN_S * 1e9
    if np.ptp(egress.ts_ns) > span_ns:
        egress = _most_telling(egress, int(span_ns))
    counts = classes.counts
    span_in_ns = max(int(np.ptp(classes.ts_ns)), COARSE_BIN_NS)
    per_bin = counts / (span_in_ns / COARSE_BIN_NS)
    low_ns = int(egress.ts_ns.min() - classes.ts_ns.max())
    bins = int((egress.ts_ns.max() - classes.ts_ns.min() - low_ns) // COARSE_BIN_NS) + 1
    # A packet of a rare class tells as much as many of a common one; the cost of a class is its pairs.
    present = counted(egress.size_class, len(counts))
    budget = _COARSE_PAIRS / max(1, int(np.count_nonzero(present)))
    if bins <= _DENSE_BINS:
        budget = max(budget, 20_000)
    kept = (budget / np.maximum(counts * present, 1)).astype(np.float32)
    egress = egress.take(
        rows_where(
            len(egress),
            lambda rows: rng.random(rows.stop - rows.start, np.float32) <= kept[egress.size_class[rows]],
        )
    )
    if not len(egress.ts_ns):
        return []
    weight = 1.0 / (0.05 + per_bin[egress.size_class])
    pairs = (egress.ts_ns, egress.size_class, classes.start, classes.ts_ns, weight, low_ns, COARSE_BIN_NS)
    dense = bins <= min(_DENSE_BINS, max(_FEW_BINS, int(counts[egress.size_class].sum())))
    at, excess = dense_excess(count_offsets(*pairs, bins)) if dense else sparse_excess(*list_offsets(*pairs))
    return [low_ns + int(top) * COARSE_BIN_NS + COARSE_BIN_NS // 2 for top in _peaks(at, excess)]


def dense_excess(histogram: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Every bin, and what it and its neighbours hold beyond the bins around."""
    padded = np.pad(histogram, 1)
    pile = padded[:-2] + padded[1:-1] + padded[2:]  # an offset near a bin's edge, or drifting over it
    return np.arange(len(pile)), pile - _running_mean(pile, 2 * _APART + 1)


def sparse_excess(
    slot: npt.NDArray[np.int64], weight: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """:func:`dense_excess` of the bins that hold anything, from the bin and weight of each pair."""
    order = np.argsort(slot)
    slot = slot[order]
    total = np.r_[0.0, np.cumsum(weight[order])]

    def within(bins: int) -> npt.NDArray[np.float64]:
        return np.asarray(
            total[np.searchsorted(slot, at + bins, "right")] - total[np.searchsorted(slot, at - bins)]
        )

    at = slot[changes(slot)]
    around = (
        within(_APART - 1) + within(_APART) + within(_APART + 1)
    )  # each bin in three piles but at the ends
    return at, within(1) - around / (2 * _APART + 1)


def _peaks(at: npt.NDArray[np.int64], excess: npt.NDArray[np.float64]) -> list[int]:
    """The bins of the largest excess, none near a larger."""
    found: list[int] = []
    for _ in range(_PEAKS):
        top = int(np.argmax(excess))
        if not np.isfinite(excess[top]) or excess[top] <= 0:
            break
        found.append(int(at[top]))
        near = np.searchsorted(at, [at[top] - _APART, at[top] + _APART + 1])
        excess[near[0] : near[1]] = -np.inf
    return found


def _running_mean(values: npt.NDArray[np.float64], width: int) -> npt.NDArray[np.float64]:
    width = min(width | 1, len(values) - 1 + len(values) % 2)
    if width < 3:
        return np.zeros_like(values)
    total = np.cumsum(np.pad(values, (width // 2 + 1, width // 2)))
    return np.asarray((total[width:] - total[:-width]) / width)


def _most_telling(egress: EgressPackets, span_ns: int) -> EgressPackets:
    """The packets of the stretch that holds most of the rare sizes: drift cannot smear the pile much in it.

    Not of the busiest: that may be one transfer of equal sizes. All packets of a size together weigh as much
    as those of any other.
    """
    some = slice(None, None, -(-len(egress.ts_ns) // TOLD_BY))
    order = np.argsort(egress.ts_ns[some], kind="stable")
    ts_ns, size_class = egress.ts_ns[some][order], egress.size_class[some][order]
    told = np.r_[0.0, np.cumsum(1.0 / np.maximum(np.bincount(size_class), 1)[size_class])]
    from_ns = np.unique(ts_ns // (span_ns // 4)) * (span_ns // 4)
    gained = told[np.searchsorted(ts_ns, from_ns + span_ns)] - told[np.searchsorted(ts_ns, from_ns)]
    first_ns = from_ns[np.argmax(gained)]
    ts_ns = egress.ts_ns
    return egress.take(
        beside(ts_ns).filled(
            len(ts_ns),
            np.bool_,
            lambda rows: (ts_ns[rows] >= first_ns) & (ts_ns[rows] < first_ns + span_ns),
        )
    )
