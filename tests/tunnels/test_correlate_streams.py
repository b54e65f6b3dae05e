"""The main job on tunnels over TCP: several inner packets share a segment, and so one time."""

from __future__ import annotations

import dataclasses

import pytest

from tests.groundtruth.simulate.cases import small
from vpnforensics.correlation import correlate
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture


def outcome(folder, protocol, seed, **options):
    """Flows of 10 and more packets, how many of them were linked, and wrong links of any flow."""
    spec = dataclasses.replace(small(protocol, **options), duration_s=40.0)
    truth = simulate(spec, folder, seed)
    case = correlate(folder / "ingress.pcap", folder / "egress.pcap")
    client = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    known = {(f.src, f.dst, f.first_ns): f.client for f in truth.flows}
    endpoint = {t.name: t.client for t in truth.tunnels} if hasattr(truth.tunnels[0], "name") else {}
    long = linked = wrong = 0
    links = zip(case.flows.itertuples(), case.links["tunnel"], strict=True)
    for flow, tunnel in links:
        owner = known.get((flow.src, flow.dst, flow.first_ns))
        if owner is None:
            continue
        owner = endpoint.get(owner, owner)
        long += flow.packets >= 10
        linked += bool(flow.packets >= 10 and isinstance(tunnel, str) and client[tunnel] == owner)
        wrong += bool(isinstance(tunnel, str) and client[tunnel] != owner)
    return long, linked, wrong, case


@pytest.mark.parametrize("protocol", ["openvpn-tcp", "ocserv-tls", "sstp", "reftunnel-tcp"])
def test_long_flows_are_linked_and_none_wrongly(tmp_path, protocol):
    long, linked, wrong, case = outcome(tmp_path, protocol, 5)
    assert long >= 15
    assert linked >= 0.98 * long
    assert wrong == 0
    assert len(case.tunnels) == 3


def test_another_clock_and_a_snapped_ingress_link_nothing_wrongly(tmp_path):
    ingress = Capture(snaplen=96)
    egress = Capture(offset_s=71.3, drift_ppm=-25.0)
    long, linked, wrong, case = outcome(tmp_path, "openvpn-tcp", 6, ingress=ingress, egress=egress)
    assert case.alignment.offset_ns == pytest.approx(71.3e9, abs=5e6)
    assert linked >= 0.5 * long
    assert wrong == 0
    assert not (case.links["verdict"] == "no_tunnel").any()
