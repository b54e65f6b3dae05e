"""Options of a case: plain values whatever they were given as, and nothing that the result could not say."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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


def test_one_engine_needs_no_list() -> None:
    sample = samples.load("wireguard")
    case = vf.correlate(sample.ingress, sample.egress, engines="packets")
    assert case.tool["parameters"]["engines"] == ["packets"]


@pytest.mark.parametrize(
    ("options", "saying"),
    [
        ({"engines": "packet"}, r"engines are some of packets, .*; not 'packet'"),
        ({"engines": ()}, "engines are some of .*; not none"),
        ({"engines": [1]}, "engines are some of .*; not 1"),
        ({"expected_false_links": "0.1"}, "expected_false_links is a number, not '0.1'"),
        ({"expected_false_links": -1}, "expected_false_links is a positive number, not -1"),
        ({"same_clock": "no"}, "same_clock is True or False, not 'no'"),
    ],
)
def test_wrong_options_are_told(options: dict[str, Any], saying: str) -> None:
    with pytest.raises((TypeError, ValueError), match=saying):
        vf.correlate("in.pcap", "out.pcap", **options)


@pytest.mark.parametrize("given", [None, 7, pd.DataFrame({"ts_ns": [1]}), b"bytes", [pd.DataFrame()]])
def test_what_is_no_capture_is_told(given: Any) -> None:
    with pytest.raises(TypeError, match="a capture is a path, an open binary file, a list of them"):
        vf.correlate(given, "out.pcap")


def test_open_files_and_lists_are_captures() -> None:
    sample = samples.load("wireguard")
    named = vf.correlate(sample.ingress, sample.egress)
    opened = vf.correlate(io.BytesIO(sample.ingress.read_bytes()), [sample.egress])
    assert opened.links.equals(named.links)
    assert opened.inputs[0]["path"] == "(an open file)"
    assert opened.inputs[0]["sha256"] == named.inputs[0]["sha256"]
    assert opened.inputs[1] == named.inputs[1]
    with sample.ingress.open("rb") as file:
        table = vf.read_capture(file)
        assert not file.closed
    assert len(table) == named.inputs[0]["packets"]


def test_several_captures_have_names() -> None:
    sample = samples.load("wireguard")
    with pytest.raises(vf.CaptureError, match="an open file is a capture of its own"):
        vf.read_capture([sample.ingress, io.BytesIO(b"")])
    with pytest.raises(vf.CaptureError, match="standard input is a capture of its own"):
        vf.read_capture([sample.ingress, "-"])
    with pytest.raises(ValueError, match="an empty list names no capture"):
        vf.read_capture([])
    twice = vf.read_capture([sample.ingress, sample.ingress])
    assert len(twice) == len(vf.read_capture(sample.ingress))
