"""Bursts against the bytes of streams: what is found, what is taken, and what is noted of it."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.engines import volume as engine
from vpnforensics.engines._volume_kernels import Found, Stock, Wanted, look, name_rivals, take
from vpnforensics.engines.volume import AGAINST, CLASSES, FEATURES, OF_A_HEAP, Bursts, Carried, Volume

MS = 1_000_000
HOUR_NS = 3_600_000 * MS


def carried(*pieces, tunnels=3):
    """Pieces of (stream, ms, bytes)."""
    stream, at, size = (np.array(column, np.int64) for column in zip(*sorted(pieces), strict=True))
    ts_ns = HOUR_NS + at * MS
    origin, span = int(ts_ns.min()), int(ts_ns.max() - ts_ns.min()) // 1000 + 2
    return Carried(tunnels, ts_ns, size, stream * span + (ts_ns - origin) // 1000, origin, span)


def bursts(*rows):
    """Bursts of (flow, down, ms, ms, need, most)."""
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    columns[2:4] = (HOUR_NS + column * MS for column in columns[2:4])
    return Bursts(*columns)


def volume(of, those):
    return Volume(of, those, np.ones(of.tunnels, np.bool_), (5 * MS, 5 * MS), (25 * MS, 25 * MS))


def noted(of, those, owner, claim=None):
    """Outcome and place of each burst in each tunnel, as numbers within their features."""
    both = volume(of, those)
    claim = np.zeros(len(owner)) if claim is None else np.array(claim)
    owner = np.array(owner, np.int64)
    stock, took = both.take(those, owner, claim)
    compared = both.compare(those)
    return compared, compared.observe(stock, owner, took), stock, took


def nothing(many):
    return Found(np.zeros(many, np.int64), np.full(many, 1 << 60), np.zeros(many, np.bool_))


def random_case(seed, windows=60):
    """Pieces some of which are taken, by flows 0 to 4; and what bursts of flow 9 look for there."""
    rng = np.random.default_rng(seed)
    size = rng.choice([36, 100, 556], 80)
    left = size * rng.integers(0, 2, 80)
    taker = np.where(left == 0, rng.integers(0, 5, 80), -1)
    stock = Stock(np.sort(rng.integers(0, 1000, 80)), size, left, taker)
    first, need = rng.integers(0, 80, windows), rng.choice([36, 100, 136, 656, 2000], windows)
    stop = np.minimum(first + rng.integers(0, 12, windows), 80)
    rival = rng.integers(-1, 5, windows)
    nine = np.full(windows, 9)
    return stock, Wanted(first, stop, rng.integers(0, 1000, windows), need, need + 30, nine, rival)


def plain(stock, wanted, k):
    """The oracle: every run of pieces in a row of which there is something, by two loops."""
    rows = range(int(wanted.first[k]), int(wanted.stop[k]))
    back = {r: wanted.rival[k] >= 0 and stock.taker[r] == wanted.rival[k] for r in rows}
    there = {r: int(stock.size[r] if back[r] else stock.left[r]) for r in rows}
    some = [r for r in rows if there[r]]
    apart = {r: abs(int(stock.ts_ns[r] - wanted.begin_ns[k])) for r in some}
    runs = []
    for a in range(len(some)):
        for b in range(a + 1, len(some) + 1):
            have = sum(there[r] for r in some[a:b])
            if have >= wanted.need[k]:
                runs += [apart[some[a]]] * int(have <= wanted.most[k])
                break
    return sum(there.values()), min(runs or apart.values(), default=1 << 60), bool(runs)


@pytest.mark.parametrize("seed", range(3))
def test_windows_are_looked_at_as_the_oracle_does(seed):
    stock, wanted = random_case(seed)
    found = nothing(60)
    look(stock, wanted, found)
    expected = [plain(stock, wanted, k) for k in range(60)]
    assert list(zip(found.size, np.abs(found.apart_ns), found.whole, strict=True)) == expected
    assert 5 < found.whole.sum() < 55


def test_a_rival_is_who_took_most_of_the_window():
    stock, wanted = random_case(3)
    rival, piece = np.full((2, 60), -1)
    name_rivals(stock, wanted, np.zeros(10, np.int64), rival, piece)
    for k in range(60):
        rows = np.arange(wanted.first[k], wanted.stop[k])
        rows = rows[stock.taker[rows] >= 0]
        took = np.bincount(stock.taker[rows], stock.size[rows], 5)
        assert (rival[k] < 0) == (len(rows) == 0)
        if len(rows):
            assert took[rival[k]] == took.max()
            mine = rows[stock.taker[rows] == rival[k]]
            assert stock.taker[piece[k]] == rival[k]
            assert stock.size[piece[k]] == stock.size[mine].max()
    assert len(np.unique(rival)) == 6


def test_bytes_are_taken_once_and_no_more_than_needed():
    rng = np.random.default_rng(4)
    size = rng.integers(1, 400, 50)
    stock = Stock(np.arange(50), size, size.copy(), np.full(50, -1))
    first, need = rng.integers(0, 40, 30), rng.integers(30, 900, 30)
    wanted = Wanted(first, first + 10, first.copy(), need, need + 42, np.arange(30), np.full(30, -1))
    found = nothing(30)
    take(stock, wanted, np.arange(30), found)
    assert stock.left.min() >= 0
    assert (size - stock.left).sum() == found.size.sum()
    assert (found.size <= np.where(found.whole, wanted.most, need)).all()
    assert ((stock.taker < 0) <= (2 * stock.left >= size)).any()
    assert (stock.taker[stock.left == size] == -1).all()


def test_a_burst_that_finds_just_its_bytes_has_them_before_one_that_takes_any():
    of = carried((1, 0, 500), (1, 1, 1000), (1, 2, 800))
    those = bursts((0, 1, 0, 0, 1000, 1040), (1, 1, 0, 0, 600, 640))
    _, _, stock, took = noted(of, those, [0, 0])
    assert took.whole.tolist() == [True, False]
    assert took.size.tolist() == [1000, 600]
    assert stock.left.tolist() == [0, 0, 700]
    assert stock.taker.tolist() == [1, 0, -1]


def test_each_byte_is_evidence_for_one_flow():
    of = carried((0, 0, 556))
    those = bursts((0, 0, 0, 0, 556, 590), (1, 0, 1, 1, 556, 590))
    compared, observed, stock, took = noted(of, those, [0, -1])
    assert took.size.tolist() == [556, 0]
    assert stock.left.tolist() == [0]
    outcome = observed.outcome % 9
    assert outcome[observed.flow == 0].tolist() == [4]  # its own
    assert outcome[observed.flow == 1].tolist() == [1]  # nothing left
    assert not AGAINST[observed.outcome[observed.flow == 0]].any()
    assert AGAINST[observed.outcome[observed.flow == 1]].all()
    assert len(compared.burst) == 2


@pytest.mark.parametrize(
    ("ms", "size", "outcome"),
    [
        (0, 400, 1),
        (0, 700, 2),
        (0, 990, 3),
        (0, 1000, 4),
        (0, 1040, 4),
        (0, 1400, 5),
        (0, 2900, 6),
        (0, 4000, 7),
    ],
)
def test_amounts_against_what_is_needed(ms, size, outcome):
    """In two pieces that are none of them alone; what is missing then comes later, or it never did."""
    of = carried((1, ms, size // 2), (1, ms + 1, size - size // 2), (1, 400, 700))
    _, observed, _, _ = noted(of, bursts((0, 1, 0, 2, 1000, 1040)), [-1])
    assert (observed.outcome % 9).tolist() == [outcome]


def test_what_never_passed_was_not_carried():
    of = carried((1, 0, 700), (1, 5000, 700))
    _, observed, _, _ = noted(of, bursts((0, 1, 0, 0, 1000, 1040)), [-1])
    assert (observed.outcome % 9).tolist() == [0]
    assert observed.place.tolist() == [-1]


def test_upstream_bytes_come_before_and_downstream_bytes_after():
    of = carried((0, 0, 100), (1, 40, 100))
    early, late = bursts((0, 0, 20, 20, 100, 130)), bursts((0, 1, 20, 20, 100, 130))
    for those, apart_ms in ((early, -20), (late, 20)):
        compared, observed, _, _ = noted(of, those, [-1])
        assert len(compared.burst) == 1
        place = np.searchsorted(engine._PLACE_NS, apart_ms * MS)
        assert (observed.place[0] - 54) % 19 == place
    assert len(volume(of, early).compare(bursts((0, 0, 60, 60, 100, 130))).burst) == 0
    assert len(volume(of, late).compare(bursts((0, 1, 60, 60, 100, 130))).burst) == 0


def test_a_carrier_that_falls_silent_is_noted_where_it_had_bytes():
    of = carried((0, 0, 100), (2, 0, 100), (2, 200, 100))
    those = bursts((0, 0, 0, 0, 100, 130), (0, 0, 200, 200, 100, 130), (0, 0, 400, 400, 100, 130))
    _, observed, _, _ = noted(of, those, [-1])
    by = {
        tunnel: [(int(o) // 9 % 3, int(o) % 9) for o in observed.outcome[observed.tunnel == tunnel]]
        for tunnel in (0, 1)
    }
    first, with_bytes = 0, 2
    assert by[0] == [(first, 4), (with_bytes, 8)]
    assert by[1] == [(first, 4), (with_bytes, 4), (with_bytes, 8)]
    # Each burst is noted once for each carrier, or would be as nothing: the counts of both add up.
    counts = observed.counts(np.ones(len(observed), np.bool_))
    assert counts[:54].sum() == 0
    assert counts[54:].sum() == (observed.place >= 0).sum()


def test_of_a_large_burst_only_whether_it_passed():
    of = carried((1, 0, 50_000), (1, 900, 150_000))
    _, observed, _, _ = noted(of, bursts((0, 1, 0, 5, 150_000, 150_200)), [-1])
    assert (observed.outcome % 9).tolist() == [7]
    assert observed.place.tolist() == [-1]


def test_who_lost_its_bytes_to_another_would_gain_them_back():
    """Of two bursts that need one piece the surer has it; the other's gain is told, with the piece."""
    of = carried((0, 0, 556))
    those = bursts((0, 0, 0, 0, 556, 590), (1, 0, 1, 1, 556, 590))
    both, owner = volume(of, those), np.array([0, -1])
    stock, took = both.take(those, owner, np.zeros(2))
    compared = both.compare(those)
    observed = compared.observe(stock, owner, took)
    worth = np.zeros(CLASSES)
    worth[(FEATURES < 6) & (np.arange(CLASSES) % 9 == 4)] = 2.0
    rival, piece, gain = compared.given_back(stock, owner, took, observed, worth)
    assert compared.bursts.flow[compared.burst].tolist() == [0, 1]
    assert rival.tolist() == [-1, 0]
    assert piece.tolist() == [-1, 0]
    assert gain.tolist() == [0.0, 2.0]


def test_every_class_is_of_one_feature():
    assert len(FEATURES) == len(AGAINST) == CLASSES
    assert (np.diff(FEATURES) >= 0).all()
    assert np.bincount(FEATURES).tolist() == [9] * 6 + [19] * 18
    assert not (AGAINST & OF_A_HEAP).any()
