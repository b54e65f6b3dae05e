"""Pairs that share payloads: what counts, and what rivals take back."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.align.kept_pairs import KeptPairs


def pairs_of(*matches):
    """Of (flow, conversation, head, worth, rarity)."""
    columns = list(zip(*matches, strict=True))
    return KeptPairs.of(*(np.array(c) for c in columns[:3]), *(np.array(c, float) for c in columns[3:]))


def test_the_best_two_payloads_of_a_pair_count_each_once():
    pairs = pairs_of((0, 5, 1, 2.0, 0.5), (0, 5, 1, 3.0, 0.25), (0, 5, 2, 4.0, 1.0), (0, 5, 3, 1.0, 8.0))
    assert (pairs.flow.tolist(), pairs.conversation.tolist(), pairs.shared.tolist()) == ([0], [5], [3])
    assert pairs.score.tolist() == [7.0]
    assert pairs.content.tolist() == [1.25]


def test_payloads_that_another_flow_has_too_are_not_a_pairs_only_ones():
    pairs = pairs_of((0, 5, 1, 1.0, 0.0), (0, 5, 2, 1.0, 0.0), (1, 5, 2, 1.0, 0.0), (1, 6, 2, 1.0, 0.0))
    assert (pairs.flow.tolist(), pairs.conversation.tolist()) == ([0, 1, 1], [5, 5, 6])
    assert pairs.only.tolist() == [1, 0, 1]


def test_what_hosts_say_is_added_and_another_port_is_no_pair():
    pairs = pairs_of((0, 5, 1, 3.0, 1.0), (1, 6, 2, 3.0, 1.0)).with_hosts(np.array([-2.0, -np.inf]))
    assert (pairs.flow.tolist(), pairs.score.tolist(), pairs.content.tolist()) == ([0], [1.0], [-1.0])


def judged(carriers, *matches):
    best, score = pairs_of(*matches).judged(np.array(carriers))
    rows = zip(best.flow.tolist(), best.conversation.tolist(), score.tolist(), strict=True)
    return {flow: (conversation, each) for flow, conversation, each in rows}


def test_rivals_take_back_what_they_prove_themselves():
    # One payload of each pair that no other flow has: 1.5 decades for its not being lost.
    alone = judged([0, 1], (0, 0, 1, 4.0, 0.0))
    assert alone == {0: (0, 5.5)}
    of_another_client = judged([0, 1], (0, 0, 1, 4.0, 0.0), (0, 1, 1, 3.0, 0.0))
    assert of_another_client == {0: (0, pytest.approx(1.0))}
    of_the_same_client = judged([0, 0], (0, 0, 1, 4.0, 0.0), (0, 1, 1, 3.0, 0.0))
    assert of_the_same_client == {0: (0, 5.5)}


def test_two_flows_of_one_connection_are_rivals():
    found = judged([0], (0, 0, 1, 4.0, 0.0), (1, 0, 2, 3.0, 0.0))
    assert found == {0: (0, pytest.approx(1.0)), 1: (0, pytest.approx(-1.0))}


def test_no_pairs_at_all():
    pairs = pairs_of((0, 5, 1, 3.0, 1.0)).with_hosts(np.array([-np.inf]))
    best, score = pairs.judged(np.zeros(6, np.int64))
    assert (len(best), len(score)) == (0, 0)
