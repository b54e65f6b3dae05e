"""Pairs of flow and connection that share payloads, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Columns, Floats, Ints
from vpnforensics.flows.grouping import changes

_LOST_DECADES = 1.5
"""Of a packet that should have matched and did not: captures lose about three in a hundred."""
_COUNTED = 2
"""Payloads of a pair whose loss counts, and by which it is rare: more follow from them."""


@dataclass(frozen=True, eq=False)
class KeptPairs(Columns):
    """Pairs, each once, by flow and connection."""

    flow: Ints
    conversation: Ints
    shared: Ints
    """Different payloads found in both."""
    score: Floats
    """Decimal logarithm of how unlikely they are by chance."""
    content: Floats
    """Decimal logarithm of how rare the payloads are among those of their sizes."""

    @staticmethod
    def of(flow: Ints, conversation: Ints, number: Ints, worth: Floats, rarity: Floats) -> KeptPairs:
        """From matches of payloads.

        Chance has to give the best of them only: who asks for the same is answered the same. But then both
        sides of each are without the other one, which has to be lost.

        Parameters
        ----------
        flow, conversation, number : ndarray of int64, shape (n,)
            Who had it, on either side, and the number of the payload's head.
        worth, rarity : ndarray of float64, shape (n,)
            What the match counts for in ``score`` and ``content``.
        """
        order = np.lexsort((-worth, number, conversation, flow))
        new = order[changes(flow[order], conversation[order], number[order])]  # sent twice, it counts once
        order = new[np.lexsort((-worth[new], conversation[new], flow[new]))]
        flow, conversation, worth, rarity = flow[order], conversation[order], worth[order], rarity[order]
        leads = changes(flow, conversation)
        first, pair = np.flatnonzero(leads), np.cumsum(leads) - 1
        shared = np.bincount(pair, minlength=len(first))
        counted = np.arange(len(order)) - first[pair] < _COUNTED
        content = np.bincount(pair[counted], rarity[counted], len(first)).astype(np.float64)
        score = worth[first] + _LOST_DECADES * np.minimum(shared, _COUNTED)
        return KeptPairs(flow[first], conversation[first], shared, score, content)

    def with_hosts(self, decades: Floats) -> KeptPairs:
        """With what the hosts asked for say of each pair; those of -inf are none."""
        kept = np.isfinite(decades)
        found, more = self.take(kept), decades[kept]
        return replace(found, score=found.score + more, content=found.content + more)
