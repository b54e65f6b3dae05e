"""Linked flows read together, in the result and in its report."""

import json
from pathlib import Path

import pytest

import vpnforensics as vf
from vpnforensics.report.contract import contract_of
from vpnforensics.report.html.data import report_data

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="module")
def windows():
    folder = SAMPLES / "windows-global-ip-id"
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


@pytest.fixture(scope="module")
def two_devices():
    folder = SAMPLES / "two-devices"
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def test_a_global_counter_spread_over_flows_and_outer_packets_is_put_together(windows):
    contract = windows.to_dict()
    first, second, third = (tunnel["inner"] for tunnel in contract["tunnels"])
    for tunnel, pools in zip(contract["tunnels"], (first, second), strict=False):
        (pool,) = pools  # devices would only part one host
        ids = pool["ip_id"]
        assert pool["device"] is None
        assert (ids["class"], ids["scope"], ids["with_outer"]) == ("global", "host", True)
        assert ids["flows"] == pool["flows"] == int((windows.links["tunnel"] == tunnel["id"]).sum())
        assert tunnel["ip_id"]["missing"] > 700, "outer packets alone skip what the inner ones took"
        assert ids["missing"] <= 2
    assert not third[0]["ip_id"]["with_outer"]


def test_a_flow_that_counts_with_others_has_their_class(windows):
    linked = windows.links["tunnel"].isin(["t1", "t2"])
    mine = windows.flows[linked.to_numpy()]
    known = mine[mine["ip_id_class"].notna()]
    assert len(known) > 50
    assert set(known["ip_id_class"]) == {"global"}
    assert known["ip_id_missing"].isna().all(), "what a flow alone skips is not missing"


def test_devices_of_a_tunnel_have_rows_of_their_own(two_devices):
    pools = two_devices.to_dict()["tunnels"][0]["inner"]
    assert [pool["device"] for pool in pools] == [None, "d1"]
    clock = pools[1]["clock"]
    assert clock["flows"] == pools[1]["flows"] == int((two_devices.flows["device"] == "d1").sum())
    assert (clock["hz"], clock["scope"]) == (1000.0, "global")


def test_pools_last_as_long_as_the_result(windows, tmp_path):
    path = tmp_path / "case.json"
    path.write_text(windows.to_json())
    contract_of(path.read_text(), "case.json")
    again = vf.open_case(path)
    assert again.to_dict()["tunnels"] == windows.to_dict()["tunnels"]
    older = json.loads(path.read_text())
    for tunnel in older["tunnels"]:
        del tunnel["inner"]
    path.write_text(json.dumps(older))
    assert [tunnel["inner"] for tunnel in vf.open_case(path).to_dict()["tunnels"]] == [[], [], []]


def test_the_report_has_them(two_devices):
    tunnel = report_data(two_devices)["tunnels"][0]
    assert [pool["device"] for pool in tunnel["inner"]] == [None, "d1"]


def test_without_the_engines_nothing_is_pooled():
    folder = SAMPLES / "windows-global-ip-id"
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", engines="packets")
    assert [tunnel["inner"] for tunnel in case.to_dict()["tunnels"]] == [[], [], []]
