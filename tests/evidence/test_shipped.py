from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.evidence import shipped as module
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.policy import Policy
from vpnforensics.evidence.shipped import Shipped, from_document, lend, shipped, spread_ms
from vpnforensics.evidence.voices import Voice
from vpnforensics.options import Options
from vpnforensics.report.warnings import of_decision
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.trials import Trial, try_session


def small(name: str, monkeypatch: pytest.MonkeyPatch) -> Trial:
    """A second out of a sample, by its own calibration only."""
    monkeypatch.setattr(module, "SMALL", 0)
    session = open_sessions([samples.FOLDER / name])[0]
    found = try_session(session, Damage(window_s=(1.0, 2.2)), Options(), lambda step, share: None)
    assert isinstance(found, Trial), found
    monkeypatch.undo()
    assert not found.decision.lent
    return found


def test_a_small_case_within_the_range_is_lent_a_calibration(monkeypatch) -> None:
    trial = small("nebula", monkeypatch)
    own = trial.decision
    lent = lend(trial.case, own)
    assert own.null_comparisons < module.SMALL < lent.null_comparisons == shipped().false_comparisons
    assert own.llr.max() == pytest.approx(np.log10(own.null_comparisons))
    assert own.llr.max() < lent.llr.max() <= np.log10(lent.null_comparisons)
    np.testing.assert_array_equal(np.sign(own.llr), np.sign(lent.llr))
    assert shipped().id in of_decision(trial.case, lent)[0]
    np.testing.assert_array_equal(own.tunnel, lent.tunnel)  # links never depend on it
    np.testing.assert_array_equal(own.error, lent.error)


def test_outside_of_the_range_ratios_are_shrunk_and_it_is_said_why(monkeypatch) -> None:
    trial = small("nebula", monkeypatch)
    narrow = replace(shipped(), spread_ms=1e-6, slope_for_outside=0.1)
    found = lend(trial.case, trial.decision, narrow)
    assert "spread by" in found.lent
    assert found.null_comparisons == trial.decision.null_comparisons
    assert (found.llr <= trial.decision.llr + 1e-9)[trial.decision.llr > 0].all()
    assert found.llr.max() <= 0.1 * trial.decision.voices[0].claim.max() + 1e-9
    np.testing.assert_array_equal(trial.decision.tunnel, found.tunnel)


def test_an_unknown_protocol_is_outside(monkeypatch) -> None:
    trial = small("tinc", monkeypatch)
    found = lend(trial.case, trial.decision)
    assert "it was made without tinc" in found.lent
    assert (found.llr >= 0).all()  # what was measured outside lets nothing speak against a pair


def test_a_case_that_can_calibrate_itself_is_lent_nothing(monkeypatch) -> None:
    trial = small("nebula", monkeypatch)
    enough = replace(trial.decision, null_comparisons=module.SMALL)
    assert lend(trial.case, enough) is enough
    poorer = replace(shipped(), false_comparisons=trial.decision.null_comparisons)
    assert lend(trial.case, trial.decision, poorer) is trial.decision


def test_what_is_shipped_names_its_captures() -> None:
    document = json.loads(Path(module.__file__).with_name("shipped.json").read_text())
    assert from_document(document) == shipped()
    assert len(document["captures"]) == shipped().captures >= 5
    for capture in document["captures"]:
        assert {len(capture[f"{side}_sha256"]) for side in ("ingress", "egress", "truth")} == {64}
    assert 0 <= shipped().slope_for <= 1
    assert shipped().slope_for_outside < shipped().slope_for


LENDER = Shipped("abc", 0.5, 0.25, 1000, 100, ("wireguard",), 2.0, 0.1, 0.0, 7)


def made(
    claim: list[float],
    llr: list[float],
    *,
    fused: list[float] | None = None,
    own: int = 50,
    off_ms: float = 1.0,
) -> tuple[Any, Any]:
    """A case of one protocol and a decision whose packets claimed so much."""
    n = np.zeros(len(llr), np.int32)
    voice = Voice("packets", np.array(llr), np.array(llr), n, ("",) * len(llr), np.array(claim))
    other = Voice("rtt", np.array(llr), np.array(llr), n, ("",) * len(llr))
    case = SimpleNamespace(tunnels=SimpleNamespace(tunnels=[SimpleNamespace(protocol="wireguard")]))
    decision = Decision(
        "packets", None, np.array(llr if fused is None else fused), None, None,  # type: ignore[arg-type]
        np.array([0, 0, -1], np.int32), None, np.zeros(3), Policy(), (other, voice),  # type: ignore[arg-type]
        {"median_ns": [1e6, 3e6], "p95_ns": [1.5e6, 3e6 + off_ms * 1e6]}, np.zeros(3), None,  # type: ignore[arg-type]
        null_comparisons=50,
    )  # fmt: skip
    return case, decision


def test_claims_are_taken_by_what_was_measured_and_bounded_by_its_comparisons() -> None:
    case, decision = made([4.0, 20.0, -4.0, -20.0, np.nan], [1.0, 1.5, -0.5, -1.0, 0.7])
    found = lend(case, decision, LENDER)
    assert found.llr.tolist() == pytest.approx([2.0, 3.0, -1.0, -2.0, 0.7])
    assert found.voices[1].llr.tolist() == found.llr.tolist()
    assert found.voices[0] is decision.voices[0]
    assert found.null_comparisons == 1000
    assert "(50 comparisons known to be false)" in found.lent
    assert "shipped calibration abc, of 7 captures with known truth and 1,000 independent" in found.lent


def test_what_fields_added_stays_within_the_bounds() -> None:
    case, decision = made([4.0, 4.0], [1.0, 1.0], fused=[1.5, 9.0])
    assert lend(case, decision, LENDER).llr.tolist() == pytest.approx([2.5, 3.0])


def test_where_packets_are_silent_the_ratio_is_anothers() -> None:
    case, decision = made([np.nan, 4.0], [np.nan, 1.0], fused=[2.2, 1.0])
    assert lend(case, decision, LENDER).llr.tolist() == pytest.approx([2.2, 2.0])


def test_beyond_the_spread_of_the_larger_direction_the_cases_own_bounds_hold() -> None:
    assert spread_ms(made([1.0], [1.0], off_ms=2.0)[1]) == pytest.approx(2.0)
    assert not lend(*made([4.0], [1.0], off_ms=2.0), LENDER).lent.count("spread by")
    case, decision = made([4.0, 400.0, -4.0], [1.0, 1.5, -0.5], off_ms=2.5)
    found = lend(case, decision, LENDER)
    assert "delays spread by 2.5 ms, and by at most 2 ms there" in found.lent
    # A tenth for a pair, at most the decimal logarithm of its 50 false comparisons; nothing against one.
    assert found.llr.tolist() == pytest.approx([0.4, np.log10(50), 0.0])
    assert found.null_comparisons == 50


def test_outside_what_speaks_against_a_pair_is_bounded_by_the_links() -> None:
    case, decision = made([-40.0], [-1.0], off_ms=9.0)
    against = replace(LENDER, slope_against_outside=1.0)
    assert lend(case, decision, against).llr.tolist() == pytest.approx([-np.log10(2)]), "two flows are linked"


def test_it_is_lent_to_small_cases_that_have_less() -> None:
    case, decision = made([4.0], [1.0])
    for own, lent in ((299, True), (300, False)):
        assert bool(lend(case, replace(decision, null_comparisons=own), LENDER).lent) == lent
    for has, lent in ((51, True), (50, False)):
        assert bool(lend(case, decision, replace(LENDER, false_comparisons=has)).lent) == lent
    assert not lend(case, replace(decision, voices=()), LENDER).lent
    assert not lend(case, replace(decision, delay_law={}), LENDER).lent


def test_a_protocol_it_was_not_made_with_is_named() -> None:
    assert LENDER.why_not({"wireguard", "tinc", "esp"}, 0.0) == "it was made without esp, tinc"
    assert LENDER.why_not({"wireguard"}, 2.0) == ""
