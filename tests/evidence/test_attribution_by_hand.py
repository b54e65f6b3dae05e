"""Attribution with a first look and a joint model that are made up: what is made of both, flow by flow."""

from __future__ import annotations

from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.evidence.joint.made import made
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines.case import ScoreTable
from vpnforensics.evidence import attribution as module
from vpnforensics.evidence.attribution import attribute, surest
from vpnforensics.evidence.decoys import NO_DECOYS, Decoys
from vpnforensics.evidence.joint.hints import Hints
from vpnforensics.evidence.joint.model import Posterior
from vpnforensics.evidence.joint.placing import Placed
from vpnforensics.evidence.policy import Policy

LN10 = log(10.0)


def table(*rows: tuple[int, int, float]) -> ScoreTable:
    """Pairs of flow, tunnel and score."""
    flow, tunnel, score = zip(*rows, strict=True) if rows else ((),) * 3
    return ScoreTable(
        np.array(flow, np.int32),
        np.array(tunnel, np.int32),
        np.array(score, float),
        np.ones(len(rows), np.int32),
    )


def posterior(
    best: list[int], error: list[float], pairs: Any = (), asked: Any = None, **more: Any
) -> Posterior:
    """Of flows; pairs are flow, tunnel and ln odds."""
    flows = len(best)
    flow, tunnel, odds = zip(*pairs, strict=True) if pairs else ((),) * 3
    parts = {
        "asked": np.ones(flows, np.bool_) if asked is None else np.array(asked),
        "best": np.array(best, np.int32),
        "error": np.array(error),
        "pair_flow": np.array(flow, np.int32),
        "pair_tunnel": np.array(tunnel, np.int32),
        "pair_odds": np.array(odds, float),
        "unlisted_odds": np.full(flows, -7.0),
        "log_prior": np.full(flows, -1.5),
        "missing": np.zeros(flows),
        "miss": (0.02,) * 6,
        "none_share": 0.07,
        "unexplained_share": 0.02,
        "left_out": 0,
    }
    return Posterior(**(parts | more))


class Case:
    """Flows of so many packets; notes what is asked of it. Packets are fresh unless said."""

    def __init__(
        self,
        sizes: list[int],
        stale: Any = (),
        *,
        padded: bool = False,
        of_writes: bool = False,
        of_packets: bool = False,
    ) -> None:
        start = np.r_[0, np.cumsum(sizes)]
        self.classes = SimpleNamespace(all_padded=padded)
        self.of_writes, self.of_packets = of_writes, of_packets
        self.egress = SimpleNamespace(start=start, ts_ns=np.zeros(start[-1], np.int64))
        self.fresh = np.ones(start[-1], np.uint8)
        self.fresh[list(stale)] = 0
        self.egress_class = (np.zeros(start[-1], np.int32), np.full(start[-1], -1, np.int32))
        self.tunnels = 3
        self.owned: list[tuple[list[int], list[int], list[float]]] = []
        self.taken: list[list[int]] = []

    def own(self, flows: Any, tunnels: Any, scores: Any) -> str:
        self.owned.append((flows.tolist(), tunnels.tolist(), scores.tolist()))
        return "owned"

    def take_out(self, flows: Any, owned: str, record: Any) -> Case:
        assert owned == "owned"
        self.taken.append(flows.tolist())
        for f in flows:
            record[self.egress.start[f] : self.egress.start[f + 1]] = 100 + f
        return self

    def score_again(self, pairs: ScoreTable) -> ScoreTable:
        return ScoreTable(pairs.flow, pairs.tunnel, np.full(len(pairs), 0.25), np.ones(len(pairs), np.int32))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Attribution of a case where these were placed, and the model says so."""

    def attributed(case: Case, placed: Any, looked: ScoreTable, *said: Posterior, **options: Any) -> Any:
        alive, decoys = options.get("alive"), options.get("decoys", NO_DECOYS)
        policy = options.get("policy", Policy(understated=1.0))
        flows = len(case.egress.start) - 1
        there = np.full(flows, 3) if alive is None else np.array(alive)
        asked: list[tuple[list[int], float | None]] = []
        answers = iter(said)

        def place(containment: Any, some: Any, by: Policy) -> Placed:
            assert (some.tolist(), by) == (np.flatnonzero(there > 0).tolist(), policy)
            tunnel, margin = np.full(flows, -1, np.int32), np.full(flows, -np.inf)
            for f, (t, m) in placed.items():
                tunnel[f], margin[f] = t, m
            record = np.full(len(case.egress.ts_ns), -1, np.int32)
            for f in placed:
                record[case.egress.start[f] : case.egress.start[f + 1]] = 200 + f
            return Placed(tunnel, margin, record, case, looked)  # type: ignore[arg-type]

        def solve(containment: Any, wanted: Any, alive: Any, none_share: float | None = None) -> Posterior:
            asked.append((np.flatnonzero(wanted).tolist(), none_share))
            return next(answers)

        monkeypatch.setattr(module, "place_strong", place)
        monkeypatch.setattr(module, "solve", solve)
        tried: dict[str, Any] = {}

        def try_decoys(containment: Any, alive: Any, with_copies: Any, worst: float, *_: Any) -> Decoys:
            tried.update(worst=worst, with_copies=with_copies)
            return decoys

        monkeypatch.setattr(module, "try_decoys", try_decoys)
        monkeypatch.setattr(
            module, "share_when_last", options.get("share", lambda _, of, *by: np.ones(len(of)))
        )
        told: list[float] = []
        found = attribute(case, there, policy=policy, rng=np.random.default_rng(0), progress=told.append)  # type: ignore[arg-type]
        assert told == [0.5, 0.9]
        return SimpleNamespace(found=found, asked=asked, tried=tried)

    return attributed


def test_the_placed_have_half_their_margin_as_error_and_the_others_the_models(run: Any) -> None:
    case = Case([3, 2, 4])
    made_up = run(case, {0: (1, 14.0)}, table((0, 1, 14.0)), posterior([-1, 2, -1], [1.0, 2e-4, 1.0]))
    assert made_up.found.tunnel.tolist() == [1, 2, -1]
    assert made_up.found.error.tolist() == pytest.approx([1e-7, 2e-4, 1.0])
    assert made_up.asked == [([3, 4, 5, 6, 7, 8], None)], "all packets of those that were not placed"
    assert made_up.tried["worst"] == pytest.approx(2e-4)
    weak = run(Case([3]), {0: (1, 9.0)}, table((0, 1, 9.0)), posterior([-1], [1.0]))
    assert weak.found.error.tolist() == pytest.approx([10**-4.5])


def test_of_each_flow_as_much_is_believed_as_it_keeps_beside_those_that_are_nowhere(run: Any) -> None:
    asked = []

    def share(case: Any, tunnel: Any, strength: Any, rivals: Any) -> Any:
        asked.append((tunnel.tolist(), strength.tolist(), rivals.tolist()))
        return np.array([0.5, 1.0, 1.0, 0.25, 1.0])

    looked = table((0, 1, 20.0), (0, 2, 4.0), (1, 1, 8.0), (1, 0, 1.0), (2, 1, 8.0), (3, 1, 8.0))
    said = posterior([-1, 1, 1, 1, -1], [1.0, 0.5, 0.5, 1e-4, 1.0], [(3, 1, 9.0)])
    case = [50, 10, 9, 10, 10]
    found = run(Case(case), {0: (1, 16.0)}, looked, said, share=share).found
    tunnel, strength, rivals = asked[0]
    assert rivals == [1, 2], "the others are linked, or stand nowhere"
    assert tunnel == [1, 1, 1, 1, -1]
    assert strength[:4] == pytest.approx([0.5 * 16.0, 0.5 * 7.0, 0.5 * 8.0, 4.0])
    assert found.error[[0, 3]].tolist() == pytest.approx([10**-4.0, 10**-1.0])
    assert found.llr[:2].tolist() == pytest.approx([0.5 * 0.5 * 16.0, 0.5 * 0.5 * (4.0 - 20.0)])
    assert found.llr[5] == pytest.approx(0.25 * (9.0 + 1.5) / LN10)
    assert found.unlisted_llr[[0, 3]].tolist() == pytest.approx(
        [-0.5 * 0.5 * 20.0, 0.25 * (-7.0 + 1.5) / LN10]
    )
    for other in (Case(case, padded=True), Case(case, of_writes=True)):
        believed = run(other, {0: (1, 16.0)}, looked, said, share=share).found
        assert believed.error[0] == pytest.approx(1e-7), "all of it: there most lack something"


def test_the_sure_leave_with_their_records_and_the_others_are_asked_again(run: Any) -> None:
    case = Case([1, 1, 1, 1])
    first = posterior([0, 1, 2, 0], [9e-7, 1e-6, 0.3, 1.0], asked=[True, True, True, False])
    later = posterior([2, 1, 1, 1], [0.9, 3e-3, 4e-3, 5e-3], asked=[True, True, True, True])
    made_up = run(case, {}, table(), first, later)
    assert made_up.asked == [([0, 1, 2, 3], None), ([1, 2], 0.07)]
    assert case.owned[0] == ([0], [0], [-9e-7])
    assert case.taken[0] == [0]
    assert made_up.found.tunnel.tolist() == [0, 1, 1, -1], "whom the model was not asked about has none"
    assert made_up.found.error.tolist() == pytest.approx([9e-7, 3e-3, 4e-3, 1.0])
    # Those linked late get their records then.
    assert case.owned[1] == ([1, 2], [1, 1], [-3e-3, -4e-3])
    assert made_up.found.record.tolist() == [100, 101, 102, -1]


def test_whom_the_second_asking_left_out_keeps_what_was_said_first(run: Any) -> None:
    first = posterior([0, 1], [1e-8, 2e-3], [(0, 0, 9.0), (1, 1, 4.0)])
    later = posterior([2, 2], [0.9, 0.9], [(0, 2, 1.0), (1, 1, 1.0)], asked=[True, False])
    made_up = run(Case([1, 1]), {}, table((0, 0, 1.0), (1, 1, 1.0)), first, later)
    assert made_up.found.tunnel.tolist() == [0, 1]
    assert made_up.found.error.tolist() == pytest.approx([1e-7, 2e-3]), "none is believed beyond the least"
    ratios = pytest.approx([(9.0 + 1.5) / LN10, (4.0 + 1.5) / LN10])
    assert made_up.found.llr.tolist() == ratios
    assert made_up.found.by_packets[0].tolist() == ratios


def test_records_are_only_of_those_that_are_linked(run: Any) -> None:
    case = Case([2, 1])
    made_up = run(
        case, {0: (1, 30.0), 1: (2, 0.2)}, table((0, 1, 30.0), (1, 2, 0.2)), posterior([-1] * 2, [1.0] * 2)
    )
    assert made_up.found.tunnel.tolist() == [1, -1]
    assert made_up.found.record.tolist() == [200, 200, -1]


def test_of_a_long_flow_no_error_is_below_what_its_score_leaves_unless_much_is_unread(run: Any) -> None:
    looked = table((0, 1, 3.0), (0, 0, 9.0), (1, 1, 3.0), (2, 1, 1.0), (3, 1, 1.0))
    said = posterior([1, 1, 2, 1], [1e-5] * 4, missing=np.array([0.24, 0.0, 0.24, 0.25]))
    made_up = run(Case([10, 9, 10, 10]), {}, looked, said)
    assert made_up.found.error.tolist() == pytest.approx([1e-3, 1e-5, 10**-0.25, 1e-5]), (
        "one of no look is scored"
    )
    assert made_up.found.tunnel.tolist() == [1, 1, -1, 1]


def test_of_packets_in_writes_no_flow_is_believed_beyond_its_score(run: Any) -> None:
    looked, said = table((0, 1, 2.0), (1, 1, 9.0)), posterior([1, 1], [4e-6] * 2)
    made_up = run(Case([4, 4], of_writes=True, of_packets=True), {}, looked, said)
    assert made_up.found.error.tolist() == pytest.approx([1e-2, 4e-6])
    assert run(Case([4, 4], of_writes=True), {}, looked, said).found.error.tolist() == pytest.approx(
        [4e-6] * 2
    )


def test_packets_of_which_no_tunnel_would_have_a_record_are_not_asked_about(run: Any) -> None:
    case = Case([3, 1])
    for per_map in case.egress_class:
        per_map[[1, 3]] = IN_PIECES
    case.egress_class[0][2] = IN_PIECES
    made_up = run(case, {}, table(), posterior([0, -1], [1e-3, 1.0]))
    assert made_up.asked[0][0] == [0, 2]


def test_of_long_flows_the_model_is_asked_for_fresh_packets_only(run: Any) -> None:
    case = Case([101, 100], stale=[5, 150])
    made_up = run(case, {}, table(), posterior([0, 0], [0.5, 0.5]))
    assert made_up.asked[0][0] == [p for p in range(201) if p != 5]


def test_where_no_tunnel_was_there_nobody_is_asked(run: Any) -> None:
    made_up = run(Case([1, 1]), {}, table(), posterior([0, -1], [1e-3, 1.0]), alive=[3, 0])
    assert made_up.asked[0][0] == [0]
    assert made_up.found.tunnel.tolist() == [0, -1]


def test_decoys_that_look_sure_bound_the_errors(run: Any) -> None:
    many = Decoys(100, 9, 5, 300, np.zeros(0))
    args = Case([1, 1]), {}, table(), posterior([0, 1], [1e-3, 2e-3])
    assert run(*args, decoys=many).found.tunnel.tolist() == [-1, -1]
    assert run(*args, decoys=many, policy=Policy(expected_false_links=0.1)).found.error.tolist() == [0.05] * 2


def test_copies_are_settled_beside_the_flows_with_the_same_share_of_none(run: Any) -> None:
    made_up = run(Case([1, 1]), {}, table(), posterior([0, 1], [1e-3, 2e-3]), posterior(
        [0, 1, 2], [0.5, 0.6, 0.7], [(0, 0, 1.0), (2, 1, 2.0), (2, 2, 4.0)]
    ))  # fmt: skip
    extended = Case([1, 1, 1])
    made_of = made_up.tried["with_copies"]
    module_place = table((0, 0, 2.0), (2, 1, 5.0), (2, 2, 6.0))

    def place(containment: Any, some: Any, by: Policy) -> Placed:
        none = np.full(3, -1, np.int32)
        return Placed(none, np.full(3, -np.inf), none.copy(), extended, module_place)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "place_strong", place)
        error, llr = made_of(extended, np.array([1], np.int32))
    assert error.tolist() == [0.7]
    assert llr.tolist() == pytest.approx([(2.0 + 1.5) / LN10, (4.0 + 1.5) / LN10])
    assert made_up.asked[1] == ([0, 1, 2], 0.07)


def test_ratios_are_the_models_or_half_the_lead_of_the_placed(run: Any) -> None:
    looked = table((0, 0, 20.0), (0, 1, 4.0), (0, 2, 1.0), (1, 0, 3.0), (1, 1, 2.0))
    said = posterior([-1, 1, -1], [1.0, 0.3, 1.0], [(1, 1, 2.0), (1, 2, 1.0)], unlisted_odds=np.full(3, -4.0))
    made_up = run(Case([1, 1, 1]), {0: (0, 16.0)}, looked, said, alive=[3, 3, 0])
    pairs = list(zip(made_up.found.pairs.flow.tolist(), made_up.found.pairs.tunnel.tolist(), strict=True))
    assert pairs == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
    unlisted = (-4.0 + 1.5) / LN10
    assert made_up.found.llr.tolist() == pytest.approx([8.0, -8.0, -9.5, unlisted, (2.0 + 1.5) / LN10])
    assert made_up.found.unlisted_llr.tolist() == pytest.approx([-10.0, unlisted, 0.0])


def test_a_likeliest_tunnel_that_no_look_listed_is_listed(run: Any) -> None:
    made_up = run(
        Case([1, 1]), {}, table((1, 2, 3.0)), posterior([2, 2], [0.3, 0.3], [(0, 2, 0.5), (1, 2, 0.5)])
    )
    found = made_up.found.pairs
    rows = zip(found.flow.tolist(), found.tunnel.tolist(), found.score.tolist(), strict=True)
    assert sorted(rows) == [(0, 2, 0.25), (1, 2, 3.0)]


def test_none_is_linked_that_is_likelier_wrong_and_equal_ones_in_their_order() -> None:
    assert surest(np.array([0.5, 0.49]), 9.0).tolist() == [False, True]
    assert surest(np.array([0.004] * 3), 0.01).tolist() == [True, True, False]
    assert surest(np.array([0.006, 0.004]), 0.01).tolist() == [True, True]
    assert surest(np.zeros(0), 0.01).tolist() == []


def test_a_real_first_look_and_model_agree_with_the_made_up_ones() -> None:
    flows = [[(0.0, 80, True), (5.0, 120, False)], [(500.0, 80, True), (505.0, 120, False)]]
    records = [(t, size, up, k) for k, flow in enumerate(flows) for t, size, up in flow]
    case = made(flows, records, tunnels=2)
    found = attribute(case, np.array([2, 2]), policy=Policy(decoy_rounds=0), rng=np.random.default_rng(0))
    assert found.llr[found.pairs.tunnel == found.pairs.flow].min() > 0
    assert (found.pairs.tunnel == found.pairs.flow).sum() == 2


def test_what_the_sure_do_decides_between_tunnels_that_fit_alike() -> None:
    """Two lookups of one moment and two tunnels that had both: a coin flip, unless somebody goes there."""
    surely = [[(t, 80 + n, True), (t + 5.0, 300 + n, False)] for n, t in enumerate((5_000.0, 9_000.0))]
    twins = [[(0.0, 80, True), (5.0, 120, False)], [(0.1, 80, True), (5.1, 120, False)]]
    flows = surely + twins
    records = [(t, size, up, k) for k in (0, 1) for t, size, up in surely[k] + twins[k]]
    case = made(flows, records, tunnels=2, sd_ms=2.0)
    policy, alive = Policy(decoy_rounds=0), np.full(4, 2)
    asked: list[list[int]] = []

    def hints(tunnel: Any) -> Hints:
        asked.append(tunnel.tolist())
        flow, to = np.array([2, 3], np.int32), np.array([1, 0], np.int32)
        return Hints(flow, to, np.full(2, 6.0), np.zeros(4))

    alone = attribute(case, alive, policy=policy, rng=np.random.default_rng(0))
    told = attribute(case, alive, policy=policy, rng=np.random.default_rng(0), hints=hints)
    assert asked == [[0, 1, -1, -1]]
    assert alone.error[2:].min() > 0.2
    assert told.tunnel.tolist() == [0, 1, 1, 0]
    assert told.error[2:].max() < 1e-4
    pairs = [(f, k) for f, k in zip(told.pairs.flow.tolist(), told.pairs.tunnel.tolist(), strict=True)]
    swapped = [pairs.index((2, 1)), pairs.index((3, 0))]
    assert told.llr[swapped].min() > 3.0
    assert np.abs(told.by_packets[0][swapped]).max() < 1.0
    assert told.hints is not None
    assert alone.hints is None
