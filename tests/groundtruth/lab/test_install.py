from __future__ import annotations

import os

import pytest

from vpnforensics.cli.main import main
from vpnforensics.groundtruth.lab import doctor as doctor_module
from vpnforensics.groundtruth.lab import install as install_module
from vpnforensics.groundtruth.lab.install import install


class Debian:
    """A machine whose apt-get brings a package's programs, all but those of one that it does not have."""

    def __init__(self, monkeypatch, tmp_path, absent: str = ""):
        self.absent, self.installed, self.asked = absent, set(), []
        monkeypatch.setattr(install_module, "_POLICY", tmp_path / "policy-rc.d")
        monkeypatch.setattr(install_module, "_apt", self.apt)
        monkeypatch.setattr(install_module, "doctor", self.doctor)
        monkeypatch.setattr(install_module.shutil, "which", lambda program: "/usr/bin/apt-get")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        self.policy = tmp_path / "policy-rc.d"

    def doctor(self):
        lacking = {"openvpn": ("openvpn",), "tshark": ("tshark",)}
        left = {p: m for p, m in lacking.items() if p not in self.installed}
        return [doctor_module.Finding(p, m, (p,)) for p, m in left.items()]

    def apt(self, command):
        assert self.policy.exists(), "a service could be started"
        self.asked.append(command)
        packages = command[len(doctor_module.APT_INSTALL) :] if "install" in command else []
        if self.absent in packages:
            return f"E: Unable to locate package {self.absent}"
        self.installed.update(packages)
        return ""


def test_all_that_is_missing_is_installed_once_and_no_service_started(monkeypatch, tmp_path):
    machine, said = Debian(monkeypatch, tmp_path), []
    assert install(said.append) == ""
    assert machine.installed == {"openvpn", "tshark"}
    assert not machine.policy.exists()
    asked = len(machine.asked)
    assert install(said.append) == ""
    assert len(machine.asked) == asked
    assert said[-1] == "nothing is missing that a package could bring"


def test_a_package_that_is_nowhere_is_named_and_costs_no_other(monkeypatch, tmp_path, capsys):
    machine = Debian(monkeypatch, tmp_path, absent="tshark")
    assert main(["lab", "install", "-q"]) == 1
    assert machine.installed == {"openvpn"}
    err = capsys.readouterr().err
    assert "error: not installed: tshark: tshark (E: Unable to locate package tshark" in err


def test_a_rule_that_the_machine_has_stays(monkeypatch, tmp_path):
    machine = Debian(monkeypatch, tmp_path)
    machine.policy.write_text("its own")
    assert install(lambda line: None) == ""
    assert machine.policy.read_text() == "its own"


@pytest.mark.parametrize(("uid", "why"), [(1000, "not root"), (0, "no apt-get")])
def test_without_root_or_apt_it_is_skipped_visibly(monkeypatch, capsys, uid, why):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(doctor_module, "_installed", lambda program: program != "tshark")
    monkeypatch.setattr(doctor_module.uml, "unsupported", lambda: ())  # else it is started, found or not
    monkeypatch.setattr(
        install_module.shutil, "which", lambda program: None if uid == 0 else "/usr/bin/apt-get"
    )
    assert main(["lab", "install"]) == 0
    err = capsys.readouterr().err
    assert f"SKIPPED ({why})" in err
    assert "apt-get install -y --no-install-recommends tshark" in err
