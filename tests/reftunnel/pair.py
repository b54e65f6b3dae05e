"""Two or more devices on a network that is a list: what the tests of the core stand on."""

from __future__ import annotations

import ipaddress
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from vpnforensics.reftunnel.device import Device
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Deliver, Output, Transmit
from vpnforensics.reftunnel.keys import NO_PRESHARED_KEY, PresharedKey, PrivateKey
from vpnforensics.reftunnel.peers import Peer, PeerConfig

WALL_ZERO_NS = 1_700_000_000_000_000_000


def wall_ns(now: float) -> int:
    """A clock that was right from the start."""
    return WALL_ZERO_NS + int(now * 1e9)


def seeded(seed: int) -> Callable[[int], bytes]:
    return random.Random(seed).randbytes


def ipv4(src: str, dst: str, payload: bytes = b"hello", proto: int = 17) -> bytes:
    total = 20 + len(payload)
    header = struct.pack(">BBHHHBBH", 0x45, 0, total, 1, 0, 64, proto, 0)
    return header + ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed + payload


def ipv6(src: str, dst: str, payload: bytes = b"hello") -> bytes:
    header = struct.pack(">IHBB", 6 << 28, len(payload), 17, 64)
    return header + ipaddress.ip_address(src).packed + ipaddress.ip_address(dst).packed + payload


@dataclass
class Node:
    device: Device
    endpoint: Endpoint
    outputs: list[Output] = field(default_factory=list)

    def delivered(self) -> list[bytes]:
        return [output.packet for output in self.outputs if isinstance(output, Deliver)]

    def events(self, kind: type) -> list[Output]:
        return [output for output in self.outputs if isinstance(output, kind)]

    @property
    def only_peer(self) -> Peer:
        (peer,) = self.device.peers.values()
        return peer


@dataclass
class Wire:
    """Carries datagrams at once, in order, unless `lose` says otherwise; keeps all it saw."""

    nodes: list[Node]
    now: float = 1000.0
    lose: Callable[[bytes], bool] = lambda datagram: False
    seen: list[tuple[Endpoint, bytes]] = field(default_factory=list)

    def settle(self) -> None:
        """Exchange datagrams until nobody has anything to say."""
        for _ in range(1000):
            quiet = True
            for node in self.nodes:
                for output in node.device.take():
                    quiet = False
                    node.outputs.append(output)
                    if isinstance(output, Transmit):
                        self.seen.append((node.endpoint, output.datagram))
                        self._carry(node, output)
            if quiet:
                return
        raise AssertionError("the devices never stop talking")

    def _carry(self, sender: Node, output: Transmit) -> None:
        if self.lose(output.datagram):
            return
        for node in self.nodes:
            if node.endpoint == output.endpoint:
                node.device.receive(output.datagram, sender.endpoint, self.now)

    def run(self, seconds: float) -> None:
        """Let time pass, waking devices exactly when they ask for it."""
        end = self.now + seconds
        self.settle()
        while True:
            at = min(node.device.wake_at() for node in self.nodes)
            if at > end:
                break
            self.now = max(self.now, at)
            for node in self.nodes:
                node.device.tick(self.now)
            self.settle()
        self.now = end

    def send(self, node: Node, packet: bytes) -> None:
        node.device.send(packet, self.now)
        self.settle()

    def sizes(self) -> list[int]:
        return [len(datagram) for _, datagram in self.seen]


def networks(*texts: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


def make_pair(preshared: PresharedKey = NO_PRESHARED_KEY, keepalive_s: int = 0) -> tuple[Wire, Node, Node]:
    """A client (10.0.0.2, fd00::2) that knows where the server (10.0.0.1, fd00::1) is."""
    client_key, server_key = PrivateKey(b"c" * 32), PrivateKey(b"s" * 32)
    client_at, server_at = Endpoint("192.0.2.2", 40000), Endpoint("192.0.2.1", 51820)
    client = Device(
        client_key,
        [
            PeerConfig(
                server_key.public,
                preshared,
                networks("10.0.0.0/24", "fd00::/64"),
                server_at,
                persistent_keepalive_s=keepalive_s,
            )
        ],
        wall_ns=wall_ns,
        random_bytes=seeded(1),
    )
    server = Device(
        server_key,
        [PeerConfig(client_key.public, preshared, networks("10.0.0.2/32", "fd00::2/128"))],
        wall_ns=wall_ns,
        random_bytes=seeded(2),
    )
    nodes = Node(client, client_at), Node(server, server_at)
    return Wire(list(nodes)), *nodes


UP = ipv4("10.0.0.2", "10.0.0.1", b"up")
DOWN = ipv4("10.0.0.1", "10.0.0.2", b"down")
UP6 = ipv6("fd00::2", "fd00::1", b"up")
