"""Every specimen: what ``tunnels`` and ``correlate`` say of it is what its generator wrote."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.table import DAMAGED, ORDINARY, VPNS, corpus, faults, outcome


@pytest.mark.parametrize("specimen", corpus(), ids=lambda s: s.name)
def test_what_is_said_is_what_was_written(specimen, tmp_path):
    assert list(faults(specimen, outcome(specimen, tmp_path))) == []


def test_the_corpus_is_as_wide_as_it_claims():
    names = [s.name for s in corpus()]
    assert len(names) == len(set(names)) >= 140
    assert sum(1 for module in VPNS for _ in module.specimens()) >= 70
    assert sum(1 for module in ORDINARY for _ in module.specimens()) >= 45
    assert sum(1 for module in DAMAGED for _ in module.specimens()) >= 20


def _digest() -> str:
    files = b"".join(hashlib.sha256(s.ingress + (s.egress or b"")).digest() for s in corpus())
    return hashlib.sha256(files).hexdigest()


def test_another_process_writes_the_same_bytes():
    other = subprocess.run(
        [sys.executable, "-c", "from tests.corpus.test_corpus import _digest; print(_digest())"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == _digest()
