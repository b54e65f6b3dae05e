"""One row a flow: what was concluded of it, with which error, and whether that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.report.limit import likeliest
from vpnforensics.validation.comparisons import identities
from vpnforensics.validation.trials import Trial

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Columns of equal length; flows whose truth is not known are not in it."""

    session: npt.NDArray[np.int32]
    trial: npt.NDArray[np.int32]
    identity: Ints
    packets: npt.NDArray[np.int32]
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

    def __len__(self) -> int:
        return len(self.session)

    def take(self, index: npt.NDArray[Any]) -> Outcomes:
        """The rows at ``index``."""
        return Outcomes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

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
    decision, tunnels = trial.decision, len(trial.case.tunnels)
    pairs = decision.scores.flow.astype(np.int64) * tunnels + decision.scores.tunnel
    of = {pair: n for n, pair in enumerate(pairs.tolist())}
    row = np.array([of.get(pair, -1) for pair in (flow * tunnels + tunnel).tolist()], np.int64)
    llr, bounded = np.r_[decision.llr, np.nan][row], np.r_[decision.bounded(), True][row]
    odds = 10.0**llr / np.maximum(decision.comparisons_of[flow], 1)
    return np.where(bounded | np.isnan(llr), 0.0, 1 / (1 + odds))


def all_outcomes(tables: Sequence[Outcomes]) -> Outcomes:
    """One table of several."""
    names = Outcomes.__dataclass_fields__
    return Outcomes(*(np.concatenate([getattr(table, name) for table in tables]) for name in names))
