"""Options of a case: plain values whatever they were given as, and nothing that the result could not say."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpnforensics as vf
from vpnforensics import samples
from vpnforensics.options import Options


def test_numbers_of_numpy_become_plain_values() -> None:
    given = Options(np.float32(0.25), np.int64(3), np.bool_(True))  # type: ignore[arg-type]
    assert json.dumps(asdict(given)) == json.dumps(asdict(Options(0.25, 3, True)))


@pytest.mark.parametrize("seed", [None, -1, 1.5, "3"])
def test_a_seed_is_a_whole_number(seed: Any) -> None:
    with pytest.raises(ValueError, match="seed is a whole number"):
        Options(seed=seed)


def test_one_capture_under_two_names_serves_as_both_sides(tmp_path: Path) -> None:
    capture = samples.load("sll2").ingress
    copy = tmp_path / "copy.pcap"
    copy.write_bytes(capture.read_bytes())
    named = [vf.correlate(capture), vf.correlate(capture, copy)]
    read = vf.correlate(vf.read_capture(capture), vf.read_capture(copy))
    for case in (*named, read):
        assert case.alignment.reason == "both sides come from one capture"
        assert case.links["tunnel"].tolist() == named[0].links["tunnel"].tolist()
