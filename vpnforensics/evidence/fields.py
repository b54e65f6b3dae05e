"""What header fields add to a decision: calibrated, fused, and links that only they can make.

Theory of operation
-------------------
Flows that containment has linked are known pairs of the case: each with its tunnel (H1), and with another
tunnel that was there at the time (H2). They calibrate ``counters``, ``headers`` and ``rtt`` for this very
case. ``timestamps`` and ``ip_id`` speak seldom under H2; what chance does there is seen on copies of the
flows turned round in time, and on the known H2 pairs where clients are more alike than chance would have it
(clocks of one make started together, clients on one host). Then all are fused
(:mod:`vpnforensics.evidence.fusion`). ``counters`` counts the packets that ``packets`` looks for: where
both speak, only one is heard; and it only speaks against, for that a tunnel sent enough packets speaks for no
flow in particular.

Flows left undecided, as all are in tunnels whose length map is not known, may be linked by ``timestamps`` or
``ip_id``, at what is left of the expected number of false links, clear of every other tunnel, and only in
tunnels that the joint model cannot look into.

Known weakness: the known pairs come from containment. An engine that errs where containment errs looks
better than it is; the bounds limit by how much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vpnforensics.engines import counters, headers, ip_id, rtt, timestamps
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.engines.scores import EngineScores, Pairs
from vpnforensics.evidence.calibration import LEAST_KNOWN, calibrate, llr_by_chance
from vpnforensics.evidence.decision import MISS_UNKNOWN, Decision, present
from vpnforensics.evidence.denial import can_be_denied
from vpnforensics.evidence.fusion import dependence, fuse
from vpnforensics.evidence.null_scores import fit_tail, stratum_of
from vpnforensics.evidence.voices import Voice

NAMES = (timestamps.NAME, ip_id.NAME, counters.NAME, headers.NAME, rtt.NAME)

CLEAR = 1.0
"""Decimal logarithms that all engines together must have for a link, and by which a flow must look weaker
in every other tunnel."""

_LISTED_LLR = 1.0
_KNOWN_FLOWS = 2_000
_TURNS, _LEAST_TURNS, _NULL_COMPARISONS = 20, 2, 200_000
_FEW_HEARD = 3
_LN_MOST = 12.0

Keys = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Chance:
    """Scores of an engine that seldom speaks, and what chance scores."""

    scores: EngineScores
    rate: npt.NDArray[np.float64]
    """P(score or more | H2) of each."""
    llr: npt.NDArray[np.float64]
    upper: npt.NDArray[np.float64]


def weigh_fields(
    case: Case,
    decision: Decision,
    engines: Sequence[str],
    devices: npt.NDArray[np.integer] | None,
    *,
    rng: np.random.Generator,
) -> Decision:
    """The decision with what the header-field engines say.

    Parameters
    ----------
    case : Case
    decision : Decision
        By containment, or undecided.
    engines : sequence of str
        Those of :data:`NAMES` that may speak.
    devices : ndarray of integers, shape (flows,), optional
        Device of each flow, -1 unknown; flows of one pool their timestamps.
    rng : numpy.random.Generator
    """
    chosen = [name for name in NAMES if name in engines]
    if not chosen or not case.alignment.usable or not len(case.tunnels):
        return decision
    alive = present(case)
    h1, h2 = _known(case, decision, rng)
    seldom: dict[str, _Chance] = {}
    if timestamps.NAME in chosen:
        seldom[timestamps.NAME] = _by_chance(
            case, alive, h1, h2, rng, lambda turn, of: timestamps.score(case, devices, turn=turn)
        )
    if ip_id.NAME in chosen:
        outer = ip_id.outer_counters(case)
        seldom[ip_id.NAME] = _by_chance(
            case,
            alive,
            h1,
            h2,
            rng,
            lambda turn, of: ip_id.score(case, turn=turn, of=of, counters=outer),
        )
    keys = _listed(case, decision, seldom)
    every = np.unique(np.concatenate([keys, h1, h2]))
    pairs = _pairs(case, every)
    voices = [_of_every(case, decision, v, every) for v in decision.voices]
    for name in chosen:
        if name in seldom:
            voices.append(_voice_by_chance(case, seldom[name], every))
        else:
            said = _ENGINES[name](case, pairs)
            voices.append(_voice_by_known(case, said, every, h1, h2))
    known = (np.searchsorted(every, h1), np.searchsorted(every, h2))
    llr = np.stack([v.llr for v in voices])
    lower, upper = np.stack([v.lower for v in voices]), np.stack([v.upper for v in voices])
    heard = [v.engine for v in voices]
    looked = {packets_engine.NAME, counters.NAME} <= set(heard)
    same = (heard.index(packets_engine.NAME), heard.index(counters.NAME)) if looked else None
    fused = fuse(llr, dependence(llr, known, same), lower, upper)
    shown = np.searchsorted(every, keys)
    tunnel, error = _link(case, decision, seldom, alive, every[fused >= CLEAR])
    if any(np.isfinite(c.llr).any() for c in seldom.values()):
        decision = replace(decision, comparisons_of=np.maximum(decision.comparisons_of, alive))
    return _retold(case, decision, keys, fused[shown], [v.take(shown) for v in voices], tunnel, error)


_ENGINES = {counters.NAME: counters.score, headers.NAME: headers.score, rtt.NAME: rtt.score}


def _keys(case: Case, pairs: ScoreTable | EngineScores | Pairs) -> Keys:
    """One number a pair."""
    return pairs.flow.astype(np.int64) * len(case.tunnels) + pairs.tunnel


def _pairs(case: Case, keys: Keys) -> Pairs:
    flow, tunnel = np.divmod(keys, len(case.tunnels))
    return Pairs(flow.astype(np.int32), tunnel.astype(np.int32))


def _known(case: Case, decision: Decision, rng: np.random.Generator) -> tuple[Keys, Keys]:
    """Pairs known to belong together, and as many that do not: linked flows in another tunnel of the time."""
    linked = np.flatnonzero(decision.tunnel >= 0)
    if len(linked) > _KNOWN_FLOWS:
        linked = np.sort(rng.choice(linked, _KNOWN_FLOWS, replace=False))
    tunnels = len(case.tunnels)
    own = decision.tunnel[linked].astype(np.int64)
    h1 = linked * tunnels + own
    if tunnels < 2:
        return h1, np.zeros(0, np.int64)
    begin = case.alignment.to_ingress(case.flows.first_ns[linked])
    first = np.array([t.first_ns for t in case.tunnels.tunnels])
    last = np.array([t.last_ns for t in case.tunnels.tunnels])
    other = np.full(len(linked), -1, np.int64)
    for _ in range(8):  # a tunnel drawn at random may not have been there
        drawn = (own + rng.integers(1, tunnels, len(linked))) % tunnels
        there = (first[drawn] <= begin) & (begin <= last[drawn])
        other = np.where((other < 0) & there, drawn, other)
    met = other >= 0
    return h1, np.sort(linked[met] * tunnels + other[met])


def _by_chance(
    case: Case,
    alive: npt.NDArray[np.int64],
    h1: Keys,
    h2: Keys,
    rng: np.random.Generator,
    score: Callable[[float, npt.NDArray[np.bool_] | None], EngineScores],
) -> _Chance:
    """An engine's scores, and how often copies of the flows turned in time score as high."""
    linked = np.zeros(len(case.flows), np.bool_)
    linked[h1 // len(case.tunnels)] = True
    said = score(0.0, linked if len(h1) else None)  # a look at the known pairs is cheap, and often enough
    # Known pairs in tunnels of which the engine can never speak say nothing of it.
    could = len(h1[np.isin(h1 % len(case.tunnels), said.tunnel)])
    heard, elsewhere = (int(np.isin(known, _keys(case, said)).sum()) for known in (h1, h2))
    wrongly = int(linked[said.flow].sum()) - heard
    by_chance = max(float(elsewhere), wrongly / max(len(case.tunnels) - 1, 1))
    worthless = could >= LEAST_KNOWN and heard <= 2 * by_chance + (_FEW_HEARD if by_chance else 0)
    worthless |= wrongly > 0 and not heard
    if len(h1) and not worthless:
        said = score(0.0, None)
    size = np.diff(case.egress.start)
    strata = stratum_of(size)
    rate, llr, upper = (np.full(len(said), v) for v in (1.0, np.nan, 0.0))
    if not len(said) or worthless:
        return _Chance(said, rate, llr, upper)  # what is heard of others as often is chance
    compared = max(int(alive.sum()), 1)
    turns = int(np.clip(_NULL_COMPARISONS // compared, _LEAST_TURNS, _TURNS))
    edges = np.linspace(0.05, 0.95, turns + 1)
    turn = [float(rng.uniform(a, b)) for a, b in pairwise(edges.tolist())]
    nulls = [score(t, None) for t in turn]
    copies = alive * np.sum([case.circle.turned(case.begin_ns, t)[1] for t in turn], axis=0)
    flow = np.concatenate([n.flow for n in nulls])
    value = np.concatenate([n.score for n in nulls])
    heard_share = (heard + 1.0) / (could + 2.0)
    alike = np.sort(said.score[np.isin(_keys(case, said), h2)])
    elsewhere_too = _elsewhere_too(said, alive)
    for s in np.unique(strata[said.flow]).tolist():
        tail = fit_tail(value[strata[flow] == s], max(int(copies[strata == s].sum()), 1))
        mine = strata[said.flow] == s
        by_likeness = (len(alike) - np.searchsorted(alike, said.score[mine])) / max(len(h2), 1)
        rate[mine] = np.maximum(tail.false_positive_rate(said.score[mine]), by_likeness)
        rate[mine] = np.maximum(rate[mine], elsewhere_too[mine])
        upper[mine] = np.log10(tail.comparisons)
        llr[mine] = llr_by_chance(rate[mine], heard_share, tail.comparisons)
    return _Chance(said, rate, llr, upper)


def _elsewhere_too(said: EngineScores, alive: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Share of the other tunnels present that a flow fits about as well.

    Clients of one clock are alike at all times: copies turned in time do not know of them.
    """
    step = np.ptp(said.score) + 2 * CLEAR
    key = said.flow * step + said.score - said.score.min()
    ordered = np.sort(key)
    fitting = np.searchsorted(ordered, (said.flow + 1) * step) - np.searchsorted(ordered, key - CLEAR)
    return np.asarray(np.minimum((fitting - 1) / np.maximum(alive[said.flow] - 1, 1), 1.0))


def _listed(case: Case, decision: Decision, seldom: dict[str, _Chance]) -> Keys:
    """Pairs to report: those of containment, and those for which a field speaks up."""
    found = [_keys(case, decision.scores)]
    found += [_keys(case, c.scores)[c.llr >= _LISTED_LLR] for c in seldom.values()]
    return np.unique(np.concatenate(found))


def _of_every(case: Case, decision: Decision, voice: Voice, every: Keys) -> Voice:
    """The voice of containment, told of the pairs ``every``: what it did not list it looked for in vain."""
    row = np.full(len(every), -1, np.int64)
    row[np.searchsorted(every, _keys(case, decision.scores))] = np.arange(len(decision.scores))
    told = _spread(voice, row, "too few of its packets found to list")
    if case.tunnels.lost_share <= MISS_UNKNOWN:
        flow, tunnel = np.divmod(every, len(case.tunnels))
        vain = (row < 0) & (case.map_of_tunnel[tunnel] >= 0) & can_be_denied(case)[flow]
        least = decision.unlisted_llr[flow[vain]]
        told.llr[vain], told.lower[vain], told.upper[vain] = least, least, 0.0
    return told


def _spread(voice: Voice, row: npt.NDArray[np.int64], reason: str) -> Voice:
    """Entry ``row`` of the voice for each pair; where that is -1, silence and its reason."""
    got = row >= 0

    def column(values: npt.NDArray[np.float64], without: float) -> npt.NDArray[np.float64]:
        out = np.full(len(row), without)
        out[got] = values[row[got]]
        return out

    n = np.zeros(len(row), np.int32)
    n[got] = voice.n[row[got]]
    return Voice(
        voice.engine,
        column(voice.score, np.nan),
        column(voice.llr, np.nan),
        column(voice.lower, np.nan),
        column(voice.upper, np.nan),
        n,
        tuple(voice.note[i] if i >= 0 else reason for i in row.tolist()),
    )


def _rows(case: Case, said: EngineScores, every: Keys) -> npt.NDArray[np.int64]:
    """Entry of ``said`` for each pair of ``every``, or -1."""
    mine = _keys(case, said)
    order = np.argsort(mine, kind="stable")
    at = np.searchsorted(mine[order], every)
    inside = np.minimum(at, max(len(mine) - 1, 0))
    found = (at < len(mine)) & (mine[order][inside] == every) if len(mine) else np.zeros(len(every), np.bool_)
    row = np.full(len(every), -1, np.int64)
    row[found] = order[at[found]]
    return row


def _why(said: EngineScores) -> str:
    """The commonest reason for silence."""
    return (
        max(said.silence, key=lambda reason: said.silence[reason]) if said.silence else "nothing to compare"
    )


def _voice_by_chance(case: Case, chance: _Chance, every: Keys) -> Voice:
    said = chance.scores
    voice = Voice(
        said.engine,
        said.score,
        chance.llr,
        np.zeros(len(said)),  # never speaks against a pair
        chance.upper,
        said.n,
        said.note,
    )
    return _spread(voice, _rows(case, said, every), _why(said))


def _voice_by_known(case: Case, said: EngineScores, every: Keys, h1: Keys, h2: Keys) -> Voice:
    row = _rows(case, said, every)
    score = np.full(len(every), np.nan)
    score[row >= 0] = said.score[row[row >= 0]]
    of = [score[np.searchsorted(every, known)] for known in (h1, h2)]
    found = calibrate(*[s[np.isfinite(s)] for s in of])
    if isinstance(found, str):
        llr = np.full(len(said), np.nan)
        note = tuple(f"{text}; {found}" for text in said.note)
        low = high = np.nan
    else:
        llr, note = found.llr(said.score), said.note
        low, high = found.lower, found.upper
        if said.engine == counters.NAME:
            llr, high = np.minimum(llr, 0.0), 0.0
    voice = Voice(
        said.engine,
        said.score,
        llr,
        np.full(len(said), low),
        np.full(len(said), high),
        said.n,
        note,
    )
    return _spread(voice, row, _why(said))


def _link(
    case: Case,
    decision: Decision,
    seldom: dict[str, _Chance],
    alive: npt.NDArray[np.int64],
    supported: Keys,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Tunnel of each flow, and the stated error of each link, those that the fields add included.

    Only pairs that all engines together support are linked.
    """
    tunnel, error = decision.tunnel.copy(), decision.error.copy()
    speaking = [c for c in seldom.values() if np.isfinite(c.llr).any()]
    left = decision.policy.expected_false_links - decision.expected_false_links
    compared = int(alive[tunnel < 0].sum())
    if not speaking or left <= 0 or not compared:
        return tunnel, error
    allowed = left / len(speaking) / compared
    for chance in speaking:
        said = chance.scores
        order = np.lexsort((said.tunnel, -said.score, said.flow))
        flow = said.flow[order]
        lead = np.flatnonzero(np.r_[True, flow[1:] != flow[:-1]])
        best = order[lead]
        next_row = np.minimum(lead + 1, len(order) - 1)
        rival = np.where(
            (next_row > lead) & (flow[next_row] == flow[lead]), said.score[order[next_row]], -np.inf
        )
        good = (
            (chance.rate[best] <= allowed)
            & (said.score[best] - rival >= CLEAR)
            & (tunnel[said.flow[best]] < 0)
            & ~_looked_into(case, decision, said)[best]
            & np.isin(_keys(case, said)[best], supported)
        )
        linked = best[good]
        tunnel[said.flow[linked]] = said.tunnel[linked]
        error[said.flow[linked]] = np.maximum(
            chance.rate[linked] * alive[said.flow[linked]], decision.policy.least_error
        )
    return tunnel, error


def _looked_into(case: Case, decision: Decision, said: EngineScores) -> npt.NDArray[np.bool_]:
    """Pairs that the joint model has decided on: it could have shown the flow in that tunnel, and did not."""
    readable = (case.map_of_tunnel[said.tunnel] >= 0) & can_be_denied(case)[said.flow]
    return np.asarray(readable & (decision.engine == packets_engine.NAME))


def _retold(
    case: Case,
    decision: Decision,
    keys: Keys,
    llr: npt.NDArray[np.float64],
    voices: list[Voice],
    tunnel: npt.NDArray[np.int32],
    error: npt.NDArray[np.float64],
) -> Decision:
    """The decision over the pairs ``keys``, best first within a flow."""
    pairs = _pairs(case, keys)
    order = np.lexsort((pairs.tunnel, -np.nan_to_num(llr, nan=-_LN_MOST), pairs.flow))
    hits = np.zeros(len(keys), np.int32)
    score = np.full(len(keys), np.nan)
    at = np.searchsorted(keys, _keys(case, decision.scores))
    hits[at], score[at] = decision.scores.hits, decision.scores.score
    table = ScoreTable(pairs.flow, pairs.tunnel, score, hits)
    heard = [v.engine for v in voices if np.isfinite(v.score).any()]
    return replace(
        decision,
        engine=decision.engine or (heard[0] if heard else ""),
        scores=table.take(order),
        llr=llr[order],
        voices=tuple(v.take(order) for v in voices),
        tunnel=tunnel,
        error=error,
    )
