from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.align.learning import EgressLengths, learn_length_map, share_obeying
from vpnforensics.tunnels.find import RecordTable
from vpnforensics.tunnels.length_map import LengthMap

START_NS = 1_790_000_000_000_000_000


def _case(
    length_map: LengthMap, seed: int = 0, packets: int = 4000, span_s: float = 60.0
) -> tuple[RecordTable, EgressLengths]:
    rng = np.random.default_rng(seed)
    bursts = np.repeat(rng.uniform(0, span_s, packets // 6), 6)
    ts = np.sort(bursts + rng.exponential(0.01, len(bursts)))
    ts_ns = START_NS + (ts * 1e9).astype(np.int64)
    kind = rng.random(len(ts))
    inner = np.where(kind < 0.4, 52, np.where(kind < 0.7, 1420, rng.integers(60, 1400, len(ts)))).astype(
        np.int32
    )
    up = rng.random(len(ts)) < 0.5
    none = np.full(len(ts), -1, np.int64)
    records = RecordTable(
        ts_ns, np.zeros(len(ts), np.int32), up, length_map.outer(inner).astype(np.int32), none, none
    )
    delay = rng.exponential(2e5, len(ts)).astype(np.int64)
    seen = ts_ns + np.where(up, delay, -delay)
    order = np.argsort(seen)
    return records, EgressLengths(seen[order], inner[order], up[order])


@pytest.mark.parametrize(
    "truth",
    [LengthMap(24), LengthMap(41), LengthMap(32, 16, cap=1420), LengthMap(32, 4, 2), LengthMap(40, 64, 3)],
    ids=str,
)
def test_learns_the_map_that_made_the_sizes(truth: LengthMap) -> None:
    records, egress = _case(truth)
    learned = learn_length_map(records, egress, np.random.default_rng(1))
    assert learned is not None
    every = np.arange(40, 1421)
    # Maps may be written in several ways; what they make of lengths is what counts.
    assert np.mean(learned.length_map.outer(every) == truth.outer(every)) > 0.99
    assert learned.share > 0.8


def test_learns_padding_to_one_size() -> None:
    records, egress = _case(LengthMap(1451, 2048, cap=1))
    learned = learn_length_map(records, egress, np.random.default_rng(1))
    assert learned is not None
    assert learned.length_map.kind == "padded"
    assert set(learned.length_map.outer(np.array([52, 1420])).tolist()) == {1452}


def test_packets_that_do_not_fit_in_prove_no_padding() -> None:
    """Time messages of one size beside others of another: both sent at once, neither carries the other."""
    records, egress = _case(LengthMap(1451, 2048, cap=1))
    assert learn_length_map(records, egress, np.random.default_rng(1)) is not None
    larger = EgressLengths(egress.ts_ns, egress.inner_bytes + 1452, egress.up)
    assert learn_length_map(records, larger, np.random.default_rng(1)) is None


def test_unrelated_traffic_proves_no_map() -> None:
    for seed in range(6):
        records, _ = _case(LengthMap(24), seed)
        _, egress = _case(LengthMap(24), seed + 100)
        assert learn_length_map(records, egress, np.random.default_rng(seed)) is None


def test_a_conversation_that_is_only_nated_is_no_tunnel() -> None:
    records, egress = _case(LengthMap(0))
    plain = RecordTable(
        records.ts_ns, records.tunnel, records.up, records.size - 28, records.counter, records.row
    )
    assert learn_length_map(plain, egress, np.random.default_rng(1)) is None


def test_obeying_is_for_the_right_map_only() -> None:
    records, egress = _case(LengthMap(24))
    rng = np.random.default_rng(1)
    assert share_obeying(LengthMap(24), records, egress, rng) > 0.8
    assert share_obeying(LengthMap(25), records, egress, rng) < 0.1


def _long_case(length_map: LengthMap, seed: int = 0) -> tuple[RecordTable, EgressLengths]:
    """300,000 packets in bursts: hundreds of every size."""
    return _case(length_map, seed, packets=300_000, span_s=4_500.0)


@pytest.mark.parametrize("truth", [LengthMap(32, 16, cap=1420), LengthMap(1451, 2048, cap=1)], ids=str)
def test_a_long_capture_obeys_its_map_as_well_as_a_short_one(truth: LengthMap) -> None:
    records, egress = _long_case(truth)
    assert share_obeying(truth, records, egress, np.random.default_rng(1)) > 0.9
    few = EgressLengths(egress.ts_ns[::10], egress.inner_bytes[::10], egress.up[::10])
    assert share_obeying(truth, records, few, np.random.default_rng(1)) > 0.9
    assert abs(share_obeying(LengthMap(25), records, egress, np.random.default_rng(1))) < 0.05


def test_learns_the_map_of_a_long_capture() -> None:
    records, egress = _long_case(LengthMap(41))
    learned = learn_length_map(records, egress, np.random.default_rng(1))
    assert learned is not None
    assert learned.length_map.outer(np.array([100, 1000])).tolist() == [141, 1041]
    assert learned.share > 0.8


def test_learns_padding_of_a_long_capture() -> None:
    records, egress = _long_case(LengthMap(1451, 2048, cap=1))
    learned = learn_length_map(records, egress, np.random.default_rng(1))
    assert learned is not None
    assert learned.length_map.kind == "padded"


def test_dense_unrelated_traffic_proves_no_padding() -> None:
    records, _ = _case(LengthMap(1451, 2048, cap=1), 1, packets=60_000)
    _, egress = _case(LengthMap(24), 2, packets=60_000)
    assert learn_length_map(records, egress, np.random.default_rng(1)) is None
