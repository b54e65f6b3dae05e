"""The stacks that the lab imitates, read back from what they sent."""

from __future__ import annotations

import pytest

from tests.groundtruth.lab.personalities import grade, scenario
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.doctor import refuse_impossible
from vpnforensics.groundtruth.lab.run import run
from vpnforensics.groundtruth.scenario import PERSONALITIES, loads

pytestmark = pytest.mark.needs("wireguard")


@pytest.mark.usefixtures("nothing_left")
def test_the_ip_ids_of_every_personality_are_classed_right(tmp_path):
    run(scenario(seconds=9), tmp_path)
    for loss in (0.0, 0.2):
        graded = grade(tmp_path, loss)
        assert len(graded) == len(PERSONALITIES)
        assert min(g.packets for g in graded) >= 50
        assert [(g.device, g.found) for g in graded] == [(g.device, g.true) for g in graded]


@pytest.mark.parametrize("key", ["outer_ip", "inner_ip"])
def test_what_only_the_simulator_can_do_is_refused(key):
    with pytest.raises(ScenarioError, match="IPv4 alone"):
        refuse_impossible(loads(f"vpn: {{kind: wireguard, {key}: 6}}\nclients: [{{}}]\n"))
