"""What the WireGuard driver asks a program that is just beginning."""

from __future__ import annotations

import socket

from vpnforensics.groundtruth.lab.drivers import wireguard


def test_a_socket_that_is_bound_but_does_not_listen_yet_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(wireguard, "_SOCKETS", tmp_path)
    assert not wireguard.listens("wg0")
    with socket.socket(socket.AF_UNIX) as program:
        program.bind(str(tmp_path / "wg0.sock"))
        assert not wireguard.listens("wg0")
        assert (tmp_path / "wg0.sock").exists()
        program.listen()
        assert wireguard.listens("wg0")
