"""How long a packet takes through the server, as both taps see it: a density a direction.

The law is heavy-tailed (medians near 0.1 ms, 99.9 % up to tens of ms), so it is not given a form: it is a
unimodal histogram (Grenander's estimator either side of the mode) of the delays of packets whose sizes are
so rare that hardly any pair is wrong, with what wrong pairs remain taken off as a uniform ground.

Grenander, U. (1956). On the theory of mortality measurement II. Skand. Aktuarietidskr. 39.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vpnforensics.align._kernels import pairs_within
from vpnforensics.align.classes import SizeClasses
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines._kernels import Delays
from vpnforensics.engines.case import EgressRows
from vpnforensics.flows.grouping import group_rows
from vpnforensics.scratch import beside

_WINDOWS_NS = (250_000_000, 80_000_000, 25_000_000)
"""Within which packets must have no rival: as wide as a busy server needs, or as a short capture allows."""
_GROUND_FROM = 0.48
"""Of the window: pairs farther apart are wrong ones."""
_MOST_WRONG = 0.1
"""Of the pairs within a window, for a wider one to be taken before a narrower one."""
_FIRST_BIN_NS, _BIN_GROWTH = 8_000.0, 1.25
"""Bins at the mode are as narrow as a quick server's delays need, and grow by this factor away from it."""
_TAIL_SHARE = 0.005
"""Of the law, spread evenly: a stalled server delays as many as this beyond all that was seen."""
_COVER = 0.997
"""Of the law that its table covers: what is left out counts as missed."""
_LEAST_PAIRS, _MOST_PAIRS = 30, 200_000
"""Pairs without which there is no law, and beyond which more only cost time."""
_SLOTS = 4096
"""Steps of the table, at most: they stay in the processor's first cache."""


@dataclass(frozen=True, eq=False)
class DelayLaw:
    """Densities of the delay, tabulated from ``low_ns`` in steps of ``2 ** step_bits`` ns; 1/ns.

    (Steps are powers of two because a shift costs a tenth of a division.)

    Delays are positive towards the far side of the server: egress time minus ingress time going up, the
    reverse going down, with the egress clock aligned. What the alignment leaves open may make them negative.
    """

    low_ns: int
    step_bits: int
    up: Floats
    down: Floats
    median_ns: tuple[float, float]
    """Up, down."""
    p95_ns: tuple[float, float]
    pairs: tuple[int, int]

    @property
    def step_ns(self) -> int:
        """Width of a cell of the table."""
        return 1 << self.step_bits

    @property
    def high_ns(self) -> int:
        """Upper end of the table."""
        return self.low_ns + self.step_ns * len(self.up)

    @property
    def delays(self) -> Delays:
        """The law as kernels take it."""
        return Delays(self.up, self.down, self.low_ns, self.step_bits, self.width_ns)

    @property
    def width_ns(self) -> float:
        """Width of a uniform law as concentrated as this one: 1 / integral of the squared density."""
        return float(
            max(1.0 / (np.sum(density * density) * self.step_ns) for density in (self.up, self.down))
        )


class Rarities(NamedTuple):
    """Records by what tells them apart, as :class:`SizeClasses` has them by size: class c's are
    ``start[c]:start[c+1]`` of ``ts_ns``, ascending.
    """

    start: Ints
    ts_ns: Ints


def observed_delays(
    classes: SizeClasses | Rarities, egress: EgressRows, egress_class: tuple[Int32s, ...]
) -> tuple[Ints, Bools, tuple[int, int]]:
    """Delays of the packets with the rarest sizes, which of them go up, and the windows they were sought in.

    Of each direction the widest window that yields enough, most of them right: a narrow one cuts the law's
    tail, but in a short capture of much traffic few sizes are rare within a wide one, and of writes, many of
    which have no partner, most that are alone there are with a wrong one.

    Parameters
    ----------
    classes : SizeClasses or Rarities
    egress : EgressRows
    egress_class : tuple of ndarray of int32
        Class of each egress packet or -1, one array a length map.

    Returns
    -------
    delay_ns : ndarray of int64, shape (n,)
    up : ndarray of bool, shape (n,)
    window_ns : (int, int)
        Up, down.
    """
    found: dict[bool, Ints] = {}
    window: dict[bool, int] = {}
    enough = {True: False, False: False}
    for window_ns in _WINDOWS_NS:
        delay_ns, up = _without_rivals(classes, egress, egress_class, window_ns)
        for way in (True, False):
            mine = delay_ns[up == way]
            if way not in found or (not enough[way] and len(mine) >= _LEAST_PAIRS):
                found[way], window[way] = mine, window_ns
                enough[way] = len(mine) >= _LEAST_PAIRS and _wrong(mine, window_ns) <= _MOST_WRONG * len(mine)
        if all(enough.values()):
            break
    up = np.repeat([True, False], [len(found[True]), len(found[False])])
    return np.concatenate([found[True], found[False]]), up, (window[True], window[False])


def _wrong(delay_ns: Ints | Floats, window_ns: int) -> float:
    """How many pairs within a window are wrong ones, as spread evenly as those far apart."""
    return float(np.sum(np.abs(delay_ns) >= _GROUND_FROM * window_ns)) / (1.0 - _GROUND_FROM)


def _without_rivals(
    classes: SizeClasses | Rarities, egress: EgressRows, egress_class: tuple[Int32s, ...], window_ns: int
) -> tuple[Ints, Bools]:
    delays, ups = [np.zeros(0, np.int64)], [np.zeros(0, np.bool_)]
    span_ns = max(int(np.ptp(classes.ts_ns)), 1)
    for per_map in egress_class:
        in_reach, rank = np.unique(np.diff(classes.start) / span_ns * 2 * window_ns, return_inverse=True)
        # Of a packet without a class, -1 or -2, none either.
        rank_of = np.r_[rank, -1, -1].astype(np.int32)
        ranks = beside(per_map).taken(rank_of, per_map)
        known, start = group_rows(ranks, len(in_reach))
        if not len(known):
            continue
        # All of the sizes that are rare, but no more than make a law of any form; of common ones a few.
        enough = max(2_000, int(start[np.searchsorted(in_reach, 0.5)]))
        chosen = np.sort(known[: min(enough, 40_000)])
        left, right = pairs_within(
            egress.ts_ns[chosen],
            per_map[chosen],
            classes.start,
            classes.ts_ns,
            -window_ns,
            window_ns,
            _MOST_PAIRS,
        )
        # Bursts put wrong pairs near the right ones; a pair without any rival cannot be one of those.
        alone = (np.bincount(left)[left] == 1) & (np.bincount(right)[right] == 1)
        left, right = left[alone], right[alone]
        forward = egress.up[chosen][left]
        difference = egress.ts_ns[chosen][left] - classes.ts_ns[right]
        delays.append(np.where(forward, difference, -difference))
        ups.append(forward)
    return np.concatenate(delays), np.concatenate(ups)


def estimate_delay_law(
    delay_ns: Ints, up: Bools, window_ns: tuple[int, int] = (_WINDOWS_NS[0], _WINDOWS_NS[0])
) -> DelayLaw:
    """Delay densities from candidate pairs within a window either way, most of them right.

    Parameters
    ----------
    delay_ns : ndarray of int64, shape (n,)
    up : ndarray of bool, shape (n,)
    window_ns : (int, int)
        Up, down.
    """
    of_pairs = [_unimodal(delay_ns[up == way], window_ns[way == 0]) for way in (1, 0)]
    # What one direction's delays are says nothing of the other's, but for how far they may scatter.
    spread_ns = [law.quantile(_COVER) - law.quantile(1 - _COVER) for law in of_pairs if law is not None]
    return _tabulated(
        [law if law is not None else _wide_law(max(spread_ns, default=0.0)) for law in of_pairs]
    )


def even_law(far_ns: float) -> DelayLaw:
    """As early as late, as far as this: to look for what the delays are."""
    even = _Histogram(np.array([-far_ns, far_ns]), np.ones(1), 0)
    return _tabulated([even, even])


def _tabulated(laws: list[_Histogram]) -> DelayLaw:
    """Of the directions up and down."""
    low = min(law.quantile((1 - _COVER) / 2) for law in laws)
    high = max(law.quantile(1 - (1 - _COVER) / 2) for law in laws)
    step_bits = max(11, int(np.ceil((high - low) / _SLOTS)).bit_length())
    step = 1 << step_bits
    low_ns = int(np.floor(low / step)) * step
    cells = int(np.ceil((high - low_ns) / step)) + 1
    centers = np.asarray(low_ns + (np.arange(cells) + 0.5) * step, np.float64)
    tables = []
    for law in laws:
        inside = law.density_at(centers)
        inside /= max(inside.sum() * step, 1e-300)
        tables.append((1 - _TAIL_SHARE) * inside + _TAIL_SHARE / (cells * step))
    return DelayLaw(
        low_ns,
        step_bits,
        tables[0],
        tables[1],
        (laws[0].quantile(0.5), laws[1].quantile(0.5)),
        (laws[0].quantile(0.95), laws[1].quantile(0.95)),
        (laws[0].pairs, laws[1].pairs),
    )


@dataclass(frozen=True, eq=False)
class _Histogram:
    edges: Floats
    mass: Floats
    pairs: int

    def density_at(self, x: Floats) -> Floats:
        density = self.mass / np.diff(self.edges)
        slot = np.searchsorted(self.edges, x, side="right") - 1
        inside = (slot >= 0) & (slot < len(density))
        return np.where(inside, density[np.clip(slot, 0, len(density) - 1)], 0.0)

    def quantile(self, p: float) -> float:
        return float(np.interp(p, np.r_[0.0, np.cumsum(self.mass)], self.edges))


def _wide_law(spread_ns: float) -> _Histogram:
    """With nothing to learn from: anything within 20 ms, or as far as the other direction scatters."""
    edges = np.array([-5e6, 0.0, 2e6, 20e6])
    return _Histogram(
        np.r_[min(edges[0], -spread_ns), edges[1:-1], max(edges[-1], spread_ns)], np.array([0.1, 0.6, 0.3]), 0
    )


def _unimodal(delay_ns: Ints, window_ns: int) -> _Histogram | None:
    near = np.sort(delay_ns[np.abs(delay_ns) <= window_ns]).astype(np.float64)
    if len(near) < _LEAST_PAIRS:
        return None
    ground = _wrong(near, window_ns) / (2.0 * window_ns)
    mode = _mode(near)
    arms = int(np.log(window_ns / _FIRST_BIN_NS * (_BIN_GROWTH - 1) + 1) / np.log(_BIN_GROWTH))
    reach = _FIRST_BIN_NS * np.cumsum(_BIN_GROWTH ** np.arange(arms))
    edges = np.r_[mode - reach[::-1], mode, mode + reach]
    counts = np.histogram(near, edges)[0]
    width = np.diff(edges)
    excess = np.maximum(counts - ground * width, 0.0)
    # Stray wrong pairs far out, seen once, are no tail.
    excess[(counts <= 1) & (np.abs(edges[:-1] + width / 2 - mode) > 50e6)] = 0.0
    left = decreasing(excess[:arms][::-1] / width[:arms][::-1], width[:arms][::-1])[::-1]
    right = decreasing(excess[arms:] / width[arms:], width[arms:])
    mass = np.r_[left, right] * width
    if mass.sum() <= 0:
        return None
    return _Histogram(edges, mass / mass.sum(), len(near))


def _mode(ascending: Floats) -> float:
    """Middle of the shortest span with a quarter of the values, halved three times over."""
    values = ascending
    for _ in range(3):
        wanted = max(8, len(values) // 4)
        if len(values) <= wanted:
            break
        spans = values[wanted:] - values[:-wanted]
        first = int(np.argmin(spans))
        values = values[first : first + wanted + 1]
    return float(np.median(values))


def decreasing(values: Floats, weights: Floats) -> Floats:
    """Closest non-increasing sequence (pool adjacent violators)."""
    level: list[float] = []
    weight: list[float] = []
    count: list[int] = []
    for v, w in zip(values.tolist(), weights.tolist(), strict=True):
        level.append(v)
        weight.append(w)
        count.append(1)
        while len(level) > 1 and level[-2] < level[-1]:
            w2, v2, c2 = weight.pop(), level.pop(), count.pop()
            level[-1] = (level[-1] * weight[-1] + v2 * w2) / (weight[-1] + w2)
            weight[-1] += w2
            count[-1] += c2
    return np.repeat(level, count)
