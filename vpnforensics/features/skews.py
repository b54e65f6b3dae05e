"""How much agreement of two clock rates, and of two tick phases, is worth.

Theory of operation
-------------------
Two rates measured with errors a and b agree by chance as often as rates of two machines of the population
do. With the population a mixture of normal laws around 0 (``data/skew_population.json``, with its
sources), the likelihood ratio of "one clock" against "two clocks of the population" has a closed form. A
clock steered by NTP sits near 0 like all others of its kind: there agreement is worth next to nothing, and
that comes out by itself.

The phase of the tick is uniform over machines. Two phases of one clock, seen at one tap, agree up to the
error of the two levels and of the rates over the time between them.

Assumes that the capture clock's own rate error is small against the population's spread or common to both
measurements. The weights of the mixture are a choice: read the ratio as an order of magnitude.

Kohno, Broido & claffy 2005; Lanze, Panchenko, Braatz & Zinnen 2012, who show how far skews fail to be
unique.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from vpnforensics.features.tcp_clock import SenderClock

Floats = npt.NDArray[np.float64]
_LN10 = float(np.log(10.0))
_Z95 = 1.96

QUARTZ_PPM = 1000.0
RATE_REACH_SD = 4.0
"""Standard errors beyond which two rates are not compared: the score would be far below 0."""
LEVEL_ERROR_S = 30e-6
"""Least error of a phase: three flows of one Linux host showed 703, 716 and 717 µs."""
_STRANGE_SHARE = 0.02
"""Share of phases that are off for no known reason: bounds what disagreement may say."""


@dataclass(frozen=True, slots=True)
class SkewPopulation:
    """Mixture of zero-mean normal laws, ppm."""

    weights: tuple[float, ...]
    sds: tuple[float, ...]


@cache
def skew_population() -> SkewPopulation:
    """The population that ships with the package."""
    text = (files("vpnforensics.data") / "skew_population.json").read_text(encoding="utf-8")
    parts = json.loads(text)["components"]
    return SkewPopulation(tuple(p["weight"] for p in parts), tuple(p["sd"] for p in parts))


def skew_llr(
    first_ppm: Floats, first_sd: Floats, second_ppm: Floats, second_sd: Floats, population: SkewPopulation
) -> Floats:
    """log10 likelihood ratio of one clock against two of the population; arguments broadcast."""
    a, b = np.asarray(first_sd) ** 2, np.asarray(second_sd) ** 2
    x, y = np.asarray(first_ppm), np.asarray(second_ppm)
    together: Floats = np.zeros(np.broadcast(a, b, x, y).shape)
    alone_x, alone_y = np.zeros_like(together), np.zeros_like(together)
    for weight, sd in zip(population.weights, population.sds, strict=True):
        v = sd**2
        alone_x += weight * _normal(x, a + v)
        alone_y += weight * _normal(y, b + v)
        # Joint law of two measurements of one value: the difference, then the weighted mean.
        mean = (x * b + y * a) / (a + b)
        together += weight * _normal(x - y, a + b) * _normal(mean, v + a * b / (a + b))
    llr: Floats = np.log10(np.maximum(together, 1e-300)) - np.log10(np.maximum(alone_x * alone_y, 1e-300))
    return np.clip(llr, -6.0, 6.0)


def _normal(x: Floats, variance: Floats) -> Floats:
    density: Floats = np.exp(-0.5 * x**2 / variance) / np.sqrt(2 * np.pi * variance)
    return density


def is_quartz(clock: SenderClock) -> bool:
    """Whether a clock has a rate that may be compared: steady, of estimates that agree, and within 1000 ppm.

    What is further off is no quartz: old macOS counts by its timer interrupts, percents slow, alike on all
    machines of its kind.
    """
    return clock.fit is not None and clock.fit.agree and abs(clock.fit.slope) * 1e6 <= QUARTZ_PPM


def skew_sd_ppm(clock: SenderClock) -> float:
    """Standard error of a clock's skew, from its interval; infinite without a line."""
    interval = clock.skew_interval_ppm
    return float("inf") if interval is None else max((interval[1] - interval[0]) / (2 * _Z95), 1e-3)


def phase_llr(one: SenderClock, other: SenderClock, extra_error_s: float = 0.0) -> float:
    """log10 likelihood ratio that two clocks tick together, against any phase alike; 0 without phases.

    Parameters
    ----------
    one, other : SenderClock
        Seen at one tap (or at aligned ones), of one tick rate.
    extra_error_s : float
        Further error of the difference: of the alignment, say.
    """
    if one.hz is None or one.hz != other.hz or one.fit is None or other.fit is None:
        return 0.0
    if one.phase_ticks is None or other.phase_ticks is None:
        return 0.0
    if one.reference_ns is None or other.reference_ns is None:
        return 0.0
    apart_s = (other.reference_ns - one.reference_ns) * 1e-9
    sd_one, sd_other = skew_sd_ppm(one) * 1e-6, skew_sd_ppm(other) * 1e-6
    # Carry both phases to the time between them where the rates' errors weigh least.
    share = sd_other**2 / (sd_one**2 + sd_other**2)
    ahead_one, ahead_other = apart_s * share, apart_s * (share - 1)
    whole_ns = other.reference_ns - one.reference_ns
    ticks_apart = (whole_ns * round(one.hz) % 1_000_000_000) / 1e9
    phase_one = one.phase_ticks + ticks_apart + ahead_one * one.fit.slope * one.hz
    phase_other = other.phase_ticks + ahead_other * other.fit.slope * one.hz
    difference = (phase_one - phase_other + 0.5) % 1.0 - 0.5
    sd = one.hz * float(
        np.sqrt(
            level_error_s(one) ** 2
            + level_error_s(other) ** 2
            + (ahead_one * sd_one) ** 2
            + (ahead_other * sd_other) ** 2
            + extra_error_s**2
        )
    )
    turns = np.arange(-3, 4)
    density = float(np.exp(-0.5 * ((difference + turns) / sd) ** 2).sum() / (sd * np.sqrt(2 * np.pi)))
    return float(np.log10((1 - _STRANGE_SHARE) * density + _STRANGE_SHARE)) if sd < 0.5 else 0.0


def level_error_s(clock: SenderClock) -> float:
    """Error of the upper edge's level: how far below it the next-best blocks stay."""
    if clock.fit is None:
        return float("inf")
    best = np.sort(clock.fit.residual_s)[::-1]
    return float(max(LEVEL_ERROR_S, best[0] - best[min(4, len(best) - 1)]))
