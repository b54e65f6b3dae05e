"""What is held against a flow of which the tunnels lack packets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vpnforensics as vf
from tests.truth import Recording, load, tally, without_client
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate

TOO_LONG_BYTES = 1600


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder: Path = tmp_path_factory.mktemp("case")
    simulate(mixed_case(tunnels=4, flows=25, protocol="openvpn-udp", duration_s=60.0, scale=0.05), folder, 7)
    return load(folder)


@pytest.fixture(scope="module")
def cut(recording: Recording) -> Recording:
    """The largest packets of the egress side reach it longer than any tunnel carries."""
    length = recording.egress.ip_len_bytes
    longest = np.where(length >= 1300, np.int32(TOO_LONG_BYTES), length).astype(length.dtype)
    assert 0.1 < np.mean(longest == TOO_LONG_BYTES) < 0.9
    return replace(recording, egress=replace(recording.egress, ip_len_bytes=longest))


def test_packets_too_long_for_any_tunnel_exclude_none(cut: Recording) -> None:
    case = vf.correlate(cut.ingress, cut.egress)
    found = tally(cut, case)
    assert found.wrong == 0
    assert found.long_share > 0.95
    assert (case.links["verdict"] != "no_tunnel").all()


def test_the_others_still_exclude(cut: Recording) -> None:
    client = cut.truth["flows"][0]["client"]
    rest = without_client(cut, client)
    case = vf.correlate(rest.ingress, rest.egress)
    own = {(flow["src"], flow["dst"]) for flow in cut.truth["flows"] if flow["client"] == client}
    gone = [(flow.src, flow.dst) in own for flow in case.flows.itertuples()]
    excluded = (case.links["verdict"] == "no_tunnel").to_numpy()
    long = (case.flows["packets"] >= 10).to_numpy()
    assert not excluded[~np.array(gone)].any()
    assert excluded[long & gone].mean() > 0.5
    assert tally(cut, case, only_client=client).wrong == 0
