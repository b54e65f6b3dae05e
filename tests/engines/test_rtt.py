from __future__ import annotations

import numpy as np

from tests.echoes import START_S, talk
from tests.tables import table, tcp
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.engines import rtt
from vpnforensics.engines.case import Case
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.table import Tunnel, TunnelSet, no_records


def case_of(outer_waits, inner_waits):
    outer = [
        row for t, waits in enumerate(outer_waits) for row in talk(waits, client=(f"10.0.0.{t + 1}", 5000))
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
    inner = talk(inner_waits, client=("198.51.100.1", 6000), server=("192.0.2.1", 80))
    opening = tcp(START_S - 1, "198.51.100.1", 6000, "192.0.2.1", 80, 0x02)
    egress = assemble_flows(table([opening, *sorted(inner, key=lambda row: row["ts_ns"])]))
    found = TunnelSet(tuple(tunnels), no_records(), np.zeros(0, np.int64))
    return Case(conversations, found, egress, same_clock("made up"), (), np.full(len(tunnels), -1, np.int64))


def test_the_tunnel_that_is_as_far_away_is_preferred():
    scores = rtt.score(case_of([np.full(30, 0.02), np.full(30, 0.08)], np.full(30, 0.0215)))
    by_tunnel = dict(zip(scores.tunnel.tolist(), scores.score.tolist(), strict=True))
    assert by_tunnel[0] > 0.5
    assert by_tunnel[1] < 0
    assert scores.note[0] == "21.5 ms inside, 20.0 ms outside"


def test_a_longer_way_inside_is_less_strange_than_a_shorter_one():
    longer, shorter = (
        rtt.score(case_of([np.full(30, 0.04)], np.full(30, inside_s))).score[0] for inside_s in (0.08, 0.02)
    )
    assert shorter < -1 < longer


def test_a_score_does_not_depend_on_other_tunnels():
    waits = [np.full(30, 0.02), np.full(30, 0.1)]
    both = rtt.score(case_of(waits, np.full(30, 0.022)))
    one = rtt.score(case_of(waits[:1], np.full(30, 0.022)))
    assert both.score[0] == one.score[0]


def test_silence_has_reasons():
    case = case_of([np.full(5, 0.02)], np.full(5, 0.02))
    blind = Case(
        case.conversations, case.tunnels, case.flows, Alignment("not_identifiable", reason="test"), (),
        case.map_of_tunnel,
    )  # fmt: skip
    assert "the two clocks cannot be aligned" in rtt.score(blind).silence
    mute = Case(
        case.conversations, case.tunnels.select(np.zeros(1, np.bool_)), case.flows, case.alignment, (),
        np.zeros(0, np.int64),
    )  # fmt: skip
    assert len(rtt.score(mute)) == 0
