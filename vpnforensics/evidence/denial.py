"""What speaks against every tunnel: packets of a flow that its tunnel would have, and none has.

A flow is in no tunnel of the capture if each would have lost so much of it only seldom. Only packets count
whose records could have been seen (:mod:`vpnforensics.evidence.observability`). A server that stalls, or a
burst that overruns the capture, takes all packets of a moment: those of the same tenth of a second, from the
flow's first packet on, count as one, found as far as they were.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence._denial_kernels import count_bouts
from vpnforensics.evidence.observability import STALL_NS, Observability

_MISS_FLOOR = 0.01
"""Share of packets that a capture is always granted to have missed: a hundred links show no less."""


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
    bouts = np.stack([count_bouts(egress.start, egress.ts_ns, seen, STALL_NS) for seen in table.seen])
    chance: Floats = np.max([share_of_carried(np.zeros_like(b), b, miss) for b in bouts], axis=0)
    number = case.map_of_tunnel[scores.tunnel]
    packets = table.per_flow(table.seen)[number, scores.flow]
    moments = bouts[number, scores.flow]
    found = np.ceil(np.minimum(scores.hits / np.maximum(packets, 1), 1.0) * moments).astype(np.int64)
    np.maximum.at(chance, scores.flow, share_of_carried(found, moments, miss))
    return np.where(table.deniable & table.readable, chance, 1.0)


def chance_of_nothing(case: Case, table: Observability, miss: float) -> Floats:
    """P(none of the packets of a flow found that could be | they were carried), shape (flows,)."""
    bouts = count_bouts(case.egress.start, case.egress.ts_ns, table.seen[0], STALL_NS)
    return np.where(table.deniable & table.readable, share_of_carried(np.zeros_like(bouts), bouts, miss), 1.0)


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
