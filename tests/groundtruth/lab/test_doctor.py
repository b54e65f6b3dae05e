from __future__ import annotations

import os
import sys

import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab import doctor as doctor_module
from vpnforensics.groundtruth.lab import run as run_module
from vpnforensics.groundtruth.lab import uml
from vpnforensics.groundtruth.lab.doctor import Finding, apt_line, doctor, refuse_impossible
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.scenario import loads, schema


@pytest.fixture
def able(monkeypatch):
    """A machine that has everything."""
    monkeypatch.setattr(doctor_module, "_installed", lambda program: True)
    monkeypatch.setattr(doctor_module, "doctor", lambda: [Finding(k) for k in ("root", "network", *DRIVERS)])


def scenario(kind: str = "wireguard", client: str = "{}", more: str = ""):
    return loads(f"vpn: {{kind: {kind}}}\nclients: [{client}]\n{more}")


def test_every_driver_is_in_the_format():
    assert set(DRIVERS) <= set(schema()["$defs"]["vpn"]["properties"]["kind"]["enum"])


def test_doctor_checks_every_driver():
    found = {f.what for f in doctor()}
    assert found >= {"linux", "root", "/dev/net/tun", "network", *DRIVERS}


@pytest.mark.parametrize("everything", [True, False], ids=["a full machine", "a bare one"])
def test_what_is_missing_comes_with_the_line_that_installs_it(monkeypatch, everything):
    lacking = ("wg", "nft", "curl")
    monkeypatch.setattr(doctor_module, "_installed", lambda program: everything and program not in lacking)
    findings = {f.what: f for f in doctor()}
    assert set(findings["network"].missing) >= {"nft", "curl"}
    assert "wg" in findings["wireguard"].missing
    line = apt_line(findings.values())
    assert line.startswith("apt-get install -y --no-install-recommends ")
    packages = set(line.split()[4:])
    assert packages >= {"curl", "nftables", "wireguard-go", "wireguard-tools"}
    assert ("openvpn" in packages) == ("tshark" in packages) == (not everything)
    assert apt_line([Finding("x")]) is None


def test_every_program_that_is_looked_for_has_its_package(monkeypatch):
    monkeypatch.setattr(doctor_module, "_installed", lambda program: program == sys.executable)
    for finding in doctor():
        if finding.what not in ("linux", "root", "/dev/net/tun") and not finding.well:
            assert finding.packages, finding.what


def test_no_root(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ScenarioError, match=r"^root: missing root rights$"):
        run_module.run(scenario(), tmp_path / "out")
    assert not (tmp_path / "out").exists(), "something was made before it was refused"


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("strongswan-kernel, port: 4500",), "strongswan-kernel sends bare ESP"),
        (("pptp, port: 1723",), "pptp sends bare GRE"),
        (("strongswan-kernel", "{host: uml, devices: [{}]}"), "has no devices behind it"),
        (("sstp",), "the lab has no driver for sstp"),
        (("wireguard", "{stack: {clock_ppm: 5}}"), "needs `host: uml`"),
        (("wireguard", "{stack: {timestamps: per_destination}}"), "scope per_destination"),
        (("wireguard", "{stack: {timestamp_hz: 100}}"), "1000 Hz"),
        (("wireguard", "{stack: {clock_wander_ppm: 1}}"), "wander"),
        (("wireguard", "{stack: {ip_id: byte_swapped}}"), "byte_swapped"),
        (("wireguard", "{flows: 5}"), "`flows` is for the simulator"),
        (("wireguard", "{count: 500}"), "more than the lab's"),
        (("wireguard", "{host: uml, stack: {personality: macos}}"), "cannot change its IP IDs"),
        (("wireguard", "{host: uml, stack: {clock_ppm: 900}}"), "at most 500 ppm"),
        (("wireguard", "{host: uml, devices: [{}]}"), "has no devices behind it"),
        (("socks", "{traffic: [dns]}"), "dns cannot use a proxy"),
        (("shadowsocks", "{traffic: [ping]}"), "ping cannot use a proxy"),
        (("shadowsocks", "{devices: [{traffic: [browse]}]}"), "no devices behind it"),
    ],
)
def test_what_the_lab_cannot_do_is_refused_by_name(arguments, says):
    with pytest.raises(ScenarioError, match=says.replace("(", r"\(")):
        refuse_impossible(scenario(*arguments))


@pytest.mark.usefixtures("able")
def test_countermeasures_are_the_reference_tunnels():
    asked = "{kind: KIND, countermeasures: {cover_pps: 5}}"
    refuse_impossible(loads(f"vpn: {asked.replace('KIND', 'reftunnel')}\nclients: [{{}}]\n"))
    with pytest.raises(ScenarioError, match="countermeasures"):
        refuse_impossible(loads(f"vpn: {asked.replace('KIND', 'tinc')}\nclients: [{{}}]\n"))


def test_modules_that_come_while_it_runs_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(uml, "_MODULE_TREE", tmp_path)
    assert uml.missing_modules(["esp4", "gre"]) == ("the module esp4", "the module gre")
    (tmp_path / "6.1").mkdir()
    (tmp_path / "6.1" / "modules.builtin").write_text("kernel/net/ipv4/gre.ko\n")
    (tmp_path / "6.1" / "modules.dep").write_text("kernel/net/ipv4/esp4.ko: kernel/net/xfrm.ko\n")
    assert uml.missing_modules(["esp4", "gre", "xfrm"]) == ("the module xfrm",)
