"""What header fields add to a decision: calibrated, fused, and links that only they can make.

Theory of operation
-------------------
Each field engine scores the pairs that are listed, and pairs of the case that are known: linked flows with
their tunnel, and with another one that was there at the time. Engines that find their pairs themselves
(``timestamps``, ``ip_id``: they speak seldom, and only for a pair) are compared with chance in two more ways:
a flow was in one tunnel at most, so that all tunnels but its own, or its best, are false comparisons; and so
are copies of the flows moved in time. All of them calibrate the engine
(:mod:`vpnforensics.evidence.calibration`), and the engines are fused (:mod:`vpnforensics.evidence.fusion`).

Flows that are not linked, as all are in tunnels whose length map is not known, may be linked by what such an
engine says, to their likeliest tunnel, in order of the stated error, as far as the sum of errors allows.
Where the joint model has looked, it must itself speak for the pair: fields decide ties, and contradict
nothing.

Engines of other packages go the same road behind ours. One that fails is left out, and the case weighed anew
from where it began, so that the result is as if it were not installed.

Known weakness: the known pairs come from containment. An engine that errs where containment errs looks
better than it is; the bounds limit by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines import plugged
from vpnforensics.engines.case import USUAL_MISS, Case
from vpnforensics.engines.registry import ENGINES, Engine
from vpnforensics.engines.scores import EngineScores
from vpnforensics.errors import PlugInError
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, Calibration, calibrate
from vpnforensics.evidence.decision import Decision, present
from vpnforensics.evidence.fusion import CLEAR, fuse
from vpnforensics.evidence.listing import Keys, keys_of, list_pairs, pairs_of, rows_of
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import changes

FIELDS = tuple(engine for engine in ENGINES.values() if engine.of_fields)

_KNOWN_FLOWS = 2_000
"""Linked flows that calibrate, at most: their bound of 3.3 is all that a field engine is ever worth."""
_TURNS, _LEAST_TURNS, _TURNED_COMPARISONS = 20, 2, 200_000
"""How often flows are moved in time: as often as gives so many comparisons, within limits of work."""


@dataclass(frozen=True, eq=False)
class _Field:
    """One engine's scores, and what they are worth."""

    engine: Engine
    said: EngineScores
    calibration: Calibration | str
    """Or why there is none."""

    def claims(self, score: Floats) -> Floats:
        """Likelihood ratios as the engine has them, without bounds; NaN where silent."""
        if isinstance(self.calibration, str):
            return np.full(len(score), np.nan)
        return self.calibration.unbounded(score)


def weigh_fields(
    case: Case, decision: Decision, engines: Sequence[str], *, rng: np.random.Generator
) -> Decision:
    """The decision with what the header-field engines say.

    Parameters
    ----------
    case : Case
    decision : Decision
        By containment, or undecided.
    engines : sequence of str
        Those that may speak.
    rng : numpy.random.Generator
    """
    plug_ins = plugged.installed()
    of_others = [engine for name, engine in plug_ins.working.items() if name in engines]
    chosen = [*(engine for engine in FIELDS if engine.name in engines), *of_others]
    begin = rng.bit_generator.state
    all_ours = all(name in engines for name in ENGINES)  # as where none were chosen
    unheard = list(map(str, plug_ins.broken.values())) if all_ours else []
    while chosen and case.alignment.usable and len(case.tunnels):
        try:
            decision = _weighed(case, decision, chosen, rng)
        except PlugInError as error:
            chosen = [engine for engine in chosen if engine.name != error.name]
            unheard.append(str(error))
            rng.bit_generator.state = begin
        else:
            break
    return replace(decision, unheard=tuple(unheard)) if unheard else decision


def _weighed(case: Case, decision: Decision, chosen: Sequence[Engine], rng: np.random.Generator) -> Decision:
    """The decision with what these engines say; at least one, on aligned clocks."""
    if any(engine.apart for engine in chosen):
        case = case.knowing(decision.tunnel)
    alive = present(case)
    h1, h2 = _known(case, decision, rng)
    fields = {e.name: _by_itself(case, e, decision, h1, alive, rng) for e in chosen if e.finds_pairs}
    keys = [keys_of(case, decision.scores)]
    keys += [keys_of(case, f.said)[f.claims(f.said.score) >= CLEAR] for f in fields.values()]
    listed = np.unique(np.concatenate(keys))
    every = np.unique(np.concatenate([listed, h1, h2]))
    for engine in chosen:
        if not engine.finds_pairs:
            said = engine.score(case, pairs_of(case, every))
            true, false = _at(case, said, h1), _at(case, said, h2)
            fields[engine.name] = _Field(engine, said, calibrate(true, (false, len(h2))))
    said_of = [fields[engine.name] for engine in chosen]
    looked = _looked_into(case, decision, every)
    voices = [_of_packets(case, decision, v, every, looked) for v in decision.voices]
    packets = _of_all(case, decision, decision.llr, every, looked)
    of_fields = [_voice(case, field, every) for field in said_of]
    apart = np.array([engine.apart for engine in chosen])
    ratios, claims = np.stack([v.llr for v in of_fields]), _claims(case, said_of, every)
    confirmed = _confirmed(case, decision, every, packets, ratios[apart])
    heard = np.isfinite(ratios[[e.finds_pairs for e in chosen]]).any(axis=0)
    may_link = heard & (~looked | (packets > 0))
    likeliest = _likeliest(case, decision, every[may_link], fuse(packets, claims[~apart])[may_link], alive)
    likelier = _likelier(case, decision, every, packets, confirmed)
    links = _link(decision, [likeliest, likelier])
    # What packets are clear about stands, but where the link rests on who confirms it. And what bounds the
    # ratios of packets bounds the fused ones: no field has seen as many comparisons.
    pairs = pairs_of(case, every)
    told = (np.abs(packets) < CLEAR) | (links[0][pairs.flow] == pairs.tunnel)
    fused = fuse(packets, ratios[~apart]) + np.where(told, confirmed, 0.0)
    fused = np.where(np.isnan(packets), fused, np.minimum(fused, decision.most_llr))
    if heard.any():
        decision = replace(decision, comparisons_of=np.maximum(decision.comparisons_of, alive))
    shown = np.searchsorted(every, listed)
    shown_voices = [v.take(shown) for v in (*voices, *of_fields)]
    spoken = [v.engine for v in shown_voices if np.isfinite(v.score).any()]
    return replace(
        list_pairs(case, decision, listed, fused[shown], shown_voices),
        engine=decision.engine or (spoken[0] if spoken else ""),
        tunnel=links[0],
        error=links[1],
    )


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
    other = np.full(len(linked), -1, np.int64)
    for _ in range(8):  # a tunnel drawn at random may not have been there
        drawn = (own + rng.integers(1, tunnels, len(linked))) % tunnels
        there = (case.tunnels.first_ns[drawn] <= begin) & (begin <= case.tunnels.last_ns[drawn])
        other = np.where((other < 0) & there, drawn, other)
    met = other >= 0
    return h1, np.sort(linked[met] * tunnels + other[met])


def _by_itself(
    case: Case, engine: Engine, decision: Decision, h1: Keys, alive: Keys, rng: np.random.Generator
) -> _Field:
    """An engine that finds its pairs itself, calibrated by linked flows, other tunnels, and flows moved."""
    said = engine.score(case)
    own = _own_tunnels(said, decision.tunnel)
    others = (said.score[said.tunnel != own[said.flow]], int(np.maximum(alive - 1, 0).sum()))
    compared = max(int(alive.sum()), 1)
    turns = int(np.clip(_TURNED_COMPARISONS // compared, _LEAST_TURNS, _TURNS)) if len(said) else 0
    chance, comparisons = [np.zeros(0)], 0
    edges = np.linspace(0.05, 0.95, turns + 1).tolist()
    for low, high in pairwise(edges):
        turned, away = case.turned(float(rng.uniform(low, high)))
        found = engine.score(turned)
        chance.append(found.score[away[found.flow]])
        comparisons += int(alive[away].sum())
    true = _at(case, said, h1)
    # Of which share of the carried flows it speaks; where none are known, of all that have a tunnel to be in.
    heard, of = len(np.unique(said.flow)), int(np.sum(alive > 0))
    if len(true) >= LEAST_KNOWN:
        heard, of = int(np.isfinite(true).sum()), len(true)
    share = (heard + 1) / (of + 2)
    calibration = calibrate(true, others, (np.concatenate(chance), comparisons), heard=share)
    return _Field(engine, said, calibration)


def _own_tunnels(said: EngineScores, linked: Int32s) -> Int32s:
    """The one tunnel of each flow that may be true: the linked one, else where it scores highest."""
    own = np.full(len(linked), -1, np.int32)
    order = np.argsort(said.score, kind="stable")
    own[said.flow[order]] = said.tunnel[order]
    return np.where(linked >= 0, linked, own)


def _at(case: Case, said: EngineScores, keys: Keys) -> Floats:
    """Score of each of the pairs, NaN where there is none."""
    return np.asarray(np.r_[said.score, np.nan][rows_of(case, said, keys)])


def _voice(case: Case, field: _Field, keys: Keys) -> Voice:
    """What an engine says of the pairs, or why it says nothing."""
    said, calibration = field.said, field.calibration
    silence = max(said.silence, key=said.silence.__getitem__, default="nothing to compare")
    if isinstance(calibration, str):
        llr, note = np.full(len(said), np.nan), tuple(f"{text}; {calibration}" for text in said.note)
    else:
        llr, note = calibration.llr(said.score), said.note
    voice = Voice(said.engine, said.score, llr, said.n, note)
    return voice.spread(rows_of(case, said, keys), silence)


def _looked_into(case: Case, decision: Decision, keys: Keys) -> Bools:
    """Pairs that the joint model could have shown, had the tunnel carried the flow."""
    flow, tunnel = np.divmod(keys, len(case.tunnels))
    readable = decision.engine == packets_engine.NAME and case.tunnels.lost_share <= USUAL_MISS
    return np.asarray((case.map_of_tunnel[tunnel] >= 0) & decision.observability.deniable[flow] & readable)


def _of_all(case: Case, decision: Decision, llr: Floats, keys: Keys, looked: Bools) -> Floats:
    """Ratios of the pairs, by those of the listed ones: what is not listed was looked for in vain."""
    row = rows_of(case, decision.scores, keys)
    unlisted = decision.unlisted_llr[keys // len(case.tunnels)]
    return np.where((row < 0) & looked, unlisted, np.r_[llr, np.nan][row])


def _of_packets(case: Case, decision: Decision, voice: Voice, keys: Keys, looked: Bools) -> Voice:
    """What packets, or lookups, say of the pairs."""
    spread = voice.spread(rows_of(case, decision.scores, keys), "too few of its packets found to list")
    if voice.engine != decision.engine:
        return spread
    return replace(spread, llr=_of_all(case, decision, voice.llr, keys, looked))


def _claims(case: Case, fields: Sequence[_Field], keys: Keys) -> Floats:
    """Likelihood ratios of the pairs as each engine has them, without bounds."""
    return np.stack([field.claims(_at(case, field.said, keys)) for field in fields])


def _confirmed(case: Case, decision: Decision, keys: Keys, packets: Floats, ratios: Floats) -> Floats:
    """What engines apart clearly say for pairs that packets speak for, too, but did not link; else 0."""
    said = np.nan_to_num(ratios).max(axis=0, initial=0.0)
    opened = decision.tunnel[keys // len(case.tunnels)] < 0
    return np.where(opened & (packets > 0) & (said >= CLEAR), said, 0.0)


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Flows with the tunnel they might be linked to, and the error of that."""

    flow: Int32s
    tunnel: Int32s
    error: Floats


def _likeliest(case: Case, decision: Decision, keys: Keys, claims: Floats, alive: Keys) -> _Candidates:
    """What fields make likeliest. Before, each tunnel at the time and none are taken for equally likely."""
    pairs = pairs_of(case, keys)
    order = np.lexsort((pairs.tunnel, -claims, pairs.flow))
    order = order[decision.tunnel[pairs.flow[order]] < 0]
    flow, claim = pairs.flow[order], claims[order]
    lead = np.flatnonzero(changes(flow))
    count = np.diff(np.r_[lead, len(flow)])
    best = np.repeat(claim[lead], count)
    rivals = np.bincount(np.repeat(np.arange(len(lead)), count), 10.0 ** (claim - best), len(lead)) - 1.0
    rivals += np.maximum(alive[flow[lead]] + 1 - count, 0) * 10.0 ** -claim[lead]
    return _Candidates(flow[lead], pairs.tunnel[order[lead]], rivals / (1.0 + rivals))


def _likelier(case: Case, decision: Decision, keys: Keys, packets: Floats, confirmed: Floats) -> _Candidates:
    """What packets make likeliest and an engine apart from them confirms: its ratio multiplies their odds.

    Where it says as much for another tunnel, nothing is gained.
    """
    pairs = pairs_of(case, keys)
    order = np.lexsort((pairs.tunnel, -packets, pairs.flow))
    flow = pairs.flow[order]
    lead = np.flatnonzero(changes(flow))
    own = confirmed[order[lead]]
    rest = confirmed[order].copy()
    rest[lead] = 0.0
    gained = own - np.maximum.reduceat(rest, lead) if len(lead) else own
    lead, gained = lead[gained > 0], gained[gained > 0]
    error = decision.error[flow[lead]]
    against = error * 10.0**-gained
    return _Candidates(flow[lead], pairs.tunnel[order[lead]], against / (against + 1.0 - error))


def _link(decision: Decision, roads: Sequence[_Candidates]) -> tuple[Int32s, Floats]:
    """Tunnel and stated error of each flow, those that the fields add included: the surest first."""
    flow, to, error = (np.concatenate([getattr(c, n) for c in roads]) for n in ("flow", "tunnel", "error"))
    error = np.maximum(error, decision.policy.least_error)
    order = np.lexsort((error, flow))
    order = order[changes(flow[order])]
    order = order[surest(error[order], decision.policy.expected_false_links - decision.expected_false_links)]
    tunnel, stated = decision.tunnel.copy(), decision.error.copy()
    tunnel[flow[order]], stated[flow[order]] = to[order], error[order]
    return tunnel, stated
