"""Copies that compete: which are made, how often, and what is counted of them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from vpnforensics.evidence.decoys import try_decoys
from vpnforensics.evidence.policy import Policy

BEGIN_NS = np.array([5, 15, 25, 35, 45, 55])


def tried(alive, policy, away=lambda begin: np.ones(len(begin), bool), worst=0.1, padded=True):
    """What is found, and the copies of each round; a copy's error is a tenth of its flow's number."""
    rounds, turns = [], []

    def turned(begin_ns, turn):
        turns.append(turn)
        return begin_ns + 1000, away(begin_ns)

    def with_copies(flows, shift_ns):
        assert (shift_ns == BEGIN_NS[flows] + 1000).all()
        return "extended"

    def attribute(extended, copies):
        assert extended == "extended"
        rounds.append(copies.tolist())
        return copies / 10, copies - 0.5

    case = SimpleNamespace(
        classes=SimpleNamespace(all_padded=padded),
        circle=SimpleNamespace(turned=turned),
        egress=SimpleNamespace(start=np.arange(0, 14, 2), ts_ns=np.repeat(BEGIN_NS, 2) + [0, 9] * 6),
        with_copies=with_copies,
    )
    found = try_decoys(case, np.array(alive), attribute, worst, policy, np.random.default_rng(1))
    assert all(((turn >= 0) & (turn < 1)).all() for turn in turns)
    return found, rounds


def test_half_of_the_flows_that_any_tunnel_was_there_for_are_copied_in_each_of_four_rounds():
    alive = [2, 0, 3, 1, 4, 0]
    found, rounds = tried(alive, Policy())
    assert [len(set(copies)) for copies in rounds] == [2] * 4
    every = np.concatenate(rounds)
    assert set(every) <= {0, 2, 3, 4}
    assert found.tried == 8
    assert found.linked == np.sum(every <= 1)  # as wrong as the worst link, or less
    assert found.comparisons == np.sum(np.array(alive)[every])
    assert found.llr.tolist() == (every - 0.5).tolist()
    assert len(tried([*alive[:5], 1], Policy())[1][0]) == 3  # two and a half


def test_a_large_case_has_no_more_than_tell_a_rate():
    found, rounds = tried([1] * 6, Policy(decoy_share=1.0, most_decoys=4))
    assert [len(set(copies)) for copies in rounds] == [4] * 4
    assert found.tried == 16


def test_an_error_as_large_as_the_worst_links_would_link():
    found, rounds = tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=1), worst=0.3)
    assert sorted(rounds[0]) == [0, 1, 2, 3, 4, 5]
    assert found.linked == 4


@pytest.mark.parametrize(("wanted", "rounds"), [(12, 2), (13, 3), (1, 1)])
def test_no_more_rounds_than_comparisons_are_wanted(wanted, rounds):
    found, made = tried([2] * 6, Policy(decoy_comparisons=wanted))
    assert len(made) == rounds
    assert found.comparisons == 6 * rounds


def test_a_copy_near_its_true_place_is_none():
    found, rounds = tried([1] * 6, Policy(decoy_share=1.0), away=lambda begin: begin > 20)
    assert [sorted(copies) for copies in rounds] == [[2, 3, 4, 5]] * 4
    assert (found.tried, found.comparisons) == (16, 16)


def test_without_flows_there_are_none():
    found, rounds = tried([0] * 6, Policy())
    assert (found.tried, found.linked, found.comparisons, len(found.llr), rounds) == (0, 0, 0, 0, [])


def test_where_the_model_is_sure_of_three_copies_no_error_is_believed_below_their_share():
    one, _ = tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=1, sure=0.01))
    assert (one.sure, one.least_error) == (1, 0.0)  # copy 0, of error 0
    two, _ = tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=2, sure=0.01))
    assert (two.sure, two.least_error) == (2, 0.0)
    three, _ = tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=3, sure=0.01))
    assert (three.sure, three.tried, three.least_error) == (3, 18, 3 / 18)
    assert tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=1, sure=0.1))[0].sure == 1  # below, not at it
    lengths_tell, _ = tried([1] * 6, Policy(decoy_share=1.0, decoy_rounds=3, sure=0.01), padded=False)
    assert (lengths_tell.sure, lengths_tell.least_error) == (0, 0.0)
    many = replace(three, tried=751)
    assert many.least_error == 0.0  # a stray one in hundreds
