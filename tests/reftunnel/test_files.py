"""What a tunnel writes is private, and replaces nothing."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from vpnforensics.cli.tunnel import tunnel
from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.config import read_config
from vpnforensics.reftunnel.files import started
from vpnforensics.reftunnel.journal import Journal
from vpnforensics.reftunnel.keys import PrivateKey
from vpnforensics.reftunnel.usage import UsageLog

JOURNALS = ("journal.jsonl", "journal.parquet")
EVENT = json.dumps({"ts_ns": 1, "event": "connect"}) + "\n"


def test_what_tells_of_people_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        UsageLog(tmp_path / "usage").close(0)
        for name in JOURNALS:
            Journal(tmp_path / name).close()
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {
        "usage": 0o600,
        "journal.jsonl": 0o600,
        "journal.parquet": 0o700,
        "part-000000.parquet": 0o600,
    }


@pytest.mark.parametrize("name", JOURNALS)
@pytest.mark.parametrize("kind", ["file", "folder", "link to a file", "link to nothing", "second name"])
def test_a_journal_takes_the_place_of_nothing(tmp_path, name, kind):
    victim, path = tmp_path / "victim", tmp_path / name
    victim.write_text("precious")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "second name":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim if kind == "link to a file" else tmp_path / "elsewhere")
    with pytest.raises(TunnelError, match="nothing is overwritten"):
        Journal(path)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "elsewhere").exists()
    assert kind != "file" or path.read_text() == "precious"


@pytest.mark.parametrize("kind", ["link", "pipe", "another file", "open to others"])
def test_a_usage_log_is_appended_to_nothing_else(tmp_path, kind):
    path, victim = tmp_path / "usage", tmp_path / "victim"
    victim.write_text(EVENT)
    victim.chmod(0o600)
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.write_text(EVENT if kind == "open to others" else "[Interface]\nPrivateKey = x\n")
        path.chmod(0o640 if kind == "open to others" else 0o600)
    before = path.read_text() if path.is_file() else ""
    with pytest.raises(TunnelError, match="cannot write the usage log"):
        UsageLog(path)
    assert kind == "pipe" or path.read_text() == before


def test_a_usage_log_goes_on_with_its_own_file(tmp_path):
    UsageLog(tmp_path / "usage").close(0)
    (tmp_path / "usage").write_text(EVENT)
    UsageLog(tmp_path / "usage").close(0)
    assert (tmp_path / "usage").read_text() == EVENT


def test_the_time_of_a_start_in_the_name_of_a_journal():
    assert started(Path("/x/{start}.jsonl"), 1_795_912_842 * 10**9) == Path("/x/20261129T004042Z.jsonl")
    assert started(Path("/x/journal"), 0) == Path("/x/journal")


def test_the_messages_of_a_tunnel_do_not_go_to_its_configuration(tmp_path):
    path = tmp_path / "wg0.conf"
    path.touch(0o600)
    path.write_text("[Interface]\n")
    (tmp_path / "link").symlink_to(path)
    result = CliRunner().invoke(tunnel, ["up", str(path), "--log", str(tmp_path / "link")])
    assert result.exit_code == 1
    assert "are one file" in result.output
    assert path.read_text() == "[Interface]\n"


@pytest.mark.parametrize(
    ("lines", "which"),
    [
        ("Journal = {folder}/wg0.conf", "the configuration and Journal"),
        ("Journal = {folder}/deeper/../wg0.conf", "the configuration and Journal"),
        ("Journal = {folder}/link", "the configuration and Journal"),
        ("UsageLog = {folder}/second", "the configuration and UsageLog"),
        ("Journal = {folder}/new\nUsageLog = {folder}/./new", "Journal and UsageLog"),
    ],
)
def test_configuration_journal_and_usage_log_are_never_one_file(tmp_path, lines, which):
    path = tmp_path / "wg0.conf"
    key = PrivateKey.generate().to_text()
    path.touch(0o600)
    path.write_text(f"[Interface]\nPrivateKey = {key}\n{lines.format(folder=tmp_path)}\n")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "link").symlink_to(path)
    (tmp_path / "second").hardlink_to(path)
    with pytest.raises(TunnelError, match=re.escape(which)) as error:
        read_config(path)
    assert key not in str(error.value)
    assert key in path.read_text()
