from __future__ import annotations

import shlex
import sys
from importlib.metadata import PackageNotFoundError

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
