"""The exchange check against itself without anything remembered: every weight reckoned anew."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence.joint.made import made
from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.evidence.joint._exchange_kernels import _HOLDERS, _HOPELESS, exchange_errors
from vpnforensics.evidence.joint._graph_kernels import Reach
from vpnforensics.evidence.joint._message_kernels import Messages, Rates, sum_claims
from vpnforensics.evidence.joint._trial_kernels import Known, fit, lay, mark_claims, set_claims
from vpnforensics.evidence.joint.graph import Asked, connect
from vpnforensics.evidence.joint.rounds import Room

TUNNELS = 5


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((0.05, 0.3, 1.0)))
def test_what_is_remembered_is_what_would_be_found(seed: int, claiming: float) -> None:
    rng = np.random.default_rng(seed)
    flows = [
        sorted((float(t), 100, bool(rng.random() < 0.5)) for t in rng.uniform(0, 6, 3)) for _ in range(8)
    ]
    outer = [(float(t), 100, bool(rng.random() < 0.5), k)
             for k in range(TUNNELS) for t in rng.uniform(-1, 4, 8)]  # fmt: skip
    case = made(flows, outer, tunnels=TUNNELS)
    law = case.law
    asked = Asked.of_flows(case, np.ones(len(case.egress.ts_ns), np.bool_))
    connected = connect(case, asked, Reach(law.low_ns, law.step_bits, len(law.up)))
    graph = connected.graph
    scratch = Room.of(graph).scratch(np.zeros(len(graph.link_flow)))
    records, pairs = len(graph.record_links) - 1, len(graph.pair_tunnel)
    chance = rng.uniform(1e-8, 1e-6, records)
    delay = np.stack([law.down, law.up])
    rates = Rates(np.full(len(flows), -1.5), -9.0, np.zeros(pairs), np.full(KINDS, 0.1), delay, chance)
    links = len(graph.link_flow)
    claim = np.where(rng.random(links) < claiming, rng.uniform(0, 1e-4, links), 0.0)
    messages = Messages(claim, np.zeros(records), np.zeros(pairs), np.zeros(pairs), np.zeros(len(flows)))
    sum_claims(graph, messages)
    best = np.full(len(flows), -1, np.int64)
    for p in rng.permutation(pairs):
        best[graph.pair_flow[p]] = p
    asked_of = np.flatnonzero(best >= 0)
    trial = messages._replace(claim=claim.copy(), claimed=messages.claimed.copy())
    known = Known(
        np.full(pairs, np.nan), np.empty(pairs, np.bool_), *(np.full(TUNNELS, -1) for _ in range(2))
    )
    mark_claims(graph, claim, known.claims)
    worst = np.zeros(len(flows))
    exchange_errors(graph, rates, messages, trial, asked_of, best, worst, known, scratch)
    np.testing.assert_array_equal(trial.claim, claim)
    np.testing.assert_array_equal(trial.claimed, messages.claimed)
    np.testing.assert_allclose(worst, _anew(graph, rates, messages, asked_of, best, scratch), rtol=1e-12)


def _anew(graph: Any, rates: Rates, messages: Messages, flows: Ints, best: Ints, scratch: Any) -> Floats:
    """Of every exchange: f into p, who holds its records there out of the way and where they fit best."""
    trial = messages._replace(claim=messages.claim.copy(), claimed=messages.claimed.copy())
    worst = np.zeros(len(best))

    def claims(flow: int, values: Floats) -> None:
        set_claims(graph, trial, graph.flow_pairs[flow], graph.flow_pairs[flow + 1], values)

    for f in flows.tolist():
        for p in range(graph.flow_pairs[f], graph.flow_pairs[f + 1]):
            held = _holders(graph, rates, messages, f, p, best)
            if p == best[f] or not held:
                continue
            for e in (f, *held):
                claims(e, scratch.none)
            before, after = (fit(graph, rates, trial, q, scratch) for q in (best[f], p))
            if after > before - _HOPELESS:
                lay(graph, rates, trial, p, scratch.none, scratch)
                moved = []
                for e in held:
                    mine = range(graph.flow_pairs[e], graph.flow_pairs[e + 1])
                    weights = [fit(graph, rates, trial, q, scratch) for q in mine]
                    where = mine[int(np.argmax(weights))] if max(weights) > rates.log_none else -1
                    after += max(*weights, rates.log_none)
                    if where >= 0:
                        lay(graph, rates, trial, where, scratch.none, scratch)
                    moved += [e] if where != best[e] else []
                for e in (f, *held):
                    claims(e, scratch.none)
                lay(graph, rates, trial, best[f], scratch.none, scratch)
                for e in held:
                    before += fit(graph, rates, trial, best[e], scratch)
                    lay(graph, rates, trial, best[e], scratch.none, scratch)
                error = 1.0 / (1.0 + np.exp(min(before - after, 700.0)))
                for e in (f, *moved) if moved else ():
                    worst[e] = max(worst[e], error)
            for e in (f, *held):
                claims(e, messages.claim)
    return worst


def _holders(graph: Any, rates: Rates, messages: Messages, f: int, p: int, best: Ints) -> list[int]:
    """Other flows of that tunnel that claim more of a record that f has an eye on there than chance does."""
    held: list[int] = []
    for g in range(graph.pair_groups[p], graph.pair_groups[p + 1]):
        for i in graph.group_record[g] + np.arange(graph.group_links[g + 1] - graph.group_links[g]):
            for link in graph.links_by_record[graph.record_links[i] : graph.record_links[i + 1]]:
                h = int(graph.link_flow[link])
                its = best[h] >= 0 and graph.pair_tunnel[best[h]] == graph.pair_tunnel[p]
                if h != f and its and h not in held and messages.claim[link] >= rates.chance[i]:
                    held.append(h)
    return held[:_HOLDERS]
