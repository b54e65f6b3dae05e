"""The balance of a case on advances made by hand: two clients, twenty seconds, a thousand packets each."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.features.conservation import Conservation, conserve_advances

S = 1_000_000_000
CLIENTS = ("198.51.100.1:1", "198.51.100.2:2")


def _sent(seed: int, packets: int = 1000, seconds: int = 20) -> np.ndarray:
    """Times of a client's packets, in bursts of its own."""
    rng = np.random.default_rng(seed)
    bursts = rng.integers(0, seconds * 4, packets) * (S // 4)
    return np.sort(np.r_[0, seconds * S - 1, bursts + rng.integers(0, S // 8, packets)])


def _balance(out: np.ndarray, *sent: np.ndarray, kept: int = 1) -> Conservation | None:
    """Of tunnels over which one in ``kept`` packets was captured, and what came out, upwards."""
    advance = {(t, True): (s[::kept], np.arange(1, len(s) + 1)[::kept]) for t, s in enumerate(sent)}
    recorded = np.concatenate([ts for ts, _ in advance.values()])
    return conserve_advances(advance, recorded, out, np.ones(len(out), np.bool_), CLIENTS, window_ns=S)


def test_what_went_in_came_out() -> None:
    sent = _sent(1), _sent(2)
    found = _balance(np.concatenate(sent), *sent)
    assert found is not None
    assert found.complete
    total, *each = found.rows
    assert (total.tunnel, total.up, total.share_out, total.lost_in) == (-1, True, 1.0, 0.0)
    np.testing.assert_allclose([row.share_out for row in each], 1.0)
    assert [row.tunnel for row in each] == [0, 1]


def test_a_client_that_does_not_come_out_is_named() -> None:
    sent = _sent(1), _sent(2)
    found = _balance(sent[0], *sent)
    assert found is not None
    np.testing.assert_allclose([row.share_out for row in found.rows[1:]], [1.0, 0.0], atol=1e-9)
    assert found.findings[-1] == f"up: the egress of {CLIENTS[1]} is not in the capture"
    assert len(found.findings) == 2


def test_what_ingress_lacks_shows_in_the_counters() -> None:
    sent = _sent(1)
    found = _balance(sent, sent, kept=2)
    assert found is not None
    assert found.rows[0].lost_in == pytest.approx(0.5, abs=0.01)
    assert found.findings[0].startswith("up: the ingress capture lacks 49.9%")


@pytest.mark.parametrize(("lost", "said"), [(0.0, 0), (0.006, 0), (0.03, 1)])
def test_little_missing_at_egress_is_not_worth_a_word(lost: float, said: int) -> None:
    sent = _sent(3, packets=20_000)
    middle = slice(2000, 2000 + round(lost * len(sent)))
    found = _balance(np.delete(sent, np.arange(len(sent))[middle]), sent)
    assert found is not None
    assert found.rows[0].share_out == pytest.approx(1 - lost, abs=3e-3)
    assert sum("are at egress" in finding for finding in found.findings) == said


def test_more_at_egress_than_went_in() -> None:
    sent = _sent(1)
    found = _balance(np.concatenate([sent, sent[200:500]]), sent)
    assert found is not None
    assert any("more packets at egress than the tunnels carried" in finding for finding in found.findings)


def test_the_error_is_what_may_be_under_way_at_the_ends() -> None:
    sent = np.arange(0, 20 * S, S // 100)
    found = _balance(sent, sent)
    assert found is not None
    total = found.rows[0]
    assert total.advanced == 1900  # of whole windows
    assert total.share_error == pytest.approx((1 + 0.02 * 200) / 1900)


@pytest.mark.parametrize(("seconds", "known"), [(10, False), (11, True)])
def test_ten_windows_are_the_least(seconds: int, known: bool) -> None:
    sent = np.arange(0, seconds * S, S // 50)
    assert (_balance(sent, sent) is not None) is known


def test_tunnels_of_one_rhythm_cannot_be_told_apart() -> None:
    sent = _sent(1)
    found = _balance(np.repeat(sent, 2), sent, sent)
    assert found is not None
    assert np.isnan([row.share_out for row in found.rows[1:]]).all()
    assert found.complete


def test_windows_add_up() -> None:
    sent = _sent(1)
    found = _balance(sent, sent)
    assert found is not None
    assert found.windows["advanced"].sum() == found.windows["egress"].sum() == found.rows[0].advanced
    assert (np.diff(found.windows["first_ns"]) == S).all()
