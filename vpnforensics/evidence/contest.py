"""What the contest for records leaves of a score.

An outer packet carries at most one inner packet. So a flow's score in a tunnel is taken again without the
records that other flows want about as much. A flow whose score hangs on those cannot be told from them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.containment import Containment, Ownership

MARGIN, MARGIN_SHARE = 2.0, 0.35
"""How much weaker, in decimal logarithms and as a share of the score, a rival must be to be disregarded."""


def margin(score: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """By how much a flow of this score must beat a rival."""
    return np.maximum(MARGIN, MARGIN_SHARE * score)


def contested_scores(
    containment: Containment, pairs: ScoreTable, shift_ns: npt.NDArray[np.int64], owned: Ownership
) -> npt.NDArray[np.float64]:
    """What is left of each pair's score in the contest for records; -inf where rivals take too much of it.

    Parameters
    ----------
    containment : Containment
    pairs : ScoreTable
        With their scores, decimal logarithms, without the contest.
    shift_ns : ndarray of int64, shape (pairs,)
        Rotation of each pair's flow.
    owned : Ownership

    Returns
    -------
    ndarray of float64, shape (pairs,)
    """
    left = containment.score_contested(pairs, shift_ns, owned, margin)
    bearable = np.maximum(MARGIN, (1.0 - MARGIN_SHARE) * pairs.score - 1.0)
    return np.where(pairs.score - left > bearable, -np.inf, left)
