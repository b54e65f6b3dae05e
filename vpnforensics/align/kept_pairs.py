"""Pairs of flow and connection that share payloads, judged against their rivals."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Columns, Floats, Ints
from vpnforensics.flows.grouping import changes

_LOST_DECADES = 1.5
"""Of a packet that should have matched and did not: captures lose about three in a hundred."""
_COUNTED = 2
"""Payloads of a pair that count, its best: more follow from them."""


@dataclass(frozen=True, eq=False)
class KeptPairs(Columns):
    """Pairs, each once, by flow."""

    flow: Ints
    conversation: Ints
    shared: Ints
    """Different payloads found in both."""
    score: Floats
    """Decimal logarithm of how unlikely they are by chance."""
    only: Ints
    """Payloads of the connection that no other flow at the time has."""
    content: Floats
    """Decimal logarithm of how rare the payloads are among those of their sizes."""

    @staticmethod
    def of(flow: Ints, conversation: Ints, number: Ints, worth: Floats, rarity: Floats) -> KeptPairs:
        """From matches of payloads.

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
        _, place, wanted = np.unique(
            conversation << 32 | number[order], return_inverse=True, return_counts=True
        )
        leads = changes(flow, conversation)
        first, pair = np.flatnonzero(leads), np.cumsum(leads) - 1
        counted = np.arange(len(order)) - first[pair] < _COUNTED
        shared = np.bincount(pair, minlength=len(first))
        only = np.bincount(pair[wanted[place] == 1], minlength=len(first))
        score, content = (
            np.bincount(pair[counted], each[counted], len(first)).astype(np.float64)
            for each in (worth, rarity)
        )
        return KeptPairs(flow[first], conversation[first], shared, score, only, content)

    def with_hosts(self, decades: Floats) -> KeptPairs:
        """With what the hosts asked for say of each pair; those of -inf are none."""
        kept = np.isfinite(decades)
        found, more = self.take(kept), decades[kept]
        return replace(found, score=found.score + more, content=found.content + more)

    def judged(self, carrier_of: Ints) -> tuple[KeptPairs, Floats]:
        """The best pair of each flow, and its score less that of its best rival.

        Rivals are connections of other carriers with the same flow, and other flows in the same connection.
        """
        score = self.score + _LOST_DECADES * np.minimum(self.only, _COUNTED)
        order = np.lexsort((-score, self.flow))
        lead = order[changes(self.flow[order])]
        flows = int(self.flow.max(initial=-1)) + 1
        carrier = carrier_of[self.conversation]
        best_of = np.full(flows, -1, np.int64)
        best_of[self.flow[lead]] = carrier[lead]
        others = carrier != best_of[self.flow]
        rival = np.zeros(flows)
        np.maximum.at(rival, self.flow[others], score[others])
        in_it = _best_other(self.conversation, score)
        return self.take(lead), score[lead] - np.maximum(rival[self.flow[lead]], in_it[lead])


def _best_other(group: Ints, score: Floats) -> Floats:
    """Greatest score of the others of each one's group, at least 0."""
    order = np.lexsort((-score, group))
    leads = changes(group[order])
    first, place = np.flatnonzero(leads), np.cumsum(leads) - 1
    second = np.zeros(len(first))
    np.maximum.at(second, place[~leads], score[order[~leads]])
    best = np.empty(len(score))
    best[order] = np.where(leads, second[place], score[order[first]][place])
    return best
