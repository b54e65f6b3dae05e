"""Baselines against scipy, numpy and definitions in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.readable import write_readable
from vpnforensics import samples
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import there
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.options import Options
from vpnforensics.validation.baselines import CLASSICAL, counts, fields, sightings, volume
from vpnforensics.validation.baselines.sightings import in_bins, outer_packets
from vpnforensics.validation.comparisons import Scores
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.trials import Trial, try_session

stats = pytest.importorskip("scipy.stats")


def tried(name: str) -> Trial:
    session = open_sessions([samples.FOLDER / name])[0]
    found = try_session(session, Damage(), Options(), lambda step, share: None)
    assert isinstance(found, Trial), found
    return found


@pytest.fixture(scope="module")
def wireguard() -> Trial:
    return tried("wireguard")


def as_table(case: Case, scores: Scores) -> np.ndarray:
    table = np.full((len(case.flows), len(case.tunnels)), np.nan)
    table[scores.flow, scores.tunnel] = scores.score
    return table


def test_ranks_are_scipys() -> None:
    values = np.random.default_rng(1).integers(0, 6, (200, 17)).astype(float)
    expected = stats.rankdata(values, axis=1) - 1
    np.testing.assert_array_equal(volume.ranks(values), expected)


def test_correlations_are_scipys_and_constant_rows_have_the_least() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 4, (2, 50, 12)).astype(float)
    for mine, theirs in ((a, b), (volume.ranks(a), volume.ranks(b))):
        expected = [stats.pearsonr(x, y).statistic for x, y in zip(mine, theirs, strict=True)]
        np.testing.assert_allclose(volume.pearson_rows(mine, theirs), expected, atol=1e-12)
    np.testing.assert_allclose(
        volume.pearson_rows(volume.ranks(a), volume.ranks(b)),
        [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)],
        atol=1e-12,
    )
    nothing = np.zeros((50, 12))
    assert (volume.pearson_rows(a, nothing) == -1).all()
    assert (volume.cosine_rows(a, nothing) == 0).all()


def test_a_score_is_what_its_packets_give(wireguard: Trial) -> None:
    """Of single pairs: bytes put into bins one packet at a time, then scipy."""
    case = wireguard.case
    edges = in_bins(case, weighed=True)(np.arange(len(case.flows))).edges
    spearman = as_table(case, volume.spearman(case))
    contained = as_table(case, counts.contained(case))
    outer, rows = outer_packets(case), case.egress
    for flow, tunnel in ((0, 0), (3, 1), (20, 2), (41, 0)):
        mine = slice(rows.start[flow], rows.start[flow + 1])
        coefficients, both, seen_packets = [], 0, 0
        for up in (0, 1):
            ts_ns, size = outer.of(tunnel, up)
            way = rows.up[mine] == bool(up)
            flow_ts, flow_size = rows.ts_ns[mine][way], rows.inner_bytes[mine][way]
            bins = [
                [(t >= a) & (t < b) for a, b in zip(edges[flow][:-1], edges[flow][1:], strict=True)]
                for t in (flow_ts, ts_ns)
            ]
            here = [[int(b @ s) for b in of] for of, s in zip(bins, (flow_size, size), strict=True)]
            number = [[int(b.sum()) for b in of] for of in bins]
            both += int(np.minimum(*np.array(number)).sum())
            seen_packets += sum(number[1])
            if len(flow_ts):
                constant = len(set(here[1])) == 1
                coefficients.append(-1.0 if constant else stats.spearmanr(*here).statistic)
        assert spearman[flow, tunnel] == pytest.approx(np.mean(coefficients), abs=1e-12)
        expected = both / (mine.stop - mine.start) + 1e-3 * both / max(seen_packets, 1)
        assert contained[flow, tunnel] == pytest.approx(expected)


def test_all_flow_packets_are_in_bins(wireguard: Trial) -> None:
    some = np.arange(5, len(wireguard.case.flows) - 3)
    binned = in_bins(wireguard.case, weighed=False)(some)
    packets = np.diff(wireguard.case.egress.start)[some]
    np.testing.assert_array_equal(binned.flows.sum(axis=(0, 2)), packets)


def test_scores_are_the_same_in_parts(wireguard: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    for method in (volume.spearman, counts.contained):
        whole = as_table(wireguard.case, method(wireguard.case))
        monkeypatch.setattr(sightings, "_AT_ONCE", 7)
        np.testing.assert_array_equal(as_table(wireguard.case, method(wireguard.case)), whole)
        monkeypatch.undo()


def test_every_pair_that_was_there_has_a_score_and_true_ones_higher_ones(wireguard: Trial) -> None:
    case, labels = wireguard.case, wireguard.labels
    for name in ("spearman (RAPTOR)", "pearson", "cosine", "count containment"):
        scores = CLASSICAL[name](case)
        assert len(scores.score) == there(case).sum()
        true = labels.true(scores.flow, scores.tunnel)
        assert np.median(scores.score[true]) > np.median(scores.score[~true]), name
        assert np.isfinite(scores.score).all()


def test_fields_are_silent_of_tunnels(wireguard: Trial) -> None:
    scores = fields.matched(wireguard.case)
    assert not len(scores.score)
    assert np.isnan(scores.unlisted)


def test_fields_find_connections_through_a_nat(tmp_path: Path) -> None:
    spec = mixed_case(6, 30, duration_s=30.0, scale=0.1, seed=3)
    session = open_sessions([write_readable(tmp_path / "readable", spec, 3)])[0]
    trial = try_session(session, Damage(), Options(), lambda step, share: None)
    assert isinstance(trial, Trial), trial
    scores = fields.matched(trial.case)
    true = trial.labels.true(scores.flow, scores.tunnel)
    assert (scores.score[true] > 0.6).mean() > 0.9
    assert (scores.score[~true] > 0.6).mean() < 0.01
