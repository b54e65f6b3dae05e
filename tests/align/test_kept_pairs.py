"""Pairs that share payloads: what they are worth."""

from __future__ import annotations

import numpy as np

from vpnforensics.align.kept_pairs import KeptPairs


def pairs_of(*matches):
    """Of (flow, conversation, head, worth, rarity)."""
    columns = list(zip(*matches, strict=True))
    return KeptPairs.of(*(np.array(c) for c in columns[:3]), *(np.array(c, float) for c in columns[3:]))


def test_a_pair_is_worth_its_best_payload_and_the_loss_of_two():
    pairs = pairs_of((0, 5, 1, 2.0, 0.5), (0, 5, 1, 3.0, 0.25), (0, 5, 2, 4.0, 1.0), (0, 5, 3, 1.0, 8.0))
    assert (pairs.flow.tolist(), pairs.conversation.tolist(), pairs.shared.tolist()) == ([0], [5], [3])
    assert pairs.score.tolist() == [7.0]
    assert pairs.content.tolist() == [1.25]


def test_who_has_one_payload_only_lost_the_other():
    pairs = pairs_of((0, 5, 1, 3.0, 0.0), (0, 5, 2, 2.0, 0.0), (1, 5, 2, 3.0, 0.0), (1, 6, 2, 1.0, 0.0))
    assert (pairs.flow.tolist(), pairs.conversation.tolist()) == ([0, 1, 1], [5, 5, 6])
    assert pairs.score.tolist() == [6.0, 4.5, 2.5]


def test_what_hosts_say_is_added_and_another_port_is_no_pair():
    pairs = pairs_of((0, 5, 1, 3.0, 1.0), (1, 6, 2, 3.0, 1.0)).with_hosts(np.array([-2.0, -np.inf]))
    assert (pairs.flow.tolist(), pairs.score.tolist(), pairs.content.tolist()) == ([0], [2.5], [-1.0])
