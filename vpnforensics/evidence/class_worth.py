"""What classes of needs are worth: how much oftener pairs have each than chance has it.

A class is worth the logarithm of that ratio within its feature
(:data:`~vpnforensics.engines.volume.FEATURES`). Counts are few, so shares begin with some of what is known
more broadly: a client's with all clients', and those of a need in a busy stream with what the same class is
worth where nobody asks how busy it is (pseudocounts: Good 1965, The Estimation of Probabilities).
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.engines.volume import AGAINST, FEATURES, QUIET

_COUNTS, _COUNTS_OF_CLIENT = 5.0, 20.0
"""Counts that each feature begins with, and each client's."""


def worth_of(true: Floats, false: Floats, *, busy: bool) -> Floats:
    """Worth of each class with each client, in decades, shape (clients, classes).

    Parameters
    ----------
    true : ndarray of float64, shape (classes,)
        How often pairs have each.
    false : ndarray of float64, shape (clients, classes)
        How often chance has it, by client: one who downloads has enough for everybody.
    busy : bool
        Whether how busy a stream is sets classes apart; else each is worth the same in all.
    """
    even = 1.0 / np.bincount(FEATURES)[FEATURES]
    chance = _shares(_as_one(false.sum(axis=0)), even, _COUNTS)[QUIET]
    pairs = _shares(_as_one(true), chance, _COUNTS)[QUIET]
    if busy:
        ratio, chance = pairs / chance, _shares(false.sum(axis=0), chance, _COUNTS)
        before = chance * ratio
        pairs = _shares(true, before / np.bincount(FEATURES, before)[FEATURES], _COUNTS)
    else:
        false = np.array([_as_one(counts)[QUIET] for counts in false])
    of_clients = np.array([_shares(counts, chance, _COUNTS_OF_CLIENT) for counts in false])
    worth = np.log10(pairs / of_clients)
    return np.asarray(np.where(AGAINST, np.minimum(worth, 0.0), worth))


def _as_one(counts: Floats) -> Floats:
    """Counts of each class, however busy a stream is, at the place of the quiet one."""
    return np.asarray(np.bincount(QUIET, counts, len(counts)), np.float64)


def _shares(counts: Floats, before: Floats, many: float) -> Floats:
    """Of each class in its feature, where so many had been counted before."""
    whole = np.bincount(FEATURES, counts)[FEATURES]
    return np.asarray((counts + many * before) / (whole + many))
