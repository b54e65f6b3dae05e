"""The command line: keys like `wg`'s, and a tunnel brought up, shown and taken down by a newcomer."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import threading
import time

import pytest
from click.testing import CliRunner

from vpnforensics.cli.tunnel import tunnel
from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel import control
from vpnforensics.reftunnel.control import socket_path
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey, PublicKey

from .netlab import REPOSITORY, cable, two_configs

COMMAND = (sys.executable, "-m", "vpnforensics.reftunnel")


def invoke(*arguments, stdin=None):
    return CliRunner().invoke(tunnel, arguments, input=stdin)


def test_keys():
    private = invoke("genkey").output
    public = invoke("pubkey", stdin=private).output.strip()
    assert PrivateKey.from_text(private).public == PublicKey.from_text(public)
    assert PresharedKey.from_text(invoke("genpsk").output)
    wrong = invoke("pubkey", stdin=private[:-5])
    assert wrong.exit_code == 1
    assert private[:10] not in wrong.output


def test_a_readable_key_file_is_refused(tmp_path):
    path = tmp_path / "wg0.conf"
    path.write_text(f"[Interface]\nPrivateKey = {PrivateKey.generate().to_text()}\n")
    path.chmod(0o644)
    result = invoke("up", str(path), "--foreground")
    assert result.exit_code == 1
    assert "chmod 600" in result.output


def test_no_such_tunnel():
    for command in (("down", "nosuchtunnel"), ("show", "nosuchtunnel")):
        result = invoke(*command)
        assert result.exit_code == 1
        assert "nosuchtunnel" in result.output


@pytest.mark.needs("wireguard")
def test_wg_makes_the_same_public_key():
    key = PrivateKey.generate()
    out = subprocess.run(
        ["wg", "pubkey"], input=key.to_text(), capture_output=True, text=True, check=True, timeout=5
    )
    assert out.stdout.strip() == str(key.public)


@pytest.mark.needs("wireguard")
def test_up_show_and_down_in_the_background(netlab, tmp_path):
    cable(netlab)
    client, server, _, _ = two_configs()
    server = server.replace("[Interface]", "[Interface]\nPostUp = touch /tmp/never\nDNS = 1.1.1.1")
    files = {"s": netlab.write("s", server), "c": netlab.write("c", client)}
    log = tmp_path / "log"
    netlab.run("s", *COMMAND, "up", str(files["s"]), "--log", str(log))
    try:
        netlab.run("c", *COMMAND, "up", str(files["c"]))
        assert netlab.ping("c", "10.77.0.1") == 3
        shown = netlab.run("c", *COMMAND, "show", netlab.interface("c"))
        assert "latest handshake:" in shown
        assert "transfer:" in shown
        assert netlab.interface("s") in netlab.run("c", *COMMAND, "show")
        again = subprocess.run(
            [*COMMAND, "up", str(files["s"])],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert again.returncode == 1
        assert "is up already" in again.stderr
    finally:
        for name in "cs":
            netlab.run(name, *COMMAND, "down", str(files[name]), check=False)
    for name in "cs":
        assert netlab.interface(name) not in netlab.ip(name, "-br", "link")
        assert not socket_path(netlab.interface(name)).exists()
    assert "postup is a shell command and is not run" in log.read_text()
    for name in "cs":
        for line in files[name].read_text().splitlines():
            if line.startswith("PrivateKey"):
                assert line.split(" = ")[1] not in log.read_text()


@pytest.mark.parametrize("answer", [b"", b"{"])
def test_a_tunnel_that_dies_while_it_answers_is_a_clear_error(tmp_path, monkeypatch, answer):
    monkeypatch.setattr(control, "FOLDER", tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(control.socket_path("wg0")))
        listener.listen()

        def answer_and_die() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(64)
                client.sendall(answer)

        thread = threading.Thread(target=answer_and_die)
        thread.start()
        with pytest.raises(TunnelError, match="no answer"):
            control.ask("wg0", "show")
        thread.join()
    with pytest.raises(TunnelError, match="is up"):
        control.ask("wg0", "show")


def test_show_of_all_leaves_out_what_a_killed_tunnel_left(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "FOLDER", tmp_path / "none yet")
    assert invoke("show", "--json").output == "[]\n"
    monkeypatch.setattr(control, "FOLDER", tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(control.socket_path("wg0")))
    up = control.ControlSocket("wg1")

    def answer() -> None:
        while up.serve({"show": lambda _: {"name": "wg1"}}) != "show":
            time.sleep(0.01)

    thread = threading.Thread(target=answer)
    thread.start()
    shown = invoke("show", "--json")
    thread.join()
    up.close()
    assert shown.output == '[{"name": "wg1"}]\n'
    assert invoke("show", "wg0").exit_code == 1


def test_show_of_all_says_which_tunnel_is_up_and_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "FOLDER", tmp_path)
    monkeypatch.setattr(control, "_TIMEOUT_S", 0.1)
    up = control.ControlSocket("wg1")
    result = invoke("show")
    up.close()
    assert result.exit_code == 1
    assert "wg1 gave no answer" in result.output


def test_show_of_all_without_the_right_to_look_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "FOLDER", tmp_path / "a file")
    control.FOLDER.touch()
    result = invoke("show")
    assert result.exit_code == 1
    assert "cannot read" in result.output


def test_a_socket_left_by_a_killed_tunnel_is_replaced_and_one_in_use_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "FOLDER", tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(control.socket_path("wg0")))
    first = control.ControlSocket("wg0")
    with pytest.raises(TunnelError, match="is up already"):
        control.ControlSocket("wg0")
    first.close()
    with pytest.raises(TunnelError, match="cannot make"):
        control.ControlSocket("x" * 200)


def test_a_request_that_comes_drop_by_drop_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "FOLDER", tmp_path)
    up, done = control.ControlSocket("wg0"), threading.Event()

    def drip() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(str(control.socket_path("wg0")))
            with contextlib.suppress(OSError):
                while not done.is_set():
                    sock.send(b"s")
                    time.sleep(0.02)

    thread = threading.Thread(target=drip)
    thread.start()
    while not select.select([up], [], [], 0)[0]:
        time.sleep(0.01)
    start = time.monotonic()
    assert up.serve({}) == ""
    assert time.monotonic() - start < 2
    done.set()
    thread.join()
    up.close()


@pytest.mark.needs("wireguard")
def test_what_cannot_come_up_says_why(netlab, tmp_path):
    cable(netlab)
    _, server, _, _ = two_configs()
    path = netlab.write(
        "s", server.replace("ListenPort = 51820", "ListenPort = 51821\nJournal = /no/such/folder/j")
    )
    result = subprocess.run(
        ["ip", "netns", "exec", netlab.ns("s"), *COMMAND, "up", str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 1
    assert "journal" in result.stderr
    assert "Traceback" not in result.stderr
    assert not socket_path(netlab.interface("s")).exists()
