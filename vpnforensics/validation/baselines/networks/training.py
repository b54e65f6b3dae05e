"""Training of both networks on sessions with truth, and the refusal to judge them on those."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vpnforensics.engines.case import Case
from vpnforensics.errors import CaptureError, CaseError
from vpnforensics.options import Options
from vpnforensics.validation.baselines.networks import deepcoffea, deepcorr
from vpnforensics.validation.baselines.networks.layers import Shapes, Weights
from vpnforensics.validation.baselines.table import Timed
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.labels import Labels
from vpnforensics.validation.sessions import Session
from vpnforensics.validation.trials import Plan, labelled

STEPS = 4000
"""Batches of each network: some minutes on two cores for both."""
DAMAGES = (Damage(), Damage(2.0, 0.01, 4393.217, 40.0))
"""What befalls sessions to train on: as they are, and as much as those that the networks are judged on."""
_METHODS = {deepcorr.NAME: deepcorr, deepcoffea.NAME: deepcoffea}


@dataclass(frozen=True, eq=False)
class Trained:
    """One network's weights, and where they are from."""

    name: str
    weights: Weights
    seconds: float
    steps: int
    seed: int
    sessions: tuple[str, ...]
    """SHA-256 of the truth of each session that it was trained on."""


def shapes(name: str) -> Shapes:
    """What a network's weights are."""
    found: Shapes = _METHODS[name].SHAPES
    return found


def train(plan: Plan, steps: int, seed: int, tell: Callable[[str, float], None]) -> list[Trained]:
    """Both networks.

    Parameters
    ----------
    plan : sequence of (Session, Damage)
        All of it is in memory at a time.
    steps : int
        Batches.
    seed : int
    tell : callable

    Raises
    ------
    CaseError
        No session makes a case with tunnels and carried flows.
    """
    cases: list[tuple[Case, Labels]] = []
    for number, (session, damage) in enumerate(plan):
        tell(f"reading {session.name}, damage {damage.text}", 0.3 * number / len(plan))
        try:
            case, labels = labelled(session, damage, Options(seed=seed))
        except (CaptureError, CaseError):
            continue  # a damaged copy may have no tunnel left: there is nothing to learn from it
        if case.alignment.usable and labels.there.any() and len(case.tunnels) > 1:
            cases.append((case, labels))
    if not cases:
        raise CaseError(
            "no session has two tunnels and a flow that one of them carried: nothing to learn from"
        )
    told = tuple(sorted({session.truth_sha256 for session, _ in plan}))
    found = []
    for number, (name, method) in enumerate(_METHODS.items()):
        tell(f"training {name}", 0.3 + 0.35 * number)
        began = time.perf_counter()
        weights = method.trained(cases, steps, np.random.default_rng(seed))
        found.append(Trained(name, weights, time.perf_counter() - began, steps, seed, told))
    return found


def timed(networks: Iterable[Trained]) -> dict[str, Timed]:
    """The networks as baselines."""
    return {
        f"{each.name} (style)": Timed(
            lambda case, each=each: _METHODS[each.name].scores(case, each.weights),  # type: ignore[misc]
            each.seconds,
        )
        for each in networks
    }


def refuse_trained_on(networks: Iterable[Trained], sessions: Sequence[Session]) -> None:
    """Refuse sessions that a network has seen in training.

    Raises
    ------
    CaseError
        One of them was; a copy of it counts.
    """
    seen = {digest for each in networks for digest in each.sessions}
    numbers = {session.session for session in sessions if session.truth_sha256 in seen}
    for session in sessions:
        if session.session in numbers:
            raise CaseError(f"{session.folder}: the networks were trained on it; judge them on another")
