"""How the WireGuard driver knows that a program that is just beginning can be asked."""

from __future__ import annotations

import socket
import subprocess

import pytest

from vpnforensics.groundtruth.lab.drivers.wireguard import listening


@pytest.mark.needs("wireguard")
def test_a_socket_that_is_bound_but_does_not_listen_yet_is_left_alone(tmp_path):
    command = listening("vpnf-begins")

    def listens() -> bool:
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    assert not listens()
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(str(tmp_path / "vpnf-begins.sock"))
        assert not listens()
        assert (tmp_path / "vpnf-begins.sock").exists()
        program.listen()
        assert listens()
