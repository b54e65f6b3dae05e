"""Containment by counting: no more packets can have come out than went in.

The share of the flow's packets for which its bin has a packet of the tunnel, either direction: what the
``packets`` engine does, without lengths, delays, other flows, or a model of chance. Among tunnels that could
have carried all, the one with the fewest other packets stands first.

Says nothing where the clocks' relation is not known.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.validation.baselines.sightings import Score, in_bins, of_pairs
from vpnforensics.validation.comparisons import Scores

_OF_FEWER = 1e-3
"""Less than a packet of most flows is worth: it orders those that contain alike."""


def contained(case: Case) -> Scores:
    """Share of packets contained, and a little for the share of the tunnel's own that it explains."""
    in_their_bins = in_bins(case, weighed=False)

    def prepared(flows: Ints) -> Score:
        binned = in_their_bins(flows)
        packets = binned.flows.sum(axis=(0, 2))

        def score(mine: Ints, tunnel: int) -> Floats:
            seen = binned.tunnel(tunnel, mine)
            both = np.minimum(binned.flows[:, mine], seen).sum(axis=(0, 2))
            return np.asarray(both / packets[mine] + _OF_FEWER * both / np.maximum(seen.sum(axis=(0, 2)), 1))

        return score

    return of_pairs(case, prepared)
