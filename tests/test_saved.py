"""Cases opened again, made again, and held against their captures."""

import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import vpnforensics as vf
from tests.small_case import made_up, write_case
from vpnforensics.report.questions import Question, asked
from vpnforensics.saved import differences, excerpt_of, found_files, recomputed


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = write_case(tmp_path_factory.mktemp("captures"))
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", seed=3)
    (folder / "case.json").write_text(case.to_json() + "\n")
    return folder, case


def test_a_saved_case_is_the_case(place):
    folder, case = place
    again = vf.open_case(folder / "case.json")
    assert again == case
    assert again.to_json() + "\n" == (folder / "case.json").read_text()
    for name in ("tunnels", "flows", "links", "scores", "summary", "pairings"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(case, name))
    assert repr(again) == repr(case)
    assert pickle.loads(pickle.dumps(again)) == case


def test_it_is_made_again_as_it_was(place):
    folder, case = place
    saved = case.to_dict()
    anew = recomputed(saved, found_files(saved, folder)).to_dict()
    assert list(differences(saved, anew)) == []
    assert anew["links"] == saved["links"]


def test_an_excerpt_is_held_against_its_flows(place):
    _, case = place
    saved = asked(case, Question(tunnel=("t1",))).to_dict()
    assert list(differences(saved, excerpt_of(case, saved))) == []
    saved["links"][0]["llr"] = 9.0
    assert len(list(differences(saved, excerpt_of(case, saved)))) == 1


def test_differences_are_named(place):
    _, case = place
    saved, anew = case.to_dict(), case.to_dict()
    anew["links"] = [dict(row) for row in anew["links"]]
    flow = anew["links"][0]["flow"]
    was = anew["links"][0]["verdict"]
    anew["links"][0]["verdict"] = "no_tunnel"
    anew["comparisons"] += 1
    anew["tunnels"] = anew["tunnels"][1:]
    said = list(differences(saved, anew))
    assert f"links: verdict of {flow} is 'no_tunnel', not '{was}'" in said
    assert f"comparisons is {case.comparisons + 1}, not {case.comparisons}" in said
    assert "tunnels: t1 is there no more" in said
    assert len(said) == 3


def test_captures_that_moved_with_the_case_are_found(place, tmp_path):
    folder, case = place
    for name in ("ingress.pcap", "egress.pcap", "case.json"):
        shutil.copy(folder / name, tmp_path / name)
    contract = case.to_dict()
    moved = [
        {**side, "files": [{**file, "path": f"/gone/{Path(file['path']).name}"} for file in side["files"]]}
        for side in contract["inputs"]
    ]
    found = found_files({**contract, "inputs": moved}, tmp_path)
    assert [file.path for file in found] == [tmp_path / "ingress.pcap", tmp_path / "egress.pcap"]
    assert all(file.unchanged for file in found)


def test_changed_and_missing_captures_are_told(place, tmp_path):
    folder, case = place
    shutil.copy(folder / "ingress.pcap", tmp_path / "in.pcap")
    raw = bytearray((tmp_path / "in.pcap").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "in.pcap").write_bytes(raw)
    (tmp_path / "out.pcap").write_bytes((folder / "egress.pcap").read_bytes()[:-100])
    saved = case.to_dict()
    files = found_files(
        saved, tmp_path, {"ingress": [str(tmp_path / "in.pcap")], "egress": [str(tmp_path / "out.pcap")]}
    )
    assert [file.state.partition(",")[0] for file in files] == [
        "changed: other bytes of the same number", "changed: 100 bytes fewer",
    ]  # fmt: skip
    with pytest.raises(vf.SavedCaseError, match="cannot be made again from it"):
        recomputed(saved, files)
    gone = found_files(saved, tmp_path, {"ingress": ["/no/such"], "egress": ["-"]})
    assert "No such file" in gone[0].state
    assert "cannot be read again" in gone[1].state


def test_a_case_of_packet_tables_cannot_be_made_again():
    saved = made_up(inputs=[{**side, "files": []} for side in made_up().inputs]).to_dict()
    with pytest.raises(vf.SavedCaseError, match="in no file"):
        recomputed(saved, found_files(saved, Path()))


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe{}", b"{"])
def test_what_is_no_case_is_told(tmp_path, damage):
    (tmp_path / "case.json").write_bytes(damage)
    with pytest.raises(vf.SavedCaseError, match=r"case\.json"):
        vf.open_case(tmp_path / "case.json")


def test_a_folder_or_nothing_is_told(tmp_path):
    with pytest.raises(vf.SavedCaseError, match="Is a directory"):
        vf.open_case(tmp_path)
    with pytest.raises(vf.SavedCaseError, match="No such file"):
        vf.open_case(tmp_path / "none.json")


def test_frames_are_those_of_the_captures(place):
    folder, case = place
    flow = case.summary["flow"][0]
    again = vf.open_case(folder / "case.json")
    found = list(again.frames(flow))
    packets = case.explain(flow)
    outer = packets[packets["ingress_frame"].notna()]
    assert [f.frame for f in found if f.role == "egress"] == sorted(packets["egress_frame"])
    assert [f.frame for f in found if f.role == "ingress"] == sorted(outer["ingress_frame"])
    times = dict(zip(packets["egress_frame"], packets["egress_ns"], strict=True))
    lengths = dict(zip(packets["egress_frame"], packets["inner_bytes"], strict=True))
    for frame in found:
        if frame.role == "egress":
            assert frame.ts_ns == times[frame.frame]
            assert frame.packet.data.len == lengths[frame.frame]
    with pytest.raises(KeyError):
        again.frames("f99999")


def test_frames_of_a_changed_capture_are_refused(place, tmp_path):
    folder, case = place
    flow = case.summary["flow"][0]
    bad = tmp_path / "egress.pcap"
    bad.write_bytes((folder / "egress.pcap").read_bytes() + b"x")
    inputs = [
        {**side, "files": [{**file, "path": str(bad)} for file in side["files"]]}
        if side["role"] == "egress"
        else side
        for side in case.inputs
    ]
    with pytest.raises(vf.CaptureError, match="changed since the case was made"):
        list(replace(case, inputs=inputs).frames(flow))
