import json
import os
import re
import sys
from pathlib import Path

import pytest

from vpnforensics import kernel_files
from vpnforensics.errors import TunnelError
from vpnforensics.logs.read import read_logs
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Connected, Disconnected, Moved
from vpnforensics.reftunnel.usage import UsageLog

from .netlab import CLIENT_INNER, cable, two_configs, without_address
from .pair import UP, make_pair


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_connect_roam_and_disconnect_are_written(tmp_path):
    wire, client, server = make_pair()
    usage = UsageLog(tmp_path / "usage.jsonl")
    wire.send(client, UP)
    peer = server.only_peer
    usage.note(Connected(peer, False), 1000)
    usage.note(Connected(peer, True), 2000)
    new = Endpoint("198.51.100.7", 1)
    old, peer.endpoint = peer.endpoint, new
    usage.note(Moved(peer, old, new), 3000)
    peer.traffic.received_bytes += 500
    usage.note(Disconnected(peer), 4000)
    usage.note(Disconnected(peer), 5000)
    usage.note(Moved(peer, old, new), 6000)
    usage.note(Connected(peer, False), 7000)
    usage.close(8000)
    rows = entries(tmp_path / "usage.jsonl")
    assert [(row["event"], row["ts_ns"]) for row in rows] == [
        *(("connect", 1000), ("roam", 3000), ("disconnect", 4000), ("connect", 7000), ("disconnect", 8000))
    ]
    assert rows[0]["peer"] == str(client.device.private_key.public)
    assert rows[0]["endpoint"] == "192.0.2.2:40000"
    assert rows[0]["addresses"] == ["10.0.0.2/32", "fd00::2/128"]
    assert (rows[1]["old_endpoint"], rows[1]["endpoint"]) == ("192.0.2.2:40000", "198.51.100.7:1")
    assert (rows[2]["received_bytes"], rows[2]["since_ns"]) == (500, 1000)


def test_a_peer_that_moves_all_the_time_is_told_of_every_ten_seconds(tmp_path):
    wire, client, server = make_pair()
    usage = UsageLog(tmp_path / "usage.jsonl")
    wire.send(client, UP)
    peer = server.only_peer
    usage.note(Connected(peer, False), 0)
    places = [Endpoint("198.51.100.7", port) for port in (1, 2)]
    for move in range(1000):  # 20 s
        old, peer.endpoint = peer.endpoint, places[move % 2]
        usage.note(Moved(peer, old, peer.endpoint), move * 20_000_000)
    usage.tick(40_000_000_000)
    usage.tick(60_000_000_000)
    usage.close(70_000_000_000)
    roams = [row for row in entries(tmp_path / "usage.jsonl") if row["event"] == "roam"]
    assert [(row["moves"], row["ts_ns"] // 10**9) for row in roams] == [(1, 0), (500, 10), (499, 40)]
    assert roams[1]["old_endpoint"] == "198.51.100.7:1"


def test_moves_that_wait_are_told_before_the_end(tmp_path):
    wire, client, server = make_pair()
    usage = UsageLog(tmp_path / "usage.jsonl")
    wire.send(client, UP)
    peer = server.only_peer
    usage.note(Connected(peer, False), 0)
    for port in (1, 2):
        old, peer.endpoint = peer.endpoint, Endpoint("198.51.100.7", port)
        usage.note(Moved(peer, old, peer.endpoint), port)
    usage.close(3)
    rows = entries(tmp_path / "usage.jsonl")
    assert [row["event"] for row in rows] == ["connect", "roam", "roam", "disconnect"]
    assert (rows[2]["old_endpoint"], rows[2]["endpoint"]) == ("198.51.100.7:1", "198.51.100.7:2")


def test_a_disk_that_takes_nothing_is_counted_and_lines_stay_whole(tmp_path, monkeypatch):
    wire, client, server = make_pair()
    usage = UsageLog(tmp_path / "usage.jsonl")
    wire.send(client, UP)
    peer = server.only_peer
    real, left = os.write, [30]

    def small(fd, data):
        part = data[: left[0]]
        left[0] -= len(part)
        if not part:
            raise OSError(28, "No space left on device")
        return real(fd, part)

    monkeypatch.setattr("vpnforensics.reftunnel.usage.os.write", small)
    usage.note(Connected(peer, False), 1)
    usage.note(Disconnected(peer), 2)
    assert usage.lost_lines == 2
    left[0] = 10_000
    usage.note(Connected(peer, False), 3)
    usage.close(4)
    lines = (tmp_path / "usage.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert [json.loads(line)["event"] for line in lines[1:]] == ["connect", "disconnect"]
    assert usage.lost_lines == 2


def test_the_log_is_read_as_sessions(tmp_path):
    wire, client, server = make_pair()
    path = tmp_path / "usage.jsonl"
    usage = UsageLog(path)
    wire.send(client, UP)
    peer = server.only_peer
    usage.note(Connected(peer, False), 1000)
    new = Endpoint("198.51.100.7", 1)
    old, peer.endpoint = peer.endpoint, new
    usage.note(Moved(peer, old, new), 3000)
    peer.traffic.received_bytes += 500
    usage.note(Disconnected(peer), 4000)
    usage.note(Connected(peer, False), 7000)
    usage.close(8000)
    first, second = read_logs([path]).sessions
    assert (first.user, first.endpoint) == (str(client.device.private_key.public), "192.0.2.2:40000")
    assert (first.moved_to, first.assigned) == (("198.51.100.7:1",), ("10.0.0.2", "fd00::2"))
    assert (first.begin_ns, first.end_ns, first.received_bytes, first.sent_bytes) == (1000, 4000, 500, 0)
    assert (second.endpoint, second.begin_ns, second.end_ns) == ("198.51.100.7:1", 7000, 8000)


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(TunnelError, match="usage log"):
        UsageLog(tmp_path / "no" / "usage.jsonl")


# Every file that Python opens for writing, as the interpreter itself reports it (PEP 578).
AUDITED = """
import os, runpy, sys
log = os.open(sys.argv.pop(1), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def hook(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else 0
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            os.write(log, f"{path}\\n".encode())
sys.addaudithook(hook)
runpy.run_module("vpnforensics.reftunnel", run_name="__main__")
"""


@pytest.mark.needs("wireguard")
def test_with_the_log_off_nothing_about_a_peer_reaches_a_disk(netlab, tmp_path):
    """Off, by default: the process opens no file to write, and holds none open, while peers come and go."""
    cable(netlab)
    client, server, client_key, _ = two_configs()
    config = netlab.write("s", server)
    opened = tmp_path / "opened"
    tunnel = netlab.start("s", sys.executable, "-c", AUDITED, str(opened), "up", str(config), "-f")
    netlab.wait(lambda: netlab.show("s"))
    netlab.theirs("c", without_address(client), CLIENT_INNER)
    assert netlab.ping("c", "10.77.0.1") == 3
    folder = Path(f"/proc/{tunnel.pid}/fd")
    held = {str(fd.readlink()) for fd in folder.iterdir()}
    files = {path for path in held if path.startswith("/") and not re.match(r"/dev/(null|net/tun)$", path)}
    assert files == {str(opened)}
    assert netlab.end(tunnel) == 0
    written = {
        path for path in opened.read_text().splitlines() if not path.startswith(("/dev/", "/proc/sys/"))
    }
    # Compiled code, of this package's own, may be cached; it knows no peer. A number is a file opened before.
    kept = tuple(map(str, kernel_files.places()))
    others = {path for path in written if "__pycache__" not in path and not path.startswith(kept)}
    assert {path for path in others if not path.isdigit()} == set()
    for path in tmp_path.rglob("*"):
        if path != config and path.is_file() and path.suffix != ".conf":
            content = path.read_text(errors="replace")
            assert str(client_key.public) not in content
            assert "192.0.2.2" not in content


@pytest.mark.needs("wireguard")
def test_with_the_log_on_a_connection_is_written(netlab, tmp_path):
    cable(netlab)
    client, server, client_key, _ = two_configs()
    path = tmp_path / "usage.jsonl"
    tunnel = netlab.ours("s", server.replace("[Interface]", f"[Interface]\nUsageLog = {path}"))
    netlab.ours("c", client)
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.end(tunnel)
    connect, disconnect = entries(path)
    assert (connect["event"], disconnect["event"]) == ("connect", "disconnect")
    assert connect["peer"] == str(client_key.public)
    assert connect["endpoint"].startswith("192.0.2.2:")
    assert disconnect["received_bytes"] > 200
