"""Padding to one size does not hide the clocks: how many packets go by at a moment is on either side."""

from __future__ import annotations

from pathlib import Path

import pytest

import vpnforensics as vf
from tests.truth import OFFSET_S, Recording, degrade, load, tally, without_client
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    snapped, padded = Capture(snaplen=96), Countermeasures(pad_mtu=True)
    spec = mixed_case(
        8, 30, duration_s=40.0, scale=0.5, ingress=snapped, egress=snapped, countermeasures=padded
    )
    folder: Path = tmp_path_factory.mktemp("padded")
    simulate(spec, folder, 5)
    return load(folder)


@pytest.mark.parametrize("missing", [False, True])
def test_unknown_clocks_of_padded_tunnels_are_found_and_flows_linked(
    recording: Recording, missing: bool
) -> None:
    case = degrade(recording, jitter_s=1e-3, seed=1)
    if missing:
        case = without_client(case, min(flow["client"] for flow in recording.truth["flows"]))
    found = vf.correlate(case.ingress, case.egress)
    assert found.alignment.status == "aligned"
    low_ns, high_ns = found.alignment.offset_interval_ns
    assert low_ns <= OFFSET_S * 1e9 <= high_ns
    assert high_ns - low_ns < 5e6
    assert abs(found.alignment.drift_ppm - 40.0) < 15.0
    count = tally(case, found, offset_s=OFFSET_S)
    assert count.wrong == 0
    assert missing or count.long_linked > 0.5 * count.long


def test_captures_of_other_padded_tunnels_are_not_aligned(recording: Recording, tmp_path: Path) -> None:
    snapped, padded = Capture(snaplen=96), Countermeasures(pad_mtu=True)
    simulate(
        mixed_case(
            8, 30, duration_s=40.0, scale=0.5, ingress=snapped, egress=snapped, countermeasures=padded
        ),
        tmp_path,
        6,
    )
    found = vf.correlate(recording.ingress, load(tmp_path).egress)
    assert not found.alignment.usable
    assert not (found.links["verdict"] == "linked").any()
