"""Flows of streams that carry many: linked by what they need, not where their client is missing, and no more
than the case's errors allow.

A world of its own stands for a case: clients load pages, several connections at a time, and all their cells
are in one stream a direction, with others among them.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.engines.circle import circle_of
from vpnforensics.engines.volume import Streams
from vpnforensics.evidence import owners
from vpnforensics.evidence import volume as evidence
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.decoys import NO_DECOYS
from vpnforensics.evidence.policy import Policy
from vpnforensics.tunnels.cells import CELLS
from vpnforensics.tunnels.needs import ANSWERS, DATA_UP, ENDS_UP, OPENS, Needs, Parts, Passed, bytes_of
from vpnforensics.tunnels.write_law import WriteLaw

MS = 1_000_000
LAW = WriteLaw("ssh", frame=20, unit=8, room=8, extra=14)
CLIENTS, PAGES, AT_ONCE, STEPS = 4, 14, 3, 5
ORIGIN_NS = 10**18


class Tunnels:
    """So many of one protocol."""

    def __init__(self, protocol):
        self.tunnels = [SimpleNamespace(protocol=protocol)] * CLIENTS

    def __len__(self):
        return len(self.tunnels)


@pytest.fixture(scope="module")
def world():
    """Cells (stream, ns, count), needs (flow, kind, ns, cells), and the client of each flow."""
    rng = np.random.default_rng(7)
    cells, needs, true = [], [], []
    for client in range(CLIENTS):
        for begin in rng.integers(0, 60_000, PAGES):
            for _ in range(AT_ONCE):
                at = int(begin) * MS + int(rng.integers(0, 40 * MS))
                steps = [(OPENS, 1), (ANSWERS, 1)]
                steps += [(DATA_UP + (n & 1), int(rng.integers(1, 12))) for n in range(2 * STEPS)]
                for kind, many in (*steps, (ENDS_UP, 1)):
                    delay = int(rng.exponential(6 * MS)) * (1 if kind & 1 else -1)
                    needs.append((len(true), kind, ORIGIN_NS + at, many))
                    cells.append((2 * client + (kind & 1), ORIGIN_NS + at + delay, many))
                    at += int(rng.integers(30, 120)) * MS
                true.append(client)
        for at in rng.integers(0, 62_000, 200):  # circuits are built
            cells += [(2 * client + down, ORIGIN_NS + int(at) * MS, 1) for down in (0, 1)]
    return np.array(sorted(cells), np.int64), np.array(needs, np.int64), np.array(true)


def case_of(world, gone=-1):
    """A case that has no more of it than is asked for, and both sides; without a client's cells."""
    cells, needs, true = world
    stream, ts_ns, count = cells[cells[:, 0] // 2 != gone].T
    flow, kind, at_ns, many = needs.T
    tor = Streams(
        np.arange(CLIENTS),
        Passed(stream, ts_ns, count),
        Needs(flow, kind, kind & 1, at_ns, at_ns, many),
        Parts(np.arange(len(flow)), at_ns, many),
        CELLS,
    )
    begin_ns = at_ns[np.searchsorted(flow, np.arange(len(true)))]
    circle = circle_of(begin_ns, np.sort(ts_ns))
    case = SimpleNamespace(flows=true, begin_ns=begin_ns, circle=circle, tunnels=Tunnels("tor"))
    case.egress = SimpleNamespace(start=np.arange(len(true) + 1))
    return case, tor


def decision_of(flows, links=None, error=1e-5, expected=0.01):
    """A decision that has only what is asked of it."""
    none = dict.fromkeys(Decision.__dataclass_fields__)
    links = np.full(flows, -1) if links is None else links
    return Decision(
        **none
        | {
            "engine": "",
            "tunnel": links.astype(np.int32),
            "error": np.where(links >= 0, error, 1.0),
            "comparisons_of": np.zeros(flows, np.int64),
            "policy": Policy(expected_false_links=expected),
            "decoys": NO_DECOYS,
            "record": np.arange(flows),
            "null_comparisons": 0,
            "voices": (),
            "delay_law": {"low_ns": 0, "step_ns": MS, "up": np.ones(1), "down": np.ones(1)},
        }
    )


@pytest.fixture
def decide(world, monkeypatch):
    def decided(gone=-1, law=None, shared=True, **options):
        """What volume makes of clients of Tor, or, with a law, of a relay's."""
        case, streams = case_of(world, gone)
        if law is not None:
            case.tunnels = Tunnels("ssh")
            streams = replace(streams, measure=bytes_of(law))
        monkeypatch.setattr(evidence.engine, "prepare", lambda _case, *_: streams)
        monkeypatch.setattr(evidence, "connections_of", lambda *_: np.full(len(world[2]), 7))
        monkeypatch.setattr(evidence, "shared", lambda _: shared)
        monkeypatch.setattr(evidence, "of_one_law", lambda *_: (np.ones(CLIENTS, np.bool_), law))
        monkeypatch.setattr(
            evidence, "heard", lambda _case, decision, found: replace(decision, voices=(found,))
        )
        before = decision_of(len(world[2]), **options)
        return before, evidence.with_volume(case, before, np.random.default_rng(1))

    return decided


def half_of(true, gone=-1):
    """Links by writes of every other flow."""
    return np.where((np.arange(len(true)) % 2 == 0) & (true != gone), true, -1)


def test_flows_are_linked_to_the_client_whose_cells_they_need(decide, world):
    _, after = decide()
    case, _ = case_of(world)
    rng, flows = np.random.default_rng(2), len(world[2])
    away = np.mean([case.circle.turned(case.begin_ns, rng.random(flows))[1] for _ in range(50)])
    linked = after.tunnel >= 0
    assert linked.mean() > 0.5
    assert (after.tunnel[linked] == world[2][linked]).all()
    assert after.engine == "volume"
    assert after.expected_false_links <= 0.01
    expected = 5 * 0.15 * away * flows  # five times a share of the flows, of those that are turned away
    assert abs(after.decoys.tried - expected) < 4 * np.sqrt(expected)
    assert (after.voices[0].slope <= 0.6).all()
    assert after.null_comparisons > after.decoys.comparisons > 0


@pytest.mark.parametrize("gone", range(2))
def test_flows_of_a_client_that_is_missing_are_not_linked(decide, world, gone):
    _, after = decide(gone)
    linked = after.tunnel >= 0
    assert not linked[world[2] == gone].any()
    assert (after.tunnel[linked] == world[2][linked]).all()


def test_once_busy_streams_are_told_apart_no_flow_teaches_itself(world, monkeypatch):
    """What each fold is worth is by what all others have, before by what all have."""
    taught, worth_of = {False: [], True: []}, owners.worth_of

    def noted(true, false, *, busy):
        taught[busy].append(true.copy())
        return worth_of(true, false, busy=busy)

    monkeypatch.setattr(owners, "worth_of", noted)
    case, streams = case_of(world)
    owners.Owners(case, streams, half_of(world[2]), np.random.default_rng(1))
    *_, first = (taught[False][n : n + 5] for n in range(0, len(taught[False]), 5))
    *_, last = (taught[True][n : n + 5] for n in range(0, len(taught[True]), 5))
    assert all((fold == first[0]).all() for fold in first)
    whole = np.sum(last, axis=0) / 4
    own = whole - last
    assert (own >= 0).all()
    assert (own == own.round()).all()  # counts; were all in each, these would be quarters of them
    assert all((one != other).any() for one, other in itertools.combinations(last, 2))


@pytest.mark.parametrize("taught", [True, False])
def test_how_many_are_nobodys_is_learned_with_the_worth_where_links_by_writes_teach(
    world, monkeypatch, taught
):
    case, streams = case_of(world, gone=1)
    learned, drawn = [], owners.Owners._drawn
    monkeypatch.setattr(
        owners.Owners, "_drawn", lambda self, *of: learned.append(self._nobody) or drawn(self, *of)
    )
    links = half_of(world[2], gone=1) if taught else np.full(len(world[2]), -1)
    owners.Owners(case, streams, links, np.random.default_rng(1))
    assert len(learned) == owners._LEARNED + 1
    assert learned[0] == owners._ODDS_OF_NOBODY
    assert (len(set(learned)) > 1) == taught


def test_no_more_errors_are_stated_than_the_case_allows(decide):
    _, some = decide(expected=5e-6)
    _, more = decide()
    assert some.expected_false_links <= 5e-6
    assert (some.tunnel >= 0).sum() < (more.tunnel >= 0).sum()


def test_a_link_by_writes_stands_with_the_smaller_error_or_is_taken_back(decide, world):
    links = np.full(len(world[2]), -1)
    links[:10] = world[2][:10]
    links[5] = (world[2][5] + 1) % CLIENTS
    _, after = decide(links=links, error=1e-3)
    others = np.arange(10) != 5
    assert after.tunnel[5] != links[5]
    assert (after.tunnel[:10] == links[:10])[others].all()
    assert (after.error[:10][others] <= 1e-3).all()
    assert (after.error[:10][others] < 1e-3).any()


def test_of_too_much_nothing_is_said(decide, world, monkeypatch):
    _, streams = case_of(world)
    monkeypatch.setattr(evidence.engine, "MOST_COMPARISONS", len(streams.needs) * CLIENTS - 1)
    before, after = decide()
    assert after is before


def test_flows_that_writes_left_open_are_linked_beside_those_they_linked(decide, world):
    links = half_of(world[2])
    before, after = decide(law=LAW, links=links, error=1e-9)
    new = (after.tunnel >= 0) & (links < 0)
    assert new.sum() > 0.5 * (links < 0).sum()
    assert (after.tunnel[new] == world[2][new]).all()
    assert (after.tunnel[links >= 0] == links[links >= 0]).all()
    assert (after.error[links >= 0] <= before.error[links >= 0]).all()


@pytest.mark.parametrize("gone", range(2))
def test_links_by_writes_teach_nothing_of_a_client_that_is_missing(decide, world, gone):
    _, after = decide(gone, law=LAW, links=half_of(world[2], gone), error=1e-9)
    linked = after.tunnel >= 0
    assert not linked[world[2] == gone].any()
    assert (after.tunnel[linked] == world[2][linked]).all()


@pytest.mark.parametrize(
    "other",
    [
        {"shared": False},
        {"law": replace(LAW, of_packets=True)},
        {"law": replace(LAW, of_frames=True)},
        {"few": True},
    ],
)
def test_where_flows_have_connections_or_packets_or_are_few_nothing_is_said(decide, world, other):
    links = half_of(world[2])
    if other.pop("few", False):
        links[38:] = -1
    before, after = decide(**{"law": LAW, "links": links} | other)
    assert after is before


def test_a_link_whose_flow_does_not_find_what_it_needs_is_taken_back(decide, world):
    links = half_of(world[2])
    links[10] = (world[2][10] + 1) % CLIENTS
    _, after = decide(law=LAW, links=links, error=1e-9)
    assert after.tunnel[10] == -1
    assert after.record[10] == -1
    still = (links >= 0) & (np.arange(len(links)) != 10)
    assert (after.tunnel[still] == links[still]).all()


def test_where_many_do_not_find_what_they_need_none_is_taken_back(decide, world):
    links = half_of(world[2])
    links[::10] = (world[2][::10] + 1) % CLIENTS
    _, after = decide(law=LAW, links=links, error=1e-9)
    assert (after.tunnel[links >= 0] == links[links >= 0]).all()


def test_who_are_few_teach_nothing(decide, monkeypatch):
    monkeypatch.setattr(evidence, "LEAST_KNOWN", 10_000)
    before, after = decide()
    assert after is before
