from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.validation.metrics import cllr


def test_cllr() -> None:
    """By hand: ratios of 1 cost a bit; perfect ones none; one misled pair in two log2(1 + LR) / 4."""
    assert cllr(np.zeros(5), np.zeros(7)) == pytest.approx(1.0)
    assert cllr(np.zeros(0), np.full(5, -20.0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.full(5, 20.0), np.zeros(0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.full(5, 20.0), np.full(5, -20.0)) == pytest.approx(0.0, abs=1e-12)
    assert cllr(np.array([20.0]), np.array([-20.0, 3.0])) == pytest.approx(np.log2(1001) / 4)
