"""Every bad input gives one clear message and its exit code: never a traceback, never an empty table."""

import json
import os
import shutil
import struct
import subprocess
import sys

import pytest

from vpnforensics.capture.health import CaptureHealth
from vpnforensics.cli.main import main
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture


@pytest.fixture
def fails(capsys):
    def _fails(*arguments, code, saying):
        assert main([str(a) for a in arguments]) == code
        out, err = capsys.readouterr()
        assert out == ""
        errors = [line for line in err.splitlines() if line.startswith("vpnf: error: ")]
        assert len(errors) == 1
        assert saying in errors[0]
        assert "Traceback" not in err
        assert "report" not in err
        return errors[0]

    return _fails


@pytest.fixture(scope="module")
def bad(tmp_path_factory, folder):
    place = tmp_path_factory.mktemp("bad")
    (place / "empty.pcap").write_bytes(b"")
    (place / "text.pcap").write_text("Dear analyst,\n")
    (place / "random.pcap").write_bytes(bytes(range(7, 256)) * 40)
    (place / "folder").mkdir()
    (place / "folder" / "notes.txt").write_text("no captures here")
    whole = (folder / "egress.pcap").read_bytes()
    (place / "header.pcap").write_bytes(whole[:24])
    (place / "cut.pcap").write_bytes(whole[: len(whole) // 2 + 5])
    shutil.copy(folder / "ingress.pcap", place / "copy.pcap")
    return place


@pytest.mark.parametrize(
    ("name", "saying"),
    [
        ("empty.pcap", "byte 0: there are no bytes"),
        ("text.pcap", "text, it seems (it begins 'Dear analyst,"),
        ("random.pcap", "not a pcap or pcapng capture"),
        ("missing.pcap", "cannot be opened: No such file"),
        ("folder", "a folder without pcap or pcapng captures"),
        ("header.pcap", "no IP packets"),
    ],
)
def test_unreadable_inputs_are_3_and_named(name, saying, fails, bad, folder):
    for pair in ((bad / name, folder / "egress.pcap"), (folder / "ingress.pcap", bad / name)):
        error = fails("correlate", *pair, code=3, saying=saying)
        assert str(bad / name) in error


@pytest.mark.parametrize("command", ["packets", "flows", "tunnels", "info"])
def test_every_command_refuses_what_is_no_capture(command, fails, bad):
    fails(command, bad / "text.pcap", code=3, saying="text.pcap: byte 0: not a pcap")


def test_identical_captures_are_refused(fails, bad, folder):
    ingress = folder / "ingress.pcap"
    fails("correlate", ingress, ingress, code=3, saying="nothing but tunnels")
    fails("correlate", ingress, bad / "copy.pcap", code=3, saying="nothing but tunnels")


def test_swapped_captures_are_called_so(fails, folder):
    fails("correlate", folder / "egress.pcap", folder / "ingress.pcap", code=3, saying="seem to be swapped")


def test_captures_that_do_not_overlap_link_nothing(folder, tmp_path, capsys):
    simulate(mixed_case(tunnels=2, flows=6, duration_s=20.0, scale=0.1, seed=9), tmp_path, 9)
    assert main(["correlate", str(folder / "ingress.pcap"), str(tmp_path / "egress.pcap"), "-f", "csv"]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) > 5
    assert ",linked," not in out
    assert "warning: the two clocks cannot be aligned" in err
    case = ["correlate", str(folder / "ingress.pcap"), str(tmp_path / "egress.pcap")]
    assert main([*case, "-f", "jsonl", "--explain", "f1"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "f1 is not linked; undecided: no outer packets are attributed to it (the clocks are not" in err


def test_captures_of_one_clock_that_do_not_overlap_are_said_to(folder, tmp_path, capsys):
    packets = read_capture(folder / "egress.pcap")
    later = tmp_path / "later.pcap"
    shutil.copy(folder / "egress.pcap", later)
    raw = bytearray(later.read_bytes())
    pos = 24
    while pos < len(raw):
        seconds, _, stored = struct.unpack_from("<III", raw, pos)
        struct.pack_into("<I", raw, pos, seconds + 86_400)
        pos += 16 + stored
    later.write_bytes(raw)
    assert len(read_capture(later)) == len(packets)
    assert main(["correlate", str(folder / "ingress.pcap"), str(later), "--same-clock", "-f", "csv"]) == 0
    _, err = capsys.readouterr()
    assert "the captures do not overlap in time: egress begins 23 h 59 min" in err


def test_damage_is_told_and_strict_refuses_it(fails, bad, folder, capsys):
    case = (folder / "ingress.pcap", bad / "cut.pcap")
    fails("correlate", *case, "--strict", code=4, saying="unreadable from byte")
    fails("info", bad / "cut.pcap", "--strict", code=4, saying="unreadable from byte")
    assert main(["correlate", *map(str, case)]) == 0
    assert "unreadable from byte" in capsys.readouterr().out


def test_both_sides_from_standard_input_is_usage(fails):
    fails("correlate", "-", "-", code=2, saying="only one of IN and OUT")


@pytest.mark.parametrize("name", ["f9999", "f0", "1:nonsense=", "203.0.113.9", "", "\x1b[2J"])
def test_an_unknown_flow_is_usage(name, fails, folder):
    case = (folder / "ingress.pcap", folder / "egress.pcap")
    error = fails("correlate", *case, "--explain", name, code=2, saying="no flow")
    assert "\x1b" not in error


@pytest.mark.parametrize(
    ("target", "saying"),
    [
        ("no/such/folder/x.json", "there is no folder"),
        (".", "is a folder"),
        ("/proc/x.json", "cannot be written"),
    ],
)
def test_an_unwritable_output_is_usage(target, saying, fails, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vpnforensics.cli.correlate.read", lambda *_, **__: pytest.fail("it read first"))
    if target.startswith("/proc"):
        monkeypatch.setattr("os.access", lambda *_: False)
    fails(
        "correlate", folder / "ingress.pcap", folder / "egress.pcap", "-o", target, code=2, saying=saying
    )  # fmt: skip


def test_an_input_is_never_written_over(fails, folder):
    before = (folder / "egress.pcap").read_bytes()
    fails(
        "correlate", folder / "ingress.pcap", folder / "egress.pcap", "-o", folder / "egress.pcap",
        code=2, saying="is an input",
    )  # fmt: skip
    assert (folder / "egress.pcap").read_bytes() == before


def test_no_capture_of_an_input_folder_is_written_over(fails, folder, tmp_path):
    rotated = tmp_path / "rotated"
    rotated.mkdir()
    shutil.copy(folder / "ingress.pcap", rotated / "0.pcap")
    shutil.copy(folder / "ingress.pcap", rotated / "copy.pcap")
    (rotated / "notes.json").write_text("{}")
    (tmp_path / "link.pcap").symlink_to(rotated / "0.pcap")
    before = (rotated / "0.pcap").read_bytes()
    for target in (rotated / "0.pcap", rotated / "copy.pcap", tmp_path / "link.pcap"):
        for arguments in (("correlate", rotated, folder / "egress.pcap"), ("info", rotated)):
            fails(*arguments, "-f", "json", "-o", target, code=2, saying="is an input")
    assert (rotated / "0.pcap").read_bytes() == before
    assert main(["info", str(rotated), "-f", "json", "-o", str(rotated / "notes.json")]) == 0
    assert "0.pcap" in {path.name for path in rotated.iterdir()}


def test_the_file_behind_standard_input_is_never_written_over(folder, tmp_path):
    path = tmp_path / "in.pcap"
    shutil.copy(folder / "ingress.pcap", path)
    with path.open("rb") as standard_input:
        done = subprocess.run(
            [sys.executable, "-m", "vpnforensics.cli.main", "info", "-", "-f", "csv", "-o", path],
            stdin=standard_input, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, "is an input" in done.stderr) == (2, True)
    assert path.read_bytes() == (folder / "ingress.pcap").read_bytes()


@pytest.mark.parametrize(("command", "is_meant"), [("info", True), ("correlate", True), ("simulate", False)])
def test_a_capture_given_on_standard_input_alone_must_be_named(folder, command, is_meant):
    with (folder / "ingress.pcap").open("rb") as standard_input:
        done = subprocess.run(
            [sys.executable, "-m", "vpnforensics.cli.main", command],
            stdin=standard_input, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert (f"To read standard input, name it: vpnf {command} -" in done.stderr) == is_meant


@pytest.mark.parametrize(
    ("name", "saying"),
    [
        ("copy.png", "is an input"),
        ("x.xyz", "no kind of picture"),
        ("-", "no kind of picture"),
        ("out.png", "both name"),
        ("gone/x.png", "there is no folder"),
    ],
)
def test_a_plot_goes_where_a_result_may_go_and_nowhere_else(
    name, saying, fails, folder, tmp_path, monkeypatch
):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    capture = shutil.copy(folder / "egress.pcap", tmp_path / "copy.png")
    fails("clocks", capture, "--plot", name, "-o", tmp_path / "out.png", code=2, saying=saying)
    assert capture.read_bytes() == (folder / "egress.pcap").read_bytes()


@pytest.mark.parametrize(
    "options",
    [
        ["--expected-false-links", "0"],
        ["--expected-false-links", "nan"],
        ["--engine", "magic"],
        ["--top", "0"],
        ["-f", "odt"],
        ["--seed", "-1"],
    ],
)
def test_options_out_of_range_are_usage(options, fails, folder):
    fails("correlate", folder / "ingress.pcap", folder / "egress.pcap", *options, code=2, saying=options[0])


def test_one_bad_file_among_several_does_not_hide_the_others(bad, folder, capsys):
    assert main(["info", str(bad / "text.pcap"), str(folder / "egress.pcap"), "-f", "csv"]) == 3
    out, err = capsys.readouterr()
    assert "egress.pcap" in out
    assert "text.pcap" in err


def test_a_hostile_file_name_does_not_reach_the_terminal(bad, folder, capsys):
    name = bad / "x\x1b[2J[red]y.pcap"
    shutil.copy(folder / "egress.pcap", name)
    for arguments in (["info", name], ["info", name, "-f", "json"], ["info", name, "-f", "csv"]):
        assert main([str(a) for a in arguments]) == 0
        out, _ = capsys.readouterr()
        assert "\x1b" not in out
        assert "[red]y.pcap" in out
    assert main(["flows", str(name) + "-gone"]) == 3
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_a_name_that_is_no_utf8_is_spelled_in_every_form(folder, tmp_path, capsys, form):
    name = tmp_path / os.fsdecode(b"caf\xe9.pcap")
    shutil.copy(folder / "egress.pcap", name)
    assert main(["info", str(name), "-f", form]) == 0
    out = capsys.readouterr().out
    read = json.loads(out)[0]["path"] if form == "json" else out
    assert "caf\\xe9.pcap" in read
    assert "\\ud" not in out, "half of a surrogate pair, which strict readers of JSON refuse"


def test_arguments_that_are_no_utf8_are_spelled_in_the_record(folder, tmp_path):
    ingress = tmp_path / os.fsdecode(b"\xff.pcap")
    shutil.copy(folder / "ingress.pcap", ingress)
    out = tmp_path / "case.json"
    assert (
        main(["correlate", "-q", str(ingress), str(folder / "egress.pcap"), "-f", "json", "-o", str(out)])
        == 0
    )
    case = json.loads(out.read_bytes())
    json.dumps(case, ensure_ascii=False).encode()
    assert case["tool"]["argv"][3].endswith("/\\xff.pcap")
    assert case["inputs"][0]["path"].endswith("/\\xff.pcap")


def test_the_csv_header_stands_without_a_readable_file(bad, folder, capsys):
    headers = []
    for name in (bad / "text.pcap", folder / "egress.pcap"):
        main(["info", str(name), "-f", "csv"])
        headers.append(capsys.readouterr().out.split("\r\n")[0])
    assert headers[0] == headers[1]
    assert headers[0].startswith("path,sha256,bytes,")


def test_a_name_forges_no_line(capsys):
    for command in (["info"], ["flows", "-v"], ["info", "-f", "csv"]):
        assert main([*command, "x\nvpnf: all fine.pcap"]) == 3
        _, err = capsys.readouterr()
        assert "x\\x0avpnf: all fine.pcap" in err
        assert not any(line.startswith("vpnf: all fine") for line in err.splitlines())


def test_strict_shows_what_it_does_not_refuse(bad, folder, capsys):
    assert main(["info", str(bad / "cut.pcap"), str(folder / "egress.pcap"), "--strict", "-f", "csv"]) == 4
    out, err = capsys.readouterr()
    assert "egress.pcap" in out
    assert "cut.pcap" not in out
    assert "unreadable from byte" in err
    assert main(["info", str(bad / "cut.pcap"), str(bad / "text.pcap"), "--strict"]) == 3


def test_strict_knows_all_that_health_calls_damage():
    assert CaptureHealth(cut_tail_bytes=1).damaged
    assert CaptureHealth(damaged_records=1).damaged
