"""What speaks against every tunnel: packets of a flow that its tunnel would have, and none has.

A flow is in no tunnel of the capture if each would have lost so much of it only seldom. Only packets count
whose records could have been seen (:mod:`vpnforensics.evidence.observability`). A server that stalls, or a
burst that overruns the capture, takes all packets of a moment: those of the same tenth of a second, from the
flow's first packet on, count as one, found as far as they were.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence._denial_kernels import count_bouts
from vpnforensics.evidence.missed import share_of_carried
from vpnforensics.evidence.observability import STALL_NS, Observability


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
