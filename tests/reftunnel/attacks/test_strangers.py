"""More connections than descriptors lock nobody out, and cost next to nothing."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from ..netlab import PORT, Key, config

pytestmark = pytest.mark.needs("wireguard")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_1100_silent_connections_at_a_limit_of_descriptors(netlab):
    netlab.add("c", "n", "x", "s")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    netlab.link("n", "s", ["198.51.100.2/24"], ["198.51.100.1/24"])
    netlab.link("x", "s", ["203.0.113.2/24"], ["203.0.113.1/24"])
    server, client, newcomer = Key(), Key(), Key()
    tcp = {"Transport": "tcp"}
    peers = [
        {"PublicKey": str(client.public), "AllowedIPs": "10.77.0.2/32"},
        {"PublicKey": str(newcomer.public), "AllowedIPs": "10.77.0.3/32"},
    ]
    to_server = {"PublicKey": str(server.public), "AllowedIPs": "10.77.0.0/24"}
    process = netlab.ours(
        "s", config(server, peers, "10.77.0.1/24", PORT, tcp), "prlimit", "--nofile=512:512"
    )
    netlab.ours(
        "c", config(client, [{**to_server, "Endpoint": f"192.0.2.1:{PORT}"}], "10.77.0.2/24", extra=tcp)
    )
    assert netlab.ping("c", "10.77.0.1") == 3
    command = (sys.executable, "-m", "tests.reftunnel.attacks.strangers", "203.0.113.1", str(PORT), "1100")
    strangers = netlab.start("x", *command, stdout=-1)
    assert strangers.stdout is not None
    with strangers.stdout as out:
        assert out.readline() == b"made\n"
    assert len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 512
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.ours(
        "n",
        config(newcomer, [{**to_server, "Endpoint": f"198.51.100.1:{PORT}"}], "10.77.0.3/24", extra=tcp),
    )
    assert netlab.ping("n", "10.77.0.1", 3, 1.0, 5) >= 1
    before, start = cpu_s(process.pid), time.monotonic()
    time.sleep(2)
    assert (cpu_s(process.pid) - before) / (time.monotonic() - start) < 0.1
    assert netlab.ping("c", "10.77.0.1") == 3
