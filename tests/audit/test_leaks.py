"""Bits told of the client."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.audit.leaks import bits_told


def test_a_value_of_each_client_tells_all() -> None:
    client = np.repeat(np.arange(4), 200)
    assert bits_told(client * 7, client, np.random.default_rng(0)) == pytest.approx(2.0, abs=0.02)


def test_a_value_of_half_the_clients_tells_a_bit() -> None:
    client = np.repeat(np.arange(4), 200)
    assert bits_told(client // 2, client, np.random.default_rng(0)) == pytest.approx(1.0, abs=0.02)


def test_chance_tells_nothing() -> None:
    rng = np.random.default_rng(0)
    client, value = rng.integers(0, 5, 60), rng.integers(0, 8, 60)
    assert bits_told(value, client, rng) < 0.2  # 0.4 bits before chance is taken off


def test_flows_without_a_value_are_left_out() -> None:
    client = np.array([0, 0, 1, 1, -1, -1] * 50)
    value = np.array([3, 3, 3, 3, 9, -1] * 50)
    assert bits_told(value, client, np.random.default_rng(0)) == 0.0
