from __future__ import annotations

import itertools

import numpy as np
import pytest

from vpnforensics.align import sharpen
from vpnforensics.align.classes import SizeClasses, classify_records
from vpnforensics.align.coarse import dense_excess, sparse_excess
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.estimate import estimate_alignment
from vpnforensics.align.line import align_pairs
from vpnforensics.tunnels.find import RecordTable
from vpnforensics.tunnels.length_map import LengthMap

EPOCH_NS = 1_790_000_000_000_000_000
MAP = LengthMap(24)


def _traffic(
    rng: np.random.Generator, packets: int, span_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bursty packets: times, inner lengths (half of them acknowledgements), directions."""
    bursts = np.sort(rng.uniform(0, span_s, packets // 8))
    ts = np.repeat(bursts, 8) + rng.exponential(0.002, len(bursts) * 8)
    lengths = np.where(rng.random(len(ts)) < 0.5, 52, rng.integers(60, 1400, len(ts)))
    order = np.argsort(ts)
    return EPOCH_NS + (ts[order] * 1e9).astype(np.int64), lengths[order], rng.random(len(ts)) < 0.5


def _sides(
    rng: np.random.Generator,
    offset_s: float,
    drift_ppm: float,
    jitter_s: float,
    packets: int = 6000,
    span_s: float = 90.0,
) -> tuple[EgressPackets, SizeClasses]:
    return _seen(rng, *_traffic(rng, packets, span_s), offset_s, drift_ppm, jitter_s)


def _seen(
    rng: np.random.Generator,
    ts: np.ndarray,
    lengths: np.ndarray,
    up: np.ndarray,
    offset_s: float,
    drift_ppm: float,
    jitter_s: float,
) -> tuple[EgressPackets, SizeClasses]:
    """Both sides of a server that passes the given packets on."""
    zero = np.zeros(len(ts), np.int32)
    records = RecordTable(ts, zero, up, MAP.outer(lengths).astype(np.int32), zero - 1, np.arange(len(ts)))
    classes = classify_records(records, np.zeros(1, np.int64), (MAP,))
    delay = rng.exponential(100e3, len(ts)).astype(np.int64) + 30_000
    seen = ts + np.where(up, delay, -delay) + (rng.normal(0, jitter_s, len(ts)) * 1e9).astype(np.int64)
    seen = seen + int(offset_s * 1e9) + np.rint((seen - EPOCH_NS) * drift_ppm * 1e-6).astype(np.int64)
    order = np.argsort(seen, kind="stable")
    size_class = classes.class_of(0, lengths.astype(np.int32), up)
    return EgressPackets(
        seen[order], size_class[order], up[order], np.arange(len(seen), dtype=np.int32)
    ), classes


@pytest.mark.parametrize("jitter_s", [0.0, 0.002, 0.01])
@pytest.mark.parametrize(("offset_s", "drift_ppm"), [(0.0, 0.0), (4393.217, 40.0), (-17.3, -95.0)])
def test_finds_offset_and_drift(offset_s: float, drift_ppm: float, jitter_s: float) -> None:
    rng = np.random.default_rng([round(abs(offset_s)), round(jitter_s * 1e3)])
    egress, classes = _sides(rng, offset_s, drift_ppm, jitter_s)
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert found.status == ("same_clock" if offset_s == 0.0 else "aligned")
    # A few hundred pairs stand behind the line: a tenth of their spread is what it can be off.
    assert abs(found.offset_ns - offset_s * 1e9) < 60_000 + 0.1e9 * jitter_s
    assert abs(found.drift_ppm - drift_ppm) < 1.0 + 4_000 * jitter_s


def test_intervals_cover_the_truth() -> None:
    covered = [0, 0]
    rounds = 30
    for seed in range(rounds):
        egress, classes = _sides(np.random.default_rng(seed), 12.5, 30.0, 0.002, packets=4000)
        found = estimate_alignment(egress, classes, np.random.default_rng(1))
        covered[0] += found.offset_interval_ns[0] <= 12_500_000_000 <= found.offset_interval_ns[1]
        covered[1] += found.drift_interval_ppm[0] <= 30.0 <= found.drift_interval_ppm[1]
    # 95 % intervals: 26 or fewer of 30 would come about in 2 % of runs.
    assert min(covered) >= 26, covered


def test_to_ingress_undoes_the_clock_to_the_nanosecond_of_the_model() -> None:
    egress, classes = _sides(np.random.default_rng(5), 100.0, 20.0, 0.0)
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    back = found.to_ingress(egress.ts_ns)
    assert back.dtype == np.int64
    assert np.median(np.abs(np.sort(back) - np.sort(classes.ts_ns))) < 300_000


def test_unrelated_captures_are_not_identifiable() -> None:
    refused = 0
    rounds = 30
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        _, classes = _sides(rng, 0, 0, 0, packets=2000)
        other, other_classes = _sides(rng, 0, 0, 0, packets=2000)
        # the other side's own lengths, looked up among these classes
        sizes = other_classes.key[np.maximum(other.size_class, 0)]
        at = np.minimum(np.searchsorted(classes.key, sizes), len(classes) - 1)
        strange = EgressPackets(
            other.ts_ns, np.where(classes.key[at] == sizes, at, -1).astype(np.int32), other.up, other.row
        )
        refused += estimate_alignment(strange, classes, np.random.default_rng(1)).status == "not_identifiable"
    assert refused == rounds


def test_too_few_packets_say_so() -> None:
    egress, classes = _sides(np.random.default_rng(2), 1.0, 0, 0)
    found = estimate_alignment(egress.take(np.arange(5)), classes, np.random.default_rng(1))
    assert found.status == "not_identifiable"
    assert "only" in found.reason


def test_a_single_weak_pile_is_no_proof() -> None:
    """Captures so short that their differences leave room for one pile only, and strangers to each other."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        ts, lengths, up = _traffic(rng, 80, 1.0)
        egress, classes = _seen(rng, ts, lengths // 100 * 100, up, 12.5, 0.0, 0.0)
        shuffled = EgressPackets(
            egress.ts_ns, rng.permutation(egress.size_class), egress.up, egress.row
        ).take(np.arange(0, len(egress.ts_ns), 6))
        found = estimate_alignment(shuffled, classes, np.random.default_rng(1))
        assert found.status == "not_identifiable"


@pytest.mark.parametrize("wrong_s", [-1.79e9, 3e7])
@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_a_packet_at_a_wrong_time_changes_nothing(side: str, wrong_s: float) -> None:
    egress, classes = _sides(np.random.default_rng(8), 12.5, 30.0, 0.0, packets=3000)
    right = estimate_alignment(egress, classes, np.random.default_rng(1))
    stray = int(np.argmin(egress.ts_ns if side == "egress" else classes.ts_ns))
    (egress if side == "egress" else classes).ts_ns[stray] += int(wrong_s * 1e9)
    if side == "ingress":  # each class ascends
        for a, b in itertools.pairwise(classes.start):
            classes.ts_ns[a:b].sort()
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert found.status == "aligned"
    to_the_same = found.to_ingress(egress.ts_ns)[1:] - right.to_ingress(egress.ts_ns)[1:]
    assert np.abs(np.delete(to_the_same, stray - 1) if stray else to_the_same).max() < 50_000


def test_packets_from_before_the_clock_was_set_are_left_out() -> None:
    egress, classes = _sides(np.random.default_rng(8), 12.5, 30.0, 0.0, packets=3000)
    egress.ts_ns[:150] -= egress.ts_ns[0]
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert abs(found.offset_ns - 12_500_000_000) < 1_000_000
    assert found.reference_ns == egress.ts_ns[150:].min()


def test_a_long_capture_is_aligned_by_its_rare_sizes() -> None:
    """Two days of rare packets, and a transfer of equal ones that is busier than all else."""
    rng = np.random.default_rng(9)
    bursts = np.repeat(np.sort(rng.uniform(0, 172_800, 500)), 8)
    rare = bursts + rng.exponential(0.5, len(bursts))
    ts = np.r_[rare, 40_000 + np.cumsum(rng.exponential(0.01, 30_000))]
    lengths = np.r_[rng.integers(60, 1400, len(rare)), np.full(30_000, 1420)]
    order = np.argsort(ts)
    ts_ns = EPOCH_NS + (ts[order] * 1e9).astype(np.int64)
    egress, classes = _seen(rng, ts_ns, lengths[order], rng.random(len(ts)) < 0.5, 12.5, 40.0, 0.0)
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert found.status == "aligned"
    assert abs(found.drift_ppm - 40.0) < 0.1


def test_sparse_piles_are_those_of_the_histogram() -> None:
    rng = np.random.default_rng(3)
    slot, weight = rng.integers(100, 900, 300), rng.random(300)
    dense = dense_excess(np.bincount(slot, weight, minlength=1_000))[1]
    at, sparse = sparse_excess(slot.copy(), weight)
    assert np.array_equal(at, np.unique(slot))
    assert np.allclose(sparse, dense[at])


def test_known_pairs_give_the_line() -> None:
    rng = np.random.default_rng(3)
    ingress = EPOCH_NS + np.sort(rng.integers(0, 60 * 10**9, 500))
    egress = ingress + 5_000_000_000 + 100_000 + np.rint((ingress - EPOCH_NS) * 30e-6).astype(np.int64)
    found = align_pairs(egress, ingress, np.ones(500, np.bool_), rng)
    assert abs(found.drift_ppm - 30) < 0.5
    assert found.offset_interval_ns[0] <= 5_000_000_000 <= found.offset_interval_ns[1]


def test_a_pile_is_compared_in_bins_as_fine_as_its_own() -> None:
    """A talk repeated every three seconds piles up there, too, but only as sharply as it is repeated."""
    rng = np.random.default_rng(2)
    turns, sizes = 30, rng.integers(60, 1400, 12)
    began = np.repeat(3.0 * np.arange(turns), len(sizes)) + np.tile(0.1 * np.arange(len(sizes)), turns)
    ts = EPOCH_NS + np.sort((began + rng.uniform(-0.008, 0.008, len(began))) * 1e9).astype(np.int64)
    up = np.tile(np.arange(len(sizes)) % 2 == 0, turns)
    egress, classes = _seen(rng, ts, np.tile(sizes, turns), up, 12.5, 0.0, 0.0)
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert found.status == "aligned"
    assert abs(found.offset_ns - 12_500_000_000) < 60_000


def test_pairs_without_room_are_left_out_all_over_the_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of the later part: a bulk transfer has more pairs than room, and a part is no whole."""
    egress, classes = _sides(np.random.default_rng(3), 12.5, 20.0, 0.0002)
    monkeypatch.setattr(sharpen, "_FINE_PAIRS", 4_000)
    looked_at: list[int] = []
    kernel = sharpen.pairs_within

    def seen(*arguments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        left, right = kernel(*arguments)
        assert len(left) < arguments[-1]
        looked_at.append(len(left))
        return left, right

    monkeypatch.setattr(sharpen, "pairs_within", seen)
    found = estimate_alignment(egress, classes, np.random.default_rng(1))
    assert looked_at
    assert abs(found.drift_ppm - 20.0) < 2.0
    assert abs(found.offset_ns - 12_500_000_000) < 100_000
