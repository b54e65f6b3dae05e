import os
import re
import shutil
import subprocess

import pytest

from vpnforensics._version import __version__
from vpnforensics.report import provenance

GIT = shutil.which("git", path=os.defpath)


def test_the_row_says_what_ran_where_and_when(monkeypatch):
    monkeypatch.setattr(provenance, "commit", lambda: "abc")
    row = provenance.tool_row({"same_clock": True}, {"strong": 12.0}, 7, ["vpnf", "correlate"])
    assert (row["version"], row["commit"], row["seed"]) == (__version__, "abc", 7)
    assert row["date"] == "2023-11-14T22:13:20Z"  # as SOURCE_DATE_EPOCH says in tests
    assert row["parameters"]["same_clock"] is True
    assert row["host"]
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", provenance.today())
    assert provenance.today() > row["date"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_CHECKOUT", tmp_path)
    provenance.commit.cache_clear()
    yield tmp_path
    provenance.commit.cache_clear()


@pytest.mark.skipif(GIT is None, reason="this machine lacks git")
def test_a_checkout_names_its_commit_and_whether_it_was_changed(checkout, monkeypatch):
    monkeypatch.setattr(provenance.shutil, "which", {"git": GIT}.get)

    def git(*words):
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run([GIT, "-C", str(checkout), *author, *words], capture_output=True, check=True)
        return done.stdout.decode().strip()

    git("init", "-q")
    (checkout / "file").write_text("1")
    git("add", "file")
    git("commit", "-qm", "first")
    assert provenance.commit() == git("rev-parse", "HEAD")
    (checkout / "file").write_text("2")
    provenance.commit.cache_clear()
    assert provenance.commit() == git("rev-parse", "HEAD") + "+changed"


def test_an_installed_program_has_the_commit_noted_at_its_installation(checkout, monkeypatch):
    noted = '{"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}}'

    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return noted

    monkeypatch.setattr(provenance.metadata, "distribution", lambda name: Installed())
    assert provenance.commit() == "c0ffee"
    noted = "{}"
    provenance.commit.cache_clear()
    assert provenance.commit() is None
