"""Held-back copies: nothing comes before its time, its order or its cause, and nothing is lost unsaid."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.audit.copies import pacing
from vpnforensics.audit.copies.belonging import Belonging, NoCopyError
from vpnforensics.audit.copies.change import Change
from vpnforensics.audit.copies.cover import MOST_DATAGRAMS
from vpnforensics.audit.copies.sending import counter_place
from vpnforensics.audit.recording import Recording
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.packets.table import PacketTable
from vpnforensics.tunnels.find import find_tunnels

BATCH_S, COVER_HZ = 0.02, 200.0


@pytest.fixture(scope="module")
def batched(known: Belonging) -> Recording:
    return Change(batch_s=BATCH_S).apply(known, 0)


@pytest.fixture(scope="module")
def covered(known: Belonging) -> Recording:
    return Change(cover_hz=COVER_HZ).apply(known, 0)


def _held(known: Belonging, batch_s: float, cover_hz: float) -> tuple[pacing.Carried, pacing.Held]:
    packets = pacing.carried(known)
    pace = pacing._pace(known, batch_s, cover_hz, np.random.default_rng(0))
    return packets, pacing.hold_back(packets, pace, len(known.tunnels))


@pytest.mark.parametrize(("batch_s", "cover_hz"), [(BATCH_S, 0.0), (0.0, COVER_HZ), (BATCH_S, COVER_HZ)])
def test_packets_are_only_held_back(known: Belonging, batch_s: float, cover_hz: float) -> None:
    packets, held = _held(known, batch_s, cover_hz)
    left = held.left_ns != pacing.DROPPED
    assert (held.came_ns >= packets.at_ns).all()
    assert (held.left_ns >= held.came_ns)[left].all()
    if not cover_hz:
        assert (held.left_ns - held.came_ns <= batch_s * 1e9).all()
    together = packets.conversation[1:] == packets.conversation[:-1]
    assert (np.diff(held.came_ns)[together] >= 0).all()


def test_answers_come_a_round_trip_after_what_they_answer(known: Belonging) -> None:
    packets, held = _held(known, BATCH_S, 0.0)
    cause, answer_ns = pacing._causes(packets, pacing._trips(packets))
    caused = np.flatnonzero(cause >= 0)
    assert len(caused) > 100
    assert (packets.up[caused] != packets.up[cause[caused]]).all()
    assert (packets.conversation[caused] == packets.conversation[cause[caused]]).all()
    assert (answer_ns[caused] <= packets.at_ns[caused] - packets.at_ns[cause[caused]]).all()
    assert (held.came_ns[caused] >= held.left_ns[cause[caused]] + answer_ns[caused]).all()


def test_batching_keeps_every_packet(known: Belonging, batched: Recording) -> None:
    assert len(batched.ingress) == len(known.ingress)
    assert len(batched.egress) == len(known.egress)
    for was, now in ((known.ingress, batched.ingress), (known.egress, batched.egress)):
        assert np.sort(now.ip_len_bytes).tolist() == np.sort(was.ip_len_bytes).tolist()
        assert (np.diff(now.ts_ns) >= 0).all()
        assert now.ts_ns.sum() > was.ts_ns.sum()


def test_batching_counts_in_order(batched: Recording) -> None:
    records = find_tunnels(assemble_flows(batched.ingress, idle_other_s=np.inf)).records
    for tunnel in np.unique(records.tunnel):
        for up in (False, True):
            counter = records.counter[(records.tunnel == tunnel) & (records.up == up)]
            assert (np.diff(counter) > 0).all()


def test_a_packet_a_batch_leaves_with_all_that_wait(known: Belonging) -> None:
    packets, held = _held(known, BATCH_S, 0.0)
    server = np.sort(held.left_ns[~packets.up])
    gaps = np.diff(np.unique(server))
    assert (gaps >= BATCH_S * 1e9).all()


def test_a_constant_rate_has_one_datagram_a_tick(known: Belonging, covered: Recording) -> None:
    tunnels = find_tunnels(assemble_flows(covered.ingress, idle_other_s=np.inf))
    records = tunnels.records
    assert len(np.unique(records.size)) == 1
    assert len(records) > 2 * len(known.records)
    for tunnel in range(len(tunnels)):
        for up in (False, True):
            ts_ns = records.ts_ns[(records.tunnel == tunnel) & (records.up == up)]
            gaps = np.diff(ts_ns)
            assert (gaps >= 0).all()
            assert np.median(gaps) == pytest.approx(1e9 / COVER_HZ, rel=0.1)
            # Each tick is late by itself: over all of them the rate is kept.
            late = ts_ns - ts_ns[0] - np.rint(np.arange(len(ts_ns)) * 1e9 / COVER_HZ)
            missing = np.count_nonzero(gaps > 1.9e9 / COVER_HZ)  # ticks whose record the capture lacked
            assert missing < 0.01 * len(ts_ns)
            assert np.abs(late[: len(late) // 20]).max() < 15e6
            counter = records.counter[(records.tunnel == tunnel) & (records.up == up)]
            assert (np.diff(counter) == 1).all()


def test_what_a_constant_rate_drops_is_gone_on_both_sides(known: Belonging) -> None:
    copy = Change(cover_hz=2.0).apply(known, 0)
    packets, held = _held(known, 0.0, 2.0)
    lost = held.left_ns == pacing.DROPPED
    dropped_up = int((lost & packets.up & (packets.row >= 0)).sum())
    assert dropped_up > 0 or not lost.any()
    assert len(copy.egress) == len(known.egress) - dropped_up


@pytest.mark.parametrize("change", [Change(batch_s=BATCH_S), Change(cover_hz=COVER_HZ, batch_s=0.005)])
def test_the_same_seed_gives_the_same_copy(known: Belonging, change: Change) -> None:
    first, second = change.apply(known, 3), change.apply(known, 3)
    for a, b in ((first.ingress, second.ingress), (first.egress, second.egress)):
        for spec in PacketTable.schema():
            assert (getattr(a, spec.name) == getattr(b, spec.name)).all()


def test_a_rate_that_fills_the_memory_is_refused(known: Belonging) -> None:
    with pytest.raises(NoCopyError, match="shorter part"):
        Change(cover_hz=20 * MOST_DATAGRAMS).apply(known, 0)


def test_counters_are_found_where_they_stand(known: Belonging) -> None:
    mine = np.flatnonzero((known.records.tunnel == 0) & known.records.up)[:50]
    place = counter_place(known.ingress.head[known.records.row[mine]], known.records.counter[mine])
    assert place is not None
    assert (place.at, place.width, place.little) == (8, 8, True)
    assert counter_place(known.ingress.head[known.records.row[mine]], known.records.counter[mine] + 1) is None


def test_no_more_packets_are_under_way_than_were(known: Belonging) -> None:
    packets, held = _held(known, BATCH_S, 0.0)
    before, around_ns = pacing._windows(packets, pacing._trips(packets))
    mine = np.flatnonzero(before >= 0)
    assert len(mine) > 100
    assert (packets.conversation[mine] == packets.conversation[before[mine]]).all()
    assert (packets.up[mine] == packets.up[before[mine]]).all()
    assert (packets.at_ns[mine] - packets.at_ns[before[mine]] >= around_ns[mine]).all()  # as it was, too
    assert (held.came_ns[mine] >= held.left_ns[before[mine]] + around_ns[mine]).all()


def test_ticks_are_late_and_the_servers_are_its_own(known: Belonging) -> None:
    from vpnforensics.audit.copies.cover import ticks_of

    pace = pacing._pace(known, 0.0, COVER_HZ, np.random.default_rng(0))
    ticks = ticks_of(known, pace, np.random.default_rng(0))
    for clock in range(2 * len(known.tunnels)):
        seen_ns = ticks.seen_ns[ticks.begin[clock] : ticks.begin[clock + 1]]
        due_ns = pace.phase_ns[clock] + (ticks.first[clock] + np.arange(len(seen_ns))) * pace.tick_ns
        assert (seen_ns >= due_ns).all()
        assert (np.diff(seen_ns) >= 0).all()
    down = [set(ticks.seen_ns[ticks.begin[c] : ticks.begin[c + 1]].tolist()) for c in (0, 2)]
    shared = len(down[0] & down[1]) / min(map(len, down))
    assert shared > 0.95  # all but those that wait for an earlier tick of one tunnel alone


def test_what_comes_one_at_a_time_takes_what_such_packets_took() -> None:
    """Bursts of four, each waiting for those before it, and a packet 1 ms after each burst."""
    apart = np.tile([0, 10_000, 20_000, 30_000, 1_030_000], 40)
    at_ns = apart + np.repeat(np.arange(40) * 50_000_000, 5)
    took = np.where(apart > 100_000, 70_000, 100_000 + 20 * apart)
    up = np.ones(len(at_ns), np.bool_)
    up[::5] = False
    some = np.arange(len(at_ns))
    packets = pacing.Carried(some, some, 0 * some, up, some, at_ns, took, 0)
    drawn = pacing._one_by_one(packets, 1e6, np.random.default_rng(1))
    assert (drawn[up] == 70_000).all()
    assert (drawn[~up] == took[~up]).all()
    assert pacing._one_by_one(packets, 1e8, np.random.default_rng(1)) is took  # none came so far apart
