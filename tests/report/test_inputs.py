import numpy as np

import vpnforensics as vf
from tests.small_case import write_case
from vpnforensics.report.inputs import file_of, input_row


def test_each_file_of_a_folder_is_told_of(tmp_path):
    whole = write_case(tmp_path / "case") / "egress.pcap"
    folder = tmp_path / "rotated"
    folder.mkdir()
    raw = whole.read_bytes()
    table = vf.read_capture(whole)
    at = [24]
    while at[-1] < len(raw):
        at.append(at[-1] + 16 + int.from_bytes(raw[at[-1] + 8 : at[-1] + 12], "little"))
    half = len(at) // 2
    (folder / "a.pcap").write_bytes(raw[: at[half]])
    (folder / "b.pcap").write_bytes(raw[:24] + raw[at[half] :])
    row = input_row("egress", vf.read_capture(folder))
    first, second = row["files"]
    assert [first["path"], second["path"]] == [str(folder / "a.pcap"), str(folder / "b.pcap")]
    assert (first["first_frame"], second["first_frame"]) == (1, half + 1)
    assert first["packets"] + second["packets"] == row["packets"] == len(table)
    assert first["bytes"] == at[half]
    assert (first["first_ns"], second["last_ns"]) == (row["first_ns"], row["last_ns"])
    assert first["last_ns"] <= second["first_ns"]
    one = input_row("egress", table)
    assert [file["sha256"] for file in one["files"]] == [one["sha256"]]


def test_a_file_without_frames_has_none():
    frames = np.array([1, 2, 3, 7])
    assert file_of(frames, [1, 3, 3, 8]).tolist() == [0, 0, 2, 2]
