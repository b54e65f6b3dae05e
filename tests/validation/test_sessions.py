from __future__ import annotations

import json

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.errors import CaptureError, CaseError
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.options import Options
from vpnforensics.validation.comparisons import FUSED, Scores, compare, joined
from vpnforensics.validation.curves import at_rates
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.outcomes import outcomes
from vpnforensics.validation.sessions import open_sessions, together
from vpnforensics.validation.splits import design_effect, folds, held_out, over_sessions
from vpnforensics.validation.trials import Failed, Trial, every, try_session


def tried(name: str, damage: Damage = Damage()) -> Trial:  # noqa: B008 - frozen
    session = open_sessions([samples.FOLDER / name])[0]
    found = try_session(session, damage, Options(), lambda step, share: None)
    assert isinstance(found, Trial), found
    return found


@pytest.fixture(scope="module")
def wireguard() -> Trial:
    return tried("wireguard")


def test_every_flow_of_a_sample_has_its_truth(wireguard: Trial) -> None:
    assert wireguard.labels.known.all()
    assert wireguard.labels.there.all()
    assert wireguard.facts.protocol == "wireguard"
    assert wireguard.facts.snap_bytes == 96
    assert wireguard.facts.clients == 3
    assert abs(wireguard.facts.alignment_error_ms or 0.0) < 1.0


def test_comparisons_are_flows_with_tunnels_that_were_there(wireguard: Trial) -> None:
    table = compare(wireguard, 0)
    assert len(table) == wireguard.decision.comparisons
    assert table.h1.sum() == len(wireguard.case.flows)
    assert (table.values[FUSED][table.h1] > 0).all()
    assert (table.values[FUSED][~table.h1] < 0).all()


def test_a_simulated_relays_client_is_one_whatever_its_connections(tmp_path) -> None:
    simulate(mixed_case(3, 12, "socks", 25.0, scale=0.15), tmp_path, 7)
    found = try_session(open_sessions([tmp_path])[0], Damage(), Options(), lambda step, share: None)
    assert isinstance(found, Trial), found
    assert len(found.labels.clients) == len(set(found.labels.of_tunnel.tolist())) == 3
    assert max(1 + len(tunnel.beside) for tunnel in found.case.tunnels.tunnels) > 3
    flows = outcomes(found, 0)
    assert flows.linked.sum() > 20
    assert not (flows.linked & flows.wrong).any()


def test_another_clock_and_loss_change_no_truth() -> None:
    damaged = tried("wireguard", Damage(jitter_ms=2.0, loss=0.01, offset_s=4393.217, drift_ppm=40.0))
    assert damaged.labels.known.mean() > 0.98
    assert damaged.facts.alignment_error_ms is not None
    assert abs(damaged.facts.alignment_error_ms) < 1.0
    whole = compare(tried("wireguard"), 0)
    both = joined([whole, compare(damaged, 1)])
    assert len(np.unique(both.identity)) == len(np.unique(whole.identity))  # copies, not more flows
    with pytest.raises(CaseError, match="one capture session only"):
        list(folds(both.session))


def test_a_missing_client_leaves_flows_that_no_tunnel_carried() -> None:
    client = str(open_sessions([samples.FOLDER / "wireguard"])[0].truth["flows"][0]["client"])
    without = tried("wireguard", Damage(without=client))
    assert without.facts.missing_client
    assert 0 < (~without.labels.there).sum() < len(without.case.flows)
    table = compare(without, 0)
    assert not table.h1[~without.labels.there[table.flow]].any()


def test_another_method_stands_on_the_same_rows(wireguard: Trial) -> None:
    def bytes_alike(case: object) -> Scores:
        assert case is wireguard.case
        return Scores(np.array([0]), np.array([1]), np.array([0.5]), unlisted=-1.0)

    table = compare(wireguard, 0, {"bytes": bytes_alike})
    assert (table.values["bytes"] == 0.5).sum() == 1
    assert (table.values["bytes"] == -1.0).sum() == len(table) - 1


def test_scores_become_ratios_on_other_sessions() -> None:
    rng = np.random.default_rng(3)
    tables = [compare(tried(name), number) for number, name in enumerate(("wireguard", "openvpn-udp"))]
    for number, table in enumerate(tables):
        table.session[:] = number
    both = joined(tables)
    both = both.with_values("noisy", 2.0 * both.h1 + rng.normal(0, 1, len(both)))
    llr = held_out(both, "noisy")
    assert np.isfinite(llr).all()
    assert llr[both.h1].mean() > 0 > llr[~both.h1].mean()
    shuffled = both.with_values("noisy", np.where(both.session == 0, -1, 1) * both.values["noisy"])
    assert held_out(shuffled, "noisy")[both.h1].mean() < 0  # what it learned there is wrong here, and shows


def test_copies_of_one_recording_are_one_session(tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for path in (samples.FOLDER / "wireguard").iterdir():
            (tmp_path / name / path.name).symlink_to(path)
    (tmp_path / "c").mkdir()
    for path in (samples.FOLDER / "openvpn-udp").iterdir():
        (tmp_path / "c" / path.name).symlink_to(path)
    opened = open_sessions([tmp_path])
    assert [(each.name, each.session) for each in opened] == [("a", 0), ("b", 0), ("c", 1)]


def test_chains_of_copies_are_one_session() -> None:
    a, c = {("1",), ("2",), ("3",), ("4",)}, {("3",), ("4",), ("5",), ("6",)}
    assert together([a, c]) == [0, 1]
    assert together([a, c, {("2",), ("3",), ("4",), ("5",)}]) == [0, 0, 0]


@pytest.mark.parametrize(
    ("truth", "why"),
    [
        ("{", "JSON"),
        ("[]", "object"),
        ("{}", "no list 'flows'"),
        ('{"flows": [{}], "tunnels": []}', "flows"),
        ('{"flows": [], "tunnels": [{"client": 3}]}', "client"),
    ],
)
def test_what_is_no_truth_is_refused(tmp_path, truth: str, why: str) -> None:
    (tmp_path / "truth.json").write_text(truth)
    for name in ("ingress.pcap", "egress.pcap"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(CaptureError, match=why):
        open_sessions([tmp_path])


def test_a_folder_without_truth_and_one_without_captures_are_refused(tmp_path) -> None:
    with pytest.raises(CaptureError, match=r"no truth\.json"):
        open_sessions([tmp_path])
    (tmp_path / "truth.json").write_text(json.dumps({"flows": [], "tunnels": []}))
    with pytest.raises(CaptureError, match="no ingress and egress"):
        open_sessions([tmp_path])


def test_a_session_that_makes_no_case_says_why(tmp_path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"flows": [], "tunnels": []}))
    for name in ("ingress.pcap", "egress.pcap"):
        (tmp_path / name).write_bytes(b"no capture")
    found = try_session(open_sessions([tmp_path])[0], Damage(), Options(), lambda step, share: None)
    assert isinstance(found, Failed)
    assert "ingress.pcap" in found.reason


def made(wireguard: Trial, sessions: int, false: int, rng: np.random.Generator):
    """A table of independent flows, with a method that is right by a normal law."""
    table = compare(wireguard, 0).take(np.zeros(sessions * false, np.int64))
    table.session[:] = np.repeat(np.arange(sessions), false)
    table.identity[:] = np.arange(len(table))
    table.h1[:] = rng.random(len(table)) < 0.1
    return table.with_values("m", 3.0 * table.h1 + rng.normal(0, 1, len(table)))


def test_rates_that_the_comparisons_cannot_support_are_refused(wireguard: Trial) -> None:
    rng = np.random.default_rng(1)
    table = made(wireguard, 6, 1_000, rng)
    rates = at_rates(table, "m")
    assert [bool(each.refused) for each in rates] == [False, False, True, True, True]
    assert "needs 30,000 independent false comparisons" in rates[2].refused
    assert rates[0].tpr_interval[0] < rates[0].tpr < rates[0].tpr_interval[1]
    assert rates[0].false_hits <= 0.01 * rates[0].false
    # The same flows twenty times over are worth no more than once.
    copies = table.take(np.tile(np.arange(len(table)), 20))
    assert [each.refused != "" for each in at_rates(copies, "m")] == [each.refused != "" for each in rates]


def test_design_effect_is_the_size_of_clusters_that_agree() -> None:
    rng = np.random.default_rng(2)
    hit = rng.random(4_000) < 0.2
    alone = design_effect(hit, np.arange(4_000))
    assert alone == pytest.approx(1.0, abs=0.01)
    assert design_effect(np.repeat(hit, 5), np.repeat(np.arange(4_000), 5)) == pytest.approx(5.0, rel=0.01)
    assert design_effect(np.zeros(10, np.bool_), np.arange(10)) == 1.0


def test_intervals_go_over_sessions_and_need_some(wireguard: Trial) -> None:
    rng = np.random.default_rng(1)

    def share(counted: object) -> np.ndarray:
        return np.array([counted.true / (counted.true + counted.false)])  # type: ignore[attr-defined]

    assert over_sessions(made(wireguard, 4, 100, rng), "m", share, rng) is None
    table = made(wireguard, 8, 500, rng)
    low, high = over_sessions(table, "m", share, rng)[:, 0]
    assert low < table.h1.mean() < high
    assert high - low < 0.05


@pytest.mark.parametrize(
    "change",
    [
        {"unattributed": [{"src": "a:1", "dst": "b:1", "reason": "the server's own"}]},
        {"unattributed": 3},
        {"alignment": {"offset_ns": [], "drift_ppm": {}, "reference_ns": None}},
        {"tunnels": [{"client": "c:1", "also": 7}]},
        {"flows": [{"src": "a:1", "dst": "b:1", "client": "c:1", "first_ns": 1 << 80, "last_ns": 1 << 80}]},
    ],
)
def test_a_truth_of_another_form_fails_its_session_only(tmp_path, change: dict) -> None:
    for path in (samples.FOLDER / "wireguard").glob("*.pcap"):
        (tmp_path / path.name).symlink_to(path)
    truth = json.loads((samples.FOLDER / "wireguard" / "truth.json").read_text())
    (tmp_path / "truth.json").write_text(json.dumps(truth | change))
    found = try_session(open_sessions([tmp_path])[0], Damage(), Options(), lambda step, share: None)
    assert isinstance(found, Failed)
    assert "truth.json: is not in the lab's form" in found.reason


def test_one_capture_of_both_sides_has_no_other_clock() -> None:
    sessions = open_sessions([samples.FOLDER / name for name in ("sll2", "wireguard")])
    plan = every(sessions, [Damage(), Damage(jitter_ms=2.0), Damage(window_s=(0.0, 5.0))])
    assert [(s.name, d.jitter_ms) for s, d in plan] == [
        ("sll2", 0.0), ("sll2", 0.0), ("wireguard", 0.0), ("wireguard", 2.0), ("wireguard", 0.0),
    ]  # fmt: skip
