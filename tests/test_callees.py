"""What a kernel calls is compiled into it: same results, same errors, in this run and from the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from vpnforensics.kernels import kernel


@kernel
def _root(x):
    if x < 0:
        raise ValueError("no root of less than nothing")
    return np.sqrt(x)


@kernel
def _pair(n, step=2):
    made = np.empty(n, np.float64)
    for i in range(n):
        made[i] = _root(i * step)
    return made, n


@kernel
def total(n):
    made, count = _pair(n)
    more, _ = _pair(n, 3)
    return made.sum() + more.sum() + count


def test_a_kernel_of_kernels_gives_what_python_gives():
    assert total(20) == pytest.approx(total.py_func(20))
    assert list(total.overloads) == [(numba.types.int64,)]
    assert not _root.overloads, "nothing was compiled for it alone"


def test_what_was_compiled_into_another_can_be_called_alone():
    total(3)
    assert _root(9.0) == 3.0
    assert _pair(2)[1] == 2


def test_an_error_in_what_is_called_comes_through():
    @kernel
    def outer(x):
        return _root(x) + 1

    assert outer(4.0) == 3.0
    with pytest.raises(ValueError, match="no root of less than nothing"):
        outer(-4.0)


def test_functions_of_others_are_compiled_as_ever():
    @numba.njit
    def theirs(n):
        return np.empty(n).size + total(n)

    assert theirs(5) == pytest.approx(5 + total.py_func(5))


def test_from_the_cache_it_is_the_same(tmp_path: Path):
    code = (
        "from tests.test_callees import total; print(total(20), len(total.stats.cache_hits));"
        "import pytest; from tests.test_callees import _root\n"
        "with pytest.raises(ValueError, match='no root'): _root(-1)"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    command = [sys.executable, "-c", code]
    ran = [
        subprocess.run(
            command,
            env=environment,
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert [float(value) for value, _ in ran] == [pytest.approx(total.py_func(20))] * 2
    assert [hits for _, hits in ran] == ["0", "1"]
