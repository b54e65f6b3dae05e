"""A data set: made twice it is the same, opened it is whole, and its manifest leads nowhere else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

import vpnforensics as vf
from vpnforensics.groundtruth import dataset
from vpnforensics.groundtruth.dataset import SIMULATED, SIZES, Size, _scenario, _split, main, make
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.scenario import loads

TINY = Size(3, 1, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dataset") / "made"
    make(place, TINY, seed=5, kinds=["wireguard", "ssh-tun", "socks"])
    return place


def test_it_opens_whole_and_split_by_session(folder: Path) -> None:
    data = vf.datasets.load(folder)
    assert data.changed() == []
    assert data.table.groupby(["protocol", "split"]).size().to_dict() == {
        (kind, split): 1
        for kind in ("wireguard", "ssh-tun", "socks")
        for split in ("train", "validation", "test")
    }
    seen = set()
    for session in data.sessions:
        assert session.ingress.is_file()
        assert session.egress.is_file()
        assert {row["client"] for row in session.truth["flows"]} <= {
            row["client"] for row in session.truth["tunnels"]
        }
        assert session.flows == len(session.truth["flows"]) > 0
        assert {row["name"] for row in session.truth["tunnels"]} == {"desk", "terminal", "phone"}
        scenario = yaml.safe_load((session.folder / "scenario.yaml").read_text())
        assert abs(scenario["capture"]["egress"]["clock_offset_s"]) > 1
        seen.add((session.seed, scenario["capture"]["egress"]["clock_offset_s"]))
    assert len(seen) == 9
    with pytest.raises(ValueError, match="splits are train, validation, test; not 'dev'"):
        data.split("dev")
    (session,) = (s for s in data.split("test") if s.protocol == "wireguard")
    case = vf.correlate(session.ingress, session.egress)
    assert len(case.tunnels) == 3


def test_the_same_seed_gives_the_same_bytes_and_another_gives_others(folder: Path, tmp_path: Path) -> None:
    again = make(tmp_path / "again", TINY, seed=5, kinds=["wireguard", "ssh-tun", "socks"])
    assert json.loads((folder / "manifest.json").read_text()) == again
    for name in ("README.md", "LICENSE", "SHA256SUMS", "splits.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    other = make(tmp_path / "other", TINY, seed=6, kinds=["wireguard"])
    mine = {row["files"]["ingress.pcap"] for row in again["sessions"]}
    assert not mine & {row["files"]["ingress.pcap"] for row in other["sessions"]}


def test_what_was_changed_is_told(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "set", TINY, seed=5, kinds=["wireguard"])
    data = vf.datasets.load(tmp_path / "set")
    first = data.sessions[0]
    with first.ingress.open("ab") as file:
        file.write(b"x")
    first.egress.unlink()
    assert data.changed() == [f"train/{first.name}/egress.pcap", f"train/{first.name}/ingress.pcap"]


def test_a_truth_that_is_cut_is_told(tmp_path: Path) -> None:
    make(tmp_path / "set", TINY, seed=5, kinds=["wireguard"])
    session = vf.datasets.load(tmp_path / "set").sessions[0]
    truth = session.folder / "truth.json"
    truth.write_bytes(truth.read_bytes()[:-9])
    with pytest.raises(vf.CaptureError, match=r"truth\.json.* is no JSON"):
        _ = session.truth
    truth.unlink()
    with pytest.raises(vf.CaptureError, match=r"truth\.json.* cannot be read"):
        _ = session.truth


def test_nothing_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "evidence.pcap").write_bytes(b"mine")
    assert main([str(tmp_path), "wireguard", "--no-lab"]) == 2
    assert "is no empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.pcap"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no JSON object"),
        ('{"schema_version": 7}', "is of version 7, not 1"),
        ('{"schema_version": 1, "sessions": [{}]}', "is no manifest of a data set: KeyError"),
        (None, "is this a data set"),
    ],
)
def test_what_is_no_data_set_is_told(text: str | None, said: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(vf.CaptureError, match=said):
        vf.datasets.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("split", ".."), ("name", "../../etc"), ("files", {"/etc/passwd": ""})]
)
def test_a_manifest_names_nothing_outside_of_its_folder(
    key: str, value: object, folder: Path, tmp_path: Path
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sessions"][0][key] = value
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(vf.CaptureError, match="does not lie in the data set"):
        vf.datasets.load(tmp_path)


@pytest.mark.parametrize("of", [3, 4, 5, 6, 10, 20])
def test_every_split_has_a_session_and_train_has_most(of: int) -> None:
    split = [_split(number, of) for number in range(of)]
    assert split == sorted(split, key=["train", "validation", "test"].index)
    assert set(split) == {"train", "validation", "test"}
    assert split.count("train") >= split.count("test") >= 1


@pytest.mark.parametrize("kind", sorted({*SIMULATED, *DRIVERS}))
def test_every_kind_has_a_scenario(kind: str) -> None:
    scenario = loads(_scenario("a-name", kind, SIZES["medium"], 3), name="a-name")
    assert scenario.vpn.kind == kind
    assert len(scenario.clients) == 6
    assert dataset.CLIENTS[0]["name"] == "desk"
