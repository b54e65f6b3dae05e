"""The pairs that a decision lists: found by number, and changed for others with what each engine says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.engines.scores import EngineScores, Pairs
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import places

Keys = Ints
"""Pairs of flow and tunnel, one number each; ascending by flow, then tunnel."""


def keys_of(case: Case, pairs: ScoreTable | EngineScores) -> Keys:
    """One number a pair."""
    return pairs.flow.astype(np.int64) * len(case.tunnels) + pairs.tunnel


def pairs_of(case: Case, keys: Keys) -> Pairs:
    """The pairs of these numbers."""
    flow, tunnel = np.divmod(keys, len(case.tunnels))
    return Pairs(flow.astype(np.int32), tunnel.astype(np.int32))


def rows_of(case: Case, pairs: ScoreTable | EngineScores, keys: Keys) -> Ints:
    """Row among ``pairs`` of each number, or -1."""
    return places(keys_of(case, pairs), keys)


def list_pairs(case: Case, decision: Decision, keys: Keys, llr: Floats, voices: Iterable[Voice]) -> Decision:
    """The decision with other pairs listed, best first within a flow.

    Parameters
    ----------
    case : Case
    decision : Decision
    keys : ndarray of int64, shape (n,)
        The pairs, each once.
    llr : ndarray of float64, shape (n,)
        log10 likelihood ratio of each pair.
    voices : iterable of Voice
        What each engine says of each pair.
    """
    pairs = pairs_of(case, keys)
    order = np.lexsort((pairs.tunnel, -np.nan_to_num(llr, nan=-np.inf), pairs.flow))
    row = rows_of(case, decision.scores, keys)
    table = ScoreTable(
        pairs.flow,
        pairs.tunnel,
        np.r_[decision.scores.score, np.nan][row],
        np.r_[decision.scores.hits, np.int32(0)][row],
    )
    return replace(
        decision, scores=table.take(order), llr=llr[order], voices=tuple(v.take(order) for v in voices)
    )
