"""Exact intervals of a share, for as many comparisons as they are worth."""

from __future__ import annotations

from math import exp, inf, lgamma, log, log1p

_LEVEL = 0.95
_TINY = 1e-300
_ENOUGH = 1e-15
_MOST_STEPS = 100_000


def interval(successes: float, trials: float, level: float = _LEVEL) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share.

    Parameters
    ----------
    successes, trials : float
        No whole numbers where the trials are dependent, and count less than one each (Korn & Graubard 1998,
        Surv. Methodol. 24).
    level : float

    >>> low, high = interval(0, 300)
    >>> low, round(high, 4)
    (0.0, 0.0122)
    """
    if trials <= 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if successes <= 0 else quantile(tail, successes, trials - successes + 1)
    high = 1.0 if successes >= trials else quantile(1 - tail, successes + 1, trials - successes)
    return low, high


def poisson_interval(events: int, level: float = _LEVEL) -> tuple[float, float]:
    """Exact interval of a Poisson mean, from how many events were seen (Garwood 1936, Biometrika 28).

    >>> low, high = poisson_interval(0)
    >>> low, round(high, 4)
    (0.0, 3.6889)
    """
    tail = (1 - level) / 2
    low = _mean(events, tail) if events else 0.0
    return low, _mean(events + 1, 1 - tail)


def _mean(least: int, share: float) -> float:
    """Poisson mean at which ``least`` or more events have this probability; halving."""
    low, high = 0.0, 10.0 + 3.0 * least
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if poisson_tail(least, middle) < share else (low, middle)
    return high


def quantile(share: float, a: float, b: float) -> float:
    """Of a beta distribution: where its cumulative share is ``share``; halving in logarithms of the odds."""
    low, high = -700.0, 700.0  # beyond them, a share cannot be told from 0 or 1
    while high - low > 1e-13 * max(1.0, abs(low)):
        middle = (low + high) / 2
        if beta_cdf(1 / (1 + exp(-middle)), a, b) < share:
            low = middle
        else:
            high = middle
        if middle in (low, high) and high - low < 1e-12:
            break
    return 1 / (1 + exp(-(low + high) / 2))


def beta_cdf(x: float, a: float, b: float) -> float:
    """Regularised incomplete beta function, by its continued fraction (Lentz; DLMF 8.17.22)."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    if x > (a + 1) / (a + b + 2):
        return 1 - beta_cdf(1 - x, b, a)
    front = exp(a * log(x) + b * log1p(-x) + lgamma(a + b) - lgamma(a) - lgamma(b)) / a
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    fraction = d
    for m in range(1, _MOST_STEPS):
        change = inf
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + term * d
            c = 1 + term / c
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = c if abs(c) > _TINY else _TINY
            change = c * d
            fraction *= change
        if abs(change - 1) < _ENOUGH:
            break
    return min(front * fraction, 1.0)


def poisson_tail(least: int, mean: float) -> float:
    """P(``least`` or more) at a Poisson mean."""
    if mean <= 0:
        return float(least <= 0)
    return max(0.0, 1.0 - sum(exp(k * log(mean) - mean - lgamma(k + 1)) for k in range(least)))
