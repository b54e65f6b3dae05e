"""Binned volume of flow and tunnel, correlated: cosine, Pearson, and RAPTOR's Spearman.

RAPTOR (Sun et al. 2015, USENIX Security) correlates bytes over time at both ends of a Tor circuit by ranks.
There, one circuit carries one download. A tunnel carries others' bytes as well, which a correlation takes for
difference: this is what containment was made for.

Assumes bins of :mod:`vpnforensics.validation.baselines.sightings`; each direction in which the flow spoke
counts alike. Says nothing where the clocks' relation is not known. A tunnel that was silent all the time has
the least score there is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.validation.baselines.sightings import Score, in_bins, of_pairs
from vpnforensics.validation.comparisons import Scores


def spearman(case: Case) -> Scores:
    """Rank correlation of bytes."""
    return _correlated(case, ranks, pearson_rows)


def pearson(case: Case) -> Scores:
    """Correlation of bytes."""
    return _correlated(case, _as_is, pearson_rows)


def cosine(case: Case) -> Scores:
    """Cosine of bytes."""
    return _correlated(case, _as_is, cosine_rows)


def _correlated(
    case: Case, made: Callable[[Floats], Floats], alike: Callable[[Floats, Floats], Floats]
) -> Scores:
    in_their_bins = in_bins(case, weighed=True)

    def prepared(flows: Ints) -> Score:
        binned = in_their_bins(flows)
        ways = [made(way) for way in binned.flows]
        spoke = np.asarray(binned.flows.any(axis=2))

        def score(mine: Ints, tunnel: int) -> Floats:
            seen = binned.tunnel(tunnel, mine)
            found = np.stack([alike(ways[up][mine], made(seen[up])) for up in (0, 1)])
            counts = spoke[:, mine]
            return np.asarray(np.where(counts, found, 0.0).sum(axis=0) / counts.sum(axis=0))

        return score

    return of_pairs(case, prepared)


def pearson_rows(a: Floats, b: Floats) -> Floats:
    """Correlation of each row of one with that of the other; -1 where one of them is constant."""
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    return _over_norms(a, b, -1.0)


def cosine_rows(a: Floats, b: Floats) -> Floats:
    """Cosine of each row of one with that of the other; 0 where one of them is nothing."""
    return _over_norms(a, b, 0.0)


def ranks(values: Floats) -> Floats:
    """Rank of each value in its row, from 0; equal ones share the mean of theirs."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    rises = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(values), 1), np.bool_)
    place = np.arange(values.shape[1])
    lowest = np.maximum.accumulate(np.where(np.hstack([edge, rises]), place, 0), axis=1)
    last = np.where(np.hstack([rises, edge]), place, len(place))
    highest = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]
    found = np.empty(values.shape)
    np.put_along_axis(found, order, (lowest + highest) / 2, axis=1)
    return found


def _over_norms(a: Floats, b: Floats, without: float) -> Floats:
    product = np.einsum("ij,ij->i", a, b)
    norms = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    found = np.full(len(a), without)
    np.divide(product, norms, out=found, where=norms > 0)
    return found


def _as_is(values: Floats) -> Floats:
    return values
