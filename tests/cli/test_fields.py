import json

import numpy as np
import pytest
from click.testing import CliRunner

from vpnforensics.capture.writer import write_pcap
from vpnforensics.cli import fields
from vpnforensics.cli.session import Session


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


def test_nothing_to_draw(folder, tmp_path):
    result = CliRunner().invoke(
        fields.clocks,
        [str(folder / "egress.pcap"), "--plot", str(tmp_path / "x.png")],
        obj=Session([]),
    )
    assert result.exit_code != 0
    assert "nothing to draw" in result.output


@pytest.mark.parametrize("command", [fields.clocks, fields.ipids, fields.devices])
def test_a_table_without_rows_has_its_title(run, tmp_path, command):
    write_pcap(tmp_path / "x.pcap", np.array([10**18]), [bytes(60)])
    assert run(command, tmp_path / "x.pcap").startswith("0 ")
