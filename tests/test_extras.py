from __future__ import annotations

import os
import re
import shlex
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path

import pytest

from vpnforensics import extras
from vpnforensics.extras import EXTRAS, how_to_get

METADATA = [
    "numpy<3,>=2.0",
    "pyarrow>=17; extra == 'parquet'",
    "matplotlib<4,>=3.9; extra == 'plot'",
    "cryptography<60,>=50; extra == 'tunnel'",
    "PyNaCl<2,>=1.5; extra == 'tunnel'",
    "vpnforensics[parquet]; extra == 'tunnel'",
    "pyroute2<1,>=0.7.12; extra == 'lab'",
    "vpnforensics[plot,parquet]; extra == 'notebooks'",
]


def test_the_line_names_what_the_extra_consists_of_and_this_python(monkeypatch):
    monkeypatch.setattr(extras, "requires", lambda name: METADATA)
    said, _, line = how_to_get("nacl").partition(": ")
    assert said == "this needs nacl, which is not installed"
    words = shlex.split(line)
    assert sys.executable in words
    assert words[-3:] == ["cryptography<60,>=50", "PyNaCl<2,>=1.5", "pyarrow>=17"]
    assert how_to_get("matplotlib").endswith("install 'matplotlib<4,>=3.9'")


@pytest.mark.parametrize("pip", [None, object()], ids=["uv's environment", "pip's"])
def test_the_installer_is_one_that_is_here(monkeypatch, pip):
    monkeypatch.setattr(extras, "find_spec", lambda name: pip)
    assert (": uv pip install --python " in how_to_get("pyarrow")) == (pip is None)


def test_sources_that_were_never_installed(monkeypatch):
    def gone(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(extras, "requires", gone)
    for module in EXTRAS:
        assert how_to_get(module).endswith(f"install {module}")


def test_a_build_machine_has_every_package_that_tests_are_skipped_without():
    """`dev` brings them all, so that there a test that was skipped is a mistake."""
    tests = "".join(path.read_text() for path in Path(__file__).parent.rglob("*.py"))
    named = set(re.findall(r'importorskip\("(\w+)', tests))
    assert {"jax", "zensical"} <= named
    missing = sorted(name for name in named if find_spec(name) is None)
    assert not missing or os.environ.get("CI") != "true"
