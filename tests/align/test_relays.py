"""Clocks and laws of relays: found where they hold, and nothing where none does."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tunnels.streams import Talk
from vpnforensics.align import relays
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.relays import settle_relays
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.tunnels.find import find_tunnels

SERVER, OUTSIDE = ("10.0.0.1", 8388), "203.0.113.1"


def relayed(seed, **options):
    """Both sides of :func:`talks` as conversations."""
    outer, inner = talks(seed, **options)
    return outer.from_table(), inner.from_table()


def talks(
    seed, *, frame, clients=3, flows=12, offset_s=0.0, reply=True, unlike=(), opening=(), padded=0, wrap=None
):
    """Writes of some clients at a relay, and what came out; of clients ``unlike`` the others, nothing did.

    ``opening`` is said on each outer connection before; the first write up has up to ``padded`` bytes more;
    ``wrap`` makes the bytes of an outer write of so many.
    """
    rng = np.random.default_rng(seed)
    steps = []
    for c in range(clients):
        for f in range(flows):
            begin = float(rng.uniform(1, 40))
            steps += [
                (begin + 0.05 * n + float(rng.uniform(0, 0.02)), c, f, n, int(rng.integers(50, 1200)))
                for n in range(8)
            ]
    steps.sort()
    inner, outer = Talk(), Talk()
    at = {}
    epoch = inner.now_s
    for ts, c, f, n, size in steps:
        up = n % 2 == 0 or not reply
        client, here = (f"10.0.1.{c + 2}", 40000 + f), (OUTSIDE, 41000 + c * flows + f)
        there = ("192.0.2.60", 443)
        if (c, f) not in at:
            at[c, f] = {"in": {True: 1000, False: 5000}, "out": {True: 1000, False: 5000}}
            outer.now_s, inner.now_s = epoch + ts - 0.02, epoch + ts - 0.01 + offset_s
            outer.syn(client=client, server=SERVER)
            for side, said in opening:
                outer.segment(side, at[c, f]["in"][side], said, client=client, server=SERVER)
                at[c, f]["in"][side] += len(said)
            if c not in unlike:
                inner.syn(client=here, server=there)
        lag = 0.0002 + float(rng.exponential(0.0002))
        outer.now_s = epoch + ts - (lag if up else -lag)
        inner.now_s = epoch + ts + offset_s
        more = frame + ((32 if n < 2 else 0) + (54 if n == 0 else 0) if frame == 34 else 0)
        more += int(rng.integers(0, padded + 1)) if padded and n == 0 else 0
        sent = at[c, f]
        data = wrap(size + more) if wrap else rng.bytes(size + more)
        outer.segment(up, sent["in"][up], data, client=client, server=SERVER, step_s=0.0)
        sent["in"][up] += size + more
        if c not in unlike:
            inner.segment(up, sent["out"][up], rng.bytes(size), client=here, server=there, step_s=0.0)
            sent["out"][up] += size
    order = [sorted(range(len(t.rows)), key=lambda i, t=t: t.rows[i]["ts_ns"]) for t in (outer, inner)]
    for talk, rows in zip((outer, inner), order, strict=True):
        talk.rows = [talk.rows[i] for i in rows]
    return outer, inner


def settled(outer, flows, clock=None):
    carriers = find_carriers(outer, find_tunnels(outer))
    return settle_relays(carriers, flows, clock, np.random.default_rng(0))


@pytest.mark.parametrize("offset_s", [0.0, 4393.217])
def test_law_and_clocks_are_found_together(offset_s):
    found = settled(*relayed(1, frame=34, offset_s=offset_s))
    (law,) = found.settled.maps
    assert (law.name, law.frame) == ("shadowsocks", 34)
    assert abs(found.settled.alignment.offset_ns - offset_s * 1e9) < 1e6
    assert {t.protocol for t in found.settled.tunnels.tunnels} == {"shadowsocks"}
    assert len(found.settled.tunnels) == 3


def test_a_law_that_is_not_known_is_learned_on_the_clocks_of_the_onsets():
    found = settled(*relayed(2, frame=77, offset_s=4393.217))
    (law,) = found.settled.maps
    assert (law.name, law.frame, law.room, law.origin) == ("", 77, 1, "learned")
    assert abs(found.settled.alignment.offset_ns - 4393.217e9) < 2e6


@pytest.mark.parametrize("clock", [None, same_clock("known")])
def test_two_captures_of_other_things_prove_nothing(clock):
    outer, _ = relayed(2, frame=34)
    _, flows = relayed(3, frame=34)
    assert settled(outer, flows, clock) is None


def test_who_is_beside_a_relay_is_no_carrier():
    """Of three clients of one service the third sends as much, and nothing of it comes out."""
    found = settled(*relayed(3, frame=34, unlike=(2,)))
    assert {t.client.rpartition(":")[0] for t in found.settled.tunnels.tunnels} == {"10.0.1.2", "10.0.1.3"}


def test_one_direction_alone_proves_no_relay():
    assert settled(*relayed(4, frame=34, reply=False, flows=20)) is None


def test_carriers_too_small_to_prove_themselves_are_none_where_others_look_alike(monkeypatch):
    sides = relayed(5, frame=34, clients=12, flows=2)
    assert len(settled(*sides).settled.tunnels) == 12
    monkeypatch.setattr(relays, "_LIKE_OTHERS", ("stream",))
    monkeypatch.setattr(relays, "followed", lambda carriers, *rest: np.zeros(len(carriers), np.bool_))
    assert settled(*sides) is None


def test_a_carrier_most_of_whose_writes_obey_no_law_is_proved_by_its_onsets(monkeypatch):
    """A download's writes are parted anywhere, and drown those that obey."""
    sides = relayed(6, frame=34, unlike=(2,))
    monkeypatch.setattr(relays, "_OWN_SHARE", 1.1)
    clients = {t.client.rpartition(":")[0] for t in settled(*sides).settled.tunnels.tunnels}
    assert clients == {"10.0.1.2", "10.0.1.3"}
    monkeypatch.setattr(relays, "followed", lambda carriers, *rest: np.zeros(len(carriers), np.bool_))
    assert settled(*sides) is None
