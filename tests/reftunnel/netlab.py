"""Network namespaces with tunnels in them: what the root tests and the benchmark stand on.

Every name begins with a prefix made for this run; everything is removed at the end; every command is
bounded in time; and only processes started here are ended, by their own handles.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpnforensics.errors import TunnelError
from vpnforensics.groundtruth.lab.drivers.wireguard import listening
from vpnforensics.reftunnel import control
from vpnforensics.reftunnel.keys import PresharedKey, PrivateKey, PublicKey

REPOSITORY = Path(__file__).resolve().parents[2]
_runs = itertools.count()

PORT = 51820
SERVER_INNER, CLIENT_INNER = "10.77.0.1/24, fd77::1/64", "10.77.0.2/24, fd77::2/64"


@dataclass
class Key:
    private: PrivateKey = field(default_factory=PrivateKey.generate)

    @property
    def public(self) -> PublicKey:
        return self.private.public


def config(
    key: Key,
    peers: Sequence[dict[str, str]],
    address: str = "",
    listen: int | None = None,
    extra: dict[str, str] | None = None,
) -> str:
    """A configuration file; without `address` it is what `wg setconf` reads, too."""
    lines = ["[Interface]", f"PrivateKey = {key.private.to_text()}"]
    if listen is not None:
        lines.append(f"ListenPort = {listen}")
    if address:
        lines.append(f"Address = {address}")
    lines += [f"{name} = {value}" for name, value in (extra or {}).items()]
    for peer in peers:
        lines += ["", "[Peer]", *(f"{name} = {value}" for name, value in peer.items())]
    return "\n".join(lines) + "\n"


class NetLab:
    """A set of namespaces and the processes in them."""

    def __init__(self, folder: Path) -> None:
        self.prefix = f"q{os.getpid() % 46656:x}{next(_runs):x}"
        self.folder = folder
        self._names: list[str] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self.tunnels: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> NetLab:
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            self.end(process)
        for name in self._names:
            subprocess.run(["ip", "netns", "del", self.ns(name)], check=False, capture_output=True)

    # -- namespaces ---------------------------------------------------------------------------------

    def ns(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def add(self, *names: str) -> None:
        for name in names:
            self.host("ip", "netns", "add", self.ns(name))
            self._names.append(name)
            self.host("ip", "-n", self.ns(name), "link", "set", "lo", "up")

    def link(self, one: str, other: str, ones: Sequence[str], others: Sequence[str]) -> tuple[str, str]:
        """A cable between two namespaces, with addresses at both ends; returns the interface names."""
        names = f"{self.prefix}{one}{other}"[:15], f"{self.prefix}{other}{one}"[:15]
        self.host(
            *("ip", "link", "add", names[0], "netns", self.ns(one), "type", "veth"),
            *("peer", "name", names[1], "netns", self.ns(other)),
        )
        for name, interface, addresses in ((one, names[0], ones), (other, names[1], others)):
            for address in addresses:
                self.ip(
                    name, "addr", "add", address, "dev", interface, *(["nodad"] if ":" in address else [])
                )
            self.ip(name, "link", "set", interface, "up")
        return names

    def host(self, *command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout

    def ip(self, name: str, *arguments: str) -> str:
        return self.host("ip", "-n", self.ns(name), *arguments)

    def run(self, name: str, *command: str, timeout_s: float = 30, check: bool = True) -> str:
        """Run a command in a namespace to its end; its output."""
        done = subprocess.run(
            ["ip", "netns", "exec", self.ns(name), *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=REPOSITORY,
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def start(self, name: str, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command in a namespace; it is ended with the lab at the latest."""
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.ns(name), *command],
            cwd=REPOSITORY,
            start_new_session=True,
            **options,
        )
        self._processes.append(process)
        return process

    def end(self, process: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """End a process started here and wait for it."""
        if process.poll() is None:
            process.send_signal(number)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if process.stderr is not None and not process.stderr.closed:
            process.stderr.close()
        return process.returncode

    def wait(self, what: Callable[[], object], timeout_s: float = 20.0) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, subprocess.SubprocessError, AssertionError):
                if what():
                    return
            time.sleep(0.05)
        raise AssertionError("it did not happen in time")

    # -- tunnels ------------------------------------------------------------------------------------

    def write(self, name: str, text: str) -> Path:
        path = self.folder / f"{self.interface(name)}.conf"
        path.touch(0o600)
        path.write_text(text)
        return path

    def interface(self, name: str) -> str:
        return f"{self.prefix}t{name}"

    def ours(self, name: str, text: str, *command_prefix: str) -> subprocess.Popen[bytes]:
        """Start our tunnel in a namespace, and wait until it carries traffic."""
        path = self.write(name, text)
        read_end, write_end = os.pipe()
        process = self.start(
            name,
            *command_prefix,
            *(
                sys.executable,
                "-m",
                "vpnforensics.reftunnel",
                "up",
                str(path),
                "-f",
                "--ready-fd",
                str(write_end),
            ),
            pass_fds=(write_end,),
        )
        os.close(write_end)
        os.set_blocking(read_end, True)
        os.read(read_end, 1)
        os.close(read_end)
        if process.poll() is not None:
            raise AssertionError(process.stderr.read().decode() if process.stderr else "it ended")
        self.tunnels.append(process)
        return process

    def theirs(self, name: str, text: str, address: str, routes: Sequence[str] = (), mtu: int = 1420) -> None:
        """Start wireguard-go in a namespace."""
        interface = self.interface(name)
        # In the foreground it is our child, and can be ended by its handle.
        log = self.folder / f"{interface}.log"
        with log.open("ab") as said:
            process = self.start(name, "env", "LOG_LEVEL=error", "wireguard-go", "-f", interface, stderr=said)
        self.tunnels.append(process)
        self.wait(lambda: process.poll() is not None or [self.run(name, *listening(interface))])
        if process.returncode is not None:
            raise AssertionError(f"wireguard-go ended with {process.returncode}: {log.read_text()[-400:]}")
        self.run(name, "wg", "setconf", interface, str(self.write(name, text)))
        for part in address.split(","):
            self.ip(name, "addr", "add", part.strip(), "dev", interface)
        self.ip(name, "link", "set", interface, "mtu", str(mtu), "up")
        for route in routes:
            self.ip(name, "route", "add", route, "dev", interface)

    def show(self, name: str) -> dict[str, Any]:
        """What ``show --json`` prints; asked from here, for a program takes a second to start."""
        try:
            return control.ask(self.interface(name), "show")
        except TunnelError as error:
            raise AssertionError(f"{name}: {error}") from None

    # -- traffic ------------------------------------------------------------------------------------

    def ping(
        self, name: str, address: str, count: int = 3, interval_s: float = 0.2, wait_s: float = 5
    ) -> int:
        """How many of `count` pings were answered."""
        deadline_s = count * interval_s + wait_s
        # After the last one ping waits for two round trips only, which on a busy machine is too short. With a
        # deadline it goes on until `count` answers came; that is for short runs, where none may be lost.
        patience = ["-w", str(int(deadline_s) + 1)] if count <= 10 else []
        out = self.run(
            name,
            *("ping", "-n", "-c", str(count), "-i", str(interval_s), "-W", str(wait_s), *patience, address),
            timeout_s=deadline_s + 10,
            check=False,
        )
        for line in out.splitlines():
            if " received" in line:
                return min(count, int(line.split(",")[1].split()[0]))
        return 0

    @contextlib.contextmanager
    def serving(self, name: str, folder: Path, port: int = 8000) -> Iterator[None]:
        """A web server for a folder."""
        process = self.start(
            name,
            *(sys.executable, "-m", "http.server", str(port), "--bind", "::", "-d", str(folder)),
            stderr=subprocess.DEVNULL,
        )
        self.wait(lambda: self.run(name, "curl", "-sf", f"http://[::1]:{port}/"))
        try:
            yield
        finally:
            self.end(process)

    @contextlib.contextmanager
    def iperf_server(self, name: str, port: int = 5201) -> Iterator[None]:
        process = self.start(name, "iperf3", "-s", "-p", str(port), stderr=subprocess.DEVNULL)
        self.wait(lambda: f":{port}" in self.run(name, "ss", "-ltn"))
        try:
            yield
        finally:
            self.end(process)

    def iperf(self, name: str, address: str, seconds: int = 3, *options: str, port: int = 5201) -> float:
        """Mbit/s received."""
        error = ""
        for _ in range(3):
            out = self.run(
                name,
                *("iperf3", "-c", address, "-p", str(port), "-t", str(seconds), "-J", *options),
                timeout_s=seconds + 20,
                check=False,
            )
            result = json.loads(out or "{}")
            end = result.get("end", {})
            if received := end.get("sum_received") or end.get("sum"):
                return float(received["bits_per_second"]) / 1e6
            # A server that has just ended a test may still be busy.
            error = result.get("error", "no result")
            time.sleep(1)
        raise AssertionError(f"iperf3: {error}")


# -- the usual two ------------------------------------------------------------------------------------


def outer(version: int) -> str:
    return f"192.0.2.1:{PORT}" if version == 4 else f"[2001:db8::1]:{PORT}"


def cable(lab: NetLab) -> None:
    lab.add("c", "s")
    lab.link("c", "s", ["192.0.2.2/24", "2001:db8::2/64"], ["192.0.2.1/24", "2001:db8::1/64"])


def two_configs(
    version: int = 4, preshared: bool = False, extra: dict[str, str] | None = None, address: bool = True
) -> tuple[str, str, Key, Key]:
    """Client's and server's files, and their keys."""
    client, server = Key(), Key()
    secret = {"PresharedKey": PresharedKey.generate().to_text()} if preshared else {}
    to_server = {
        "PublicKey": str(server.public),
        "AllowedIPs": "10.77.0.0/24, fd77::/64",
        "Endpoint": outer(version),
        **secret,
    }
    to_client = {"PublicKey": str(client.public), "AllowedIPs": "10.77.0.2/32, fd77::2/128", **secret}
    return (
        config(client, [to_server], CLIENT_INNER if address else "", None, extra),
        config(server, [to_client], SERVER_INNER if address else "", PORT, extra),
        client,
        server,
    )


def without_address(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("Address")) + "\n"


def bring_up(lab: NetLab, we_are: str, version: int = 4, preshared: bool = False) -> None:
    cable(lab)
    client, server, _, _ = two_configs(version, preshared)
    if we_are == "client":
        lab.theirs("s", without_address(server), SERVER_INNER)
        lab.ours("c", client)
    elif we_are == "server":
        lab.ours("s", server)
        lab.theirs("c", without_address(client), CLIENT_INNER)
    else:
        lab.ours("s", server)
        lab.ours("c", client)
