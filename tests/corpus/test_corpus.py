"""Every specimen: what ``tunnels`` and ``correlate`` say of it is what its generator wrote."""

from __future__ import annotations

import hashlib

import pytest

from tests.corpus.known_wrong import KNOWN_WRONG
from tests.corpus.specimen import Specimen
from tests.corpus.table import DAMAGED, ORDINARY, VPNS, corpus, faults, outcome


def _marked(specimen: Specimen) -> object:
    marks = [pytest.mark.xfail(reason=KNOWN_WRONG[specimen.name])] if specimen.name in KNOWN_WRONG else []
    return pytest.param(specimen, id=specimen.name, marks=marks)


@pytest.mark.parametrize("specimen", [_marked(s) for s in corpus()])
def test_what_is_said_is_what_was_written(specimen, tmp_path):
    assert list(faults(specimen, outcome(specimen, tmp_path))) == []


def test_the_corpus_is_as_wide_as_it_claims():
    names = [s.name for s in corpus()]
    assert len(names) == len(set(names)) >= 140
    assert sum(1 for module in VPNS for _ in module.specimens()) >= 70
    assert sum(1 for module in ORDINARY for _ in module.specimens()) >= 45
    assert sum(1 for module in DAMAGED for _ in module.specimens()) >= 20
    assert set(KNOWN_WRONG) <= set(names)


def test_the_same_code_writes_the_same_bytes():
    def digests():
        return {s.name: hashlib.sha256(s.ingress + (s.egress or b"")).hexdigest() for s in corpus()}

    before = digests()
    corpus.cache_clear()
    assert digests() == before
