"""Options of a case: plain values whatever they were given as, and nothing that the result could not say."""

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from vpnforensics.casework import Options


def test_numbers_of_numpy_become_plain_values() -> None:
    given = Options(np.float32(0.25), np.int64(3), np.bool_(True))  # type: ignore[arg-type]
    assert json.dumps(asdict(given)) == json.dumps(asdict(Options(0.25, 3, True)))


@pytest.mark.parametrize("seed", [None, -1, 1.5, "3"])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed is a whole number"):
        Options(seed=seed)
