import json

import numpy as np
import pytest
from click.testing import CliRunner

from vpnforensics.capture.writer import write_pcap
from vpnforensics.cli import fields
from vpnforensics.cli.session import Session
from vpnforensics.features.clock_fit import WIDEST_PPM


@pytest.fixture
def run():
    def _run(command, *arguments):
        result = CliRunner().invoke(command, [str(a) for a in arguments], obj=Session([]))
        assert result.exit_code == 0, result.output
        return result.stdout

    return _run


@pytest.mark.parametrize("command", [fields.clocks, fields.ipids, fields.devices])
def test_forms(run, folder, command):
    path = folder / "egress.pcap"
    rows = json.loads(run(command, path, "-f", "json"))
    assert len(run(command, path, "-f", "csv").splitlines()) == len(rows) + 1
    assert run(command, path, "--top", "2")


def test_reasons_are_told(run, folder):
    assert "under 60 s of timestamps" in run(fields.clocks, folder / "egress.pcap")
    assert "no tie to another flow" in run(fields.devices, folder / "egress.pcap")


def test_classes(run, folder):
    rows = json.loads(run(fields.ipids, folder / "egress.pcap", "-f", "json"))
    assert {row["class"] for row in rows} & {"per_flow", "bucket", "zero"}


def test_nothing_to_draw_is_said_beside_the_table(folder, tmp_path):
    arguments = [str(folder / "egress.pcap"), "--plot", str(tmp_path / "x.png")]
    result = CliRunner().invoke(fields.clocks, arguments, obj=Session([]))
    assert result.exit_code == 0
    assert "with timestamps" in result.stdout
    assert "x.png: not drawn: no sender shows a clock" in result.stderr
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-75.06, 3.2, "-75.06 … +3.20"),
        (-75.06, WIDEST_PPM, "at least -75.06"),
        (-WIDEST_PPM, 3.2, "at most +3.20"),
        (-WIDEST_PPM - 5, WIDEST_PPM + 5, "not bounded"),
    ],
)
def test_the_end_of_a_search_is_no_bound(low, high, said):
    assert fields._interval(low, high) == said


@pytest.mark.parametrize("command", [fields.clocks, fields.ipids, fields.devices])
def test_a_table_without_rows_has_its_title(run, tmp_path, command):
    write_pcap(tmp_path / "x.pcap", np.array([10**18]), [bytes(60)])
    assert run(command, tmp_path / "x.pcap").startswith("0 ")
