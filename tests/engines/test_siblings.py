"""Flows held against the counters of a tunnel's linked flows: by a slow reading, and by what must hold."""

from __future__ import annotations

from math import log
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tables import table, udp
from vpnforensics.align.alignment import same_clock
from vpnforensics.engines import siblings
from vpnforensics.engines.scores import Pairs
from vpnforensics.features.gap_law import SCALES, step_log_p
from vpnforensics.flows.assemble import assemble_flows

RESOLVER, OTHER = "192.0.2.53", "192.0.2.54"
CHANCE = 1 / 65_536


def case_of(flows: list[tuple[str, list[tuple[float, int]]]], linked: list[int] | None) -> Any:
    """Flows of a destination and packets (s, IP ID) each; two tunnels, who carried what by ``linked``."""
    rows = [
        udp(t, "203.0.113.1", 1000 + f, to, 53, ip_id=ip_id)
        for f, (to, packets) in enumerate(flows)
        for t, ip_id in packets
    ]
    rows += [{**row, "ts_ns": row["ts_ns"] + 500, "src": row["dst"], "sport": 53, "dst": row["src"],
              "dport": row["sport"], "ip_id": 7} for row in rows]  # fmt: skip
    made = assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"])))
    order = [int(made.source(f).rpartition(":")[2]) - 1000 for f in range(len(made))]
    assert order == list(range(len(flows))), "flows are named in order of time"
    links = None if linked is None else np.array(linked, np.int32)
    return SimpleNamespace(flows=made, alignment=same_clock("made up"), tunnels=range(2), linked=links)


def p(step: int) -> float:
    """Probability of a step, the scale unknown."""
    return float(np.mean([np.exp(step_log_p(np.array([step]), scale)[0]) for scale in SCALES]))


def scores_of(case: Any, only: Pairs | None = None) -> dict[tuple[int, int], float]:
    said = siblings.score(case, only)
    return dict(zip(zip(said.flow.tolist(), said.tunnel.tolist(), strict=True), said.score, strict=True))


COUNTER = [(RESOLVER, [(10.0 * k, 100 + 2 * k)]) for k in range(4)]
"""Four lookups of one client, which counts by two towards its resolver: one of each pair was not linked."""


def test_a_flow_between_two_linked_ones_gains_by_both_steps_less_the_one_across() -> None:
    flows = [*COUNTER[:2], (RESOLVER, [(15.0, 103)]), *COUNTER[2:]]
    found = scores_of(case_of(flows, [0, 0, -1, 0, 0]))
    ratio = p(1) * p(1) / p(2) / CHANCE
    assert found[2, 0] == pytest.approx(np.log10(ratio))


def test_at_either_end_there_is_one_step() -> None:
    last = [*COUNTER, (RESOLVER, [(45.0, 109)])]
    assert scores_of(case_of(last, [0, 0, 0, 0, -1]))[4, 0] == pytest.approx(np.log10(p(3) / CHANCE))
    first = [(RESOLVER, [(-5.0 + 10, 95)]), *((to, [(t + 20, i) for t, i in sent]) for to, sent in COUNTER)]
    assert scores_of(case_of(first, [-1, 0, 0, 0, 0]))[0, 0] == pytest.approx(np.log10(p(5) / CHANCE))


def test_packets_between_the_same_two_are_one_run_and_their_own_steps_say_nothing() -> None:
    flows = [*COUNTER[:2], (RESOLVER, [(14.0, 103), (15.0, 999), (16.0, 103)]), *COUNTER[2:]]
    found = scores_of(case_of(flows, [0, 0, -1, 0, 0]))
    assert found[2, 0] == pytest.approx(np.log10(p(1) * p(1) / p(2) / CHANCE))


def test_each_run_counts_less_what_a_counter_of_the_flows_own_would_have_passed() -> None:
    flows = [*COUNTER[:2], (RESOLVER, [(15.0, 103), (25.0, 105)]), *COUNTER[2:]]
    found = scores_of(case_of(flows, [0, 0, -1, 0, 0]))
    ratio = (p(1) * p(1) / p(2)) ** 2 / p(2) / CHANCE
    assert found[2, 0] == pytest.approx(np.log10(ratio))


def test_a_step_that_no_counter_makes_is_as_likely_by_chance() -> None:
    """IDs at random are a flow's own as well: its second run is not gained by being far off the first."""
    flows = [(RESOLVER, [(0.0, 100)]), (RESOLVER, [(5.0, 101), (15.0, 40_001)]), (RESOLVER, [(10.0, 40_000)])]
    found = scores_of(case_of(flows, [0, -1, 0]))
    ratio = p(1) * p(40_000 - 101) / p(40_000 - 100) * p(1) / max(p(40_001 - 101), CHANCE) / CHANCE
    assert found[1, 0] == pytest.approx(np.log10(ratio))


def test_a_linked_flow_is_not_its_own_sibling() -> None:
    """Its score is what it would be without its link."""
    flows = [*COUNTER[:2], (RESOLVER, [(15.0, 103), (25.0, 105)]), *COUNTER[2:]]
    unlinked = scores_of(case_of(flows, [0, 0, -1, 0, 0]))[2, 0]
    assert scores_of(case_of(flows, [0, 0, 0, 0, 0]))[2, 0] == pytest.approx(unlinked)
    assert scores_of(case_of(flows, [0, 0, 1, 0, 0]))[2, 0] == pytest.approx(unlinked)
    alone = scores_of(case_of([COUNTER[0], (RESOLVER, [(15.0, 101)])], [0, -1]))
    assert set(alone) == {(1, 0)}, "the only linked flow has none"


def test_a_linked_flow_at_an_end_has_one_neighbour() -> None:
    found = scores_of(case_of(COUNTER, [0, 0, 0, 0]))
    assert found[0, 0] == found[3, 0] == pytest.approx(np.log10(p(2) / CHANCE))
    assert found[1, 0] == pytest.approx(np.log10(p(2) * p(2) / p(4) / CHANCE))


def test_another_destination_or_tunnel_is_another_counter() -> None:
    between = (OTHER, [(15.0, 103)])
    case = case_of([*COUNTER[:2], between, *COUNTER[2:]], [0, 0, -1, 0, 0])
    assert not any(flow == 2 for flow, _ in scores_of(case))
    assert siblings.score(case).silence["pair without other linked flows to the same destination"] == 6
    mixed = [COUNTER[0], (RESOLVER, [(5.0, 30_000)]), (RESOLVER, [(7.0, 30_001)]), COUNTER[1]]
    found = scores_of(case_of(mixed, [0, 1, -1, 0]))
    assert (2, 1) in found
    assert (2, 0) not in found


def test_neighbours_are_those_in_time() -> None:
    flows = [(RESOLVER, [(0.0, 100)]), (RESOLVER, [(10.0, 50_000)]), (RESOLVER, [(20.0, 50_001)]),
             (RESOLVER, [(30.0, 50_002)])]  # fmt: skip
    found = scores_of(case_of(flows, [0, 0, -1, 0]))
    assert found[2, 0] == pytest.approx(np.log10(p(1) * p(1) / p(2) / CHANCE))


def test_counters_wrap() -> None:
    flows = [(RESOLVER, [(0.0, 65_535)]), (RESOLVER, [(1.0, 1)]), (RESOLVER, [(2.0, 2)])]
    found = scores_of(case_of(flows, [0, -1, 0]))
    assert found[1, 0] == pytest.approx(np.log10(p(2) * p(1) / p(3) / CHANCE))


def test_only_what_speaks_for_a_pair_is_listed_and_the_rest_is_counted() -> None:
    flows = [*COUNTER[:2], (RESOLVER, [(15.0, 40_000)]), (OTHER, [(16.0, 0)]), *COUNTER[2:]]
    said = siblings.score(case_of(flows, [0, 0, -1, -1, 0, 0]))
    assert (said.score > 0).all()
    assert 2 not in said.flow
    assert said.silence["flow without IP IDs (zero, or IPv6)"] == 1
    assert said.silence["pair whose IP IDs do not run on from the tunnel's linked flows"] == 1
    assert said.silence["pair without other linked flows to the same destination"] == 7, "all of tunnel 1"
    assert set(said.n.tolist()) == {1}
    assert set(said.note) == {"IP IDs run on from linked flows to the same destination"}


def test_the_pairs_wanted_have_the_scores_that_they_have_among_all() -> None:
    case = case_of([*COUNTER[:2], (RESOLVER, [(15.0, 103), (16.0, 104)]), *COUNTER[2:]], [0, 0, -1, 0, 0])
    every = scores_of(case)
    wanted = Pairs(np.array([2, 0], np.int32), np.array([0, 0], np.int32))
    assert scores_of(case, wanted) == {pair: every[pair] for pair in ((0, 0), (2, 0))}
    assert siblings.score(case, wanted).n.tolist() == [1, 2]


def test_random_ids_gain_no_more_than_chance_allows() -> None:
    rng = np.random.default_rng(3)
    flows = [(RESOLVER, [(float(k), int(rng.integers(1, 65_536)))]) for k in range(2000)]
    said = siblings.score(case_of(flows, [0] * 2000))
    for decades in (1, 2):
        assert np.sum(said.score >= decades) <= 2000 / 10**decades + 4 * (2000 / 10**decades) ** 0.5


@pytest.mark.parametrize("linked", [None, [-1, -1, -1, -1]])
def test_without_links_it_is_silent(linked: list[int] | None) -> None:
    said = siblings.score(case_of(COUNTER, linked))
    assert (len(said), said.silence) == (0, {"no flow is linked by its packets": 4})


def test_without_ip_ids_of_linked_flows_it_is_silent() -> None:
    flows = [(RESOLVER, [(0.0, 0)]), (RESOLVER, [(1.0, 5)])]
    said = siblings.score(case_of(flows, [0, -1]))
    assert (len(said), said.silence) == (0, {"no linked flow has IP IDs": 2})


def test_steps_are_read_at_all_scales_alike() -> None:
    assert siblings._LOG_STEP[1] == pytest.approx(log(p(1)))
    assert np.exp(siblings._LOG_STEP).sum() == pytest.approx(1.0)
