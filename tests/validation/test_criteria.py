"""The validation matrix says no where a figure misses what is asked, and nothing where nothing is."""

from __future__ import annotations

import pytest

from vpnforensics.validation.criteria import criteria
from vpnforensics.validation.stated import Stated

GOOD = {
    "cost": {"cllr": 0.02, "cllr_min": 0.01, "cllr_cal": 0.01},
    "spoken_true": 1000,
    "spoken_false": 10_000,
    "misleading": [{"llr": x, "true": t, "false": f} for x, t, f in ((0, 900, 9000), (1, 9, 99), (2, 9, 99))],
}


def met(method, stated=(), wrong=0.0):
    rule = {"allowed": 0.01, "cases": 100, "links": 5000, "wrong": wrong}
    return {row.characteristic: row.met for row in criteria(method, stated, [rule])}


def test_what_is_good_meets_all_that_is_asked() -> None:
    found = met(GOOD, [Stated(0.0, 0.1, 5000, 2.0, 3, 0.001, 0.32)])
    assert found.pop("discriminating power") is None
    assert found.pop("calibration") is None
    assert all(found.values())


@pytest.mark.parametrize(
    ("characteristic", "change"),
    [
        ("accuracy", {"cost": GOOD["cost"] | {"cllr": 0.031}}),
        ("calibration, for H1", {"misleading": [{"llr": 2, "true": 0, "false": 101}]}),
        ("calibration, for H2", {"misleading": [{"llr": 2, "true": 11, "false": 0}]}),
    ],
)
def test_what_misses_one_is_told(characteristic, change) -> None:
    found = met(GOOD | change)
    assert found[characteristic] is False
    assert sum(each is False for each in found.values()) == 1


def test_errors_are_held_against_what_is_allowed_and_stated() -> None:
    assert met(GOOD, wrong=3.0)["decision"]
    assert not met(GOOD, wrong=4.0)["decision"]  # one is allowed: P(4 or more) is 0.019
    assert not met(GOOD, [Stated(0.0, 1e-5, 9, 0.01, 2, 0.1, 5e-5)])["stated errors"]
    assert "accuracy" not in met({"silent": "too few"})
