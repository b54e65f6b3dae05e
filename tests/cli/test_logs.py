import csv
import io
import json
from pathlib import Path

import pytest

from vpnforensics.cli.main import main

RECORDED = Path(__file__).parents[1] / "logs" / "recorded"


@pytest.fixture
def run(capsys):
    def _run(*arguments, expect=0):
        assert main([str(a) for a in arguments]) == expect
        return capsys.readouterr()

    return _run


def test_sessions_as_a_table(run):
    out, err = run("logs", RECORDED / "openvpn.log", RECORDED / "strongswan.log", RECORDED / "conntrack.log")
    assert "6 sessions" in out
    assert "openvpn, 89 lines: 10 of sessions, 79 of other things, 0 unknown" in " ".join(out.split())
    assert "its times state no zone, and are taken as UTC" in out
    assert "translated connections" in out
    assert not err


def test_sessions_as_json_and_csv(run):
    out, err = run("logs", RECORDED / "openvpn.status2", "-f", "json")
    document = json.loads(out)
    assert [s["user"] for s in document["sessions"]] == ["client-2", "client-3", "client-1"]
    assert document["files"][0]["sha256"]
    out, err = run("logs", RECORDED / "openvpn.log", "-f", "csv", "--log-zone", "+01:00")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert {row["assigned"] for row in rows} == {"10.8.0.2", "10.8.0.3", "10.8.0.4"}
    assert {row["begin_ns"] for row in rows} == {str(1_795_910_560 * 10**9)}
    assert not err


def test_what_is_assumed_is_said_beside_data(run):
    _, err = run("logs", RECORDED / "openvpn.log", "-f", "json")
    assert "taken as UTC" in err


def test_bad_input(run, tmp_path):
    _, err = run("logs", tmp_path / "none", expect=3)
    assert "cannot be read: No such file" in err
    _, err = run("logs", RECORDED / "tinc.log", "--log-zone", "Mars", expect=3)
    assert "no time zone is named 'Mars'" in err
    out, _ = run("logs", RECORDED / "tinc.log", "-o", RECORDED / "tinc.log", expect=2)
    assert not out
    log = tmp_path / "hostile"
    log.write_text("2023-11-15 10:00:00 Accepted none for \x1b[2J=x from 192.0.2.1 port 1 ssh2\n")
    out, _ = run("logs", log)
    assert "\\x1b[2J=x" in out
    assert "\x1b" not in out
    out, _ = run("logs", log, "-f", "csv")
    assert "\x1b" not in out
    (tmp_path / "empty").write_text("")
    out, _ = run("logs", tmp_path / "empty")
    assert "no session" in out
