"""The road of a field engine: asked, calibrated, fused, shown; with engines and cases made up for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.scores import EngineScores, Pairs
from vpnforensics.evidence import fields
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.policy import Policy
from vpnforensics.evidence.voices import Voice

S = 1_000_000_000
FLOWS, TUNNELS = 30, 3


class _Tunnels:
    """Present for an hour; the last one only in the second half."""

    lost_share = 0.0

    def __init__(self, count: int = TUNNELS) -> None:
        self.first_ns, self.last_ns = np.zeros(count, np.int64), np.full(count, 3600 * S)

    def __len__(self) -> int:
        return len(self.first_ns)


class _Flows:
    def __init__(self, count: int) -> None:
        self.first_ns = np.linspace(10 * S, 3500 * S, count).astype(np.int64)
        self.last_ns = self.first_ns + S

    def __len__(self) -> int:
        return len(self.first_ns)


@dataclass
class _Case:
    flows: Any = field(default_factory=lambda: _Flows(FLOWS))
    tunnels: Any = field(default_factory=_Tunnels)
    turn: float = 0.0
    away_share: float = 1.0
    turns: list[float] = field(default_factory=list)
    usable: bool = True
    linked: Any = None

    def knowing(self, linked: Any) -> _Case:
        return replace(self, linked=linked)

    @property
    def alignment(self) -> Any:
        return SimpleNamespace(usable=self.usable, to_ingress=lambda ts_ns: ts_ns)

    @property
    def map_of_tunnel(self) -> Any:
        return np.zeros(len(self.tunnels), np.int64)

    def turned(self, turn: float) -> tuple[_Case, Any]:
        self.turns.append(turn)
        away = np.arange(len(self.flows)) < self.away_share * len(self.flows)
        return _Case(self.flows, self.tunnels, turn), away


def _scored(flow: Any, tunnel: Any, score: Any) -> EngineScores:
    flow, tunnel = np.asarray(flow, np.int32), np.asarray(tunnel, np.int32)
    n = np.full(len(flow), 12, np.int32)
    return EngineScores(
        "made", flow, tunnel, np.asarray(score, float), n, ("heard",) * len(flow), {"deaf": 2}
    )


@dataclass
class _Engine:
    says: Callable[[_Case, Pairs | None], EngineScores]
    finds_pairs: bool = True
    name: str = "made"
    apart: bool = False
    asked: list[Pairs | None] = field(default_factory=list)

    def score(self, case: _Case, only: Pairs | None = None) -> EngineScores:
        self.asked.append(only)
        return self.says(case, only)


def _decision(tunnel: Any = None, **changes: Any) -> Decision:
    """By ``packets``, which listed each linked flow in its tunnel; else by nobody."""
    flows = len(tunnel) if tunnel is not None else FLOWS
    linked = np.full(flows, -1, np.int32) if tunnel is None else np.asarray(tunnel, np.int32)
    listed = np.flatnonzero(linked >= 0).astype(np.int32)
    n = np.full(len(listed), 9, np.int32)
    scores = ScoreTable(listed, linked[listed], np.full(len(listed), 20.0), n)
    llr = np.full(len(listed), 3.0)
    voice = Voice("packets", scores.score, llr, n, ("found",) * len(listed))
    parts: dict[str, Any] = {
        "engine": "packets" if len(listed) else "",
        "scores": scores,
        "llr": llr,
        "chance": np.ones(flows),
        "comparisons_of": np.zeros(flows, np.int64),
        "tunnel": linked,
        "record": np.zeros(0, np.int64),
        "error": np.where(linked >= 0, 1e-6, 1.0),
        "policy": Policy(),
        "voices": (voice,) if len(listed) else (),
        "delay_law": {},
        "unlisted_llr": np.full(flows, -2.0 if len(listed) else np.nan),
        "observability": SimpleNamespace(deniable=np.ones(flows, np.bool_)),
    }
    return Decision(**(parts | changes))


def _weigh(
    monkeypatch: pytest.MonkeyPatch,
    engine: _Engine,
    decision: Decision,
    case: _Case | None = None,
    seed: int = 0,
) -> Decision:
    monkeypatch.setattr(fields, "FIELDS", (engine,))
    weighed: Any = case or _Case()
    return fields.weigh_fields(weighed, decision, ("made",), rng=np.random.default_rng(seed))


def _true(case: _Case, only: Pairs | None) -> EngineScores:
    """Every flow in its own tunnel, by nine decimal logarithms; nothing where flows were moved."""
    count = 0 if case.turn else len(case.flows)
    return _scored(np.arange(count), np.arange(count) % TUNNELS, np.full(count, 9.0))


def test_without_a_say_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    decision = _decision()
    engine = _Engine(_true)
    monkeypatch.setattr(fields, "FIELDS", (engine,))
    for case, names in (
        (_Case(), ("packets",)),
        (_Case(usable=False), ("made",)),
        (_Case(tunnels=_Tunnels(0)), ("made",)),
    ):
        weighed: Any = case
        assert fields.weigh_fields(weighed, decision, names, rng=np.random.default_rng(0)) is decision
    assert engine.asked == []


def test_an_engine_alone_links_what_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    case = _Case()
    found = _weigh(monkeypatch, _Engine(_true), _decision(), case)
    assert found.tunnel.tolist() == (np.arange(FLOWS) % TUNNELS).tolist()
    assert found.engine == "made"
    assert found.comparisons_of.tolist() == [TUNNELS] * FLOWS
    np.testing.assert_allclose(found.error, Policy().least_error)
    (voice,) = found.voices
    assert (voice.engine, set(voice.note), set(voice.n.tolist())) == ("made", {"heard"}, {12})
    bound = np.log10(20 * TUNNELS * FLOWS)  # of so many comparisons of flows moved in time
    np.testing.assert_allclose(found.llr, bound)
    assert np.isnan(found.scores.score).all()
    # Twenty times, each in its part of the circle, and never near where they were.
    assert len(case.turns) == 20
    assert 0.05 < min(case.turns) < max(case.turns) < 0.95
    assert (np.diff(case.turns) > 0).all()


def test_of_a_large_case_flows_are_moved_but_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    for flows, turns in ((FLOWS, 20), (10_000, 6), (50_000, 2)):
        case = _Case(flows=_Flows(flows))
        silent = _Engine(
            lambda case, only: _scored([0], [0], [9.0]) if not case.turn else _scored([], [], [])
        )
        _weigh(monkeypatch, silent, _decision(np.full(flows, -1)), case)
        assert len(case.turns) == turns
    nothing = _Case()
    _weigh(monkeypatch, _Engine(lambda case, only: _scored([], [], [])), _decision(), nothing)
    assert nothing.turns == []


def test_what_flows_moved_in_time_score_as_well_links_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def chance(case: _Case, only: Pairs | None) -> EngineScores:
        return _true(_Case(case.flows), only)  # wherever they are

    found = _weigh(monkeypatch, _Engine(chance), _decision())
    assert (found.tunnel < 0).all()
    assert len(found.scores) == 0
    # Of flows that landed near their true place the same is no chance.
    found = _weigh(monkeypatch, _Engine(chance), _decision(), _Case(away_share=0.0))
    assert (found.tunnel >= 0).all()


def test_what_fits_other_tunnels_as_well_links_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def alike(case: _Case, only: Pairs | None) -> EngineScores:
        count = 0 if case.turn else FLOWS
        pairs = np.repeat(np.arange(count), TUNNELS), np.tile(np.arange(TUNNELS), count)
        return _scored(*pairs, 9.0 + np.arange(count * TUNNELS) % TUNNELS)

    assert (_weigh(monkeypatch, _Engine(alike), _decision()).tunnel < 0).all()


def test_what_is_heard_of_few_flows_is_worth_little(monkeypatch: pytest.MonkeyPatch) -> None:
    one = _Engine(lambda case, only: _scored([4], [1], [4.0]) if not case.turn else _scored([], [], []))
    found = _weigh(monkeypatch, one, _decision())
    assert found.llr.tolist() == pytest.approx([4.0 + np.log10(2 / (FLOWS + 2))])
    # Known flows tell it better: of forty in their tunnels, it speaks of five.
    flows = 50
    decision = _decision(np.r_[np.zeros(40), np.full(10, -1)])
    some = _Engine(
        lambda case, only: _scored(range(5), [0] * 5, [4.0] * 5) if not case.turn else _scored([], [], [])
    )
    found = _weigh(monkeypatch, some, decision, _Case(flows=_Flows(flows)))
    heard = found.voices[1].llr[np.isfinite(found.voices[1].llr)]
    np.testing.assert_allclose(heard, 4.0 + np.log10(6 / 42))


def test_what_packets_is_clear_about_stays_and_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    decision = _decision(np.r_[np.zeros(25), np.full(5, -1)])
    against = _Engine(_true)  # speaks for other tunnels of two flows in three
    found = _weigh(monkeypatch, against, decision)
    assert found.tunnel.tolist() == decision.tunnel.tolist()
    assert [v.engine for v in found.voices] == ["packets", "made"]
    mine = found.scores.tunnel == 0
    assert found.llr[mine].tolist() == [3.0] * 25
    assert found.scores.score[mine].tolist() == [20.0] * 25
    assert found.scores.hits[mine].tolist() == [9] * 25
    assert found.engine == "packets"


def test_a_tie_of_packets_is_decided_by_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flow 29 fits two tunnels about as well; the field speaks for the second."""
    linked = np.r_[np.arange(29) % TUNNELS, -1].astype(np.int32)
    flow = np.r_[np.arange(29), 29, 29].astype(np.int32)
    tunnel = np.r_[linked[:29], 1, 2].astype(np.int32)
    llr = np.r_[np.full(29, 3.0), 0.3, 0.2]
    n = np.full(31, 9, np.int32)
    scores = ScoreTable(flow, tunnel, np.full(31, 20.0), n)
    voice = Voice("packets", scores.score, llr, n, ("found",) * 31)
    decision = _decision(linked, scores=scores, llr=llr, voices=(voice,))
    found = _weigh(monkeypatch, _Engine(_true), decision)
    assert found.tunnel[29] == 2
    assert found.scores.tunnel[found.scores.flow == 29].tolist() == [2, 1]  # best first
    # What packets has looked for in vain, a field does not link.
    looked = _decision(linked)
    assert _weigh(monkeypatch, _Engine(_true), looked).tunnel[29] == -1
    out_of_sight = SimpleNamespace(deniable=np.arange(FLOWS) < 29)
    assert _weigh(monkeypatch, _Engine(_true), _decision(linked, observability=out_of_sight)).tunnel[29] == 2


def test_an_engine_that_is_asked_gets_the_listed_and_the_known_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    linked = np.arange(FLOWS) % TUNNELS

    def right(case: _Case, only: Pairs | None) -> EngineScores:
        assert only is not None
        return _scored(only.flow, only.tunnel, np.where(only.tunnel == linked[only.flow], 0.0, -4.0))

    engine = _Engine(right, finds_pairs=False)
    found = _weigh(monkeypatch, engine, _decision(linked))
    (only,) = engine.asked
    assert only is not None
    pairs = set(zip(only.flow.tolist(), only.tunnel.tolist(), strict=True))
    assert len(pairs) == len(only) == 2 * FLOWS
    assert {(f, k) for f, k in enumerate(linked.tolist())} <= pairs
    assert len(found.scores) == FLOWS  # known false pairs calibrate, and are not shown
    assert found.voices[1].llr.tolist() == [0.0] * FLOWS


def test_an_engine_that_is_asked_links_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_for(case: _Case, only: Pairs | None) -> EngineScores:
        assert only is not None
        return _scored(only.flow, only.tunnel, np.where(only.tunnel == only.flow % TUNNELS, 9.0, -9.0))

    linked = np.r_[np.arange(29) % TUNNELS, -1]
    assert _weigh(monkeypatch, _Engine(all_for, finds_pairs=False), _decision(linked)).tunnel[29] == -1


def _open_at_the_end(llr: float) -> Decision:
    """All flows linked but the last: for its own tunnel (2) packets speak a little, with an error of 0.2."""
    linked = np.r_[np.arange(29) % TUNNELS, -1]
    known = _decision(linked)
    flow, n = np.arange(FLOWS, dtype=np.int32), np.full(FLOWS, 9, np.int32)
    scores = ScoreTable(flow, (flow % TUNNELS).astype(np.int32), np.full(FLOWS, 20.0), n)
    llrs = np.r_[known.llr, llr]
    voice = Voice("packets", scores.score, llrs, n, ("found",) * FLOWS)
    error = np.r_[known.error[:29], 0.2]
    return _decision(linked, scores=scores, llr=llrs, voices=(voice,), error=error)


def _for_its_own(case: _Case, only: Pairs | None) -> EngineScores:
    assert only is not None
    assert case.linked is not None, "what packets linked is known to it"
    mine = np.flatnonzero(only.tunnel == only.flow % TUNNELS)
    return _scored(only.flow[mine], only.tunnel[mine], np.full(len(mine), 3.0))


def test_an_engine_apart_confirms_what_packets_make_likeliest(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _Engine(_for_its_own, finds_pairs=False, apart=True)
    found = _weigh(monkeypatch, engine, _open_at_the_end(2.0))
    assert found.tunnel[29] == 2
    bound = np.log10(29)  # comparisons known to be false
    assert found.error[29] == pytest.approx(1 / (1 + 4 * 29))
    assert found.llr[found.scores.flow == 29].tolist() == pytest.approx([2.0 + bound])
    assert found.llr[found.scores.flow == 3].tolist() == [3.0], "what packets linked is as it was"


def test_an_engine_apart_confirms_nothing_that_packets_deny(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = _Engine(_for_its_own, finds_pairs=False, apart=True)
    found = _weigh(monkeypatch, engine, _open_at_the_end(-0.1))
    assert found.tunnel[29] == -1
    assert found.llr[found.scores.flow == 29].tolist() == [-0.1]


def test_other_engines_confirm_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def says(case: _Case, only: Pairs | None) -> EngineScores:
        return _for_its_own(replace(case, linked=()), only)

    found = _weigh(monkeypatch, _Engine(says, finds_pairs=False), _open_at_the_end(2.0))
    assert found.tunnel[29] == -1
    assert found.llr[found.scores.flow == 29].tolist() == [2.0]


def test_an_engine_that_cannot_be_calibrated_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    few = _decision(np.r_[np.zeros(9), np.full(21, -1)])
    engine = _Engine(lambda case, only: _scored([0], [0], [1.0]), finds_pairs=False)
    (_, voice) = _weigh(monkeypatch, engine, few).voices
    assert np.isnan(voice.llr).all()
    assert voice.note[0] == "heard; fewer than 20 known pairs to calibrate it"
    assert set(voice.note[1:]) == {"deaf"}


@pytest.mark.parametrize("seed", range(3))
def test_false_pairs_are_linked_flows_in_another_tunnel_of_their_time(seed: int) -> None:
    case: Any = _Case()
    case.tunnels.first_ns[2] = 1800 * S
    decision = _decision(np.r_[np.full(25, 1), np.full(5, -1)])
    h1, h2 = fields._known(case, decision, np.random.default_rng(seed))
    assert h1.tolist() == [f * TUNNELS + 1 for f in range(25)]
    flow, tunnel = np.divmod(h2, TUNNELS)
    assert set(flow.tolist()) == set(range(25))
    assert not (tunnel == 1).any()
    early = case.flows.first_ns[flow] < 1800 * S
    assert (tunnel[early] == 0).all()
    assert set(tunnel[~early].tolist()) == {0, 2}
    alone: Any = _Case(tunnels=_Tunnels(1))
    assert [len(keys) for keys in fields._known(alone, _decision(np.zeros(5)), np.random.default_rng(0))] == [
        5,
        0,
    ]


def test_no_more_than_two_thousand_flows_calibrate() -> None:
    case: Any = _Case(flows=_Flows(2_500))
    for flows, known in ((2_000, 2_000), (2_500, 2_000)):
        decision = _decision(np.r_[np.zeros(flows), np.full(2_500 - flows, -1)])
        h1, _ = fields._known(case, decision, np.random.default_rng(0))
        assert len(np.unique(h1)) == known
        assert (np.diff(h1) > 0).all()
