"""Decoys: copies of the case's own flows, turned in time, that compete in the same model.

No tunnel carried a decoy. The case is attributed once more with some of them among its flows: those that
would be linked check the stated errors on this very case (where the model is sure of several, no error is
believed below their share: :meth:`Decoys.least_error`), and all their comparisons, with those of linked
flows and the tunnels that were busy at the same moment, are the ones known to be false that likelihood
ratios are calibrated on and bounded by (:mod:`vpnforensics.evidence.calibration`).

They have to compete, and not merely be held against the records as the flows leave them: in a burst of equal
packets no single flow claims any single record, but all of them need as many as there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Floats, Int32s, Ints
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.policy import Policy

_MANY_SURE, _SURE_SHARE = 3, 0.004
"""Sure copies that are no stray ones, in number and share. Recordings of five busy clients have at most four
of 2,000; tunnels padded to one size under jitter, wrongly linked before, four to thirteen of 500."""

Turned = Callable[[Containment, Int32s], tuple[Floats, Floats]]


@dataclass(frozen=True, eq=False)
class Decoys:
    """How the copies fared."""

    tried: int
    linked: int
    """Copies that would have been linked, all of them wrongly."""
    sure: int
    """Copies of which the model was sure, counted where all tunnels are padded to one size and 0 elsewhere:
    sixteen clients under 15 ms of jitter have as many, beside a thousand right links and none wrong."""
    comparisons: int
    llr: Floats
    """Uncalibrated log10 likelihood ratios of the comparisons that had any evidence; the others' are
    lower."""

    @property
    def least_error(self) -> float:
        """Below which no error of the case is believed: where sure copies are more than a stray one, their
        share.
        """
        stray = self.sure < _MANY_SURE or self.sure < _SURE_SHARE * self.tried
        return 0.0 if stray else self.sure / self.tried


NO_DECOYS = Decoys(0, 0, 0, 0, np.zeros(0))


def try_decoys(
    containment: Containment,
    alive: Ints,
    attribute: Turned,
    worst_error: float,
    policy: Policy,
    rng: np.random.Generator,
) -> Decoys:
    """Attribute the case again with decoys in it.

    Parameters
    ----------
    containment : Containment
    alive : ndarray of int64, shape (flows,)
        Tunnels each flow is compared with.
    attribute : callable
        Takes the case with copies behind its flows, and the flow of each copy; gives the error of each copy's
        likeliest tunnel, and the log10 likelihood ratios of the copies' pairs.
    worst_error : float
        Largest error of a link.
    policy : Policy
    rng : numpy.random.Generator
        Chooses and turns them.
    """
    flows = np.flatnonzero(alive > 0)
    some = min(int(np.ceil(policy.decoy_share * len(flows))), policy.most_decoys)
    tried = linked = sure = comparisons = 0
    found = [np.zeros(0)]
    for _ in range(policy.decoy_rounds):
        if not some or comparisons >= policy.decoy_comparisons:
            break
        copies = rng.choice(flows, some, replace=False).astype(np.int32)
        shift_ns, away = containment.circle.turned(
            containment.egress.ts_ns[containment.egress.start[copies]], rng.random(some)
        )
        copies, shift_ns = copies[away], shift_ns[away]
        error, llr = attribute(containment.with_copies(copies, shift_ns), copies)
        tried += len(copies)
        linked += int((error <= worst_error).sum())
        sure += int((error < policy.sure).sum()) if containment.classes.all_padded else 0
        comparisons += int(alive[copies].sum())
        found.append(llr)
    return Decoys(tried, linked, sure, comparisons, np.concatenate(found))
