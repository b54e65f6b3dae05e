"""What speaks against every tunnel: packets of a flow that its tunnel would have, and none has.

A flow is in no tunnel of the capture if each would have lost so much of it only seldom. Only packets count
whose records could have been seen (:mod:`vpnforensics.evidence.observability`). A server that stalls, or a
burst that overruns the capture, takes all packets of a moment: those of the same tenth of a second, from the
flow's first packet on, count as one, found as far as they were.
"""

from __future__ import annotations

from math import erfc

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence._denial_kernels import count_bouts
from vpnforensics.evidence.observability import Observability

Floats = npt.NDArray[np.float64]

_BOUT_NS = 100_000_000
"""What one stall takes: longer ones would be seen as a silence."""
_MISS_FLOOR = 0.01
"""Share of packets that a capture is always granted to have missed: a hundred links show no less."""
_FEW = 200
"""Packets up to which the binomial is summed; beyond, its normal approximation."""


def chance_of_so_little(case: Case, table: Observability, scores: ScoreTable, miss: float) -> Floats:
    """P(so little found of the flow in any tunnel | one of them carried it), shape (flows,).

    Parameters
    ----------
    case : Case
    table : Observability
        By length map.
    scores : ScoreTable
        Pairs with hits; in all others nothing was found.
    miss : float
        Share of carried packets without a record.
    """
    egress = case.egress
    bouts = np.stack([count_bouts(egress.start, egress.ts_ns, seen, _BOUT_NS) for seen in table.seen])
    chance: Floats = np.max([share_of_carried(np.zeros_like(b), b, miss) for b in bouts], axis=0)
    number = case.map_of_tunnel[scores.tunnel]
    packets = table.per_flow(table.seen)[number, scores.flow]
    moments = bouts[number, scores.flow]
    found = np.ceil(np.minimum(scores.hits / np.maximum(packets, 1), 1.0) * moments).astype(np.int64)
    np.maximum.at(chance, scores.flow, share_of_carried(found, moments, miss))
    return np.where(table.deniable & table.readable, chance, 1.0)


def chance_of_nothing(case: Case, table: Observability, miss: float) -> Floats:
    """P(none of the packets of a flow found that could be | they were carried), shape (flows,)."""
    bouts = count_bouts(case.egress.start, case.egress.ts_ns, table.seen[0], _BOUT_NS)
    return np.where(table.deniable, share_of_carried(np.zeros_like(bouts), bouts, miss), 1.0)


def share_of_carried(hits: npt.NDArray[np.int64], packets: npt.NDArray[np.int64], miss: float) -> Floats:
    """P(so many packets found, or fewer | H1): binomial; of many packets, its normal approximation."""
    miss = max(miss, _MISS_FLOOR)
    out = np.empty(len(hits))
    large = packets > _FEW
    mean = packets * (1 - miss)
    sd = np.sqrt(packets * miss * (1 - miss))
    z = (hits + 0.5 - mean) / np.maximum(sd, 1e-9)
    out[large] = [0.5 * erfc(-x / 2**0.5) for x in z[large].tolist()]
    out[~large] = _binomial_cdf(_FEW, 1 - miss)[packets[~large], hits[~large]]
    return out


def _binomial_cdf(most: int, p: float) -> Floats:
    """P(X <= k) of n trials, shape (most + 1, most + 1) by n and k, summed in logarithms."""
    k = np.arange(most + 1)
    rest = k[:, None] - k  # n - k, negative where there is no such case
    log_factorial = np.r_[0.0, np.cumsum(np.log(k[1:]))]
    logs = log_factorial[:, None] - log_factorial - log_factorial[np.maximum(rest, 0)]
    logs += k * np.log(p) + rest * np.log1p(-p)
    return np.asarray(np.minimum(np.cumsum(np.where(rest >= 0, np.exp(logs), 0.0), axis=1), 1.0))
