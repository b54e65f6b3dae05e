"""What figures may be generalised to: splits by capture session, intervals over sessions, and refusals.

Comparisons are not independent. One flow is compared with every tunnel, and stands in every damaged copy of
its session; flows of a session share its clients, its minute and its server. Therefore:

- Whatever is fitted is judged on sessions that it was not fitted on (:func:`folds`).
- Intervals of costs are bootstrapped over whole sessions (:func:`over_sessions`).
- Shares have exact binomial intervals at the number that dependent comparisons are worth: their count over
  the design effect of flows as clusters (Kish 1965; Korn & Graubard 1998).
- A false positive rate is stated only where at least :data:`NEEDED` wrong ones were to be expected among so
  many independent comparisons; without any, the upper limit would be higher than the rate itself ("rule of
  three").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.errors import CaseError
from vpnforensics.validation.comparisons import Comparisons
from vpnforensics.validation.tally import Tally, pav, tally

NEEDED = 3.0
RESAMPLES = 400
_LEAST_SESSIONS = 5
"""Sessions below which no interval over sessions is given: resampling fewer is mostly repeating them."""


class Fold(NamedTuple):
    """Rows to fit on and rows to judge on; no session is in both."""

    session: int
    fit: Bools
    judge: Bools


def folds(session: npt.NDArray[np.integer[Any]]) -> Iterator[Fold]:
    """Each session in turn to judge on, all others to fit on.

    Raises
    ------
    CaseError
        There is one session only: nothing fitted on it can be judged.
    """
    numbers = np.unique(session)
    if len(numbers) < 2:
        raise CaseError(
            "one capture session only: what is fitted on it cannot be judged on it; record another"
        )
    for number in numbers.tolist():
        judge = session == number
        yield Fold(number, ~judge, judge)


def held_out(table: Comparisons, method: str) -> Floats:
    """log10 likelihood ratios of a method that has scores only: calibrated on the other sessions.

    By pooled adjacent violators with one misleading comparison added at either end, so that no ratio exceeds
    the comparisons it was fitted on.

    Raises
    ------
    CaseError
        There is one session only.
    """
    score, llr = table.values[method], np.full(len(table), np.nan)
    for fold in folds(table.session):
        fitted = with_misleading(tally(score[fold.fit], table.h1[fold.fit]))
        if not fitted.both:
            continue
        best, judged = pav(fitted), score[fold.judge]
        at = np.clip(np.searchsorted(fitted.llr, judged, side="right") - 1, 0, len(best) - 1)
        llr[fold.judge] = np.where(np.isnan(judged), np.nan, best[at])
    return llr


def with_misleading(counted: Tally) -> Tally:
    """One true comparison below all others, and a false one above."""
    if not len(counted.llr):
        return counted
    low, high = np.r_[1.0, np.zeros(len(counted.llr)), 0.0], np.r_[0.0, np.zeros(len(counted.llr)), 1.0]
    ends = np.r_[-np.inf, counted.llr, np.inf]
    return Tally(ends, low + np.r_[0.0, counted.h1, 0.0], high + np.r_[0.0, counted.h2, 0.0])


def design_effect(hit: Bools, cluster: Ints) -> float:
    """By how much dependence within clusters widens the variance of a share: at least 1.

    1 where nothing, or everything, is hit: then the data do not show it.
    """
    share = float(hit.mean()) if len(hit) else 0.0
    if not 0 < share < 1:
        return 1.0
    _, number, size = np.unique(cluster, return_inverse=True, return_counts=True)
    off = np.bincount(number, hit) - size * share
    clusters = len(size)
    if clusters < 2:
        return float(len(hit))
    return max(1.0, float((off**2).sum() * clusters / (clusters - 1) / (len(hit) * share * (1 - share))))


def over_sessions(
    table: Comparisons, method: str, figure: Callable[[Tally], Floats], rng: np.random.Generator
) -> Floats | None:
    """95 % intervals of figures, by resampling whole sessions.

    Parameters
    ----------
    table : Comparisons
    method : str
    figure : callable
        From a tally to figures, shape (k,).
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64, shape (2, k), or None
        None with too few sessions.
    """
    value = table.values[method]
    spoken = ~np.isnan(value)
    _, session = np.unique(table.session[spoken], return_inverse=True)
    sessions = int(session.max(initial=-1)) + 1
    if sessions < _LEAST_SESSIONS:
        return None
    distinct, number = np.unique(value[spoken], return_inverse=True)
    h1 = table.h1[spoken]
    counts = [
        [
            np.bincount(number[of], minlength=len(distinct))
            for of in ((session == s) & h1, (session == s) & ~h1)
        ]
        for s in range(sessions)
    ]
    true, false = (np.stack([each[kind] for each in counts]).astype(np.float64) for kind in (0, 1))
    found = []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, sessions, sessions), minlength=sessions).astype(np.float64)
        resample = Tally(distinct, drawn @ true, drawn @ false)
        if resample.both:
            found.append(figure(resample))
    return np.nanquantile(np.stack(found), (0.025, 0.975), axis=0) if found else None
