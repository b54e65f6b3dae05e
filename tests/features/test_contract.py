import numpy as np

from tests.engines import cases
from vpnforensics.features.contract import clock_dicts, ip_id_dicts
from vpnforensics.features.devices import find_devices
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture


def test_keys_of_the_contract(tmp_path):
    simulate(cases.devices_behind_one_tunnel("linux-legacy", 1, seconds=200.0, flows=12), tmp_path, 1)
    senders = find_senders(assemble_flows(read_capture(tmp_path / "egress.pcap")))
    devices = find_devices(senders)
    up = senders.up.tolist()
    clocks = [c for c in clock_dicts(senders, up, devices) if c]
    assert {tuple(c) for c in clocks} == {
        ("hz", "skew_ppm", "skew_interval_ppm", "offset_s", "phase_ticks", "scope")
    }
    assert {c["scope"] for c in clocks} == {"global"}
    ids = ip_id_dicts(senders, up)
    assert len(ids) == len(up)
    assert {tuple(i) for i in ids if i} == {("class", "scope", "increments", "missing")}
    assert any(i is None for i in ids), "short flows have no class"
    assert np.all([c["hz"] == 250.0 for c in clocks if c["skew_ppm"] is not None])
