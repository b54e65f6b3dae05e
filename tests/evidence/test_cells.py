"""Flows of Tor: linked by the cells that they need, not where their client is missing, and no more than the
case's errors allow.

A world of its own stands for a case: clients load pages, several connections at a time, and all their cells
are in one stream a direction, with others among them.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.engines.cells import Tor
from vpnforensics.engines.circle import circle_of
from vpnforensics.evidence import cells as evidence
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.decoys import NO_DECOYS
from vpnforensics.evidence.policy import Policy
from vpnforensics.tunnels.cells import ANSWERS, DATA_UP, ENDS_UP, OPENS, Cells, Needs, Parts

MS = 1_000_000
CLIENTS, PAGES, AT_ONCE, STEPS = 4, 14, 3, 5
ORIGIN_NS = 10**18


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
    tor = Tor(
        np.arange(CLIENTS),
        Cells(stream, ts_ns, count),
        Needs(flow, kind, kind & 1, at_ns, at_ns, many),
        Parts(np.arange(len(flow)), at_ns, many),
    )
    begin_ns = at_ns[np.searchsorted(flow, np.arange(len(true)))]
    tunnels = SimpleNamespace(tunnels=[SimpleNamespace(protocol="tor")] * CLIENTS)
    case = SimpleNamespace(
        flows=true, begin_ns=begin_ns, circle=circle_of(begin_ns, np.sort(ts_ns)), tunnels=tunnels
    )
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
        }
    )


@pytest.fixture
def decide(world, monkeypatch):
    def decided(gone=-1, **options):
        case, tor = case_of(world, gone)
        monkeypatch.setattr(evidence.engine, "prepare", lambda _case: tor)
        monkeypatch.setattr(
            evidence, "heard", lambda _case, decision, found: replace(decision, voices=(found,))
        )
        before = decision_of(len(world[2]), **options)
        return before, evidence.with_cells(case, before, np.random.default_rng(1))

    return decided


def test_flows_are_linked_to_the_client_whose_cells_they_need(decide, world):
    _, after = decide()
    linked = after.tunnel >= 0
    assert linked.mean() > 0.5
    assert (after.tunnel[linked] == world[2][linked]).all()
    assert after.engine == "cells"
    assert after.expected_false_links <= 0.01
    assert after.decoys.tried > 100
    assert (after.voices[0].slope <= 0.6).all()
    assert after.null_comparisons > after.decoys.comparisons > 0


@pytest.mark.parametrize("gone", range(2))
def test_flows_of_a_client_that_is_missing_are_not_linked(decide, world, gone):
    _, after = decide(gone)
    linked = after.tunnel >= 0
    assert not linked[world[2] == gone].any()
    assert (after.tunnel[linked] == world[2][linked]).all()


def test_flows_with_large_needs_are_calibrated_by_themselves_unless_they_are_few(decide, world, monkeypatch):
    compared = []
    monkeypatch.setattr(evidence, "chance_slope", lambda claims, many: compared.append(many) or many / 1e6)
    for share, apart in ((2, False), (len(world[2]) // 2, True)):
        large = np.arange(len(world[2])) < share
        monkeypatch.setattr(evidence.Owners, "large", property(lambda _self, large=large: large))
        _, after = decide()
        slope = after.voices[0].slope
        assert len(np.unique(slope[large])) == len(np.unique(slope[~large])) == 1
        whole = min(compared[:2]) / 1e6
        assert (slope[large] == whole).all() != apart
        compared.clear()


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


def test_nothing_is_said_beside_other_relays_or_of_too_much(decide, world, monkeypatch):
    case, tor = case_of(world)
    case.tunnels.tunnels = [*case.tunnels.tunnels[1:], SimpleNamespace(protocol="ssh")]
    before = decision_of(len(world[2]))
    assert evidence.with_cells(case, before, np.random.default_rng(1)) is before
    monkeypatch.setattr(evidence.engine, "MOST_COMPARISONS", len(tor.needs) * CLIENTS - 1)
    before, after = decide()
    assert after is before


def test_who_are_few_teach_nothing(decide, monkeypatch):
    monkeypatch.setattr(evidence, "LEAST_KNOWN", 10_000)
    before, after = decide()
    assert after is before
