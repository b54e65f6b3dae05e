"""Compiled kernels are kept between runs, and never used for anything but what they were made of."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

import vpnforensics
from vpnforensics import kernel_files
from vpnforensics.kernels import digest

PACKAGE = Path(vpnforensics.__file__).parent

CALLER = """
from vpnforensics.kernels import kernel
from {callee} import STEP, once

@kernel
def twice(x):
    return once(once(x)) + STEP
"""
CALLEE = """
from typing import NamedTuple
from vpnforensics.kernels import kernel
from vpnforensics.capture import _loads

STEP = 1
TABLE = (1, 2, 3)

class Pair(NamedTuple):
    low: int
    high: int

@kernel
def once(x):
    def more(y):
        return y + 1
    pair = Pair(1, x)
    return more(x) + TABLE[0] + pair.low
"""


def _module(name: str, source: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_loader(name, None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    exec(source, vars(module))
    return module


def _digest_with(callee: str, monkeypatch: pytest.MonkeyPatch) -> str:
    _module("callee_under_test", callee, monkeypatch)
    caller = _module("caller_under_test", CALLER.format(callee="callee_under_test"), monkeypatch)
    return digest(caller.twice)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return more(x) + TABLE[0]", "return more(x) - TABLE[0]"),
        ("return y + 1", "return y + 2"),
        ("STEP = 1", "STEP = 2"),
        ("TABLE = (1, 2, 3)", "TABLE = (1, 2, 4)"),
        ("low: int\n    high: int", "high: int\n    low: int"),
        ("@kernel", "@kernel(fastmath=True)"),
    ],
    ids=["callee", "inner function", "constant", "table", "field order", "options"],
)
def test_a_caller_is_named_by_what_it_calls(old: str, new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert old in CALLEE
    assert _digest_with(CALLEE.replace(old, new), monkeypatch) != _digest_with(CALLEE, monkeypatch)


def test_a_comment_changes_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _digest_with("# moved\n\n" + CALLEE, monkeypatch) == _digest_with(CALLEE, monkeypatch)


def test_loads_of_different_width_have_different_names() -> None:
    from vpnforensics.capture import _loads
    from vpnforensics.kernels import kernel

    def digest_of(load: object) -> str:
        space = {"load": load, "kernel": kernel, "__name__": "loads_under_test"}
        exec("@kernel\ndef f(b): return load(b, 0)", space)
        return digest(space["f"])

    assert len({digest_of(load) for load in (_loads.be16, _loads.be32, _loads.le16, _loads.le32)}) == 4


def test_what_no_digest_can_be_made_of_is_refused() -> None:
    from vpnforensics.kernels import kernel

    space = {"odd": object(), "kernel": kernel, "__name__": "odd_under_test"}
    exec("@kernel\ndef f(): return odd", space)
    with pytest.raises(TypeError, match="no digest"):
        digest(space["f"])


def _run(code: str, root: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**kept, "PYTHONPATH": str(root), **environment},
        capture_output=True,
        text=True,
        check=True,
    )


PROBE = """
from vpnforensics.align._kernels import first_at_least
from vpnforensics.kernels import kernel

@kernel
def probe(values):
    return first_at_least(values, 0, values.size, 3)
"""
ASK = "import numpy as np; from vpnforensics.probe import probe; print(probe(np.arange(9)))"


def test_a_changed_callee_in_another_file_changes_its_caller(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "vpnforensics", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "vpnforensics/probe.py").write_text(PROBE)
    place = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    assert _run(ASK, tmp_path, **place).stdout == "3\n"
    callee = tmp_path / "vpnforensics/align/_kernels.py"
    changed, times = re.subn(r"(def first_at_least\(.*\n)", r"\1    return -1\n", callee.read_text())
    assert times == 1
    callee.write_text(changed)
    assert _run(ASK, tmp_path, **place).stdout == "-1\n"


GROUP = """
import numpy as np
from vpnforensics.flows._kernels import count_groups
assert count_groups(np.array([1, 0, 1]), 2).tolist() == [0, 1, 3]
print(bool(count_groups.stats.cache_misses))
"""


def _compiled(environment: dict[str, str]) -> tuple[bool, str]:
    """Whether a run had to compile, and what it said."""
    run = _run(GROUP, PACKAGE.parent, **environment)
    return run.stdout == "True\n", run.stderr


def test_kernels_are_kept_in_the_cache_of_the_user(tmp_path: Path) -> None:
    for named in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        cache = tmp_path / named
        environment = {named: str(cache), "TMPDIR": str(tmp_path)}
        assert _compiled(environment) == (True, "")
        assert _compiled(environment) == (False, "")
        place = cache / "vpnforensics"
        assert [file.name.partition("-")[0] for file in place.iterdir()] == ["flows._kernels.count_groups"]
        assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_damaged_file_is_compiled_anew(tmp_path: Path) -> None:
    place = {"XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    _compiled(place)
    (file,) = (tmp_path / "vpnforensics").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert _compiled(place) == (True, "")
    assert not _compiled(place)[0]


def test_a_user_without_a_writable_home_is_served(tmp_path: Path) -> None:
    bare = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)}
    compiled, said = _compiled(bare)
    assert compiled
    assert said == (
        "/proc/nowhere/.cache/vpnforensics cannot be written: compiled kernels are kept in"
        f" {tmp_path}/vpnforensics-{os.geteuid()}\n"
    )
    assert _compiled(bare) == (False, "")


def test_where_nothing_can_be_written_every_run_compiles(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kernel_files, "places", lambda: (Path("/proc/nowhere"), Path("/proc/nowhere/either")))
    assert kernel_files.place_to_write.__wrapped__() is None
    assert [record.getMessage() for record in caplog.records] == [
        "neither /proc/nowhere nor /proc/nowhere/either can be written: kernels are compiled in every run"
    ]


@pytest.mark.parametrize("how", ["others may write", "a link"])
def test_code_that_another_user_may_have_put_there_is_not_run(tmp_path: Path, how: str) -> None:
    bare = {"HOME": "/proc/nowhere", "TMPDIR": str(tmp_path)}
    _compiled(bare)
    place = tmp_path / f"vpnforensics-{os.geteuid()}"
    if how == "a link":
        place.rename(tmp_path / "real")
        place.symlink_to(tmp_path / "real")
    else:
        place.chmod(0o777)
    assert _compiled(bare)[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("readable", [True, False], ids=["for all", "root's alone"])
def test_kernels_that_root_made_serve_all_users_who_can_read_them(readable: bool) -> None:
    """As in an image, which is older than a day."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name, "vpnforensics")
        place.mkdir()
        body = pickle.dumps("machine code")
        file = place / "made"
        file.write_bytes(hashlib.blake2b(body, digest_size=16).digest() + body)
        os.utime(file, (0, 0))
        Path(name).chmod(0o755)
        place.chmod(0o755 if readable else 0o700)
        os.seteuid(65534)
        try:
            assert kernel_files.is_ours(place) == readable
            assert kernel_files._read(file) == ("machine code" if readable else None)
        finally:
            os.seteuid(0)


def test_what_was_longest_unused_is_deleted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpnforensics.kernel_files._LIMIT_BYTES", 250)
    for age in range(5):
        file = tmp_path / f"file{age}"
        file.write_bytes(bytes(100))
        os.utime(file, (10_000 - age, 10_000 - age))
    kernel_files._prune(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file0", "file1"]
