from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from vpnforensics.cli.main import main
from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.case_folder import claim, put

ARGUMENTS = ["simulate", "-q", "--tunnels", "1", "--flows", "2", "--duration", "3", "-o"]


def case(folder: Path, maker: str = "lab", **files: bytes) -> Path:
    """An earlier case of these files."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.pcap").write_bytes(content)
    digests = {f"{name}.pcap": hashlib.sha256(content).hexdigest() for name, content in files.items()}
    form = (
        {"sha256": digests} if maker == "lab" else {"files": {n: {"sha256": d} for n, d in digests.items()}}
    )
    (folder / "manifest.json").write_text(json.dumps({"made_by": maker, **form}))
    return folder


def test_a_folder_without_a_case_is_free(tmp_path):
    (tmp_path / "mine.pcap").write_bytes(b"evidence")
    (tmp_path / "notes").mkdir()
    assert claim(tmp_path) == []
    assert claim(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("maker", ["lab", "simulate"])
def test_an_earlier_case_is_replaced_whole(tmp_path, maker):
    folder = case(tmp_path / "out", maker, ingress=b"1", egress=b"2")
    (folder / "mine.pcap").write_bytes(b"evidence")
    earlier = claim(folder)
    made = case(tmp_path / "made", capture=b"3")
    put(made, folder, earlier)
    assert {path.name for path in folder.iterdir()} == {"capture.pcap", "manifest.json", "mine.pcap"}
    assert claim(folder)


def test_what_is_not_the_case_s_is_refused_by_name_and_stays(tmp_path):
    folder = case(tmp_path / "out", ingress=b"1", egress=b"2")
    before = {path: path.read_bytes() for path in folder.iterdir()}

    def refused(name: str) -> None:
        with pytest.raises(ScenarioError, match=rf"{name}: is there already.*--force"):
            claim(folder)
        assert name in {path.name for path in claim(folder, force=True)}

    (folder / "egress.pcap").write_bytes(b"other")
    refused("egress.pcap")
    (folder / "egress.pcap").write_bytes(b"2")
    (folder / "inner-a.pcap").write_bytes(b"not named")
    refused("inner-a.pcap")
    (folder / "inner-a.pcap").unlink()
    (folder / "truth.json").symlink_to(folder / "nowhere")
    refused("truth.json")
    (folder / "truth.json").unlink()
    (folder / "ingress.pcap").rename(folder / "kept")
    (folder / "ingress.pcap").symlink_to(folder / "kept")
    refused("ingress.pcap")
    (folder / "ingress.pcap").unlink()
    (folder / "kept").rename(folder / "ingress.pcap")
    assert claim(folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "manifest",
    ["", "[]", "{}", '{"made_by": "lab"}', '{"made_by": "lab", "sha256": 3}', "[" * 9999, '{"made_by": 1}'],
)
def test_a_manifest_of_someone_else_vouches_for_nothing(tmp_path, manifest):
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ScenarioError, match=r"manifest\.json: is there already"):
        claim(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("x")
    with pytest.raises(ScenarioError, match="is not a folder"):
        claim(tmp_path / "out", force=True)


def test_the_command_keeps_captures_that_are_not_its_own(tmp_path, capsys):
    (tmp_path / "ingress.pcap").write_bytes(b"evidence")
    assert main([*ARGUMENTS, str(tmp_path)]) == 2
    assert "ingress.pcap: is there already" in capsys.readouterr().err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"evidence"]
    assert main([*ARGUMENTS, str(tmp_path), "--force"]) == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(first) == {"ingress.pcap", "egress.pcap", "truth.json", "manifest.json"}
    assert main([*ARGUMENTS, str(tmp_path)]) == 0, "its own earlier case may go"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


@pytest.mark.parametrize(
    "command", [["lab", "run", "scenario.yaml"], ["lab", "record", "--vpn", "wireguard"]]
)
def test_the_lab_asks_the_same_before_it_makes_anything(tmp_path, monkeypatch, capsys, command):
    from vpnforensics.groundtruth.lab import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "refuse_impossible", lambda scenario: None)
    Path("scenario.yaml").write_text("vpn: {kind: wireguard}\nclients: [{}]\n")
    Path("out").mkdir()
    Path("out/egress.pcap").write_bytes(b"evidence")
    assert main([*command, "-o", "out"]) == 2
    assert "egress.pcap: is there already" in capsys.readouterr().err
    assert Path("out/egress.pcap").read_bytes() == b"evidence"
