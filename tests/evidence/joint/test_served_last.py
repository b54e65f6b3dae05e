"""What flows still find in their tunnel when all others there have theirs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.evidence.joint.made import Packet, Record, made
from vpnforensics.arrays import Floats, Int32s
from vpnforensics.engines._hole_kernels import LITTLE
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.joint import served_last
from vpnforensics.evidence.joint.served_last import share_when_last

NONE = np.zeros(0, np.int64)


def _flows(seed: int, *sizes: int, begin_ms: float = 0.0) -> list[list[Packet]]:
    """Flows of one moment, all packets alike but in time and direction."""
    rng = np.random.default_rng(seed)
    times = [begin_ms + np.sort(rng.uniform(0, 300, n)) for n in sizes]
    ups = [rng.integers(0, 2, n) for n in sizes]
    return [
        [(float(t), 100 if up else 1400, bool(up)) for t, up in zip(*of, strict=True)]
        for of in zip(times, ups, strict=True)
    ]


def _records(flows: list[list[Packet]], tunnel: int = 0) -> list[Record]:
    return [(*packet, tunnel) for of in flows for packet in of]


def _served(case: Containment, order: list[int], tunnel: int = 0) -> tuple[Int32s, Floats]:
    """Tunnel and strength of flows that are served in this order."""
    flows = len(case.egress.start) - 1
    of, strength = np.full(flows, -1, np.int32), np.zeros(flows)
    of[order], strength[order] = tunnel, 100.0 - np.arange(len(order))
    return of, strength


def test_in_a_moment_of_one_flow_too_many_nobody_keeps_much() -> None:
    """One of another client, whose packets are alike, was placed first and took a few records of each."""
    own, stranger = _flows(1, 60, 50, 40), _flows(2, 70)
    case = made([*own, *stranger], _records(own), tunnels=1, sd_ms=10.0)
    share = share_when_last(case, *_served(case, [3, 0, 1, 2]), NONE)
    assert share[3] < 0.2
    assert (share[:2] < 0.2).all()


def test_a_long_flow_of_that_moment_keeps_most() -> None:
    own, stranger = _flows(1, 400, 50, 40), _flows(2, 70)
    case = made([*own, *stranger], _records(own), tunnels=1, sd_ms=10.0)
    share = share_when_last(case, *_served(case, [3, 0, 1, 2]), NONE)
    assert share[3] < 0.2
    assert share[0] > 0.8


def test_flows_that_are_nowhere_and_stand_first_there_are_served_before() -> None:
    own, stranger = _flows(3, 30, 50), _flows(4, 75)
    case = made([*own, *stranger], _records(own), tunnels=1, sd_ms=10.0)
    tunnel, strength = _served(case, [2])
    assert share_when_last(case, tunnel, strength, NONE).tolist() == [1.0] * 3
    rivals = np.array([0, 1])
    tunnel[rivals], strength[rivals] = 0, 12.0
    share = share_when_last(case, tunnel, strength, rivals)
    assert share[2] < 0.2
    assert share[:2].tolist() == [1.0, 1.0], "they are in none"
    bare = made([*own, *stranger], [(9e4, 100, True, 0)], tunnels=1, sd_ms=10.0)
    assert share_when_last(bare, tunnel, strength, rivals)[:2].tolist() == [1.0, 1.0]


def test_whoever_lacks_records_that_the_counter_says_were_not_read_is_not_asked() -> None:
    """The one too many, told apart only by what is known to be missing: little about that time, or much."""
    own, stranger = _flows(1, 60, 50, 40), _flows(2, 70)
    whole = [(0, up, -50.0, 350.0) for up in (False, True)]
    case = made([*own, *stranger], _records(own), tunnels=1, sd_ms=10.0, holes=whole)
    served = _served(case, [3, 0, 1, 2])
    assert share_when_last(case, *served, NONE)[3] < 0.2, "a record or two were lost"
    much = replace(case, holes=case.holes._replace(which=np.full(2, LITTLE + 1)))
    assert share_when_last(much, *served, NONE).tolist() == [1.0] * 4
    uncounted = replace(much, holes=much.holes._replace(counted=np.zeros(2, np.bool_)))
    assert share_when_last(uncounted, *served, NONE)[3] < 0.2


def test_where_hardly_a_packet_lacks_its_record_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record in twenty is missing."""
    own = _flows(5, 60, 50, 40)
    case = made(own, [r for k, r in enumerate(_records(own)) if k % 20], tunnels=1, sd_ms=10.0)
    served = []
    own_of = Containment.own
    monkeypatch.setattr(Containment, "own", lambda *of: served.append(1) or own_of(*of))
    assert share_when_last(case, *_served(case, [0, 1, 2]), NONE).tolist() == [1.0] * 3
    assert len(served) == 1


def test_what_is_lacking_is_of_that_tunnel_and_moment() -> None:
    own, stranger = _flows(1, 60, 50, 40), _flows(2, 70)
    later, elsewhere = _flows(6, 40, begin_ms=5000.0), _flows(7, 40)
    records = [*_records([*own, *later]), *_records(elsewhere, 1)[:10]]
    case = made([*own, *stranger, *later, *elsewhere], records, tunnels=2, sd_ms=10.0)
    tunnel, strength = _served(case, [3, 0, 1, 2, 4, 5])
    tunnel[5] = 1
    record = case.own(np.arange(6, dtype=np.int32), tunnel, strength).matched
    lacking = served_last._lacking(case, tunnel, record)
    assert lacking[4:].tolist() == [0, 30]
    assert ((lacking[:4] > 20) & (lacking[:4] <= 75)).all()
    assert share_when_last(case, tunnel, strength, NONE)[4:].tolist() == [1.0, 1.0]


def test_flows_of_one_moment_are_asked_in_turns_and_those_beyond_the_last_not_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first_ns, last_ns = np.array([0, 5, 11, 6]), np.array([10, 20, 30, 7])
    assert served_last._turns(np.zeros(4, np.int32), first_ns, last_ns).tolist() == [0, 1, 0, 2]
    assert served_last._turns(np.arange(4, dtype=np.int32), first_ns, last_ns).tolist() == [0] * 4
    assert served_last._turns(np.zeros(2, np.int32), np.array([0, 10]), np.array([10, 20])).tolist() == [0, 1]
    own, stranger = _flows(1, 400, 50, 40), _flows(2, 70)
    case = made([*own, *stranger], _records(own), tunnels=1, sd_ms=10.0)
    placed = _served(case, [3, 0, 1, 2])
    assert share_when_last(case, *placed, NONE)[0] > 0.8
    monkeypatch.setattr(served_last, "_TURNS", 1)
    assert served_last._turns(np.zeros(4, np.int32), first_ns, last_ns).tolist() == [0, 1, 0, 1]
    share = share_when_last(case, *placed, NONE)
    assert (share == 0.0).sum() >= 2
