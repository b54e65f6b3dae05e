"""Strong flows first: those that only one tunnel can have carried leave with their records.

A flow of hundreds of packets needs no joint model to be placed, and in one it would cost more than all others
together. What it takes away is what the others need: the records that are explained.

A flow is placed if its containment score is ``strong`` or more and exceeds that in every other tunnel by as
much, if half of its packets were found, and if its tunnel still has records for most of these once stronger
flows have taken theirs. That takes several rounds: what a stronger flow leaves is less, and what was
ambiguous may be plain then. Flows that stay ambiguous are left to the joint model.

A flow's writes through a relay are few; those are the quick answers that pages of the same moment have as
well, and many find no partner. So it has to be twice as strong.

Tunnels padded to one size score high for each other's flows where they are busy at one time, and which score
is the higher is chance: there none is placed that is ``strong`` in a second tunnel, too. (Where lengths tell,
this would leave a flow to the model, and its records to one of a missing client that fits no second one.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import ScoreTable, concatenate
from vpnforensics.engines.containment import Containment, Ownership
from vpnforensics.evidence.policy import Policy
from vpnforensics.flows.grouping import count_in_groups
from vpnforensics.scratch import beside

_FOUND = 0.5
"""Share of a flow's packets that have to be found. Under a delay law learned from too few pairs, what a third
of a bulk transfer finds in another tunnel looked strong."""
_OF_WRITES = 2
"""Times as strong has to be who is placed by writes."""
_KEPT = 0.7
"""Share of the packets found that must still find a record of their own."""
_ROUNDS = 4
"""How often it is looked who is plain now; what is left is left to the model, which takes longer."""


@dataclass(frozen=True, eq=False)
class Placed:
    """Who was placed, and what that leaves."""

    tunnel: npt.NDArray[np.int32]
    """Of each flow, -1 where not placed."""
    margin: npt.NDArray[np.float64]
    """How far the score of a placed flow stands above 0 and above that of its next tunnel; -inf of others."""
    record: npt.NDArray[np.int32]
    """RecordTable row of each packet of the placed flows, or -1."""
    rest: Containment
    """The case without their records."""
    pairs: ScoreTable
    """First look at all flows asked about: scores above 0 among all records."""


def place_strong(containment: Containment, flows: npt.NDArray[np.int32], policy: Policy) -> Placed:
    """Place those flows that only one tunnel can have carried.

    Parameters
    ----------
    containment : Containment
    flows : ndarray of int32
        Numbers of those to look at.
    policy : Policy
    """
    sizes = np.diff(containment.egress.start)
    n = len(sizes)
    tunnel = np.full(n, -1, np.int32)
    margin = np.full(n, -np.inf)
    record = beside(containment.egress.ts_ns).full(len(containment.egress.ts_ns), -1, np.int32)
    first_look = concatenate([])
    enough = _OF_WRITES * policy.strong if containment.of_writes else policy.strong
    for number in range(_ROUNDS):
        pairs = containment.score(flows, floor_log10=0.0)
        row, lead = pairs.best(n)
        if not number:
            first_look = pairs
        plain = (lead >= enough) & (np.r_[pairs.hits, 0][row] >= _FOUND * sizes)
        if containment.classes.all_padded:
            plain &= np.r_[pairs.score, 0.0][row] - lead < policy.strong  # of the next tunnel
        strong = np.flatnonzero(plain).astype(np.int32)
        if not len(strong):
            break
        best = row[strong]
        least = _KEPT * pairs.hits[best]
        kept, owned = with_room(containment, strong, pairs.tunnel[best], pairs.score[best], least)
        if not kept.any():
            break
        strong, best = strong[kept], best[kept]
        tunnel[strong], margin[strong] = pairs.tunnel[best], lead[strong]
        containment = containment.take_out(strong, owned, record)
        flows = flows[tunnel[flows] < 0]
    return Placed(tunnel, margin, record, containment, first_look)


def with_room(
    containment: Containment,
    flows: npt.NDArray[np.int32],
    tunnels: npt.NDArray[np.int32],
    strength: npt.NDArray[np.float64],
    least: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.bool_], Ownership]:
    """Which of the flows get records enough if each was in its tunnel, and who then has which.

    Parameters
    ----------
    containment : Containment
    flows, tunnels : ndarray of int32, shape (n,)
    strength : ndarray of float64, shape (n,)
        Decides who takes a record that two want.
    least : ndarray of float64, shape (n,)
        Records that each needs; those who cannot have them leave theirs to the others.
    """
    owned = containment.own(flows, tunnels, strength)
    got = count_in_groups(owned.matched, containment.egress.start)[flows]
    kept = np.asarray(got >= least)
    if kept.any() and not kept.all():
        owned = containment.own(flows[kept], tunnels[kept], strength[kept])
    return kept, owned
