import numpy as np
import pytest

from vpnforensics.engines.scores import EngineScores, Pairs, in_order, silent


def pairs(*rows):
    flow, tunnel = zip(*rows, strict=True)
    return Pairs(np.array(flow, np.int32), np.array(tunnel, np.int32))


def test_pairs_among_others():
    wanted = pairs((3, 1), (0, 2))
    flow, tunnel = np.array([0, 1, 3, 2, 3]), np.array([2, 3, 1, 0, 0])
    assert wanted.among(flow, tunnel).tolist() == [True, False, True, False, False]


def test_pairs_come_by_tunnel_and_flow():
    found = in_order(pairs((2, 1), (5, 0), (1, 1)), 9, 9)
    assert list(zip(found.flow.tolist(), found.tunnel.tolist(), strict=True)) == [(5, 0), (1, 1), (2, 1)]
    every = in_order(None, 3, 2)
    assert every.flow.tolist() == [0, 1, 2, 0, 1, 2]
    assert every.tunnel.tolist() == [0, 0, 0, 1, 1, 1]
    assert (every.flow.dtype, every.tunnel.dtype) == (np.int32, np.int32)


def test_columns_of_one_length():
    column = np.zeros(2, np.int32)
    two = EngineScores("x", column, column, np.zeros(2), column, ("", ""))
    assert len(two) == 2
    assert repr(two) == "EngineScores(x: 2 pairs)"
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        EngineScores("x", column, column, np.zeros(2), column, ("",))


def test_silence_has_its_reasons():
    said = silent("x", {"no clocks": 7})
    assert (said.engine, len(said), said.silence) == ("x", 0, {"no clocks": 7})
    assert "7 × no clocks" in repr(said)
