"""What an engine's scores come to, of cases whose attribution is made up."""

from __future__ import annotations

from dataclasses import replace
from math import log10
from types import SimpleNamespace

import numpy as np
import pytest

from tests.evidence.joint.made import normal_law
from tests.tables import table, tcp
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.exact import ExactMatches
from vpnforensics.evidence import decision as module
from vpnforensics.evidence.attribution import Attribution
from vpnforensics.evidence.decision import decide_by_exact, decide_by_packets, present, there, undecided
from vpnforensics.evidence.decoys import Decoys
from vpnforensics.evidence.observability import Why
from vpnforensics.evidence.policy import Policy
from vpnforensics.flows.assemble import assemble_flows

S = 1_000_000_000
RNG = np.random.default_rng(0)


def scored(*pairs):
    """Flow, tunnel, score and hits of each."""
    flow, tunnel, score, hits = zip(*pairs, strict=True) if pairs else ((),) * 4
    return ScoreTable(
        np.array(flow, np.int32), np.array(tunnel, np.int32), np.array(score, float), np.array(hits, np.int32)
    )


class Rows(SimpleNamespace):
    """Columns of one length."""

    def __len__(self):
        return len(next(iter(vars(self).values())))


def made(flows=3, tunnels=2, records=range(20), **changes):
    """Flows of four packets each, a second apart, under an ingress capture of a minute."""
    rows = [
        tcp(10 + 5 * f + i, "198.51.100.1", 4000 + f, "192.0.2.1", 443, ip_len_bytes=100)
        for f in range(flows)
        for i in range(4)
    ]
    assembled = assemble_flows(table(rows))
    order, start = assembled.order
    ends = np.full(tunnels, 60 * S)
    parts = {
        "flows": assembled,
        "alignment": SimpleNamespace(usable=True, astray=(), to_ingress=same_clock("made up").to_ingress),
        "egress": SimpleNamespace(start=start, row=order, ts_ns=assembled.packets.ts_ns[order]),
        "conversations": SimpleNamespace(packets=Rows(ts_ns=np.arange(0, 60 * S, S // 20), source=None)),
        "tunnels": Rows(
            first_ns=0 * ends, last_ns=ends, tunnels=(), lost_share=0.0, records=Rows(row=np.array(records))
        ),
        "map_of_tunnel": np.zeros(tunnels, np.int64),
        "by_writes": False,
    }
    return SimpleNamespace(**(parts | changes))


def test_tunnels_are_present_from_a_second_before_to_a_second_after():
    rng = np.random.default_rng(2)
    edge = S  # times are of whole seconds, so that many lie at the edge
    spans = [np.sort(rng.integers(0, 12, (n, 2)), axis=1) * S for n in (30, 40)]
    case = SimpleNamespace(
        flows=SimpleNamespace(first_ns=spans[0][:, 0], last_ns=spans[0][:, 1]),
        tunnels=Rows(first_ns=spans[1][:, 0], last_ns=spans[1][:, 1]),
        alignment=same_clock("made up"),
    )
    wanted = [[bool(a <= last + edge and b >= first - edge) for a, b in spans[1]] for first, last in spans[0]]
    assert there(case).tolist() == wanted
    assert present(case).tolist() == [sum(row) for row in wanted]
    some = rng.random(40) < 0.5
    assert present(case, some).tolist() == [sum(np.array(row) & some) for row in wanted]


def test_nobody_had_anything_to_go_on():
    found = undecided(made(), Policy())
    assert found.verdicts() == ["undecided"] * 3
    assert (found.expected_false_links, found.comparisons, len(found.scores)) == (0.0, 0, 0)
    assert found.error.tolist() == [1.0] * 3
    assert np.isnan(found.unlisted_llr).all()
    assert found.record.tolist() == [-1] * 12


def test_verdicts_errors_and_bounds():
    found = replace(
        undecided(made(), Policy(no_tunnel_chance=1e-3)),
        tunnel=np.array([1, -1, -1], np.int32),
        chance=np.array([1e-9, 1e-3, 0.9e-3]),
        error=np.array([0.25, 0.5, 1.0]),
        scores=scored((0, 1, 9.0, 4), (1, 0, 2.0, 2), (2, 0, -1.0, 1)),
        llr=np.array([2.0, 1.99, -3.0]),
        null_comparisons=100,
        comparisons_of=np.array([2, 2, 1]),
    )
    assert found.verdicts() == ["linked", "undecided", "no_tunnel"]
    assert found.expected_false_links == 0.25
    assert found.comparisons == 5
    assert found.bounded().tolist() == [True, False, False]
    assert replace(found, null_comparisons=0).bounded().tolist() == [True, True, False]


def test_the_first_tunnel_is_one_like_others():
    found = replace(
        undecided(made(), Policy()), tunnel=np.array([0, -1, 1], np.int32), error=np.full(3, 0.25)
    )
    assert found.verdicts() == ["linked", "undecided", "linked"]
    assert found.expected_false_links == 0.5


@pytest.mark.parametrize(
    ("llr", "verdict"), [(0.1, "undecided"), (0.0, "no_tunnel"), (-2.0, "no_tunnel"), (np.nan, "no_tunnel")]
)
def test_no_flow_is_denied_that_evidence_speaks_for(llr, verdict):
    """Half its packets may be gone with one moment's records, and the other half be found where it was."""
    found = replace(
        undecided(made(), Policy()),
        chance=np.array([1.0, 1e-9, 1e-9]),
        scores=scored((1, 0, 2.0, 2), (2, 0, -1.0, 1), (2, 1, -9.0, 0)),
        llr=np.array([llr, llr, -5.0]),
    )
    assert found.verdicts() == ["undecided", verdict, verdict]


def attributed(monkeypatch, case, *, pairs, llr, tunnel, record, rest=(), classes=None, **more):
    """The decision of a case whose attribution is given."""
    flows = len(case.flows)
    asked = []

    def score(of, *, thorough):
        asked.append((of.tolist(), thorough))
        return scored(*rest)

    size_class = np.zeros(4 * flows, np.int32) if classes is None else classes
    containment = SimpleNamespace(egress_class=(size_class,), law=normal_law(1.0), score=score)
    parts = {
        "error": np.full(flows, 1e-4),
        "decoys": Decoys(5, 0, 0, 50, np.zeros(0)),
        "unlisted_llr": np.full(flows, -2.0),
    }
    found = Attribution(
        tunnel=np.array(tunnel, np.int32),
        record=np.array(record, np.int32),
        pairs=scored(*pairs),
        llr=np.array(llr, float),
        by_packets=(np.array(llr, float), (parts | more)["unlisted_llr"]),
        hints=None,
        **(parts | more),
    )
    monkeypatch.setattr(module, "attribute", lambda *_, **__: found)
    monkeypatch.setattr(module.packets_engine, "prepare", lambda *_: containment)
    monkeypatch.setattr(module.writes_engine, "prepare", lambda *_: containment)
    decided = decide_by_packets(case, policy=Policy(), rng=RNG)
    listed = {f for f, *_ in pairs}
    assert asked == [([f for f in range(flows) if f not in listed], True)]
    return decided


WHOLE = {
    "pairs": [(0, 0, 9.0, 2), (0, 1, 1.0, 1), (1, 1, 8.0, 4)],
    "llr": [1.5, -1.0, 1.2],
    "tunnel": [0, 1, -1],
    "record": [3, 4, 5, -1, 6, 7, 8, 9, 10, -1, -1, -1],
}


def test_pairs_with_evidence_are_listed_and_the_best_of_flows_without(monkeypatch):
    rest = [(2, 0, -4.0, 1), (2, 1, -3.0, 1)]
    found = attributed(monkeypatch, made(), rest=rest, **WHOLE)
    assert found.engine == "packets"
    assert list(zip(found.scores.flow, found.scores.tunnel, strict=True)) == [(0, 0), (0, 1), (1, 1), (2, 1)]
    # A link explains the packets that have their record, if those are more than the score saw.
    assert found.scores.hits.tolist() == [3, 1, 4, 1]
    (voice,) = found.voices
    assert voice.note == tuple(f"{n} of 4 packets found" for n in (3, 1, 4, 1))
    assert voice.n.tolist() == [4] * 4
    assert found.record.tolist() == [3, 4, 5, -1, 6, 7, 8, 9, -1, -1, -1, -1]  # of links alone
    assert found.tunnel.tolist() == [0, 1, -1]
    assert found.comparisons_of.tolist() == [2, 2, 2]
    assert found.error.tolist() == [1e-4] * 3
    law = normal_law(1.0)
    assert (found.delay_law["low_ns"], found.delay_law["step_ns"]) == (law.low_ns, law.step_ns)
    assert found.delay_law["median_ns"] == found.delay_law["p95_ns"] == [0, 0]


def test_ratios_are_bounded_by_what_is_known_to_be_false_and_true(monkeypatch):
    """Fifty comparisons of decoys, and the other tunnel of each of two links; two links are true."""
    llr = [7.0, -5.0, 1.2]
    found = attributed(monkeypatch, made(), rest=[(2, 1, -3.0, 1)], **(WHOLE | {"llr": llr}))
    assert found.null_comparisons == 52
    np.testing.assert_allclose(found.llr, [log10(52), -log10(2), 1.2, -log10(2)])
    assert found.bounded().tolist() == [True, False, False, False]
    np.testing.assert_allclose(found.unlisted_llr, [-log10(2)] * 3)
    weak = attributed(monkeypatch, made(), **WHOLE, unlisted_llr=np.array([-0.2, 0.4, -0.1]))
    np.testing.assert_allclose(weak.unlisted_llr, [-0.2, 0.0, -0.1])


def test_competitors_and_decoys_say_how_much_of_a_ratio_is_believed(monkeypatch):
    """One false comparison in 52 as high as 4: nothing above log10(53 / 2) is stated; none, all of it."""
    most = log10(53) - log10(2)
    by_decoy = attributed(monkeypatch, made(), **WHOLE, decoys=Decoys(5, 0, 0, 50, np.array([4.0])))
    np.testing.assert_allclose(by_decoy.llr, [most, -log10(2), 1.2])
    assert by_decoy.bounded().tolist() == [True, False, False]
    rival = attributed(monkeypatch, made(), **(WHOLE | {"llr": [1.5, 4.0, 1.2]}))
    np.testing.assert_allclose(rival.llr, [most, most, 1.2])
    many = attributed(monkeypatch, made(), **WHOLE, decoys=Decoys(5, 0, 0, 50, np.full(10, 1.2)))
    slope = (log10(53) - log10(11)) / 1.2
    np.testing.assert_allclose(many.llr, [1.5 * slope, -log10(2), 1.2 * slope])
    unlinked = WHOLE | {"llr": [1.5, 1.0, 4.0], "tunnel": [0, -1, -1]}  # a rival of no link is none
    found = attributed(monkeypatch, made(), **unlinked)
    np.testing.assert_allclose(found.llr, [1.5, 1.0, log10(51)])


def test_a_flow_that_no_tunnel_was_there_for_was_compared_with_none(monkeypatch):
    case = made(tunnels=2)
    case.tunnels.first_ns[:] = 16 * S  # flow 0 is over at 13 s
    found = attributed(monkeypatch, case, **(WHOLE | {"tunnel": [-1, 1, -1]}))
    assert found.comparisons_of.tolist() == [0, 2, 2]
    assert np.isnan(found.unlisted_llr).tolist() == [True, False, False]
    known = made()
    known.map_of_tunnel = np.array([0, -1])  # a tunnel without a length map is compared with nothing
    one = attributed(monkeypatch, known, **WHOLE)
    assert one.comparisons_of.tolist() == [1, 1, 1]
    assert np.isfinite(one.unlisted_llr).all(), "one comparison is one"


@pytest.mark.parametrize(
    ("changes", "readable"),
    [
        ({}, True),
        ({"map_of_tunnel": np.array([0, -1])}, False),
        ({"by_writes": True}, False),
        ({"lost_share": 0.03}, True),
        ({"lost_share": 0.031}, False),
        ({"selection": "port 443"}, False),
        ({"selection": "after 2023-01-01"}, True),
    ],
)
def test_a_flow_is_denied_where_all_tunnels_can_be_looked_into(monkeypatch, changes, readable):
    """Of the third flow nothing was found; of eight packets of links one has no record."""
    case = made(**{k: v for k, v in changes.items() if k in ("map_of_tunnel", "by_writes")})
    case.tunnels.lost_share = changes.get("lost_share", 0.0)
    case.conversations.packets.source = SimpleNamespace(selection=changes.get("selection", ""))
    record = [3, 4, 5, -1, 6, 7, 8, 9, -1, -1, -1, -1]
    spread = case.egress.ts_ns  # a linked packet about every time, so that both captures were at work
    spread[:] = np.r_[10 + np.arange(4), 11 + np.arange(4), 10 + np.arange(4)] * S
    found = attributed(monkeypatch, case, **(WHOLE | {"record": record}))
    assert found.engine == ("writes" if changes.get("by_writes") else "packets")
    expected = (1 / 8) ** 4 if readable else 1.0
    assert found.chance[2] == pytest.approx(expected)
    assert found.verdicts()[2] == ("no_tunnel" if readable else "undecided")


def test_packets_cut_on_their_way_or_of_an_unproven_time_are_no_misses(monkeypatch):
    case = made()
    case.egress.ts_ns[:] = np.r_[10 + np.arange(4), 11 + np.arange(4), 10 + np.arange(3), 40] * S
    classes = np.where(np.arange(12) == 3, IN_PIECES, 0).astype(np.int32)  # the link's lost one was too long
    record = [3, 4, 5, -1, 6, 7, 8, 9, -1, -1, -1, -1]
    found = attributed(monkeypatch, case, classes=classes, **(WHOLE | {"record": record}))
    assert found.chance[2] == pytest.approx(0.01**3)
    why = found.observability.why[0]
    assert why[3] == Why.TOO_LONG
    assert why[11] == Why.UNPROVEN
    assert (np.delete(why, [3, 11]) == Why.SEEN).all()


def test_without_a_link_captures_miss_what_they_usually_do(monkeypatch):
    case = made()
    found = attributed(monkeypatch, case, **(WHOLE | {"tunnel": [-1] * 3, "record": [2] * 12}))
    assert found.chance[2] == pytest.approx(0.03**4)


def matched(score, conversation, row, **changes):
    count = len(row)
    parts = {
        "conversation": np.array(conversation),
        "shared": np.bincount(np.repeat(np.arange(3), 4)[np.array(row) >= 0], minlength=3),
        "score": np.array(score, float),
        "ingress_row": np.array(row),
        "comparable": np.ones(count, np.bool_),
        "seen": np.array(row) >= 0,
    }
    return ExactMatches(**(parts | changes))


ROWS = [10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1]
"""Of three flows' packets, the ingress rows; records of the clients stand in reverse."""


def exactly(matches, policy=None):
    case = made(records=range(19, -1, -1))
    return decide_by_exact(case, matches, np.array([1, 0, -1]), policy=policy or Policy())


def test_equal_packets_link_where_chance_cannot_make_as_many_links_as_allowed():
    """Three flows and two clients are six comparisons: one in 600 of each may be wrong."""
    found = exactly(matched([5.0, 2.0, -np.inf], [0, 1, -1], ROWS))
    assert found.engine == "exact"
    assert list(zip(found.scores.flow, found.scores.tunnel, strict=True)) == [(0, 1), (1, 0)]
    assert found.tunnel.tolist() == [1, -1, -1]
    assert found.verdicts() == ["linked", "undecided", "no_tunnel"]
    np.testing.assert_allclose(found.llr, [1.0, 1.0])  # ten comparisons are granted
    np.testing.assert_allclose(found.error, [2e-5, 0.02, 1.0])
    np.testing.assert_allclose(found.unlisted_llr, [-1.0] * 3)
    assert found.null_comparisons == found.comparisons == 6
    assert found.record.tolist() == [9, 8, 7, 6, 5, 4, *[-1] * 6]
    (voice,) = found.voices
    assert voice.note == ("4 of 4 packets found", "2 of 4 packets found")
    assert voice.n.tolist() == [4, 4]
    least = log10(600)
    edge = exactly(matched([least + 1e-9, least - 1e-3, -np.inf], [0, 1, -1], ROWS))
    assert edge.tunnel.tolist() == [1, -1, -1]
    assert exactly(matched([50.0, 1.0, -np.inf], [0, 1, -1], ROWS)).error[0] == 1e-7
    of_no_client = exactly(matched([50.0, 1.0, -np.inf], [2, 1, -1], ROWS))
    assert of_no_client.tunnel.tolist() == [-1] * 3
    assert of_no_client.scores.flow.tolist() == [1]


def test_ratios_are_bounded_by_the_comparisons_and_the_first_record_counts():
    """Of six flows and four clients there are 24."""
    rows = [0, 1, 2, 3, *[-1] * 20]
    matches = ExactMatches(
        np.array([0, 1, -1, -1, -1, -1]), np.array([4, 1, 0, 0, 0, 0]), np.array([9.0, 1.3, *[-np.inf] * 4]),
        np.array(rows), np.ones(24, np.bool_), np.array(rows) >= 0,
    )  # fmt: skip
    found = decide_by_exact(made(6, 4), matches, np.array([1, 0, -1]), policy=Policy())
    np.testing.assert_allclose(found.llr, [np.log10(24), 1.3])
    np.testing.assert_allclose(found.unlisted_llr, [-np.log10(24)] * 6)
    assert found.null_comparisons == 24
    assert found.record.tolist() == rows
    np.testing.assert_allclose(found.error[:2], [1e-7, 4 * 10**-1.3])


def test_a_flow_is_denied_by_what_the_linked_ones_lack():
    whole = matched([5.0, 2.0, -np.inf], [0, 1, -1], ROWS)
    found = exactly(whole)
    # Of the linked flow nothing is missing; a hundredth is always granted.
    np.testing.assert_allclose(found.chance, [1.0, 1.0, 0.01**4])
    lacking = exactly(matched([5.0, 2.0, -np.inf], [0, 1, -1], [10, 11, 12, -1, *ROWS[4:]]))
    assert lacking.chance[2] == pytest.approx(0.25**4)
    unlinked = exactly(matched([1.0, 1.0, -np.inf], [0, 1, -1], ROWS))
    assert unlinked.chance[2] == pytest.approx(0.03**4)


def test_what_says_nothing_and_what_several_sent_denies_nothing():
    comparable = np.arange(12) < 9
    empty = exactly(matched([5.0, 2.0, -np.inf], [0, 1, -1], ROWS, comparable=comparable))
    assert empty.chance[2] == pytest.approx(0.01)
    assert (empty.observability.why[0, 9:] == Why.EMPTY).all()
    seen = (np.array(ROWS) >= 0) | (np.arange(12) == 8)
    shared = exactly(matched([5.0, 2.0, -np.inf], [0, 1, -1], ROWS, seen=seen))
    assert shared.chance[2] == 1.0
    assert np.flatnonzero(shared.observability.why[0] == Why.SHARED).tolist() == [8]
