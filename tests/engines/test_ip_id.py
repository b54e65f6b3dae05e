import dataclasses

import numpy as np
import pytest

from tests.engines import cases
from vpnforensics.engines import ip_id
from vpnforensics.groundtruth.simulate.run import simulate


def made(stack, protocol, clients, seed, folder):
    truth = simulate(cases.clients_of_one_stack(stack, protocol, clients, seed), folder, seed)
    return cases.case_of(folder, truth)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    return made("windows-7", "openvpn-tcp", 20, 1, tmp_path_factory.mktemp("windows"))


def check(case, owner):
    linked = cases.best_alone(ip_id.score(case), len(owner))
    long = (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)
    assert np.mean(linked[long] == owner[long]) >= 0.99
    assert not np.any((linked >= 0) & (linked != owner))


def test_a_shared_counter_links_alone(windows):
    check(*windows)


@pytest.mark.parametrize(("stack", "protocol"), [("printer", "openvpn-tcp"), ("windows-7", "wireguard")])
def test_swapped_bytes_and_datagrams(stack, protocol, tmp_path):
    check(*made(stack, protocol, 10, 2, tmp_path))


@pytest.mark.parametrize("stack", ["linux", "linux-next", "windows", "macos", "openbsd", "constant-id"])
def test_counters_of_their_own_link_nothing(stack, tmp_path):
    case, owner = made(stack, "openvpn-tcp", 8, 3, tmp_path)
    found = ip_id.score(case)
    assert not np.any(found.score > 3)
    assert found.silence
    assert np.all(cases.best_alone(found, len(owner)) == -1)


def test_turned_copies_score_little(windows):
    case, _ = windows
    high = []
    for turn in (0.15, 0.28, 0.43, 0.63, 0.78):
        moved, away = case.turned(turn)
        found = ip_id.score(moved)
        high.append(found.score[away[found.flow]])
    assert np.sum(np.concatenate(high) > 3.5) <= 2, "2000 turned flows against 20 tunnels"


def test_scores_do_not_depend_on_other_candidates(windows):
    case, _ = windows
    every = ip_id.score(case)
    few = ip_id.score(dataclasses.replace(case, tunnels=case.tunnels.select(np.arange(20) < 7)))
    expected = {(f, t): s for f, t, s in zip(every.flow, every.tunnel, every.score, strict=True) if t < 7}
    assert dict(zip(zip(few.flow, few.tunnel, strict=True), few.score, strict=True)) == expected


def test_profiles_of_outer_ids(windows):
    case, _ = windows
    assert all(p.scope is not None for p in case.outer_ip_ids)
