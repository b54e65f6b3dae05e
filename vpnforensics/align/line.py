"""The line through a pile of packet pairs: offset and drift of one clock against another, with intervals.

A robust fit (Cauchy weights) with one slope and an intercept for each direction: up packets leave the server
after they came in and down packets before, so the two bracket the offset just as in NTP (RFC 5905). What they
leave open is in the interval, beside a bootstrap over blocks of time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment

LEAST_PAIRS = 12
_DRIFT_SD = 100e-6  # quartz against quartz; decides only where a capture is too short to tell
_BOOTSTRAP_BLOCKS, _BOOTSTRAP_ROUNDS = 24, 200
_NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / _BOOTSTRAP_ROUNDS) for k in range(_BOOTSTRAP_ROUNDS)])
_BOOTSTRAP_PAUSE_NS = 1e9  # a longer pause between packets is no time in which delays could differ
_SETTLED_NS = 1.0  # the line and its scatter no longer move
_ONE_WAY_SLACK_NS = 20_000_000  # one direction alone cannot tell the offset from the server's delay


@dataclass(frozen=True, eq=False)
class Pile:
    """Pairs whose differences pile up along a line ``center_ns + drift * t``, near one coarse offset."""

    center_ns: float
    drift: float
    width_ns: int
    supports: tuple[float, ...]
    """Packets in the pile beyond what chance puts there, bins shrinking; it may break up in the last."""
    held: int
    """Bins down to which it held together."""
    t_ns: npt.NDArray[np.float64]
    residual_ns: npt.NDArray[np.float64]
    up: npt.NDArray[np.bool_]
    """The pairs near the coarse offset: time since the reference, difference less the coarse offset."""
    packet: npt.NDArray[np.int64]
    """Egress packet of each pair."""
    record: npt.NDArray[np.int64]

    @property
    def support(self) -> float:
        """Support in the finest bins in which it held together."""
        return self.supports[self.held - 1]

    def take(self, index: npt.NDArray[np.intp], later_ns: int) -> Pile:
        """The same pile with only the pairs at ``index``, its times counted from so much later."""
        return replace(
            self,
            center_ns=self.center_ns + self.drift * later_ns,
            t_ns=self.t_ns[index] - later_ns,
            residual_ns=self.residual_ns[index],
            up=self.up[index],
            packet=self.packet[index],
            record=self.record[index],
        )

    def support_in(self, bins: int) -> float:
        """Support in that many steps of finer bins; of a pile that broke up before, the last there was."""
        return self.supports[min(bins, len(self.supports)) - 1]


def align_pairs(
    egress_ns: npt.NDArray[np.int64],
    ingress_ns: npt.NDArray[np.int64],
    up: npt.NDArray[np.bool_],
    rng: np.random.Generator,
) -> Alignment:
    """Offset and drift from packets known to be the same, all shape (n,)."""
    if len(egress_ns) < LEAST_PAIRS:
        return Alignment("not_identifiable", reason=f"only {len(egress_ns)} packets seen on both sides")
    reference_ns = int(egress_ns.min())
    offset = int(np.median(egress_ns - ingress_ns))
    residual = (egress_ns - ingress_ns - offset).astype(np.float64)
    reach = max(4 * int(np.median(np.abs(residual))), 100_000)
    every = np.arange(len(egress_ns))
    t = (egress_ns - reference_ns).astype(np.float64)
    pile = Pile(0.0, 0.0, reach, (float(len(every)),), 1, t, residual, up, every, every)
    return fit_line(pile, offset, reference_ns, rng)


def fit_line(pile: Pile, coarse_ns: int, reference_ns: int, rng: np.random.Generator) -> Alignment:
    """Robust line through the pile's pairs: a shared slope, one intercept a direction."""
    near = np.abs(pile.residual_ns - pile.center_ns - pile.drift * pile.t_ns) < 4 * pile.width_ns
    if not near.any():
        return Alignment("not_identifiable", reason="no packet pairs near the line")
    # Bursts put wrong pairs near the right ones; a pair without a rival cannot be one of those.
    packet, record = pile.packet[near], pile.record[near]
    alone = _unrivalled(packet) & _unrivalled(record)
    chosen = np.flatnonzero(near)[alone] if alone.sum() >= LEAST_PAIRS else np.flatnonzero(near)
    t, r, up = pile.t_ns[chosen], pile.residual_ns[chosen], pile.up[chosen]
    middle = float(np.median(t))
    x = t - middle
    both = bool(up.any() and (~up).any())
    drift = pile.drift
    level = dict.fromkeys((True, False), pile.center_ns + drift * middle)
    scale = float(pile.width_ns)
    for _ in range(40):
        e = r - np.where(up, level[True], level[False]) - drift * x
        weight = 1.0 / (1.0 + (e / scale) ** 2) ** 2
        change = _slope(x, e, up, weight, drift, scale / _DRIFT_SD)
        drift += change
        for side in (True, False):
            mine = up == side
            if mine.any():
                level[side] = float(np.average((r - drift * x)[mine], weights=weight[mine]))
        e = r - np.where(up, level[True], level[False]) - drift * x
        before, scale = scale, max(1.4826 * float(np.median(np.abs(e))), 1_000.0)
        if abs(change) * np.ptp(x) < _SETTLED_NS and abs(scale - before) < _SETTLED_NS:
            break
    weight = 1.0 / (1.0 + (e / scale) ** 2) ** 2
    offsets, drifts = _bootstrap(x, e, up, weight, scale / _DRIFT_SD, rng)
    # Weights that would change with the sample are held fixed in it: the sandwich's other slice (Huber 1967).
    z2 = (e / scale) ** 2
    slice_ = float(np.sum(weight) / max(np.sum((1 - 3 * z2) / (1 + z2) ** 3), 1e-3))
    offsets, drifts = offsets * slice_, drifts * slice_
    to_reference = drift * middle
    sides = [level[side] for side in (True, False) if (up == side).any()]
    offset = coarse_ns + float(np.mean(sides)) - to_reference
    # The bootstrap moves the line about the middle of the captures; the offset is stated at their start.
    spread = np.quantile(offsets - drifts * middle, [0.025, 0.975])
    half_delay = abs(sides[0] - sides[-1]) / 2 if both else _ONE_WAY_SLACK_NS
    interval = (
        int(np.floor(offset + spread[0] - half_delay)),
        int(np.ceil(offset + spread[1] + half_delay)),
    )
    drift_spread = np.quantile(drifts, [0.025, 0.975])
    drift_interval = (float(drift + drift_spread[0]) * 1e6, float(drift + drift_spread[1]) * 1e6)
    # How the delay's two halves differ may itself change over the capture and pass for drift.
    span = max(float(x.max() - x.min()), 1.0)
    slack = half_delay / span * 1e6
    drift_interval = (drift_interval[0] - slack, drift_interval[1] + slack)
    zero = interval[0] <= 0 <= interval[1] and drift_interval[0] <= 0 <= drift_interval[1]
    line = Alignment(
        "same_clock" if zero else "aligned",
        round(offset),
        interval,
        drift * 1e6,
        drift_interval,
        reference_ns,
        int((np.abs(e) < 3 * scale).sum()),
    )
    if line.drift_known:
        return line
    why = f"the drift cannot be told from {line.pairs} packet pairs within {span / 1e9:.3g} s"
    if both:
        why += f" that put the two directions {2 * half_delay / 1e6:.3g} ms apart"
    return replace(line, reason=why)


def _unrivalled(member: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where a member stands once."""
    _, place, times = np.unique(member, return_inverse=True, return_counts=True)
    return np.asarray(times[place] == 1)


def _slope(
    x: npt.NDArray[np.float64],
    e: npt.NDArray[np.float64],
    up: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
    drift: float,
    prior: float,
) -> float:
    """Weighted slope of e on x with an intercept for each direction, over the ``drift`` taken out already.

    ``prior`` is the noise's scale over the drift's: ridge regression towards a drift of zero.
    """
    numerator, denominator = -drift * prior**2, prior**2
    for side in (True, False):
        mine = up == side
        if mine.sum() < 2:
            continue
        w = weight[mine]
        dx = x[mine] - np.average(x[mine], weights=w)
        numerator += float(np.sum(w * dx * e[mine]))
        denominator += float(np.sum(w * dx * dx))
    return numerator / denominator


def _bootstrap(
    x: npt.NDArray[np.float64],
    e: npt.NDArray[np.float64],
    up: npt.NDArray[np.bool_],
    weight: npt.NDArray[np.float64],
    prior: float,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Changes of offset (at x = 0) and drift when whole blocks of time are resampled."""
    block = _blocks(x)
    # Sufficient statistics a block and direction, so that a round costs a few sums.
    statistics = np.zeros((_BOOTSTRAP_BLOCKS, 2, 5))
    for column, value in enumerate((weight, weight * x, weight * x * x, weight * e, weight * e * x)):
        np.add.at(statistics[:, :, column], (block, up.astype(np.int64)), value)
    drawn = rng.integers(0, _BOOTSTRAP_BLOCKS, (_BOOTSTRAP_ROUNDS, _BOOTSTRAP_BLOCKS))
    s = statistics[drawn].sum(axis=1)  # (rounds, direction, statistic)
    w, wx, wxx, we, wex = np.moveaxis(s, -1, 0)
    safe = np.where(w > 0, w, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        # A difference of squares: where all drawn lie together, far from the middle, rounding is larger.
        known = np.maximum(np.nansum(wxx - wx * wx / safe, axis=1), 0.0)
        slope = np.nansum(wex - wx * we / safe, axis=1) / (known + prior**2)
    # What the packets leave open, the prior's own spread fills.
    slope += np.sqrt(prior**2 / (known + prior**2)) * _DRIFT_SD * _NORMAL
    level = np.where(w > 0, (we - slope[:, None] * wx) / safe, 0.0)
    return level.sum(axis=1) / np.maximum((w > 0).sum(axis=1), 1), slope


def _blocks(x: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Block of each pair: equal stretches of time, of which long pauses are left out.

    In a day with two bursts of packets most equal stretches would be empty, and most samples of them lack
    one of the bursts.
    """
    order = np.argsort(x, kind="stable")
    at = np.r_[0.0, np.cumsum(np.minimum(np.diff(x[order]), _BOOTSTRAP_PAUSE_NS))]
    block = np.empty(len(x), np.int64)
    block[order] = np.minimum(at / max(float(at[-1]), 1.0) * _BOOTSTRAP_BLOCKS, _BOOTSTRAP_BLOCKS - 1)
    return block
