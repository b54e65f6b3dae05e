"""What a contest adds to a decision: an engine's voice on every pair, and its ratios where it decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines.case import Case
from vpnforensics.evidence.contest import Contest, Outcome
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.fusion import CLEAR
from vpnforensics.evidence.listing import keys_of, list_pairs, rows_of
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import places


@dataclass(frozen=True, eq=False)
class Contended:
    """An engine's contest, and what it came to."""

    engine: str
    contest: Contest
    """Every pair that was compared."""
    outcome: Outcome
    compared: Ints
    """What each flow was compared with: connections, or tunnels."""
    slope: float | Floats
    """Share of its odds that is believed, of all flows or of each."""
    linked: Bools
    """Flows that it linked."""
    won: tuple[str, ...]
    """Of each flow, what to say of its likeliest tunnel."""
    silence: str
    """Why a pair was not compared."""
    n: Int32s | None = None
    """Of each flow, what was compared; without, what of the tunnel."""


def doubt(claim: Floats) -> Floats:
    """Probability that log10 odds leave; of none that are against, more than it is right."""
    return np.asarray(1.0 / (1.0 + 10.0 ** np.clip(claim, 0.0, 300.0)))


def odds_of_nobody(alone: npt.NDArray[np.floating]) -> float:
    """Odds that a flow is of nobody, by the chance of each that it is; before any, one in two."""
    none = 1.0 + float(alone.sum())
    return none / (len(alone) + 2.0 - none)


def heard(case: Case, decision: Decision, found: Contended) -> Decision:
    """With the engine's voice on every pair that is listed, or that it speaks for.

    A flow that it linked has its ratios; others have those of writes, where these are clear, else the one
    that says more: both look at the same bytes.
    """
    tunnels, outcome, linked = len(case.tunnels), found.outcome, found.linked
    keys, of = np.unique(outcome.pairs.flow * tunnels + outcome.pairs.tunnel, return_inverse=True)
    flow = keys // tunnels
    every = np.sort(found.contest.flow * tunnels + found.contest.tunnel)
    of_tunnel = np.searchsorted(every, keys + 1) - np.searchsorted(every, keys)
    strength = np.bincount(of, outcome.strength, len(keys))
    whole = 1.0 + np.bincount(flow, strength, len(case.flows))[flow]
    odds = np.log10(strength / np.maximum(whole - strength, 1e-12 * whole))
    best = outcome.tunnel[flow] == keys % tunnels
    odds = np.where(best, np.minimum(odds, outcome.claim[flow]), odds)
    prior = np.log10(of_tunnel / (2.0 * found.compared[flow] - of_tunnel))
    bound = np.log10(max(decision.null_comparisons, 1))
    score = odds - prior
    slope = np.broadcast_to(found.slope, len(case.flows))[flow]
    llr = np.clip(slope * score, -np.log10(max(int((decision.tunnel >= 0).sum()), 1)), bound)
    shown = np.union1d(keys_of(case, decision.scores), keys[(llr >= CLEAR) | (best & linked[flow])])
    before, mine = rows_of(case, decision.scores, shown), places(keys, shown)
    notes = tuple(
        found.won[f] if ours else "contended" for f, ours in zip(flow.tolist(), best.tolist(), strict=True)
    )
    n = (of_tunnel if found.n is None else found.n[flow]).astype(np.int32)
    voice = Voice(found.engine, score, llr, n, notes).spread(mine, found.silence)
    theirs, ours = np.r_[decision.llr, np.nan][before], voice.llr
    stronger = np.where(np.abs(np.nan_to_num(ours)) > np.abs(np.nan_to_num(theirs)), ours, theirs)
    fused = np.where(np.abs(np.nan_to_num(theirs)) >= CLEAR, theirs, stronger)
    fused = np.where(linked[shown // tunnels] & np.isfinite(ours), ours, fused)
    voices = (*(v.spread(before, "no writes alike") for v in decision.voices), voice)
    return list_pairs(case, decision, shown, fused, voices)
