"""What it is worth that a tunnel's client goes to what was asked for."""

from __future__ import annotations

from math import log, log10

import numpy as np
import pytest

from vpnforensics.engines.case import ScoreTable
from vpnforensics.engines.lookups import Asked
from vpnforensics.evidence import lookups
from vpnforensics.evidence.calibration import LEAST_KNOWN, Calibration
from vpnforensics.evidence.joint.hints import Hints
from vpnforensics.evidence.lookups import NEVER, hints_of, voice_of

MS = 1_000_000
PARTS = NEVER + 1


def asked(lookup: list[int], after: list[tuple[int, int, float]]) -> Asked:
    """Lookups; (row, flow after it, ms)."""
    of, flow, ms = np.array(after, float).reshape(-1, 3).T
    delay = (ms * MS).astype(np.int64)
    return Asked(np.array(lookup, np.int32), of.astype(np.int64), flow.astype(np.int64), delay)


def known_and_open(known: int, followed: int, *, strangers: int = 0) -> tuple[Asked, np.ndarray]:
    """``known`` lookups of tunnel 0, of which some are followed 15 ms later by a flow there, and some by one
    of tunnel 1; and two that are open: flow 0, followed in tunnel 1, and flow 1, by nothing.
    """
    lookup = list(range(known + 2))
    mine, theirs = known + 2, known + 3
    after = [(0, theirs, 15.0)]
    after += [(2 + n, mine, 15.0) for n in range(followed)]
    after += [(2 + n, theirs, 15.0) for n in range(strangers)]
    tunnel = np.r_[-1, -1, np.zeros(known), 0, 1].astype(np.int32)
    return asked(lookup, after), tunnel


def test_ratios_are_shares_of_known_lookups() -> None:
    case, tunnel = known_and_open(30, 24, strangers=3)
    found = hints_of(case, tunnel, np.full(len(tunnel), 3), 1.0)
    assert found is not None
    own, other = (24 + 1) / (30 + PARTS), (3 + 1) / (60 + PARTS)
    assert found.of(np.array([0]), np.array([1])) == pytest.approx([log(own / other)])
    never = (6 + 1) / (30 + PARTS), (57 + 1) / (60 + PARTS)
    assert found.of(np.array([0, 1]), np.array([0, 2])) == pytest.approx([log(never[0] / never[1])] * 2)
    assert found.elsewhere[-2:].tolist() == [0.0, 0.0]
    half = hints_of(case, tunnel, np.full(len(tunnel), 3), 0.5)
    assert half is not None
    assert half.log_ratio.tolist() == pytest.approx((found.log_ratio / 2).tolist())
    assert half.elsewhere.tolist() == pytest.approx((found.elsewhere / 2).tolist())


def test_too_few_known_lookups_teach_nothing() -> None:
    case, tunnel = known_and_open(LEAST_KNOWN - 1, 5)
    assert hints_of(case, tunnel, np.full(len(tunnel), 2), 1.0) is None
    case, tunnel = known_and_open(LEAST_KNOWN, 5)
    assert hints_of(case, tunnel, np.full(len(tunnel), 2), 1.0) is not None


def test_the_first_flow_of_a_tunnel_counts_and_those_that_are_not_linked_do_not() -> None:
    case, tunnel = known_and_open(30, 24)
    one = hints_of(case, tunnel, np.full(len(tunnel), 3), 1.0)
    more = Asked(
        case.lookup,
        np.r_[case.of, 0, 0],
        np.r_[case.flow, case.flow[0], 1],
        np.r_[case.delay_ns, 400 * MS, 5 * MS],
    )
    two = hints_of(more, tunnel, np.full(len(tunnel), 3), 1.0)
    assert one is not None
    assert two is not None
    pairs = np.array([0, 0, 0]), np.array([0, 1, 2])
    assert two.of(*pairs).tolist() == one.of(*pairs).tolist()


def test_ratios_that_are_said_to_hold_hold_of_lookups_made_at_random() -> None:
    """Bayes: of open lookups, pairs of ratio r are r times as common among the right as among the wrong."""
    rng = np.random.default_rng(7)
    count, tunnels = 4000, 4
    own = rng.integers(0, tunnels, count)
    follows = rng.random((count, tunnels)) < np.where(np.arange(tunnels) == own[:, None], 0.8, 0.1)
    row, to = np.nonzero(follows)
    late = np.where(own[row] == to, rng.exponential(40, len(row)), rng.uniform(0, 999, len(row)))
    after = [
        (r, count + k, d)
        for r, k, d in zip(row.tolist(), to.tolist(), late.tolist(), strict=True)
        if d < 1000
    ]
    is_open = rng.random(count) < 0.5
    tunnel = np.r_[np.where(is_open, -1, own), np.arange(tunnels)].astype(np.int32)
    found = hints_of(asked(list(range(count)), after), tunnel, np.full(len(tunnel), tunnels), 1.0)
    assert found is not None
    flow, to = (a.ravel() for a in np.meshgrid(np.flatnonzero(is_open), np.arange(tunnels), indexing="ij"))
    ratio, right = np.exp(found.of(flow, to)), own[flow] == to
    for low, high in ((0.05, 0.5), (0.5, 2.0), (2.0, 20.0), (20.0, 200.0)):
        some = (ratio >= low) & (ratio < high)
        if some.sum() > 200:
            observed = (right & some).sum() / right.sum() / ((~right & some).sum() / (~right).sum())
            assert observed == pytest.approx(np.average(ratio[some], weights=~right[some]), rel=0.25)


def test_the_voice_is_silent_where_nothing_is_said_and_keeps_within_bounds() -> None:
    bounds = Calibration(1.0, 1.0, -1.5, 2.0)
    scores = ScoreTable(*np.array([[0, 0, 1], [0, 1, 0]], np.int32), np.zeros(3), np.zeros(3, np.int32))
    pair = np.zeros(1, np.int32)
    hints = Hints(pair, pair, np.array([log(1000.0)]), np.array([log(0.5), 0.0]))
    voice = voice_of(hints, scores, bounds)
    assert voice.llr[:2].tolist() == pytest.approx([2.0, log10(0.5)])
    assert voice.score[0] == pytest.approx(3.0)
    assert np.isnan(voice.llr[2])
    assert voice.n.tolist() == [1, 1, 0]
    assert voice.note == (lookups._SAME, lookups._OTHER, lookups._SILENT)
    nothing = voice_of(None, scores, bounds)
    assert np.isnan(nothing.llr).all()
    assert nothing.note == (lookups._UNKNOWN,) * 3
