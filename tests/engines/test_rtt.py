from __future__ import annotations

from dataclasses import replace
from math import log, log10
from statistics import NormalDist

import numpy as np
import pytest

from tests.echoes import START_S, talk
from tests.tables import table, tcp
from vpnforensics.align.alignment import same_clock
from vpnforensics.engines import rtt
from vpnforensics.engines.case import Case
from vpnforensics.engines.scores import Pairs
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.table import Tunnel, TunnelSet, no_records

START_NS = round(START_S * 1e9)
SILENT = None
"""Instead of waits: of a client that echoes nothing."""


def _rows(waits, client, server):
    rows = talk([0.1] * 3 if waits is SILENT else waits, client=client, server=server)
    return [row for row in rows if waits is not SILENT or row["src"] == server[0]]


def case_of(outer_waits, *inner_waits):
    """Tunnels over TCP and flows of these round trips, in seconds."""
    outer = [
        row
        for t, waits in enumerate(outer_waits)
        for row in _rows(waits, (f"10.0.0.{t + 1}", 5000), ("10.9.9.9", 443))
    ]
    ingress = table(sorted(outer, key=lambda row: row["ts_ns"]))
    conversations = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    tunnels = []
    for t in range(len(outer_waits)):
        name = f"10.0.0.{t + 1}:5000"
        c = next(
            c
            for c in range(len(conversations))
            if name in (conversations.source(c), conversations.destination(c))
        )
        first, last = int(conversations.first_ns[c]), int(conversations.last_ns[c])
        tunnels.append(Tunnel(name, "10.9.9.9:443", "tcp", "openvpn", "", 0.9, first, last, 9, 9, (), c))
    inner = []
    for f, waits in enumerate(inner_waits):
        client, server = ("198.51.100.1", 6000 + f), ("192.0.2.1", 80)
        inner += [tcp(START_S - 1 + 0.1 * f, *client, *server, 0x02), *_rows(waits, client, server)]
    egress = assemble_flows(table(sorted(inner, key=lambda row: row["ts_ns"])))
    found = TunnelSet(tuple(tunnels), no_records(), np.zeros(0, np.int64))
    return Case(conversations, found, egress, same_clock("made up"), (), np.full(len(tunnels), -1, np.int64))


def test_the_tunnel_that_is_as_far_away_is_preferred():
    scores = rtt.score(case_of([np.full(30, 0.02), np.full(30, 0.08)], np.full(30, 0.0215)))
    by_tunnel = dict(zip(scores.tunnel.tolist(), scores.score.tolist(), strict=True))
    assert by_tunnel[0] > 0.5
    assert by_tunnel[1] < 0
    assert scores.note[0] == "21.5 ms inside, 20.0 ms outside"
    assert scores.n.tolist() == [30, 30]


def test_a_longer_way_inside_is_less_strange_than_a_shorter_one():
    longer, shorter = (
        rtt.score(case_of([np.full(30, 0.04)], np.full(30, inside_s))).score[0] for inside_s in (0.08, 0.02)
    )
    assert shorter < -1 < longer


@pytest.mark.parametrize("inside_s", [0.001, 0.02, 0.3])
def test_a_score_is_the_ratio_of_two_densities(inside_s):
    """About 8 % longer than the tunnel's, give or take 15; or, of a third, longer by a delayed
    acknowledgement; against paths of 30 ms, give or take a factor of three. No more than 1.5 either way.
    """
    outside_s = [inside_s, *np.geomspace(inside_s / 30, min(0.39, 30 * inside_s), 25).tolist()]
    scores = rtt.score(case_of([np.full(3, wait) for wait in outside_s], np.full(3, inside_s)))
    assert scores.tunnel.tolist() == list(range(26))
    for outer, level in zip(outside_s, scores.score.tolist(), strict=True):
        longer = log(inside_s / max(outer, 0.0002))
        delayed = NormalDist(0, 0.8).pdf(longer) * (2 if longer > 0 else 0.02)
        carried = 0.65 * NormalDist(0.08, 0.15).pdf(longer) + 0.35 * delayed
        chance = NormalDist(0, 1.2).pdf(log(inside_s / 0.03))
        assert level == pytest.approx(min(max(log10(carried / chance), -1.5), 1.5), abs=1e-3)


def test_a_score_does_not_depend_on_other_tunnels():
    waits = [np.full(30, 0.02), np.full(30, 0.1)]
    both = rtt.score(case_of(waits, np.full(30, 0.022)))
    one = rtt.score(case_of(waits[:1], np.full(30, 0.022)))
    assert both.score[0] == one.score[0]


def test_what_was_not_measured_is_not_compared():
    case = case_of([[0.02] * 3, SILENT, SILENT], [0.02] * 4, SILENT, SILENT, SILENT)
    scores = rtt.score(case)
    assert list(zip(scores.flow, scores.tunnel, strict=True)) == [(0, 0)]
    assert scores.silence == {
        "tunnel without a round trip at ingress": 2,
        "flow without a round trip at egress": 3,
    }
    assert rtt.score(case_of([[0.02] * 3], [0.02] * 4)).silence == {}
    nothing = rtt.score(case_of([SILENT], [0.02] * 4))
    assert (len(nothing), nothing.silence) == (0, {"tunnel without a round trip at ingress": 1})


def test_pairs_asked_for_are_those_compared():
    case = case_of([[0.02] * 3] * 2, [0.02] * 4, [0.02] * 4)
    asked = Pairs(np.array([1, 0], np.int32), np.array([1, 0], np.int32))
    scores = rtt.score(case, asked)
    assert list(zip(scores.flow, scores.tunnel, strict=True)) == [(0, 0), (1, 1)]
    assert len(rtt.score(case)) == 4


@pytest.mark.parametrize(
    ("opens_ms", "closes_ms", "compared"),
    [(0, 20, True), (0, 19, False), (420, 900, True), (421, 900, False)],
)
def test_samples_and_tunnel_meet_in_time(opens_ms, closes_ms, compared):
    """The flow's round trips end 20 ms and 420 ms after the start."""
    case = case_of([[0.02] * 3], [0.02] * 2)
    (tunnel,) = case.tunnels.tunnels
    times = (START_NS + ms * 1_000_000 for ms in (opens_ms, closes_ms))
    tunnel = replace(tunnel, **dict(zip(("first_ns", "last_ns"), times, strict=True)))
    moved = replace(case, tunnels=replace(case.tunnels, tunnels=(tunnel,)))
    assert len(rtt.score(moved)) == compared


def test_silence_has_reasons():
    case = case_of([np.full(5, 0.02)], np.full(5, 0.02))
    mute = replace(case, tunnels=case.tunnels.select(np.zeros(1, np.bool_)))
    assert rtt.score(mute).silence == {"no tunnels": 1}
    assert len(rtt.score(mute)) == 0
