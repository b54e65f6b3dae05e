"""``vpnf simulate SCENARIO``."""

from __future__ import annotations

from vpnforensics.cli.main import main

from .test_from_scenario import TEXT


def test_a_scenario_is_simulated_with_its_own_seed_or_another(tmp_path):
    path = tmp_path / "office.yaml"
    path.write_text(TEXT)
    runs = {"own": [], "same": ["--seed", "4"], "other": ["--seed", "5"]}
    for name, more in runs.items():
        assert main(["simulate", "-q", str(path), "-o", str(tmp_path / name), "--inner", *more]) == 0
    made = [(tmp_path / name / "egress.pcap").read_bytes() for name in runs]
    assert made[0] == made[1] != made[2]
    assert (tmp_path / "own" / "inner-home.pcap").exists()


def test_options_of_the_usual_mix_do_not_go_with_a_scenario(tmp_path, capsys):
    path = tmp_path / "office.yaml"
    path.write_text(TEXT)
    assert main(["simulate", str(path), "-o", str(tmp_path / "x"), "--tunnels", "3"]) == 2
    assert "--tunnels is for a usual mix" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
