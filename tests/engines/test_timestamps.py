import dataclasses

import numpy as np
import pytest

from tests.engines import cases
from vpnforensics.engines import timestamps
from vpnforensics.engines.scores import EngineScores, Pairs, silent
from vpnforensics.features.devices import find_devices
from vpnforensics.features.senders import find_senders
from vpnforensics.groundtruth.simulate.run import simulate


@pytest.fixture(scope="module")
def legacy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("legacy")
    truth = simulate(cases.clients_of_one_stack("linux-legacy", "openvpn-tcp", 20, 1), folder, 1)
    return cases.case_of(folder, truth)


def long_flows(case, owner):
    return (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)


def test_global_clocks_link_alone(legacy):
    case, owner = legacy
    linked = cases.best_alone(timestamps.score(case), len(owner))
    long = long_flows(case, owner)
    assert np.mean(linked[long] == owner[long]) >= 0.99
    assert not np.any((linked >= 0) & (linked != owner))


def test_wandering_clocks_link_alone(tmp_path):
    truth = simulate(cases.clients_of_one_stack("macos-legacy", "openvpn-tcp", 8, 2), tmp_path, 2)
    case, owner = cases.case_of(tmp_path, truth)
    linked = cases.best_alone(timestamps.score(case), len(owner))
    long = long_flows(case, owner)
    assert np.mean(linked[long] == owner[long]) >= 0.99
    assert not np.any((linked >= 0) & (linked != owner))


def test_scores_do_not_depend_on_other_candidates(legacy):
    case, _ = legacy
    every = timestamps.score(case)
    half = dataclasses.replace(case, tunnels=case.tunnels.select(np.arange(20) < 10))
    few = timestamps.score(half)
    expected = {(f, t): s for f, t, s in zip(every.flow, every.tunnel, every.score, strict=True) if t < 10}
    got = dict(zip(zip(few.flow, few.tunnel, strict=True), few.score, strict=True))
    assert got == expected


def test_turned_copies_score_nothing(legacy):
    case, _ = legacy
    for turn in (0.12, 0.38, 0.68):
        moved, away = case.turned(turn)
        found = timestamps.score(moved)
        assert away.mean() > 0.5
        assert not np.any(found.score[away[found.flow]] > 3)


def test_random_offsets_leave_rates(tmp_path):
    spec = cases.devices_behind_one_tunnel(
        "linux", 1, devices=1, flows=30, seconds=400.0, protocol="openvpn-tcp"
    )
    case, _ = cases.case_of(tmp_path, simulate(spec, tmp_path, 1))
    found = timestamps.score(case)
    assert set(found.note) <= {"rate and phase of the clock"}
    assert np.all(found.score < 6)


def test_silent_on_udp_tunnels(tmp_path):
    truth = simulate(cases.clients_of_one_stack("linux-legacy", "wireguard", 3, 1), tmp_path, 1)
    case, _ = cases.case_of(tmp_path, truth)
    found = timestamps.score(case)
    assert len(found) == 0
    assert found.silence == {"tunnel not over TCP: its outer packets carry no timestamps": 3}


def test_devices_share_what_their_flows_say(legacy):
    case, owner = legacy
    alone, together = (dataclasses.replace(case) for _ in range(2))
    known = find_devices(find_senders(case.flows))
    vars(alone)["devices"] = dataclasses.replace(known, device=np.full(len(owner), -1))
    vars(together)["devices"] = dataclasses.replace(known, device=owner)
    alone, together = timestamps.score(alone), timestamps.score(together)
    assert set(zip(alone.flow, alone.tunnel, strict=True)) <= set(
        zip(together.flow, together.tunnel, strict=True)
    )
    # Flows without timestamps of a device that has some speak, too.
    assert len(np.unique(together.flow)) > len(np.unique(alone.flow))
    assert "by another flow of its device" in " ".join(together.note)
    assert not np.any(owner[together.flow] != together.tunnel)


def test_scores_print_themselves(legacy):
    case, _ = legacy
    found = timestamps.score(case)
    assert "timestamps" in repr(found)
    assert "silent: 2 × why" in repr(silent("x", {"why": 2}))
    with pytest.raises(ValueError, match="lengths"):
        EngineScores("x", found.flow, found.tunnel, found.score[:1], found.n, found.note)


def test_only_the_pairs_wanted_are_given(legacy):
    case, _ = legacy
    every = timestamps.score(case)
    wanted = Pairs(every.flow[::3], every.tunnel[::3])
    some = timestamps.score(case, wanted)
    assert some.flow.tolist() == wanted.flow.tolist()
    assert some.score.tolist() == every.score[::3].tolist()
