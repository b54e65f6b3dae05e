"""A private Tor network: an authority and four relays at the server, one client each; three hops.

All relays stand at the server's address, each at a port of its own, and speak to each other on its loopback:
the ingress tap sees what all guards see, the egress tap what all exits send. By default a client spreads a
stream over the circuits of several guards (Conflux). See tor(1), "TESTING NETWORK OPTIONS".
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from vpnforensics.groundtruth.lab.conntrack import Key, Translations
from vpnforensics.groundtruth.lab.drivers.base import Client, make
from vpnforensics.groundtruth.lab.drivers.relay import LOCAL_PROXY_PORT, LocalProxy
from vpnforensics.groundtruth.lab.network import SERVER_OUTER, SERVER_PUBLIC
from vpnforensics.groundtruth.lab.openings import matched

_RELAYS = 5
_PATHS_MS = (33, 50, 67, 83, 100)
"""From everywhere to each of the relays, where they are far."""
_PASSWORD = "lab"  # noqa: S105 - of a key that lives for a minute
_BOOTSTRAP_TIMEOUT_S = 60
_INTERVAL_S = 8
"""Of the first votes, by the clock. The authority votes four seconds before its end. Later votes are every
ten seconds, the least that a testing network may have."""
_LATEST_START_S = 2
"""Within that interval: relays that start with the authority by then are known when it votes."""
_NETWORK = """TestingTorNetwork 1
AssumeReachable 1
EnforceDistinctSubnets 0
PathsNeededToBuildCircuits 0.25
V3AuthVotingInterval 10
V3AuthVoteDelay 2
V3AuthDistDelay 2
"""
_AUTHORITY = f"""AuthoritativeDirectory 1
V3AuthoritativeDirectory 1
AuthDirMaxServersPerAddr 0
TestingV3AuthInitialVotingInterval {_INTERVAL_S}
TestingV3AuthInitialVoteDelay 2
TestingV3AuthInitialDistDelay 2
TestingMinExitFlagThreshold 0
TestingDirAuthVoteExit *
TestingDirAuthVoteGuard *
TestingDirAuthVoteHSDir *
"""


class Tor(LocalProxy):
    """tor on all sides."""

    kind = "tor"
    usual_port = 9001
    programs = ("tor", "tor-gencert")
    packages = ("tor",)
    told_by_programs = True
    join_s = 20.0

    def start_server(self) -> None:
        """The authority is a relay as well; ready once each relay can tell clients of all."""
        names = ["authority", *(f"relay{number}" for number in range(1, _RELAYS))]
        for name in names:
            (self.folder / name / "keys").mkdir(parents=True, mode=0o700)
            (self.folder / name).chmod(0o700)
        self._identify()
        if time.time() % _INTERVAL_S > _LATEST_START_S:
            time.sleep(-time.time() % _INTERVAL_S)
        self._prepare_paths()
        relays = []
        for number, name in enumerate(names):
            lines = [
                f"Nickname {name}",
                f"Address {SERVER_OUTER}",
                *self._listening(number),
                f"OutboundBindAddressOR {SERVER_OUTER}",
                f"OutboundBindAddressExit {SERVER_PUBLIC}",
                "SocksPort 0",
                "ExitRelay 1",
                "ExitPolicy accept *:*",
                "ExitPolicyRejectPrivate 0",
                "RefuseUnknownExits 0",
                "ContactInfo lab",
                *([f"DirPort {SERVER_OUTER}:{self._directory_port}", _AUTHORITY] if number == 0 else []),
            ]
            relays.append(self._start(name, self.namespace, lines))
        for name, process in zip(names, relays, strict=True):
            if process is not relays[0]:
                process.send_signal(signal.SIGHUP)  # ask the authority again, at once
            self._wait_for_network(name)

    def start_client(self, client: Client) -> None:
        """A SOCKS proxy on the client's loopback."""
        (self.folder / client.name).mkdir(mode=0o700)
        lines = [
            f"SocksPort 127.0.0.1:{LOCAL_PROXY_PORT}",
            "ClientOnly 1",
            "ClientRejectInternalAddresses 0",
        ]
        self._start(client.name, client.namespace, lines)

    def join(self, client: Client) -> None:
        """Once it has circuits."""
        log = self.processes.log(f"tor-{client.name}")
        self.processes.wait_for(
            f"tor-{client.name}",
            lambda: "Bootstrapped 100%" in log.read_text(errors="replace"),
            timeout_s=_BOOTSTRAP_TIMEOUT_S,
        )

    def openers(self, kernel: Translations, egress: Path, local: Mapping[str, Path]) -> dict[Key, set[int]]:
        """By the bytes that programs hand to their client: an exit's sockets are all clients'."""
        numbers = {client.name: client.number for client in self.clients}
        return matched(egress, {numbers[name]: path for name, path in local.items()}, LOCAL_PROXY_PORT)

    def _prepare_paths(self) -> None:
        """Nothing lies between relays on one machine."""

    def _listening(self, number: int) -> list[str]:
        """Where a relay listens."""
        return [f"ORPort {SERVER_OUTER}:{self.port + number}"]

    @property
    def _directory_port(self) -> int:
        return self.port + _RELAYS

    def _identify(self) -> None:
        """Make the authority's keys; everyone has to know them beforehand."""
        folder = self.folder / "authority"
        address = f"{SERVER_OUTER}:{self._directory_port}"
        certificate = folder / "keys" / "authority_certificate"
        make(
            "tor-gencert", "--create-identity-key", "-m", "12", "-a", address, "--passphrase-fd", "0",
            "-i", folder / "keys" / "authority_identity_key", "-s", folder / "keys" / "authority_signing_key",
            "-c", certificate, given=f"{_PASSWORD}\n",
        )  # fmt: skip
        lines = certificate.read_text().splitlines()
        identity = next(line.split()[1] for line in lines if line.startswith("fingerprint"))
        known = f"orport={self.port} no-v2 v3ident={identity} {address}"
        config = folder / "fingerprint.conf"
        config.write_text(
            f"DataDirectory {folder}\nORPort {self.port}\nNickname authority\n"
            f"DirAuthority authority {known} {'F' * 40}\n"
        )
        make("tor", "--list-fingerprint", "--quiet", "-f", config)
        relay = (folder / "fingerprint").read_text().split()[1]
        (self.folder / "network.torrc").write_text(f"{_NETWORK}DirAuthority authority {known} {relay}\n")

    def _wait_for_network(self, name: str) -> None:
        """Wait until a relay has a consensus that names all, and their descriptors."""
        files = {"cached-microdesc-consensus": "\nr ", "cached-microdescs.new": "onion-key\n"}

        def known() -> bool:
            paths = {self.folder / name / file: mark for file, mark in files.items()}
            return all(p.exists() and p.read_text().count(mark) == _RELAYS for p, mark in paths.items())

        self.processes.wait_for(f"{name}'s network", known, timeout_s=_BOOTSTRAP_TIMEOUT_S)

    def _start(self, name: str, namespace: str, lines: list[str]) -> subprocess.Popen[bytes]:
        config = self.folder / f"tor-{name}.conf"
        shared = (self.folder / "network.torrc").read_text()
        own = [f"DataDirectory {self.folder / name}", "Log notice stdout", *lines]
        config.write_text(shared + "\n".join(own) + "\n")
        return self.processes.start(f"tor-{name}", namespace, ["tor", "-f", config])


class TorFar(Tor):
    """The same, with a path to each relay: 150 to 250 ms one way over three of them."""

    kind = "tor-far"

    def _prepare_paths(self) -> None:
        """Whoever connects to a relay comes by a distant port."""
        ports = [
            f"{self.port + number}:{self._near(number)}:{delay_ms}"
            for number, delay_ms in enumerate(_PATHS_MS)
        ]
        module = "vpnforensics.groundtruth.lab.distance"
        self.processes.start("distance", self.namespace, [sys.executable, "-m", module, SERVER_OUTER, *ports])

    def _listening(self, number: int) -> list[str]:
        """Known by the distant port, listening at another."""
        return [
            f"ORPort {SERVER_OUTER}:{self.port + number} NoListen",
            f"ORPort {SERVER_OUTER}:{self._near(number)} NoAdvertise",
        ]

    def _near(self, number: int) -> int:
        return self._directory_port + 1 + number
