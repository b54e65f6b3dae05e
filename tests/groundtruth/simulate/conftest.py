"""Simulated cases, each made once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from vpnforensics.groundtruth.simulate import SimulationSpec, simulate

from .cases import Case, small


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Case]:
    """Simulate a case, once for equal arguments."""
    made: dict[tuple[str, int], Case] = {}

    def build(spec: SimulationSpec | None = None, seed: int = 7) -> Case:
        spec = spec or small()
        key = repr(spec), seed
        if key not in made:
            folder = tmp_path_factory.mktemp("case")
            made[key] = Case(folder, spec, simulate(spec, folder, seed))
        return made[key]

    return build
