"""How often so many packets of a carried flow find no record."""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats, Ints

_MISS_FLOOR = 0.01
"""Share of packets that a capture is always granted to have missed: a hundred links show no less."""


def share_of_carried(hits: Ints, packets: Ints, miss: float) -> Floats:
    """P(so many packets found, or fewer | H1): binomial, whose lower tail no normal law has."""
    p = 1 - max(miss, _MISS_FLOOR)
    out = np.empty(len(hits))
    log_factorial = np.r_[0.0, np.cumsum(np.log(np.arange(1, packets.max(initial=0) + 1)))]
    order = np.argsort(packets, kind="stable")
    counts, first = np.unique(packets[order], return_index=True)
    for n, mine in zip(counts.tolist(), np.split(order, first[1:]), strict=False):
        out[mine] = _binomial_cdf(log_factorial[: n + 1], p)[hits[mine]]
    return out


def _binomial_cdf(log_factorial: Floats, p: float) -> Floats:
    """P(X <= k) of n trials, shape (n + 1,), summed in logarithms; of the factorials from 0 to n."""
    k = np.arange(len(log_factorial))
    logs = log_factorial[-1] - log_factorial - log_factorial[::-1] + k * np.log(p) + k[::-1] * np.log1p(-p)
    return np.asarray(np.minimum(np.cumsum(np.exp(logs)), 1.0))
