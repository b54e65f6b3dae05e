"""Record the logs of the lab's own servers, with their truth: ``python -m tests.logs.record KIND FOLDER``.

Runs a short scenario of three clients, of which the second leaves early, and keeps what an operator would
have: the server's log, framed as journald frames the output of a service (``short-iso-precise``) where the
program itself writes no time; status files of OpenVPN by its management interface, dumps of ``wg`` every
second; and ``conntrack -E``.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from vpnforensics.groundtruth.lab.state import RUNS

SECONDS, LEAVES_AFTER_S = 12, 7
SCENARIO = """
name: logs
description: Three clients, for their server's log.
duration_s: {seconds}
seed: 9
vpn: {{kind: {kind}}}
clients:
  - traffic: [browse, dns]
  - traffic: [dns, ping]
  - traffic: [browse]
capture: {{ingress: {{snaplen: 96}}, egress: {{snaplen: 96}}}}
"""
LOGS = {
    "openvpn-udp": ("openvpn-server.log", "openvpn", False),
    "openvpn-tcp": ("openvpn-server.log", "openvpn", False),
    "wireguard": ("wireguard-0.log", "wireguard-go", True),
    "strongswan": ("charon-server/charon.log", "charon", True),
    "ocserv-dtls": ("ocserv.log", "ocserv", True),
    "tinc": ("tinc-server.log", "tincd", True),
    "ssh-socks": ("vpn-sshd.log", "sshd", True),
}
"""Per kind: log in the run's folder, program, and whether its lines need a time."""
CLIENTS = (
    "openvpn-client-2",
    "openconnect-client-2",
    "ssh-client-2",
    "charon-client-2",
    "tinc-c2",
    "wireguard-2",
)


def main(kind: str, folder: Path) -> None:
    """Record one kind into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    scenario = folder / "scenario.yaml"
    text = SCENARIO.format(kind=kind, seconds=SECONDS)
    scenario.write_text(
        text.replace("dns, ping", "browse").replace(", dns", "") if kind == "ssh-socks" else text
    )
    before = set(RUNS.iterdir()) if RUNS.exists() else set()
    lab = subprocess.Popen(
        [sys.executable, "-m", "vpnforensics", "lab", "run", scenario, "-o", folder / "case"]
    )
    run = None
    while run is None and lab.poll() is None:
        new = set(RUNS.iterdir()) - before if RUNS.exists() else set()
        run = next(iter(new), None)
        time.sleep(0.02)
    if run is not None:
        _watch(kind, run, lab, folder)
    assert lab.wait() == 0


def _watch(kind: str, run: Path, lab: subprocess.Popen, folder: Path) -> None:
    name, program, untimed = LOGS[kind]
    tail, conntrack = _Tail(run / name, program if untimed else ""), _Tail(run / "conntrack.log", "")
    dump = _Dump(run) if kind == "wireguard" else _Status(run) if kind == "openvpn-udp" else None
    leaves = None
    while lab.poll() is None:
        for each in (tail, conntrack, dump):
            if each is not None:
                each.look()
        if conntrack.octets and leaves is None:
            leaves = time.monotonic() + LEAVES_AFTER_S
        if leaves is not None and time.monotonic() > leaves:
            leaves = float("inf")
            _end_client(run)
        time.sleep(0.02)
    (folder / f"{kind}.log").write_bytes(tail.octets)
    (folder / f"{kind}.conntrack").write_bytes(conntrack.octets)
    if dump is not None:
        for end, text in dump.texts().items():
            (folder / f"{kind}.{end}").write_text(text)


class _Tail:
    """A file as it grows, each line with a time in front if it has none."""

    def __init__(self, path: Path, program: str) -> None:
        self.path, self.program, self.octets, self._at = path, program, b"", 0

    def look(self) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._at)
                new = file.read()
        except OSError:
            return
        new = new[: new.rfind(b"\n") + 1]
        self._at += len(new)
        if not self.program:
            self.octets += new
            return
        stamp = datetime.now().astimezone().isoformat(timespec="microseconds")
        for line in new.splitlines():
            self.octets += f"{stamp} vpn {self.program}[100]: ".encode() + line + b"\n"


class _Dump:
    """``wg show all dump`` every second, behind the time."""

    def __init__(self, run: Path) -> None:
        self.run, self.text, self._next, self._namespace = run, "", 0.0, ""

    def look(self) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + 1
        try:
            records = [json.loads(line) for line in (self.run / "state.jsonl").read_text().splitlines()]
        except (OSError, ValueError):
            return
        for name in (r["name"] for r in records if r["kind"] == "netns"):
            if self._namespace and name != self._namespace:
                continue
            command = ["ip", "netns", "exec", name, "wg", "show", "all", "dump"]
            said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
            if said.count("\n") > 3 or (self._namespace and said):
                self._namespace = name
                self.text += datetime.now().astimezone().isoformat(timespec="seconds") + "\n" + said

    def texts(self) -> dict[str, str]:
        return {"dump": self.text}


class _Status:
    """``status 1``, ``2`` and ``3`` of the management interface every second."""

    def __init__(self, run: Path) -> None:
        self.path, self._text, self._next = run / "management", dict.fromkeys((1, 2, 3), ""), 0.0

    def look(self) -> None:
        if time.monotonic() < self._next or not self.path.exists():
            return
        self._next = time.monotonic() + 1
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self.path))
                file = connection.makefile("rw")
                file.readline()
                for version in self._text:
                    file.write(f"status {version}\n")
                    file.flush()
                    for line in file:
                        if not line.startswith(">"):
                            self._text[version] += line.replace("\r", "")
                        if line.rstrip() == "END":
                            break
        except OSError:
            return

    def texts(self) -> dict[str, str]:
        return {f"status{version}": text for version, text in self._text.items()}


def _end_client(run: Path) -> None:
    """The second client's program, and what it started, is told to end by SIGINT: then all say goodbye."""
    for line in (run / "state.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["kind"] == "process" and record["name"] in CLIENTS:
            children = Path(f"/proc/{record['pid']}/task/{record['pid']}/children").read_text().split()
            for pid in (*map(int, children), record["pid"]):
                os.kill(pid, signal.SIGINT)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
