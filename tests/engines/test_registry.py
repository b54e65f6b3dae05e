"""Every engine of header fields by the one road that they are asked on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vpnforensics.align.alignment import Alignment
from vpnforensics.engines.registry import ENGINES, Engine


@pytest.mark.parametrize("engine", [e for e in ENGINES.values() if e.of_fields], ids=lambda e: e.name)
def test_without_an_alignment_no_engine_is_asked(engine: Engine) -> None:
    blind = SimpleNamespace(alignment=Alignment("not_identifiable", reason="made up"), flows=range(7))
    said = engine.score(blind)  # type: ignore[arg-type]
    assert said.engine == engine.name
    assert (len(said), said.silence) == (0, {"the two clocks cannot be aligned": 7})
