from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.evidence import shipped as module
from vpnforensics.evidence.shipped import from_document, lend, shipped
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
