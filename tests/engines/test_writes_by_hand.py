"""How many writes have no partner, counted one by one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.evidence.joint.made import MS, made
from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines import packets, writes
from vpnforensics.engines._hole_kernels import KINDS

SHIFTS_NS = (3_100_000_000, -4_700_000_000, 7_300_000_000)


def counted(case: Any, up: bool, near_ns: int) -> float:
    """Share of a direction's writes without a record of their size so near, less those found by chance."""
    egress, classes = case.egress, case.classes
    size_class = np.max(case.egress_class, axis=0)
    mine = [p for p in range(len(egress.ts_ns)) if size_class[p] != IN_PIECES and egress.up[p] == up]

    def found(shift_ns: int) -> float:
        hits = 0
        for p in mine:
            c = int(size_class[p])
            times = classes.ts_ns[classes.start[c] : classes.start[c + 1]] if c >= 0 else np.zeros(0)
            hits += bool((np.abs(times - int(egress.ts_ns[p]) - shift_ns) <= near_ns).any())
        return hits / len(mine)

    chance = float(np.mean([found(shift) for shift in SHIFTS_NS]))
    return min(max(1.0 - (found(0) - chance) / (1.0 - chance), 0.03), 0.95)


@pytest.mark.parametrize(("seed", "sd_ms"), [(1, 0.1), (2, 0.1), (3, 2.0)])
def test_writes_without_a_partner(seed: int, sd_ms: float) -> None:
    """Within five milliseconds, or twice the law's width where that is more."""
    rng = np.random.default_rng(seed)
    writes_ = [(round(float(t), 2), int(rng.choice([70, 80])), bool(rng.random() < 0.5)) for t in
               np.sort(rng.uniform(0, 20_000, 300))]  # fmt: skip
    apart = [0.0, 3.0, 4.9, 5.2, 9.0, 30.0]
    records = [(t - float(rng.choice(apart)), s, up, 0) for t, s, up in writes_ if rng.random() < 0.7]
    records.append((10.0, 90, True, 0))
    case = made([writes_], records, tunnels=1, sd_ms=sd_ms)
    case.egress_class[0][::17] = IN_PIECES
    case.egress_class[0][5::19] = -1
    near_ns = max(5 * MS, round(2 * case.law.width_ns))
    for up in (False, True):
        assert writes._missed(case, up) == pytest.approx(counted(case, up, near_ns), abs=0.015)


def test_a_write_is_asked_for_where_any_law_would_have_carried_it_whole() -> None:
    """By one law it is read in pieces, by another it has a size: then it has a partner or lacks one."""
    case = made([[(0.0, 70, True), (9_000.0, 70, True)]], [(0.0, 70, True, 0)], tunnels=1)
    other = np.array([IN_PIECES, -1], np.int32)
    assert writes._missed(replace(case, egress_class=(case.egress_class[0], other)), True) == 0.5
    assert writes._missed(replace(case, egress_class=(other, other)), True) == 0.95
    pieces = np.full(2, IN_PIECES, np.int32)
    assert writes._missed(replace(case, egress_class=(pieces, case.egress_class[0])), True) == 0.5


def test_a_direction_without_writes_misses_what_may_be_missed_at_most() -> None:
    case = made([[(0.0, 70, True)]], [(0.0, 70, True, 0)], tunnels=1)
    assert writes._missed(case, False) == 0.95
    assert writes._missed(case, True) == 0.03


def test_what_is_missed_is_said_of_each_direction_whatever_a_counter_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = made([[(0.0, 70, True), (1.0, 71, False)]], [(0.0, 70, True, 0)], tunnels=1)
    monkeypatch.setattr(packets, "prepare", lambda *_: case)
    anything: Any = SimpleNamespace(of_packets=False)
    found = writes.prepare(anything, np.ones(2, np.bool_))
    assert found is not None
    assert found.miss.tolist() == [0.95, 0.03] * (KINDS // 2)
    assert found.of_writes
    monkeypatch.setattr(packets, "prepare", lambda *_: None)
    assert writes.prepare(anything, np.ones(2, np.bool_)) is None


@pytest.mark.parametrize("shift_ms", [3_100, -4_700, 7_300])
@pytest.mark.parametrize(("edge_ms", "missed"), [(-5.001, 0.5), (-5, 0.6), (5, 0.6), (5.001, 0.5)])
def test_chance_is_what_is_found_five_milliseconds_around_a_moved_place(
    shift_ms: float, edge_ms: float, missed: float
) -> None:
    """Of two writes one has its partner. One found by chance, of six: 1 - (1/2 - 1/6) / (5/6)."""
    flow = [(50_000.0, 70, True), (100_000.0, 70, True)]
    records = [(50_000.0, 70, True, 0), (100_000.0 + shift_ms + edge_ms, 70, True, 0)]
    case = made([flow], records, tunnels=1, sd_ms=0.1)
    assert writes._missed(case, True) == pytest.approx(missed)


@pytest.mark.parametrize("other_ms", [29_920_000.0, 29_930_000.0, 29_990_030.0])
def test_no_record_of_another_size_is_a_partner_however_long_the_capture(other_ms: float) -> None:
    """A size's last records are not the next size's first, even of writes that come before all records."""
    flow = [(t, 80, True) for t in (0.0, 10_000.0, 30_000_000.0)]
    records = [(t, 70, True, 0) for t in (100_000.0, other_ms)] + [(30_000_000.0, 80, True, 0)]
    assert writes._missed(made([flow], records, tunnels=1), True) == pytest.approx(2 / 3)


def test_where_chance_finds_all_nothing_is_known_to_be_carried() -> None:
    records = [(10_000.0 + t, 70, True, 0) for t in (0, 3_100, -4_700, 7_300)]
    assert writes._missed(made([[(10_000.0, 70, True)]], records, tunnels=1), True) == 0.95


@pytest.mark.parametrize(
    ("writes_s", "records_s"),
    [
        ([(70, 0), (70, 40)], [(70, 0), (80, 10)]),  # writes go on after all records
        ([(80, 10), (80, 30)], [(80, 30), (70, 50), (80, 90)]),  # records go on after all writes
        ([(70, 20), (70, 100)], [(80, 0), (70, 20), (80, 90)]),  # records begin before all writes
    ],
)
def test_sizes_are_kept_apart_however_the_two_captures_overlap(
    writes_s: list[tuple[int, int]], records_s: list[tuple[int, int]]
) -> None:
    """Sizes, and times in seconds. Of two writes one has a record of its size, the other has none."""
    flow = [(1000.0 * t, size, True) for size, t in writes_s]
    case = made([flow], [(1000.0 * t, size, True, 0) for size, t in records_s], tunnels=1)
    assert writes._missed(case, True) == 0.5


@pytest.mark.parametrize(("widths", "missed"), [(1.99, 0.03), (2.01, 0.95)])
def test_a_wide_law_has_partners_within_two_of_its_widths(widths: float, missed: float) -> None:
    wide = made([[(0.0, 70, True)]], [(0.0, 70, True, 0)], tunnels=1, sd_ms=5.0)
    away_ms = widths * wide.law.width_ns / MS
    case = made([[(0.0, 70, True)]], [(away_ms, 70, True, 0)], tunnels=1, sd_ms=5.0)
    assert writes._missed(case, True) == missed
