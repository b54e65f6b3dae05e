"""Flows of streams that carry many: linked by their amounts, not where their client is missing, no more than
the case's errors allow.

A world of its own stands for a case: clients load pages, several flows at a time, and the outer pieces of
each client are one stream, where some have the bytes of two flows.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.engines.circle import circle_of
from vpnforensics.engines.volume import Bursts, Carried, Volume
from vpnforensics.evidence import volume as evidence
from vpnforensics.evidence.decoys import NO_DECOYS
from vpnforensics.evidence.policy import Policy

MS = 1_000_000
TUNNELS, PAGES, AT_ONCE, STEPS = 4, 18, 3, 4
ORIGIN_NS = 10**18


@pytest.fixture(scope="module")
def world():
    """Bursts, pieces as (stream, ns, bytes), and the true tunnel of each flow."""
    rng = np.random.default_rng(7)
    rows, pieces, true = [], [], []
    for tunnel in range(TUNNELS):
        for begin in np.sort(rng.integers(0, 60_000, PAGES)):
            for _ in range(AT_ONCE):
                at = int(begin) * MS + int(rng.integers(0, 40 * MS))
                for _ in range(STEPS):
                    for down in (0, 1):
                        need = int(rng.integers(10, 200)) * (8 if down == 0 else 48)
                        delay = int(rng.exponential(0.3 * MS)) * (1 if down else -1)
                        rows.append((len(true), down, ORIGIN_NS + at, ORIGIN_NS + at, need, need + 136))
                        pieces.append((2 * tunnel + down, ORIGIN_NS + at + delay, need))
                        at += int(rng.integers(8, 30)) * MS
                true.append(tunnel)
    merged = np.array(sorted(pieces), np.int64)
    for n in range(0, len(merged) - 1, 4):
        if merged[n, 0] == merged[n + 1, 0] and merged[n + 1, 1] - merged[n, 1] < 10 * MS:
            merged[n, 2], merged[n + 1, 2] = 0, merged[n, 2] + merged[n + 1, 2]
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)]
    return Bursts(*columns), merged[merged[:, 2] > 0], np.array(true)


def asked_of(world, *, gone=-1):
    """A case with half of the flows linked by writes, and what it is asked; without a client's pieces."""
    bursts, pieces, true = world
    pieces = pieces[pieces[:, 0] // 2 != gone]
    stream, ts_ns, size = pieces.T
    span = int(ts_ns.max() - ORIGIN_NS) // 1000 + 10_000_000
    origin = ORIGIN_NS - 1_000_000_000
    carried = Carried(TUNNELS, ts_ns, size, stream * span + (ts_ns - origin) // 1000, origin, span)
    volume = Volume(carried, bursts, np.arange(TUNNELS) != gone, (5 * MS, 5 * MS), (25 * MS, 25 * MS))
    begin_ns = bursts.begin_ns[np.searchsorted(bursts.flow, np.arange(len(true)))]
    links = np.where((np.arange(len(true)) % 2 == 0) & (true != gone), true, -1)
    case = SimpleNamespace(
        flows=true, begin_ns=begin_ns, circle=circle_of(begin_ns, ts_ns), tunnels=np.arange(TUNNELS)
    )
    return case, volume, links


def test_flows_take_their_bytes_where_they_were_carried(world):
    case, volume, links = asked_of(world)
    asked = evidence._Asked(case, volume, links, np.random.default_rng(1))
    outcome, open_ = asked.found.outcome, links < 0
    likeliest = outcome.tunnel[open_] == world[2][open_]
    assert likeliest.mean() > 0.95
    sure = (outcome.claim[open_] > 9) & asked.by_whole_bursts()[open_]
    assert sure.mean() > 0.5
    assert likeliest[sure].all()
    left, size = asked.found.stock.left, asked.found.stock.size
    assert left.sum() < 0.2 * size.sum()


def test_what_chance_claims_is_little(world):
    case, volume, links = asked_of(world)
    asked = evidence._Asked(case, volume, links, np.random.default_rng(1))
    copies, tried, compared = asked.copies()
    assert tried > 300
    assert compared == tried * TUNNELS
    assert (copies > 2.5).sum() <= 0.01 * tried
    without, others = asked.without()
    assert others > 300
    assert np.max(without, initial=0.0) < 4.5


@pytest.mark.parametrize("gone", range(TUNNELS))
def test_flows_of_a_client_that_is_missing_find_no_bytes_of_their_own(world, gone):
    case, volume, links = asked_of(world, gone=gone)
    asked = evidence._Asked(case, volume, links, np.random.default_rng(1))
    missing = world[2] == gone
    assert (asked.found.outcome.tunnel != gone).all()
    assert asked.found.outcome.claim[missing].max() < 4.5
    assert not (asked.by_whole_bursts() & (asked.found.outcome.claim > 4.5))[missing].any()


@pytest.fixture
def decide(world, monkeypatch):
    """The decision of the world's case, by the writes' links and their errors."""

    def decided(
        expected=0.01, error=1e-5, shared=True, believed=0.5, of_packets=False, of_frames=False, change=None
    ):
        case, volume, links = asked_of(world)
        links = links if change is None else change(links)
        law = SimpleNamespace(of_packets=of_packets, of_frames=of_frames)
        case.egress = SimpleNamespace(start=np.arange(len(links) + 1))
        monkeypatch.setattr(evidence.engine, "prepare", lambda *_: volume)
        monkeypatch.setattr(evidence, "connections_of", lambda *_: np.where(shared, 0, np.arange(len(links))))
        monkeypatch.setattr(evidence, "of_one_law", lambda *_: (volume.of, law))
        monkeypatch.setattr(
            evidence, "heard", lambda _case, decision, found: replace(decision, voices=(found,))
        )
        before = Linked(links.astype(np.int32), np.where(links >= 0, error, 1.0), expected, believed)
        return links, before, evidence.with_volume(case, before, np.random.default_rng(1))

    return decided


def Linked(tunnel, error, expected, believed):
    """A decision that has only what is asked of it."""
    from vpnforensics.evidence.decision import Decision

    none = dict.fromkeys(Decision.__dataclass_fields__)
    policy = Policy(expected_false_links=expected, believed_contended=believed)
    return Decision(
        **none
        | {
            "tunnel": tunnel,
            "error": error,
            "policy": policy,
            "decoys": NO_DECOYS,
            "record": np.arange(len(tunnel)),
            "voices": (),
            "delay_law": {},
        }
    )


def test_open_flows_are_linked_rightly_and_the_rest_stays(decide, world):
    links, before, after = decide()
    new = (after.tunnel >= 0) & (links < 0)
    assert new.sum() > 0.4 * (links < 0).sum()
    assert (after.tunnel[new] == world[2][new]).all()
    assert (after.tunnel[links >= 0] == links[links >= 0]).all()
    assert (after.error[links >= 0] == before.error[links >= 0]).all()
    assert after.decoys.tried > 300
    assert after.voices[0].slope <= 0.6


def test_no_more_errors_are_stated_than_the_case_allows(decide):
    _, before, after = decide(expected=2e-3)
    assert before.expected_false_links < after.expected_false_links <= 2e-3
    links, _, none_left = decide(expected=1e-5)
    assert (none_left.tunnel == links).all()


def test_what_the_policy_does_not_believe_is_not_stated(decide):
    links, _, half = decide()
    _, _, tenth = decide(believed=0.1)
    assert tenth.voices[0].slope <= 0.1
    assert ((tenth.tunnel >= 0) & (links < 0)).sum() < ((half.tunnel >= 0) & (links < 0)).sum()


@pytest.mark.parametrize("other", [{"shared": False}, {"of_packets": True}, {"of_frames": True}])
def test_where_flows_have_connections_or_packets_nothing_is_said(decide, other):
    _, before, after = decide(**other)
    assert after is before


def test_flows_whose_bytes_are_in_heaps_alone_are_not_linked(decide, monkeypatch):
    monkeypatch.setattr(evidence._Asked, "by_whole_bursts", lambda self: np.zeros(len(self.links), np.bool_))
    links, _, after = decide()
    assert (after.tunnel == links).all()


def test_a_link_whose_bursts_find_nothing_in_its_tunnel_is_taken_back(decide, world):
    def change(links):
        links = links.copy()
        links[10] = (world[2][10] + 1) % TUNNELS
        return links

    links, _, after = decide(change=change)
    assert links[10] != world[2][10]
    assert after.tunnel[10] in (-1, world[2][10])
    assert (after.record < 0).sum() == 1
    still = (links >= 0) & (np.arange(len(links)) != 10)
    assert (after.tunnel[still] == links[still]).all()


def test_where_many_links_do_not_find_their_bytes_none_is_taken_back(decide, world):
    def change(links):
        return np.where(np.arange(len(links)) % 10 == 0, (world[2] + 1) % TUNNELS, links)

    links, _, after = decide(change=change)
    assert ((links >= 0) & (links != world[2])).mean() > 0.05
    assert (after.tunnel[links >= 0] == links[links >= 0]).all()
