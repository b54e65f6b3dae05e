"""The kernels of the containment engine against slow obvious twins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from vpnforensics.engines._kernels import (
    ByTunnel,
    Delays,
    Packets,
    Records,
    candidates,
    chance_gaps,
    fresh_packets,
    rarest_packets,
)
from vpnforensics.engines._pair_kernels import Given, own_records, score_pairs
from vpnforensics.engines.holes import Holes
from vpnforensics.flows.grouping import group_rows

MISS = np.repeat([0.03, 0.1, 0.3, 0.6, 0.8, 0.95, 0.2], 2)
"""By what a counter says: nothing missed, five shares of what was sent, and no counter."""


@dataclass
class Small:
    """A tiny random case: three tunnels, four classes, times within 400 units."""

    flow_start: np.ndarray
    egress_ns: np.ndarray
    egress_class: np.ndarray
    fresh: np.ndarray
    up: np.ndarray
    class_start: np.ndarray
    record_ns: np.ndarray
    record_tunnel: np.ndarray
    gap_ns: np.ndarray
    density: tuple[np.ndarray, np.ndarray]
    holes: list[tuple[int, int, int]]
    """Side, first and last time of each hole in a counter; sides 0 and 1 are not counted."""
    low_ns: int = -3
    step_bits: int = 2
    width_ns: float = 9.0

    @property
    def packets(self) -> Packets:
        return Packets(self.flow_start, self.egress_ns, self.egress_class, self.up, self.fresh)

    @property
    def records(self) -> Records:
        return Records(self.class_start, self.record_ns, self.record_tunnel)

    @property
    def by_tunnel(self) -> ByTunnel:
        row, start = group_rows(self.record_tunnel, 3)
        return ByTunnel(self.class_start, start, row, self.record_ns[row], self.gap_ns[row])

    @property
    def counters(self) -> Holes:
        side, first, last = (np.array(column, np.int64) for column in zip(*self.holes, strict=True))
        start = np.searchsorted(side, np.arange(7)).astype(np.int64)
        return Holes(np.arange(6) >= 2, start, first, last, 1 + np.arange(len(side)) % 5)

    @property
    def delays(self) -> Delays:
        return Delays(*self.density, self.low_ns, self.step_bits, self.width_ns)


def _small(seed: int) -> Small:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, 5)
    packets, records = int(sizes.sum()), 40
    size_class = np.sort(rng.integers(0, 4, records))
    record_ns = np.concatenate(
        [np.sort(rng.integers(0, 400, int((size_class == c).sum()))) for c in range(4)]
    )
    start = np.r_[0, np.cumsum(sizes)].astype(np.int64)
    egress_ns = np.concatenate([np.sort(rng.integers(0, 400, n)) for n in sizes]).astype(np.int64)
    egress_class = rng.integers(-1, 4, packets).astype(np.int32)
    density = rng.random((2, 6)) / 10
    return Small(
        start,
        egress_ns,
        egress_class,
        rng.integers(0, 2, packets).astype(np.uint8),
        egress_class % 2 == 0,  # a class has one direction
        np.searchsorted(size_class, np.arange(5)).astype(np.int64),
        record_ns.astype(np.int64),
        rng.integers(0, 3, records).astype(np.int32),
        (1 / (rng.random(records) / 50 + 1e-3)).astype(np.float32),
        (density[0], density[1]),
        sorted(
            (int(s), int(t), int(t) + 20)
            for s, t in zip(rng.integers(2, 6, 8), 50 * np.arange(8), strict=True)
        ),
    )


def _candidates(case: Small, j: int, t: int, tunnel: int) -> list[tuple[int, float]]:
    """Records of the packet's class and tunnel within reach, with the density of their delay."""
    c = int(case.egress_class[j])
    found = []
    for i in range(case.class_start[c], case.class_start[c + 1]) if c >= 0 else ():
        delay = t - case.record_ns[i] if case.up[j] else case.record_ns[i] - t
        slot = (delay - case.low_ns) // 2**case.step_bits
        if case.record_tunnel[i] == tunnel and 0 <= slot < 6:
            found.append((i, float(case.density[0 if case.up[j] else 1][slot])))
    return found


def _missed(case: Small, j: int, tunnel: int) -> float:
    """Share missed of a packet's kind: what the tunnel's counter says of its records' time."""
    t, side = int(case.egress_ns[j]), 2 * tunnel + int(case.up[j])
    early, late = case.low_ns, case.low_ns + 6 * 2**case.step_bits - 1
    first, last = (t - late, t - early) if case.up[j] else (t + early, t + late)
    if side < 2:
        return 0.2
    for n, (s, a, b) in enumerate(case.holes):
        if s == side and b >= first:
            return float(MISS[2 * (1 + n % 5)]) if a <= last else 0.03
    return 0.03


def _twin(case: Small, flow: int, tunnel: int) -> tuple[float, int]:
    """Score and hits of one pair, as the engine's theory says it."""
    total, against, hits = 0.0, 0.0, 0
    used: set[int] = set()
    for j in range(case.flow_start[flow], case.flow_start[flow + 1]):
        miss = _missed(case, j, tunnel)
        # By chance a packet that continues a burst lacks a record as if it had two chances to be missed.
        by_chance = 1 - (1 - miss) ** 2
        hit_step, miss_step = np.log((1 - miss) / (1 - by_chance)), np.log(miss / by_chance)
        near = _candidates(case, j, int(case.egress_ns[j]), tunnel)
        free = [(i, g) for i, g in near if i not in used]
        if not free:
            total += np.log(miss) if case.fresh[j] else 0.0
            against += 0.0 if case.fresh[j] else miss_step
            continue
        if not case.fresh[j]:
            taken = free[0][0]
        else:
            taken = max(free, key=lambda pair: (pair[1] * case.gap_ns[pair[0]], -pair[0]))[0]
        hits += 1
        used.add(taken)
        x = sum(g * case.gap_ns[i] for i, g in near) / max(1.0, sum(g * case.width_ns for _, g in near))
        total += np.log(miss + (1 - miss) * x) if case.fresh[j] else 0.0
        against += 0.0 if case.fresh[j] else hit_step
    return total + min(0.0, against), hits


@settings(max_examples=80)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_candidates_have_a_record_in_reach_of_enough_packets(seed: int, share: float) -> None:
    case = _small(seed)
    flows = np.array([3, 0, 4, 1, 2, 3], np.int32)
    probe = np.flatnonzero(np.random.default_rng(seed).random(len(case.egress_ns)) < 0.7).astype(np.int32)
    probe_start = np.searchsorted(probe, case.flow_start)
    listed, tunnel = candidates(flows, case.packets, probe_start, probe, case.records, case.delays, 3, share)
    found = set(zip(listed.tolist(), tunnel.tolist(), strict=True))
    assert len(found) == len(listed)
    for q, flow in enumerate(flows):
        sought = probe[probe_start[flow] : probe_start[flow + 1]].tolist()
        for k in range(3):
            there = sum(bool(_candidates(case, j, int(case.egress_ns[j]), k)) for j in sought)
            assert ((q, k) in found) is (there > 0 and there >= share * len(sought))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_score_pairs(seed: int) -> None:
    case = _small(seed)
    pair_flow = np.repeat(np.arange(5, dtype=np.int32), 3)
    pair_tunnel = np.tile(np.arange(3, dtype=np.int32), 5)
    found, hits = score_pairs(
        pair_flow, pair_tunnel, case.packets, case.by_tunnel, case.delays, case.counters, MISS
    )
    for q, (flow, k) in enumerate(zip(pair_flow.tolist(), pair_tunnel.tolist(), strict=True)):
        expected, expected_hits = _twin(case, flow, k)
        np.testing.assert_allclose(found[q], expected, rtol=1e-5, atol=1e-6)
        assert hits[q] == expected_hits


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_the_rarest_packets_are_fresh_and_of_the_rarest_classes(seed: int, most: int) -> None:
    case = _small(seed)
    counts = np.diff(case.class_start)
    start, probe = rarest_packets(case.flow_start, case.egress_class, case.fresh, counts, most)
    for f in range(5):
        packets = np.arange(case.flow_start[f], case.flow_start[f + 1])
        chosen = probe[start[f] : start[f + 1]]
        if len(packets) <= most:
            assert chosen.tolist() == packets.tolist()
            continue
        fit = packets[(case.egress_class[packets] >= 0) & (case.fresh[packets] > 0)]
        assert np.isin(chosen, fit).all()
        assert len(set(chosen.tolist())) == len(chosen) == min(most, len(fit))
        assert (np.diff(chosen) > 0).all()
        taken = np.sort(counts[case.egress_class[chosen]])
        assert taken.tolist() == np.sort(counts[case.egress_class[fit]])[: len(chosen)].tolist()


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5]))
def test_own_records(seed: int, tunnels: int) -> None:
    """Strongest first, and nobody is turned away whom moving others could serve (Kuhn's algorithm)."""
    case = _small(seed)
    rng = np.random.default_rng(seed)
    flows = rng.permutation(5).astype(np.int32)
    flow_tunnel = rng.integers(0, min(tunnels, 3), 5).astype(np.int32)
    owner, carried = np.full((2, len(case.record_ns)), -1, np.int32)
    matched = np.full(len(case.egress_ns), -1, np.int32)
    given = Given(owner, carried, matched)
    own_records(flows, flow_tunnel, case.packets, case.by_tunnel, case.delays, given)
    row = case.by_tunnel.row
    matched = np.where(matched >= 0, row[matched], -1)
    owner, carried = (np.take(of_place, np.argsort(row)) for of_place in (owner, carried))
    near_of: dict[int, list[tuple[int, float]]] = {}
    served: dict[int, int] = {}
    flow_of: dict[int, int] = {}
    for flow, k in zip(flows.tolist(), flow_tunnel.tolist(), strict=True):
        for j in range(case.flow_start[flow], case.flow_start[flow + 1]):
            near_of[j] = _candidates(case, j, int(case.egress_ns[j]), k)
            flow_of[j] = flow
            free = [(g, -i) for i, g in near_of[j] if i not in served]
            if free:
                served[-max(free)[1]] = j
    late = [j for j in near_of if j not in served.values()]
    lost = [j for j in late if not _serve(j, near_of, served, set())]
    for j, near in near_of.items():
        if j in lost:
            assert matched[j] == -1
            continue
        assert owner[matched[j]] == flow_of[j]
        assert carried[matched[j]] == j
        assert matched[j] in [i for i, _ in near]
    assert (owner >= 0).sum() == (carried >= 0).sum() == (matched >= 0).sum() == len(served)


def _serve(
    j: int, near_of: dict[int, list[tuple[int, float]]], served: dict[int, int], asked: set[int]
) -> bool:
    for i, _ in near_of[j]:
        if i not in asked:
            asked.add(i)
            if i not in served or _serve(served[i], near_of, served, asked):
                served[i] = j
                return True
    return False


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_occupancy_is_the_covered_share_of_the_window(seed: int, width: int) -> None:
    half = 50
    case = _small(seed)
    order = case.by_tunnel
    found = np.empty(len(order.row), np.float32)
    chance_gaps(order.row, order.start, case.class_start, order.ts_ns, float(width), half, found)
    size_class = np.repeat(np.arange(4), np.diff(case.class_start))
    for place, i in enumerate(order.row.tolist()):
        t = case.record_ns[i]
        group = (size_class == size_class[i]) & (case.record_tunnel == case.record_tunnel[i])
        inside = [u for u in case.record_ns[group].tolist() if t - half <= u <= t + half]
        covered = sum(min(b - a, width) for a, b in pairwise(inside)) + width
        np.testing.assert_allclose(found[place], width / min(1.0, covered / (2 * half)), rtol=1e-6)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_fresh_packets(seed: int) -> None:
    case = _small(seed)
    fresh = np.ones(len(case.egress_ns), np.uint8)
    fresh_packets(case.flow_start, case.egress_ns, case.egress_class, 4, 20.0, 60, fresh)
    for f in range(5):
        last: dict[int, int] = {}
        last_fresh: dict[int, int] = {}
        for j in range(case.flow_start[f], case.flow_start[f + 1]):
            c, t = int(case.egress_class[j]), int(case.egress_ns[j])
            follows = c >= 0 and c in last and t - last[c] <= 20 and t - last_fresh[c] <= 60
            assert bool(fresh[j]) is not follows
            last[c] = t
            if not follows:
                last_fresh[c] = t
