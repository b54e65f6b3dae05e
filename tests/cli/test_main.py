import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from vpnforensics.cli import errors
from vpnforensics.cli import main as cli
from vpnforensics.cli.main import main

VPNF = [sys.executable, "-m", "vpnforensics"]


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from vpnforensics.cli.main import main; assert main(['--help']) == 0;"
        "heavy = {'numpy', 'pandas', 'numba', 'rich', 'matplotlib'} & set(sys.modules);"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert all(name in done.stdout for name in cli._COMMANDS)


@pytest.mark.parametrize("name", list(cli._COMMANDS))
def test_each_command_is_there_and_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert "Usage: vpnf " + name in capsys.readouterr().out


def test_the_help_of_correlate_loads_nothing_heavy():
    code = (
        "import sys; from vpnforensics.cli.main import main; assert main(['correlate', '--help']) == 0;"
        "assert not {'numpy', 'pandas', 'numba'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("vpnf ")


@pytest.mark.parametrize(
    "arguments", [["bogus"], ["correlate"], ["info"], ["--bogus"], ["packets", "x", "-n", "0"]]
)
def test_usage_errors_are_2_and_point_to_the_help(arguments, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "vpnf: error: " in err
    assert "--help" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["corelate", "a", "b"], "No such command 'corelate'. Did you mean correlate?"),
        (["tunels", "a"], "Did you mean tunnels"),
        (["lab", "recrod"], "Did you mean record?"),
        (["tunnel", "genky"], "Did you mean genkey"),
        (["in.pcap"], "No such command 'in.pcap'.\n"),
    ],
)
def test_a_slip_of_the_finger_gets_a_suggestion(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("before", [[], ["-v"]])
def test_talk_options_may_stand_before_the_command(before, capsys):
    after = [] if before else ["-v"]
    assert main([*before, "info", "/nonexistent", *after]) == 3
    assert "reading /nonexistent: " in capsys.readouterr().err
    assert main(["-q", "lab", "clean"]) == 0
    assert capsys.readouterr().err == ""


def test_every_exit_code_is_in_the_help(capsys):
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    codes = [errors.DONE, errors.INTERNAL, errors.USAGE, errors.UNREADABLE, errors.DAMAGED]
    assert re.findall(r"\d+", said.partition("Exit codes:")[2].partition("Options")[0]) == [
        str(code) for code in (*codes, errors.INTERRUPTED, errors.BROKEN_PIPE)
    ]


def test_without_arguments_the_help_is_shown_and_called_no_error(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: vpnf ")
    assert "Commands:" in err
    assert "error:" not in err


def test_closed_standard_streams_are_no_internal_error(tmp_path):
    vpnf = " ".join(VPNF)
    for command, code, said in (
        (f"{vpnf} engines >&-", 2, "standard output is closed"),
        (f"{vpnf} engines -o {tmp_path}/x >&-", 0, ""),
        (f"{vpnf} --help >&-", 0, ""),
        (f"{vpnf} info {tmp_path}/gone 2>&-", 3, ""),
    ):
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert said in done.stderr
        assert "internal" not in done.stderr
        assert done.stdout == ""
    assert (tmp_path / "x").stat().st_size > 100


def broken(monkeypatch, error):
    @click.command()
    def command():
        raise error

    monkeypatch.setattr(cli._LazyGroup, "get_command", lambda *_: command)


def test_a_bug_is_1_with_no_traceback_and_says_how_to_report(monkeypatch, capsys):
    broken(monkeypatch, ZeroDivisionError("\x1b[2J"))
    assert main(["info"]) == 1
    err = capsys.readouterr().err
    assert "internal error: ZeroDivisionError" in err
    assert "VPNF_DEBUG=1" in err
    assert "Traceback" not in err
    assert "\x1b" not in err


def test_debug_shows_the_traceback(monkeypatch, capsys):
    broken(monkeypatch, ZeroDivisionError("x"))
    monkeypatch.setenv("VPNF_DEBUG", "1")
    assert main(["info"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_two_v_show_the_traceback_too(capsys):
    assert main(["info", "-vv", "/nonexistent"]) == 3
    assert main(["flows", "-vv", "/nonexistent"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_interrupted_is_130(monkeypatch, capsys):
    broken(monkeypatch, KeyboardInterrupt())
    assert main(["info"]) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_missing_extra_is_named(monkeypatch, capsys):
    broken(monkeypatch, ModuleNotFoundError("No module named 'pyarrow.parquet'", name="pyarrow.parquet"))
    assert main(["info"]) == 2
    err = capsys.readouterr().err
    assert "this needs pyarrow, which is not installed: " in err
    assert "install" in err
    assert "vpnforensics[" not in err, "no index has it"


def test_ctrl_c_ends_a_running_command():
    read_end, write_end = os.pipe()  # standard input that never comes
    running = subprocess.Popen([*VPNF, "info", "-"], stdin=read_end, stderr=subprocess.PIPE, text=True)
    try:
        header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
        record = struct.pack("<IIII", 1, 0, 250_000, 250_000)
        # More than a pipe holds: once it is written, the command is reading, and waits for the rest.
        os.write(write_end, header + record + bytes(200_000))
        time.sleep(0.3)
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=10)
    finally:
        running.kill()
        os.close(read_end)
        os.close(write_end)
    assert running.returncode == 130
    assert "Traceback" not in err


def test_a_closed_pipe_ends_quietly(folder):
    command = f"{' '.join(VPNF)} packets -f csv {folder}/egress.pcap | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "141"
    assert done.stderr == ""


def test_standard_output_that_is_full_is_an_error():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*VPNF, "engines"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr
