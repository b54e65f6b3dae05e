"""What a likelihood ratio says in words, and the chance that a capture lost so much."""

from __future__ import annotations

from bisect import bisect_right
from math import erfc

import numpy as np
import numpy.typing as npt

_MISS_FLOOR = 0.01
_FEW = 200
"""Packets up to which the binomial is summed; beyond, its normal approximation."""

_ENFSI = (
    (2.0, "no support"),
    (10.0, "weak support"),
    (100.0, "moderate support"),
    (1_000.0, "moderately strong support"),
    (10_000.0, "strong support"),
    (1_000_000.0, "very strong support"),
    (np.inf, "extremely strong support"),
)
"""Verbal scale of the ENFSI Guideline for Evaluative Reporting in Forensic Science (2015)."""
_ENFSI_LLR = tuple(float(np.log10(limit)) for limit, _ in _ENFSI)


def share_of_carried(
    hits: npt.NDArray[np.int32], packets: npt.NDArray[np.int64], miss: float
) -> npt.NDArray[np.float64]:
    """P(so many packets found, or fewer | H1): binomial; of many packets, its normal approximation."""
    miss = max(miss, _MISS_FLOOR)
    out = np.empty(len(hits))
    large = packets > _FEW
    mean = packets * (1 - miss)
    sd = np.sqrt(packets * miss * (1 - miss))
    z = (hits + 0.5 - mean) / np.maximum(sd, 1e-9)
    out[large] = _normal_cdf(z[large])
    small = ~large
    out[small] = _binomial_cdf(_FEW, 1 - miss)[packets[small], hits[small]]
    return out


def verbal(llr: float) -> str:
    """The ENFSI wording of a log10 likelihood ratio, naming the proposition that is supported."""
    words = _ENFSI[bisect_right(_ENFSI_LLR, abs(llr))][1]
    if words == "no support":
        return "no support for either"
    return f"{words} for {'H1' if llr > 0 else 'H2'}"


def _binomial_cdf(most: int, p: float) -> npt.NDArray[np.float64]:
    """P(X <= k) of n trials, shape (most + 1, most + 1) by n and k, summed in logarithms."""
    k = np.arange(most + 1)
    rest = k[:, None] - k  # n - k, negative where there is no such case
    log_factorial = np.r_[0.0, np.cumsum(np.log(k[1:]))]
    logs = log_factorial[:, None] - log_factorial - log_factorial[np.maximum(rest, 0)]
    logs += k * np.log(p) + rest * np.log1p(-p)
    return np.asarray(np.minimum(np.cumsum(np.where(rest >= 0, np.exp(logs), 0.0), axis=1), 1.0))


def _normal_cdf(z: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.array([0.5 * erfc(-x / 2**0.5) for x in z.tolist()])
