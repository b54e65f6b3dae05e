"""What whole connections are worth: the sums behind it, on figures made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.connections import ConnectionPairs
from vpnforensics.evidence import connections as module
from vpnforensics.evidence import contended
from vpnforensics.evidence.contest import Contest, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.policy import Policy
from vpnforensics.evidence.voices import Voice


def pairs(*rows: tuple[int, int]) -> ConnectionPairs:
    flow, connection = zip(*rows, strict=True) if rows else ((), ())
    return ConnectionPairs(np.array(flow, np.int32), np.array(connection, np.int32))


def decision(tunnel: list[int], record: Any = (), **changes: Any) -> Decision:
    flows = len(tunnel)
    listed = np.arange(flows, dtype=np.int32)
    llr = np.linspace(0.5, 2.0, flows)
    voice = Voice("writes", llr, llr, np.ones(flows, np.int32), ("",) * flows)
    parts: dict[str, Any] = {
        "engine": "writes",
        "scores": ScoreTable(listed, np.zeros(flows, np.int32), llr, np.ones(flows, np.int32)),
        "llr": llr, "chance": np.ones(flows), "comparisons_of": np.full(flows, 2), "policy": Policy(),
        "tunnel": np.array(tunnel, np.int32), "record": np.array(record, np.int64),
        "error": np.full(flows, 1e-3),
        "voices": (voice,), "delay_law": {}, "unlisted_llr": np.zeros(flows),
        "observability": None, "null_comparisons": 1000,
    }  # fmt: skip
    return Decision(**(parts | changes))


class _Conversations(SimpleNamespace):
    def __len__(self) -> int:
        return 1 + int(self.flow.max())


def test_an_error_is_what_odds_leave_and_at_most_a_half() -> None:
    found = contended.doubt(np.array([0.0, 1.0, 3.0, -5.0, 900.0]))
    assert found.tolist() == pytest.approx([0.5, 1 / 11, 1 / 1001, 0.5, 0.0], abs=1e-12)


def test_a_flow_is_in_the_conversation_in_which_most_of_its_records_stand() -> None:
    case: Any = SimpleNamespace(
        flows=range(3),
        egress=SimpleNamespace(start=np.array([0, 3, 5, 7])),
        tunnels=SimpleNamespace(records=SimpleNamespace(row=np.array([4, 3, 2, 1, 0]))),
        conversations=_Conversations(flow=np.array([6, 6, 5, 5, 5])),
    )
    # Flow 0: records in rows 4, 1, 0; flow 1: row 2 and none; flow 2 is not linked.
    made = decision([0, 1, -1], [0, 3, 4, 2, -1, 0, 1])
    assert module.connections_of(case, made).tolist() == [6, 5, -1]
    without = decision([0, 1, -1], [0, 3, 4, -1, -1, 0, 1])
    assert module.connections_of(case, without).tolist() == [6, -1, -1], "linked, but by no record"


def test_connections_are_shared_where_there_are_fewer_than_seven_for_ten_flows() -> None:
    """Flows of which the connection is not known do not count."""
    assert not module.shared(np.array([0, 1, 2, 3, 4, 5, 6, 6, 6, 6, -1, -1, -1]))
    assert module.shared(np.array([0, 1, 2, 3, 4, 5, 5, 5, 5, 5, -1, -1, -1]))


def test_who_is_unlinked_has_no_record_left() -> None:
    case: Any = SimpleNamespace(egress=SimpleNamespace(start=np.array([0, 2, 3])))
    found = module.unlinked(case, decision([1, 0], [7, 8, 9]), np.array([True, False]))
    assert found.tunnel.tolist() == [-1, 0]
    assert found.error.tolist() == [1.0, 1e-3]
    assert found.record.tolist() == [-1, -1, 9]


def test_a_class_is_worth_how_much_oftener_known_pairs_have_it() -> None:
    """Of two features with three and two classes; a class that nobody had is none."""
    known, chance = np.array([8.0, 0.0, 2.0, 5.0, 0.0]), np.array([10.0, 0.0, 70.0, 0.0, 0.0])
    worth = module._worth(known, chance, [3, 2])
    expected = []
    for first, last in ((0, 3), (3, 5)):
        seen = max(sum(known[k] + chance[k] > 0 for k in range(first, last)), 1)
        for k in range(first, last):
            by_chance = (chance[k] + 1) / (chance[first:last].sum() + seen)
            true = (known[k] + 2 * by_chance) / (known[first:last].sum() + 2)
            expected.append(np.log10(true / by_chance))
    assert worth.tolist() == pytest.approx(expected)
    assert worth[0] > 0.5 > -0.3 > worth[2]


def test_a_flow_is_beforehand_in_none_as_likely_as_in_each_it_is_compared_with() -> None:
    connections: Any = SimpleNamespace(tunnel_of=np.array([5, 6, 7]))
    found = module._contest(connections, pairs((0, 0), (0, 2), (1, 1)), np.array([3.0, 1.0, 2.0]))
    assert found.flow.tolist() == [0, 0, 1]
    assert found.connection.tolist() == [0, 2, 1]
    assert found.tunnel.tolist() == [5, 7, 6]
    assert found.decades.tolist() == pytest.approx([3 - np.log10(2), 1 - np.log10(2), 2.0])
    assert len(module._contest(connections, pairs(), np.zeros(0)).flow) == 0


def test_pairs_come_in_parts_that_are_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    parts = list(module._parts(pairs(*((k, k + 1) for k in range(7)))))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [f for part in parts for f in part.flow.tolist()] == list(range(7))
    assert list(module._parts(pairs())) == []


@pytest.mark.parametrize(("each", "turns"), [(10, 6), (100_000, 2), (60_000, 3), (75_000, 2)])
def test_flows_are_turned_until_enough_is_compared(each: int, turns: int) -> None:
    asked: list[Any] = []

    def candidates(shift_ns: Any, of: Any) -> Any:
        asked.append((shift_ns, of))
        return range(each)

    shifts = np.array([5, 6, 7])
    circle = SimpleNamespace(turned=lambda begin, turn: (shifts + len(asked), np.array([True, True, False])))
    case: Any = SimpleNamespace(flows=range(3), circle=circle)
    connections: Any = SimpleNamespace(inner=SimpleNamespace(begin_ns=np.zeros(3)), candidates=candidates)
    found = list(module._turned(case, connections, 1.0, 6, np.random.default_rng(0)))
    assert len(found) == len(asked) == turns
    assert all(of.tolist() == [True, True, False] for _, of in asked), "those that landed near are none"
    assert [shift.tolist() for _, shift in found] == [[5 + k, 6 + k, 7 + k] for k in range(turns)]
    none = list(module._turned(case, connections, 0.0, 1, np.random.default_rng(0)))
    assert len(none) == 1
    assert not asked[-1][1].any()


class _Case(SimpleNamespace):
    flows = range(3)
    tunnels = range(2)


def heard(
    rows: list[tuple[int, int, int, float]], linked: list[bool], slope: float = 1.0, *,
    by_writes: tuple[int, ...] = (0, -1, -1), **changes: Any,
) -> Any:  # fmt: skip
    """The voice on pairs of (flow, connection, tunnel, decades), in a decision by writes."""
    flow, connection, tunnel, decades = zip(*rows, strict=True)
    contest = Contest(
        *(np.array(column, np.int64) for column in (flow, connection, tunnel)), np.array(decades)
    )
    outcome = settle_contest(contest, 3, 4)
    compared = np.bincount(contest.flow, minlength=3)
    won = tuple(f"opened at {c}" for c in outcome.connection.tolist())
    said = contended.Contended(
        "connections", contest, outcome, compared, slope, np.array(linked), won, "none opened then"
    )
    return contended.heard(_Case(), decision(list(by_writes), **changes), said), outcome  # type: ignore[arg-type]


def ratios(found: Decision, llr: Any = None) -> dict[tuple[int, int], float]:
    """Of each listed pair, of all together or of a voice."""
    listed = zip(found.scores.flow.tolist(), found.scores.tunnel.tolist(), strict=True)
    return dict(zip(listed, (found.llr if llr is None else llr).tolist(), strict=True))


def test_against_a_pair_no_more_is_said_than_the_links_are_many() -> None:
    """Of three links, one of them to the first tunnel: half a decade at most."""
    rows = [(0, 0, 1, 4.0), (0, 1, 0, -4.0)]
    for by_writes, least in (((1, 1, 0), -np.log10(3)), ((-1, -1, -1), 0.0)):
        found, _ = heard(rows, [False] * 3, by_writes=by_writes)
        assert ratios(found, found.voices[-1].llr)[0, 0] == pytest.approx(least)


def test_a_pair_that_writes_did_not_list_is_where_it_is_clear_or_linked() -> None:
    """By writes each flow has a pair with tunnel 0 alone."""
    rows = [(0, 0, 1, 4.0), (1, 1, 1, 0.4), (2, 2, 1, 0.4)]
    found, _ = heard(rows, [False, True, False])
    assert set(ratios(found)) == {(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)}
    few, _ = heard(rows[:1], [False] * 3, null_comparisons=10)
    assert ratios(few)[0, 1] == 1.0, "a decade is clear"


def test_writes_are_clear_from_a_decade_on() -> None:
    rows = [(0, 0, 0, 4.0), (1, 1, 0, 4.0)]
    found, _ = heard(rows, [False] * 3, llr=np.array([1.0, 0.99, 0.0]))
    assert ratios(found)[0, 0] == 1.0
    assert ratios(found)[1, 0] > 2.0


def test_a_flow_that_it_linked_has_its_ratio_over_the_prior() -> None:
    rows = [(1, 0, 1, 4.0), (1, 1, 1, 1.0), (1, 2, 0, 0.5)]
    found, outcome = heard(rows, [False, True, False])
    at = {(f, t): k for k, (f, t) in enumerate(zip(found.scores.flow, found.scores.tunnel, strict=True))}
    voice = found.voices[-1]
    assert outcome.tunnel[1] == 1
    mine = outcome.strength[:2].sum()
    odds = min(np.log10(mine / (1.0 + outcome.strength[2])), float(outcome.claim[1]))
    score = odds - np.log10(2 / (2 * 3 - 2))
    assert voice.score[at[1, 1]] == pytest.approx(score)
    assert voice.n[at[1, 1]] == 2
    bound = 3.0  # of a thousand comparisons
    assert voice.llr[at[1, 1]] == pytest.approx(min(score, bound))
    assert found.llr[at[1, 1]] == voice.llr[at[1, 1]]
    assert voice.note[at[1, 1]] == "opened at 0"
    assert voice.note[at[1, 0]] == "contended"
    assert voice.score[at[1, 0]] < 0
    assert voice.llr[at[1, 0]] >= -np.log10(1), "one flow is linked: nothing can be said against a pair"
    assert found.voices[0].note[at[1, 1]] == "no writes alike"


def test_what_writes_are_clear_about_stands_and_else_who_says_more() -> None:
    rows = [(0, 0, 0, 3.0), (1, 1, 0, 2.0), (2, 2, 0, 0.1)]
    found, _ = heard(rows, [False, False, False], slope=0.5)
    by_flow = dict(
        zip(
            found.scores.flow.tolist(),
            zip(found.llr, *(v.llr for v in found.voices), strict=True),
            strict=True,
        )
    )
    assert by_flow[0] == (by_flow[0][2], 0.5, by_flow[0][2])
    assert by_flow[0][2] > 0.5
    assert by_flow[1][0] == by_flow[1][1] == 1.25, "a decimal logarithm and more"
    assert by_flow[2][0] == by_flow[2][1] == 2.0
    linked, _ = heard(rows, [False, True, False], slope=0.5)
    at = linked.scores.flow.tolist().index(1)
    assert linked.llr[at] == linked.voices[-1].llr[at]


def test_with_few_known_pairs_or_connections_of_many_flows_all_is_left_to_others() -> None:
    for count, width in ((19, 1), (40, 2)):
        start = np.arange(count + 1)
        conversations = _Conversations(flow=np.arange(99) // width)
        case: Any = SimpleNamespace(
            flows=range(count), egress=SimpleNamespace(start=start), conversations=conversations,
            tunnels=SimpleNamespace(records=SimpleNamespace(row=np.arange(99))),
        )  # fmt: skip
        made = decision([0] * count, list(range(count)))
        assert module.with_connections(case, made, np.random.default_rng(0)) is made


class _Pairs:
    """Connections of which every pair has one of two classes: whether both are of one number."""

    classes, features = 2, [2]

    def __init__(self, listed: Any, turned: Any) -> None:
        self.listed, self.later = listed, iter(turned)
        self.tunnel_of = np.arange(30) % 3
        self.inner = SimpleNamespace(begin_ns=np.zeros(3, np.int64))
        self.asked: list[Any] = []

    def candidates(self, shift_ns: Any, of: Any) -> ConnectionPairs:
        if not shift_ns.any():
            return pairs(*self.listed)
        return pairs(*next(self.later))

    def least_amounts(self, known: ConnectionPairs) -> tuple[int, int]:
        self.asked.append(list(zip(known.flow.tolist(), known.connection.tolist(), strict=True)))
        return (7, 8)

    def observe(self, some: ConnectionPairs, shift_ns: Any, least: Any) -> Any:
        assert least == (7, 8)
        seen = np.where(some.flow == some.connection, 0, 1)
        return module_observed(seen)


def module_observed(seen: Any) -> Any:
    from vpnforensics.engines.connections import Observed

    return Observed(np.arange(len(seen), dtype=np.int32), seen.astype(np.int32))


def _case_of(flows: int) -> Any:
    circle = SimpleNamespace(turned=lambda begin, turn: (np.ones(flows, np.int64), np.ones(flows, np.bool_)))
    return SimpleNamespace(flows=range(flows), circle=circle, conversations=range(30))


def test_what_is_learned_is_of_known_pairs_and_of_copies() -> None:
    flows = 12
    right, wrong = [(f, f) for f in range(flows)], [(f, (f + 1) % 30) for f in range(flows)]
    made = _Pairs(right + wrong, [wrong * 2] * 4)
    linked = decision([f % 3 for f in range(11)] + [-1], error=np.full(12, 1e-9))
    by_writes = np.r_[np.arange(10), -1, -1]
    found = module._learn(_case_of(flows), made, by_writes, linked, np.random.default_rng(0))  # type: ignore[arg-type]
    assert made.asked == [right[:10]], "known pairs are those of the writes"
    assert found.least == (7, 8)
    assert found.share == 1.0
    assert found.compared.tolist() == [True] * 12
    # Chance: four turns of 24 copies, and the 11 linked flows' pairs with another tunnel's connection.
    chance = np.array([0.0, 4 * 24 + 11])
    assert found.worth.tolist() == pytest.approx(module._worth(np.array([12.0, 0.0]), chance, [2]).tolist())
    # A sure flow is held against connections of its own tunnel only; the last one is not linked.
    kept = list(zip(found.contest.flow.tolist(), found.contest.connection.tolist(), strict=True))
    assert kept == [*right[:11], right[11], wrong[11]]
    assert found.outcome.connection.tolist() == list(range(12))
    lead = found.contest.decades[:10] - found.contest.decades[10]
    assert lead == pytest.approx([5.0] * 10), "writes lead by five decades"


@pytest.mark.parametrize(("beyond", "sure"), [(1.0, True), (1.01, False)])
def test_a_link_is_sure_up_to_the_policys_error(beyond: float, sure: bool) -> None:
    """A sure flow is held against no connection of another tunnel, and its writes' one leads."""
    right, wrong = [(f, f) for f in range(3)], [(f, f + 1) for f in range(3)]
    made = _Pairs(right + wrong, [wrong] * 4)
    linked = decision([0, 1, 2], error=np.full(3, Policy().sure * beyond))
    found = module._learn(_case_of(3), made, np.arange(3), linked, np.random.default_rng(0))  # type: ignore[arg-type]
    assert len(found.contest.flow) == (3 if sure else 6)
    lead = 5.0 if sure else 0.0
    assert found.contest.decades[0] == pytest.approx(found.worth[0] - np.log10(2) + lead)


def test_a_share_of_a_busy_cases_flows_is_copied() -> None:
    made = _Pairs([(0, k % 30) for k in range(300_000)], [[(0, 1)]] * 4)
    found = module._learn(_case_of(3), made, np.full(3, -1), decision([-1] * 3), np.random.default_rng(0))  # type: ignore[arg-type]
    assert found.share == 0.5
    assert found.compared.tolist() == [True, False, False]


def test_copies_contend_with_the_cases_own_flows() -> None:
    contest = Contest(np.array([0]), np.array([0]), np.array([0]), np.array([8.0]))
    turns = [[(0, 0), (1, 1), (1, 2)], *([[(2, 2)]] * 9)]
    made = _Pairs([], turns)
    learned: Any = SimpleNamespace(
        connections=made, contest=contest, share=1.0, least=(7, 8), worth=np.array([6.0, -6.0])
    )
    claims, tried, compared = module._copies(_case_of(3), learned, np.random.default_rng(0))
    assert (tried, compared) == (2 + 9, 3 + 9)
    # The copy of flow 0 finds its connection taken; flow 1's has its own, less what two comparisons cost.
    assert len(claims) == 10
    assert claims[0] == pytest.approx(6.0 - np.log10(2), abs=0.01)
    assert claims[1:] == pytest.approx([6.0] * 9, abs=0.01)


def _settled(monkeypatch: pytest.MonkeyPatch, made: Decision, *, tunnel: list[int], claim: list[float],
             copies: Any = ([], 0, 0), compared: Any = None) -> tuple[Decision, Any]:  # fmt: skip
    """A decision, with what the connections say of its flows made up."""
    flows = len(tunnel)
    law = object.__new__(module.WriteLaw)
    object.__setattr__(law, "frame", 34)
    case: Any = SimpleNamespace(
        map_of_tunnel=np.array([0, 1, 1]), maps=(None, law), flows=range(flows),
        egress=SimpleNamespace(start=np.arange(flows + 1)),
    )  # fmt: skip
    asked: dict[str, Any] = {}

    def prepare(case: Any, tunnels: Any, frame: int) -> str:
        asked.update(tunnels=tunnels.tolist(), frame=frame)
        return "connections"

    outcome = SimpleNamespace(tunnel=np.array(tunnel), claim=np.array(claim), connection=np.full(flows, -1))
    nobody = Contest(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    every = np.ones(flows, np.bool_) if compared is None else compared
    learned = SimpleNamespace(outcome=outcome, compared=every, contest=nobody)
    monkeypatch.setattr(module, "LEAST_KNOWN", 3)
    monkeypatch.setattr(module, "connections_of", lambda *_: np.r_[0, 1, 2, np.full(flows - 3, -1)])
    monkeypatch.setattr(module.engine, "prepare", prepare)
    monkeypatch.setattr(module, "_learn", lambda *_: learned)
    monkeypatch.setattr(module, "_copies", lambda *_: (np.array(copies[0], float), *copies[1:]))

    def heard(case: Any, decision: Decision, said: contended.Contended) -> Decision:
        asked.update(slope=said.slope, linked=said.linked.tolist())
        return decision

    monkeypatch.setattr(module, "heard", heard)
    return module.with_connections(case, made, np.random.default_rng(0)), asked


def test_flows_that_writes_left_open_are_linked_as_far_as_the_sum_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = decision([1, 1, 2, -1, -1, -1], np.arange(6), error=np.array([1e-4, 1e-4, 1e-4, 1.0, 1.0, 1.0]))
    found, asked = _settled(
        monkeypatch, made, tunnel=[1, 1, 2, 2, 1, -1], claim=[6.0, 3.0, 6.0, 4.0, 2.1, -9.0]
    )
    assert (asked["tunnels"], asked["frame"]) == ([False, True, True], 34)
    assert asked["slope"] == 1.0
    assert found.tunnel.tolist() == [1, 1, 2, 2, 1, -1]
    assert found.error[:5].tolist() == pytest.approx([1e-6, 1e-4, 1e-6, 1e-4, 1 / (1 + 10**2.1)], rel=1e-3)
    assert asked["linked"][:5] == [False, False, False, True, True]
    assert found.record.tolist() == list(range(6))


def test_who_contradicts_its_connection_is_unlinked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = decision([1, 1, 2, 0], np.arange(4), error=np.full(4, 1e-4))
    compared = np.array([True, True, True, False])
    found, asked = _settled(monkeypatch, made, tunnel=[2, 1, -1, 1], claim=[6.0] * 4, compared=compared)
    assert found.tunnel.tolist() == [-1, 1, -1, 0], "the last one was compared with none"
    assert found.error[[0, 2]].tolist() == [1.0, 1.0]
    assert found.record.tolist() == [-1, 1, -1, 3]
    assert not any(asked["linked"])


def test_the_first_tunnel_is_contradicted_and_confirmed_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    made = decision([1, 1, 2, 0, 0], np.arange(5), error=np.full(5, 1e-4))
    found, _ = _settled(monkeypatch, made, tunnel=[1, 1, 2, 1, 0], claim=[6.0] * 5)
    assert found.tunnel.tolist() == [1, 1, 2, -1, 0]
    assert found.error.tolist() == pytest.approx([1e-6, 1e-6, 1e-6, 1.0, 1e-6], rel=1e-3)


def test_copies_that_would_be_linked_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made = decision([1, 1, 2, -1], np.arange(4), error=np.array([1e-4] * 3 + [1.0]))
    copies = [0.5, 0.2, 3.0], 400, 900
    before = made.decoys
    found, asked = _settled(monkeypatch, made, tunnel=[1, 1, 2, 1], claim=[6.0, 6.0, 6.0, 5.0], copies=copies)
    assert asked["slope"] == pytest.approx(min((np.log10(401) - np.log10(2)) / 3.0, 1.0))
    assert found.decoys.tried == before.tried + 400
    assert found.decoys.comparisons == before.comparisons + 900
    assert found.tunnel[3] == 1
    worst = found.error[3]
    assert found.decoys.linked == before.linked + sum(
        1 / (1 + 10 ** (asked["slope"] * claim)) <= worst for claim in copies[0]
    )
