"""Scenario files, simulated."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth import scenario
from vpnforensics.groundtruth.simulate.from_scenario import simulate_scenario, specification

from .cases import read

TEXT = """
name: office
duration_s: 20
seed: 4
vpn: {kind: openvpn-udp, port: 1195}
clients:
  - {count: 2, traffic: [browse, dns], flows: 9}
  - name: home
    devices:
      - {name: laptop, traffic: [browse], stack: {personality: windows}}
      - {name: phone, traffic: [dns], stack: {personality: linux-legacy, clock_ppm: 50}}
server: {delay_median_ms: 0.2, delay_p99_ms: 4, delay_max_ms: 60}
nat: {ports: random}
capture:
  egress: {snaplen: 96, clock_offset_s: 7.5, clock_drift_ppm: 12, loss: 0.01, precision: us}
"""


def loaded(**replaced):
    text = TEXT
    for old, new in replaced.values():
        assert old in text
        text = text.replace(old, new)
    return scenario.loads(text)


def test_everything_in_the_scenario_arrives():
    spec = specification(loaded())
    assert (spec.duration_s, spec.protocol, spec.port) == (20, "openvpn-udp", 1195)
    assert [client.name for client in spec.clients] == ["client-1", "client-2", "home"]
    assert sum(activity.flows or 0 for activity in spec.clients[0].traffic) == 9
    laptop, phone = spec.clients[2].devices
    assert (laptop.name, laptop.stack.ttl, laptop.stack.clock.kind) == ("home-laptop", 128, "none")
    assert (phone.stack.clock.kind, phone.stack.clock.skew_ppm) == ("global", 50)
    assert spec.clients[2].outer is not None
    assert spec.clients[0].outer is None
    assert spec.server.random_ports
    egress = spec.egress
    assert (egress.snaplen, egress.offset_s, egress.drift_ppm, egress.loss) == (96, 7.5, 12, 0.01)
    assert (egress.resolution_ns, spec.ingress.snaplen) == (1000, 65535)


def test_a_scenario_runs_and_repeats(tmp_path):
    truth = simulate_scenario(loaded(), tmp_path / "a")
    simulate_scenario(loaded(), tmp_path / "b")
    simulate_scenario(loaded(), tmp_path / "c", seed=5)
    content = [(tmp_path / name / "ingress.pcap").read_bytes() for name in "abc"]
    assert content[0] == content[1] != content[2]
    assert {flow.device for flow in truth.flows} == {"client-1", "client-2", "home-laptop", "home-phone"}
    assert {tunnel.server for tunnel in truth.tunnels} == {"192.0.2.1:1195"}
    assert truth.alignment.offset_ns == 7_500_000_000
    assert all(packet.captured <= 96 for packet in read(tmp_path / "a" / "egress.pcap")[:0])


def test_inner_captures_and_ip_versions_are_taken_from_it(tmp_path):
    text = loaded(
        change=("capture:", "capture:\n  inner: true"), ip=("port: 1195", "outer_ip: 6, inner_ip: 4")
    )
    spec = specification(text)
    assert (spec.inner, spec.ip.outer, spec.ip.inner) == (True, 6, 4)
    truth = simulate_scenario(text, tmp_path)
    assert {path.name for path in tmp_path.glob("inner-*")} == {
        "inner-client-1.pcap",
        "inner-client-2.pcap",
        "inner-home.pcap",
    }
    assert all(tunnel.client.startswith("[2001:db8::") for tunnel in truth.tunnels)
    assert all(flow.src.startswith("203.0.113.1:") for flow in truth.flows)


def test_delay_law_passes_through_the_points_asked_for():
    from vpnforensics.groundtruth.simulate.population import server_law
    from vpnforensics.groundtruth.simulate.spec import Countermeasures

    server = specification(loaded()).server
    law = server_law(server, Countermeasures(), 3_000_000_000_000, np.random.default_rng(1))
    at = np.random.default_rng(2).integers(0, 3_000_000_000_000, 200_000)
    stall = np.searchsorted(law.stall_start_ns, at, side="right") - 1
    wait_ms = np.where(stall >= 0, np.maximum(law.stall_end_ns[stall] - at, 0), 0) / 1e6
    assert 2.8 < np.quantile(wait_ms, 0.99) < 5.5
    assert wait_ms.max() <= 60
    assert law.service_ns == pytest.approx(170_000)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kind: openvpn-udp, port: 1195", "kind: ssh-socks", "dns cannot use a proxy"),
        ("kind: openvpn-udp, port: 1195", "kind: shadowsocks", "dns cannot use a proxy"),
    ],
)
def test_what_no_relay_can_carry_is_refused(tmp_path, old, new, said):
    with pytest.raises(ScenarioError, match=said):
        simulate_scenario(loaded(change=(old, new)), tmp_path / "x")
    assert not (tmp_path / "x").exists()
