"""Folders of rotated captures: order, strangers among them, and members without a first time."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

from vpnforensics.capture import rotation
from vpnforensics.capture.rotation import capture_files
from vpnforensics.errors import CaptureError

from . import blocks

FRAME = bytes(60)


def names(folder: Path) -> list[str]:
    return [Path(file).name for file in capture_files(str(folder))[0]]


def test_a_file_and_standard_input_stand_for_themselves(tmp_path: Path) -> None:
    assert capture_files("-") == (["-"], 0, (), 0)
    assert capture_files(str(tmp_path / "absent")) == ([str(tmp_path / "absent")], 0, (), 0)


def test_no_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pcap").write_bytes(blocks.pcap_file([(10**6, FRAME)]))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CaptureError, match="an empty name is no file"):
        capture_files("")


def test_order_is_of_the_first_times_not_of_the_names(tmp_path: Path) -> None:
    for name, second in (("c", 1), ("a", 3), ("b", 2)):
        (tmp_path / name).write_bytes(blocks.pcap_file([(second * 10**6, FRAME)]))
    assert names(tmp_path) == ["c", "b", "a"]


def test_members_without_a_first_time_come_last(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(blocks.pcap_file([]))
    (tmp_path / "damaged").write_bytes(blocks.pcap_file([]) + b"\xff" * 40)
    (tmp_path / "simple").write_bytes(blocks.section() + blocks.interface() + blocks.simple(FRAME) * 3)
    (tmp_path / "timed").write_bytes(blocks.pcap_file([(10**6, FRAME)]))
    (tmp_path / "notes").write_text("nothing")
    assert names(tmp_path) == ["timed", "damaged", "empty", "simple"]
    assert capture_files(str(tmp_path)).skipped == 1


def test_a_member_cut_inside_its_header_is_skipped_as_an_empty_one_is(tmp_path: Path) -> None:
    whole = blocks.pcap_file([(10**6, FRAME)])
    for name, length in (("empty", 0), ("magic", 4), ("header", 23), ("whole", len(whole))):
        (tmp_path / name).write_bytes(whole[:length])
    assert names(tmp_path) == ["whole"]
    assert capture_files(str(tmp_path)).skipped == 3


def test_each_content_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (blocks.pcap_file([(10**6, FRAME), (at, FRAME)]) for at in (2 * 10**6, 3 * 10**6))
    later = blocks.pcap_file([(4 * 10**6, FRAME), (5 * 10**6, FRAME)])
    nothing = blocks.pcap_file([])
    contents = {
        "a": first,
        "b": second,
        "c": first,
        "d": later,
        "e": first,
        "quiet1": nothing,
        "quiet2": nothing,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    compared = []
    monkeypatch.setattr(
        rotation, "cmp", lambda a, b, shallow: compared.append((a, b)) or filecmp.cmp(a, b, shallow)
    )
    files, skipped, copies, _ = capture_files(str(tmp_path))
    assert [Path(file).name for file in files] == ["a", "b", "d", "quiet1", "quiet2"]
    assert (skipped, [Path(file).name for file in copies]) == (0, ["c", "e"])
    # Reading must not get slower: what has a time or size of its own is not opened again.
    assert not {"d", "quiet1", "quiet2"} & {Path(file).name for pair in compared for file in pair}


def test_folders_inside_of_a_folder_are_not_looked_into_and_said_to_be_there(tmp_path: Path) -> None:
    for day in ("27", "28"):
        (tmp_path / day).mkdir()
        (tmp_path / day / "a.pcap").write_bytes(blocks.pcap_file([(10**6, FRAME)]))
    with pytest.raises(
        CaptureError, match="it holds folders, 2 in number, which are not looked into: name one"
    ):
        capture_files(str(tmp_path))
    (tmp_path / "b.pcap").write_bytes(blocks.pcap_file([(10**6, FRAME)]))
    assert capture_files(str(tmp_path)).folders == 2


def test_the_first_time_may_stand_far_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "_PROBE_BYTES", 100)
    head = blocks.section() + blocks.interface()
    late = blocks.block(0x7777, bytes(2 << 20)) + blocks.simple(FRAME) * 5
    (tmp_path / "a").write_bytes(head + late + blocks.enhanced(7, FRAME))
    (tmp_path / "b").write_bytes(head + blocks.enhanced(3, FRAME))
    (tmp_path / "c").write_bytes(head + late)
    assert names(tmp_path) == ["b", "a", "c"]


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(CaptureError, match="the folder cannot be listed: Permission denied"):
        capture_files(str(tmp_path))
