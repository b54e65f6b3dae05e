"""The list of kernels to compile ahead: read back as written, and as long as what a run compiles."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numba import typeof, types

from vpnforensics import warm
from vpnforensics.kernels import kernel

SAMPLE = Path(__file__).parent.parent / "samples/wireguard"
SIDES = [str(SAMPLE / "ingress.pcap"), str(SAMPLE / "egress.pcap")]


class Pair(NamedTuple):
    ts_ns: np.ndarray
    size: int


def _read_only() -> np.ndarray:
    array = np.zeros(3, np.uint16)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "value",
    [3, 2.5, True, np.uint64(7), np.zeros((2, 3)), np.zeros((4, 6))[:, ::2], _read_only(), (1, 2),
     (1, np.zeros(2)), (),
     Pair(np.zeros(2, np.int64), 3), None],
    ids=str,
)  # fmt: skip
def test_types_are_read_back(value: object) -> None:
    kind = typeof(value)
    entry = warm.Entry("more", f"flows._kernels.count_groups({warm.type_text(kind)}, int64)")
    assert entry.signature == (kind, types.int64)


def test_the_list_has_what_a_run_calls() -> None:
    """Where this fails: ``python -m vpnforensics.warm list samples``."""
    command = [sys.executable, "-m", "vpnforensics.warm", "called", "correlate", "correlate", *SIDES]
    warm.make(warm.entries("correlate"))
    for _ in range(2):  # what had to be compiled now brought what it calls: then only the second run tells
        text = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        called = {entry.text for entry in warm.entries(text=text)}
        if called <= {entry.text for entry in warm.entries("correlate")}:
            return
    assert called <= {entry.text for entry in warm.entries("correlate")}


def test_an_old_list_does_no_harm() -> None:
    old = ["gone.away(int64)", "flows._kernels.gone(int64)", "flows._kernels.count_groups(int64)"]
    old += ["flows._kernels.count_groups(int64, Array(int64, 1, 'C'))"]
    entries = [warm.Entry("info", line) for line in old]
    assert warm.missing(entries) == entries[-1:]
    warm.make(entries)


def _vpnf(cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}
    environment.pop("NUMBA_CACHE_DIR", None)
    return subprocess.run(
        [sys.executable, "-m", "vpnforensics", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_a_first_run_says_that_it_compiles(tmp_path: Path) -> None:
    assert _vpnf(tmp_path, "info", SIDES[0]).stderr == "vpnf: compiling, first run only\n"
    assert _vpnf(tmp_path, "info", SIDES[0]).stderr == ""
    assert not list(tmp_path.glob("vpnforensics/*.lock"))


def test_progress_counts_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"kernel": kernel, "__name__": "first_run_under_test"}
    exec("@kernel\ndef once(x): return x + 1\n@kernel\ndef twice(x): return once(x) + 1", space)
    entry = warm.Entry("info", "twice(int64)")
    entry.__dict__["kernel"] = space["twice"]
    for name in ("once", "twice"):
        space[name]._cache.flush()
    monkeypatch.setattr(warm, "entries", lambda section: [entry])
    told: list[tuple[int, int]] = []
    with warm.first_run("info", lambda number, total: told.append((number, total))):
        assert space["twice"](1) == 3
    assert set(told) == {(1, 1)}
    assert not warm.missing([entry])


def test_what_is_compiled_twice_at_once_is_compiled_once(tmp_path: Path) -> None:
    """The second process waits for the first one's."""
    code = (
        "from vpnforensics.packets._headers import skip_extensions as f;"
        "import numpy as np; f(np.zeros(64, np.uint8), 0, 64, 64, 6); print(len(f.stats.cache_misses))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate()[0] for process in both) == ["0\n", "1\n"]
