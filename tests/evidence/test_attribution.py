"""Attribution on simulated cases: the verdicts, and that chance alone links nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vpnforensics as vf
from tests.evidence.joint.made import made
from tests.truth import Recording, degrade, load, tally
from vpnforensics.evidence import attribution
from vpnforensics.evidence.attribution import attribute, surest
from vpnforensics.evidence.decoys import Decoys
from vpnforensics.evidence.policy import Policy
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder: Path = tmp_path_factory.mktemp("case")
    spec = mixed_case(
        tunnels=8,
        flows=25,
        protocol="openvpn-udp",
        duration_s=60.0,
        scale=0.05,
        jitter_s=0.0002,
        ingress=Capture(snaplen=96),
        egress=Capture(3.25, 15.0, 0.0, 96),
    )
    simulate(spec, folder, 5)
    return load(folder)


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder: Path = tmp_path_factory.mktemp("padded")
    snapped, to_mtu = Capture(snaplen=96), Countermeasures(pad_mtu=True)
    spec = mixed_case(12, 20, scale=0.2, ingress=snapped, egress=snapped, countermeasures=to_mtu)
    simulate(spec, folder, 12)
    return load(folder)


def test_links_are_right_and_nearly_all(recording: Recording) -> None:
    case = vf.correlate(recording.ingress, recording.egress)
    found = tally(recording, case, offset_s=3.25)
    assert found.wrong == 0
    assert found.long_linked == found.long > 50
    assert found.short_share > 0.9


def test_snapping_changes_nothing(recording: Recording) -> None:
    """Lengths come from headers: with every payload byte gone but the protocol's own, the links stay."""
    bare = replace(recording.egress, head=np.zeros_like(recording.egress.head))
    whole, snapped = (vf.correlate(recording.ingress, side) for side in (recording.egress, bare))
    assert whole.links.equals(snapped.links)


def test_same_input_and_seed_give_the_same_bytes(recording: Recording) -> None:
    first, second = (vf.correlate(recording.ingress, recording.egress, seed=3).to_json() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("seed", range(3))
def test_flows_of_another_time_link_to_nothing(recording: Recording, seed: int) -> None:
    """Under one clock that is stated wrongly, every flow is a stranger: nothing may be linked."""
    shift = int(np.random.default_rng(seed).integers(7, 20)) * 1_000_000_000
    strangers = replace(recording.egress, ts_ns=recording.egress.ts_ns - 3_250_000_000 + shift)
    case = vf.correlate(recording.ingress, strangers, same_clock=True, seed=seed)
    assert (case.links["verdict"] == "linked").sum() == 0


def test_copies_that_look_surely_carried_leave_nothing_linked(
    recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    contradicted = Decoys(tried=500, linked=9, sure=9, comparisons=4000, llr=np.zeros(0))
    monkeypatch.setattr(attribution, "try_decoys", lambda *_: contradicted)
    case = vf.correlate(recording.ingress, recording.egress)
    assert (case.links["verdict"] == "linked").sum() == 0
    assert any("of 500 copies of flows that no tunnel carried, 9 look" in said for said in case.warnings)
    case = vf.correlate(recording.ingress, recording.egress, expected_false_links=0.1)
    linked = case.links["verdict"] == "linked"
    assert linked.sum() == 5
    assert case.links["error"][linked].tolist() == [9 / 500] * 5


@pytest.mark.parametrize(("jitter_ms", "some"), [(1, 0.5), (10, 0.0)])
def test_padded_tunnels_are_told_apart_by_times_as_far_as_those_go(
    padded: Recording, jitter_ms: float, some: float
) -> None:
    """The clocks are known: nothing else would give them."""
    damaged = degrade(padded, jitter_s=jitter_ms / 1e3, seed=1, offset_s=0.0, drift_ppm=0.0)
    case = vf.correlate(damaged.ingress, damaged.egress, same_clock=True)
    found = tally(damaged, case, offset_s=0.0)
    assert found.wrong == 0
    assert found.long_share >= some


def test_a_request_that_no_case_can_support_is_said(recording: Recording) -> None:
    case = vf.correlate(recording.ingress, recording.egress, expected_false_links=3e-7)
    assert (case.links["verdict"] == "linked").sum() <= 3
    assert any("at most 3 flows can be linked" in warning for warning in case.warnings)
    usual = vf.correlate(recording.ingress, recording.egress)
    assert not any("can be supported" in warning for warning in usual.warnings)


def test_stricter_levels_link_no_more(recording: Recording) -> None:
    counts = [
        (
            vf.correlate(recording.ingress, recording.egress, expected_false_links=x).links["verdict"]
            == "linked"
        ).sum()
        for x in (1e-9, 1e-2)
    ]
    assert counts[0] <= counts[1]


def test_one_outer_packet_carries_one_inner_packet(recording: Recording) -> None:
    case = vf.correlate(recording.ingress, recording.egress)
    frames = case.pairings["ingress_frame"].dropna()
    assert len(frames) > 1000
    assert frames.is_unique


def test_links_are_the_surest_flows_whose_errors_sum_up_to_what_is_allowed() -> None:
    error = np.array([0.6, 1e-3, 1e-6, 1.0, 4e-3, 6e-3])
    assert np.flatnonzero(surest(error, 0.01)).tolist() == [1, 2, 4]
    assert np.flatnonzero(surest(error, 0.02)).tolist() == [1, 2, 4, 5]
    assert np.flatnonzero(surest(error, 9.0)).tolist() == [1, 2, 4, 5], (
        "none that is likelier wrong than right"
    )
    assert not surest(error, 1e-7).any()


def test_a_long_flow_needs_a_score_beside_the_models_word() -> None:
    """Fewer than half of its packets have a record: no other flow needs those, and yet it was not there."""
    rng = np.random.default_rng(1)
    lookups = [[(5_000.0 + 500 * n, 80, True), (5_020.0 + 500 * n, 120, False)] for n in range(40)]
    records = [(t, size, up, 0) for flow in lookups for t, size, up in flow]
    at = np.sort(rng.uniform(0, 300, 60))
    clump = [(float(t + rng.normal()), 90, True, 0) for t in rng.choice(at, 26, replace=False)]
    stranger = [(float(t), 90, True) for t in at]
    case = made([stranger, *lookups], [*records, *clump], tunnels=1)
    strict, credulous = (
        attribute(case, np.ones(41, np.int64), policy=policy, rng=rng)
        for policy in (Policy(), Policy(long=100))
    )
    assert credulous.error[0] < 1e-3  # or the test says nothing
    assert strict.error[0] > 0.1
    assert strict.tunnel[0] == -1
    assert (strict.tunnel[1:] == 0).mean() > 0.9


def test_of_more_lookups_than_there_are_records_for_none_is_linked() -> None:
    """Six equal lookups at one moment, records for five: each finds all it needs, all together do not."""
    rng = np.random.default_rng(2)
    usual = [[(5_000.0 + 500 * n, 80, True), (5_020.0 + 500 * n, 120, False)] for n in range(40)]
    burst = [(0.0, 80, True), (0.5, 80, True), (20.0, 120, False), (20.5, 120, False)]
    crowd = [[(t + shift, size, up) for t, size, up in burst] for shift in np.linspace(0, 1.5, 6)]
    carried = [*usual, *crowd[:5]]
    records = [(t + float(rng.normal(0, 0.7)), size, up, 0) for flow in carried for t, size, up in flow]
    case = made([*crowd, *usual], records, tunnels=1)
    alive = np.ones(46, np.int64)
    found = attribute(case, alive, policy=Policy(), rng=rng)
    assert (found.tunnel[:6] == -1).all()
    assert (found.tunnel[6:] == 0).mean() > 0.9


def test_of_lookups_of_one_moment_none_is_sure_where_the_one_too_many_may_be_any_of_them() -> None:
    """Six equal ones, records for five, and a packet of these lost: without that flow all is explained."""
    talk = [(0.0, 63, True), (0.3, 63, True), (7.0, 79, False), (7.3, 63, False)]
    rng = np.random.default_rng(1)

    def spoken(begin: float) -> list[tuple[float, int, bool]]:
        return [(begin + t + float(rng.normal(0, 0.5)), size, up) for t, size, up in talk]

    burst = [spoken(1000.0 + 0.2 * n) for n in range(6)]
    burst[4] = burst[4][:-1]
    others = [spoken(5000.0 + 400 * n) for n in range(40)]
    records = [
        (begin + t, size, up, 0) for begin in (1000.0, 1000.2, 1000.4, 1000.6, 1000.8) for t, size, up in talk
    ]
    records += [(5000.0 + 400 * n + t, size, up, 0) for n in range(40) for t, size, up in talk]
    case = made([*burst, *others], records, tunnels=1)
    found = attribute(case, np.ones(46, np.int64), policy=Policy(), rng=rng)
    assert found.error[:4].min() > 1e-2
    assert (found.tunnel[:6] == -1).sum() >= 5
    assert (found.tunnel[6:] == 0).mean() > 0.9


def test_the_stated_sum_and_the_decoys_stand_in_the_result(recording: Recording) -> None:
    case = vf.correlate(recording.ingress, recording.egress)
    error = case.links["error"].dropna()
    assert len(error) == (case.links["verdict"] == "linked").sum()
    assert case.expected_false_links == pytest.approx(error.sum(), rel=0.01)
    assert case.expected_false_links <= case.allowed_false_links == 0.01
    assert case.decoys["tried"] > 50
    assert case.decoys["linked"] <= 0.02 * case.decoys["tried"]
    assert case.null_comparisons > case.decoys["tried"]


def test_links_do_not_depend_on_the_seed(recording: Recording) -> None:
    """Only the decoys are drawn."""
    first, second = (vf.correlate(recording.ingress, recording.egress, seed=seed).links for seed in (1, 2))
    assert first[["tunnel", "error"]].equals(second[["tunnel", "error"]])


def test_small_errors_are_stated_three_times_and_large_ones_as_they_are() -> None:
    error = np.array([0.0, 1e-6, 1e-3, 0.03, 0.5, 1.0])
    stated = attribution._stated(error, 3.0)
    np.testing.assert_allclose(stated[:4], [0.0, 3e-6, 2.94e-3, 0.06], rtol=0.02)
    assert stated[4] == pytest.approx(0.5566, abs=1e-3)
    assert stated[5] == 1.0
    assert (np.diff(attribution._stated(np.linspace(0, 1, 1000), 3.0)) >= 0).all()
    np.testing.assert_array_equal(attribution._stated(error, 1.0), error)
