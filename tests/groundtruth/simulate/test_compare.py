"""Comparison with a recording."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.groundtruth.scenario import load
from vpnforensics.groundtruth.simulate.compare import TRAFFIC, compare, distance, main
from vpnforensics.groundtruth.simulate.from_scenario import simulate_scenario
from vpnforensics.packets.read import read_capture

from .cases import small


def test_distance_of_known_samples():
    assert distance(np.array([1.0, 2.0]), np.array([1.0, 2.0])) == 0
    assert distance(np.array([1.0, 2.0]), np.array([3.0])) == 1
    assert distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0])) == 0.5
    assert np.isnan(distance(np.array([]), np.array([1.0])))


def test_a_case_is_like_itself_and_less_like_another(make):
    a = read_capture(make(small()).folder / "egress.pcap")
    b = read_capture(make(small("tinc")).folder / "egress.pcap")
    same, other = compare(a, a), compare(a, b)
    assert set(same.index.get_level_values("traffic")) == set(TRAFFIC)
    assert (same["ks"].dropna() == 0).all()
    assert (same["simulated_50"].dropna() == same["recorded_50"].dropna()).all()
    # tinc's segments are longer: 1397 against 1380.
    assert other.loc[("web", "length down, bytes"), "ks"] > 0.5


def test_the_command_prints_a_table_of_a_scenario_and_its_recording(tmp_path, capsys, monkeypatch):
    scenario = tmp_path / "two.yaml"
    scenario.write_text(
        "duration_s: 15\nseed: 3\nvpn: {kind: wireguard}\nclients: [{count: 2, traffic: [browse, dns]}]\n"
    )
    simulate_scenario(load(scenario, seed=9), tmp_path / "recorded")
    arguments = ["compare", str(scenario), str(tmp_path / "recorded")]
    for more in ([], ["--seed", "9"]):
        monkeypatch.setattr("sys.argv", [*arguments, *more])
        main()
        head, rule, *rows = capsys.readouterr().out.splitlines()
        assert {line.count("|") for line in (head, rule, *rows)} == {12}
        cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
        assert {tuple(c[:2]) for c in cells} >= {
            ("web", "length down, bytes"),
            ("web", "gap down, ms"),
            ("dns", "flow packets"),
        }
        distances = [float(c[-1]) for c in cells if c[-1]]
        assert len(distances) > 10
        assert (max(distances) == 0) == (more != []), "alike only where the seeds are"


def test_measures_of_a_hand_counted_flow(make):
    case = make(small())
    table = compare(*[read_capture(case.folder / "egress.pcap")] * 2)
    web = [p for p in case.egress if p.ip.p == 6 and {443, 80} & {p.transport.sport, p.transport.dport}]
    up = [p.ip.len for p in web if p.transport.dport in (443, 80)]
    assert table.loc[("web", "length up, bytes"), "simulated_n"] == len(up)
    assert table.loc[("web", "length up, bytes"), "simulated_50"] == pytest.approx(np.median(up))
    flows = {frozenset([(p.src, p.transport.sport), (p.dst, p.transport.dport)]) for p in web}
    assert table.loc[("web", "flow packets"), "simulated_n"] == len(flows)
