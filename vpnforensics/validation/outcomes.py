"""One row a flow: what was concluded of it, with which error, and whether that is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Columns, Floats, Int32s, Ints
from vpnforensics.report.limit import likeliest
from vpnforensics.validation.comparisons import by_pair, identities
from vpnforensics.validation.trials import Trial


@dataclass(frozen=True, eq=False)
class Outcomes(Columns):
    """Of flows whose truth is known."""

    session: Int32s
    trial: Int32s
    identity: Ints
    packets: Int32s
    there: Bools
    """A tunnel of the case carried it."""
    linked: Bools
    denied: Bools
    """``no_tunnel``."""
    wrong: Bools
    """Of a linked flow its tunnel, of another the likeliest one, did not carry it."""
    error: Floats
    """Stated probability of that."""
    implied: Floats
    """What its likelihood ratio comes to where each tunnel at the time, and none, are equally likely before;
    0 where the ratio stands at its bound."""

    @property
    def right(self) -> Bools:
        """Linked to the tunnel that carried it."""
        return np.asarray(self.linked & ~self.wrong)


def outcomes(trial: Trial, number: int) -> Outcomes:
    """What became of the flows of one case."""
    case, decision, labels = trial.case, trial.decision, trial.labels
    flow = np.flatnonzero(labels.known)
    tunnel = likeliest(decision, len(case.flows))[flow]
    true = (tunnel >= 0) & labels.true(flow, tunnel)
    return Outcomes(
        np.full(len(flow), trial.session.session, np.int32),
        np.full(len(flow), number, np.int32),
        identities(trial)[flow],
        np.diff(case.egress.start).astype(np.int32)[flow],
        labels.there[flow],
        decision.tunnel[flow] >= 0,
        np.array(decision.verdicts(), object)[flow] == "no_tunnel",
        ~true,
        np.where(tunnel >= 0, decision.error[flow], 1.0),
        _implied(trial, flow, tunnel),
    )


def _implied(trial: Trial, flow: Ints, tunnel: Ints) -> Floats:
    decision = trial.decision
    unbounded = np.where(decision.bounded(), np.nan, decision.llr)
    llr = by_pair(trial.case, decision.scores.flow, decision.scores.tunnel, unbounded)[flow, tunnel]
    odds = 10.0**llr / np.maximum(decision.comparisons_of[flow], 1)
    return np.where((tunnel < 0) | np.isnan(llr), 0.0, 1 / (1 + odds))
