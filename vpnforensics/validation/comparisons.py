"""A row is a comparison: a flow, a tunnel that was there, whether it carried it, and what each method says.

All methods are judged on the same rows. What a method does not list stands at what it says of unlisted pairs,
and where it is silent it has no value: how often it speaks is a figure of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import there
from vpnforensics.validation.trials import Trial

FUSED = "fused"
_DIGITS = 4
"""Likelihood ratios are judged as a result states them: in so many decimals."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What a method makes of a case; higher speaks for the pair."""

    flow: npt.NDArray[np.integer[Any]]
    tunnel: npt.NDArray[np.integer[Any]]
    score: Floats
    unlisted: float = -np.inf
    """Of all pairs that are not listed; NaN where the method is silent on them."""


Scorer = Callable[[Case], Scores]
"""A method to compare: it sees the case as the engines do, and no truth."""


@dataclass(frozen=True, eq=False)
class Comparisons:
    """Columns of equal length."""

    session: Int32s
    trial: Int32s
    """Number of the case: a session may have been worked on damaged in several ways."""
    flow: Int32s
    tunnel: Int32s
    packets: Int32s
    """Of the flow."""
    identity: Ints
    """The same for one flow of one session in all its cases."""
    h1: Bools
    """Whether the tunnel carried the flow."""
    values: Mapping[str, Floats]
    """By method; log10 likelihood ratios of the engines and fused, scores of others; NaN where silent."""

    def __len__(self) -> int:
        return len(self.h1)

    def take(self, index: npt.NDArray[Any]) -> Comparisons:
        """The rows at ``index``."""
        columns = {name: getattr(self, name)[index] for name in _COLUMNS}
        return Comparisons(**columns, values={name: v[index] for name, v in self.values.items()})

    def spoken(self, method: str) -> Comparisons:
        """The rows that a method speaks of."""
        return self.take(~np.isnan(self.values[method]))

    def with_values(self, method: str, values: Floats) -> Comparisons:
        """The same rows with one method more."""
        return replace(self, values={**self.values, method: values})


_COLUMNS = ("session", "trial", "flow", "tunnel", "packets", "identity", "h1")


def compare(trial: Trial, number: int, scorers: Mapping[str, Scorer] | None = None) -> Comparisons:
    """The comparisons of one case.

    Parameters
    ----------
    trial : Trial
    number : int
        Of the case.
    scorers : mapping of str to callable, optional
        Further methods, by name.
    """
    case, decision, labels = trial.case, trial.decision, trial.labels
    present = there(case) & labels.known[:, None]
    flow, tunnel = (index.astype(np.int32) for index in np.nonzero(present))
    said = {FUSED: decision.llr} | {voice.engine: voice.llr for voice in decision.voices}
    values = {}
    for name, llr in said.items():
        value = by_pair(case, decision.scores.flow, decision.scores.tunnel, llr)[flow, tunnel]
        if name in (FUSED, decision.engine):  # it has looked at all pairs, and lists the telling ones
            value = np.where(np.isnan(value) & _looked(trial, tunnel), decision.unlisted_llr[flow], value)
        values[name] = value.round(_DIGITS)
    for name, scorer in (scorers or {}).items():
        scores = scorer(case)
        values[name] = by_pair(case, scores.flow, scores.tunnel, scores.score, scores.unlisted)[flow, tunnel]
    return Comparisons(
        np.full(len(flow), trial.session.session, np.int32),
        np.full(len(flow), number, np.int32),
        flow,
        tunnel,
        np.diff(case.egress.start).astype(np.int32)[flow],
        identities(trial)[flow],
        labels.true(flow, tunnel),
        values,
    )


def joined(tables: Sequence[Comparisons]) -> Comparisons:
    """One table of several; a method that a table lacks is silent there."""
    names = dict.fromkeys(name for table in tables for name in table.values)
    columns = {name: np.concatenate([getattr(t, name) for t in tables]) for name in _COLUMNS}
    values = {
        name: np.concatenate([t.values.get(name, np.full(len(t), np.nan)) for t in tables]) for name in names
    }
    return Comparisons(**columns, values=values)


def by_pair(
    case: Case,
    flow: npt.NDArray[np.integer[Any]],
    tunnel: npt.NDArray[np.integer[Any]],
    value: Floats,
    unlisted: float = np.nan,
) -> Floats:
    """Values of listed pairs as a table, shape (flows, tunnels)."""
    table = np.full((len(case.flows), len(case.tunnels)), unlisted)
    table[flow, tunnel] = value
    return table


def _looked(trial: Trial, tunnel: Int32s) -> Bools:
    """Pairs that containment could look into; where both sides are readable, all."""
    if trial.decision.engine != packets_engine.NAME:
        return np.ones(len(tunnel), np.bool_)
    return np.asarray(trial.case.map_of_tunnel[tunnel] >= 0)


def identities(trial: Trial) -> Ints:
    """A number for each flow that its copies in other cases of its session have as well."""
    flows, clients = trial.case.flows, trial.labels.of_flow.tolist()
    texts = (
        f"{trial.session.session} {flows.source(f)} {flows.destination(f)} {client}"
        for f, client in enumerate(clients)
    )
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.array([int.from_bytes(digest, "little", signed=True) for digest in digests], np.int64)
