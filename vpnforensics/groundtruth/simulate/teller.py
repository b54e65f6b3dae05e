"""Collects the truth while clients run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.outlines import Outline, Seen
from vpnforensics.groundtruth.simulate.spec import Client, SimulationSpec
from vpnforensics.groundtruth.simulate.surroundings import ICMP, TCP, UDP, Surroundings
from vpnforensics.groundtruth.simulate.taps import Clocks
from vpnforensics.groundtruth.simulate.truth import DeviceTruth, FlowTruth, Truth, TunnelTruth, address_text

_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp"}


@dataclass(frozen=True, slots=True)
class _Told:
    """Endpoints of one client's flows, with what the egress tap saw of them."""

    keys: list[tuple[str, str, str]]
    inner: list[str | None]
    device: list[str]
    kind: tuple[str, ...]
    seen: Seen
    client: str
    connection: list[str | None]


class Teller:
    """Truth of a case in the making; only what the captures hold becomes part of it."""

    def __init__(self, spec: SimulationSpec, around: Surroundings) -> None:
        self._spec = spec
        self._around = around
        self._clients: list[_Told] = []
        self._own: list[_Told] = []
        self._tunnels: list[TunnelTruth] = []
        self._devices: dict[str, DeviceTruth] = {}

    def client(self, client: Client, run: Outline, public: Ints, seen: Seen) -> None:
        """Take in a client, with the public ports of its flows."""
        protocol = PROTOCOLS[client.protocol or self._spec.protocol]
        esp = protocol.transport == "esp"
        version = self._spec.ip.outer
        ports = [0] if esp else run.ports.tolist()
        outer = [address_text(run.address, port, version) for port in ports]
        server_port = 0 if esp else self._spec.port or protocol.port
        server = address_text(self._around.server_address, server_port, version)
        present = set(seen.ports.tolist())
        ends = [end for port, end in zip(ports, outer, strict=True) if port in present]
        named = (ends or outer)[0]
        if ends:
            also = tuple(f"{protocol.transport} {end} {server}" for end in ends[1:])
            self._tunnels.append(TunnelTruth(named, server, protocol.name, client.name, also))
        for device in client.devices:
            self._devices[device.name] = DeviceTruth(device.stack.clock, device.stack.ip_id, named)
        devices = [device.name for device in client.devices]
        connections = [outer[i] if protocol.relay else None for i in run.carrier.tolist()]
        self._clients.append(self._look(run, public, seen, devices, named, connections))

    def own(self, run: Outline, public: Ints, seen: Seen) -> None:
        """Take in a conversation of the server itself."""
        self._own.append(self._look(run, public, seen, ["server"], "", [None] * len(public)))

    def _look(
        self,
        run: Outline,
        public: Ints,
        seen: Seen,
        devices: list[str],
        client: str,
        connection: list[str | None],
    ) -> _Told:
        version = self._spec.ip.inner
        names = _NAMES | ({ICMP: "icmpv6"} if version == 6 else {})
        talks = run.talks
        at = talks.proto.tolist(), self._around.population.address[talks.host].tolist(), talks.port.tolist()
        keys = []
        for proto, address, far_port, port in zip(*at, public.tolist(), strict=True):
            # A ping is named by its identifier at both ends.
            far = address_text(address, port if proto == ICMP else far_port, version)
            keys.append((names[proto], address_text(self._around.egress_address, port, version), far))
        home = run.inner_address[talks.device].tolist()
        inside = [
            None if relayed else address_text(address, port, version)
            for address, port, relayed in zip(home, run.inner_port.tolist(), connection, strict=True)
        ]
        device = [devices[number] for number in talks.device.tolist()]
        return _Told(keys, inside, device, talks.kind, seen, client, connection)

    def truth(self, clock: Clocks) -> Truth:
        """The truth, in the egress capture's times."""
        flows: list[FlowTruth] = []
        for told in self._clients:
            seen = told.seen
            first = clock.shown(seen.first_ns, self._spec.egress).tolist()
            last = clock.shown(seen.last_ns, self._spec.egress).tolist()
            for i in np.flatnonzero(seen.packets).tolist():
                times = first[i], last[i], int(seen.packets[i])
                flows.append(
                    FlowTruth(
                        *told.keys[i],
                        *times,
                        told.client,
                        told.inner[i],
                        told.device[i],
                        told.kind[i],
                        told.connection[i],
                    )
                )
        flows.sort(key=lambda flow: (flow.first_ns, flow.src, flow.dst))
        unattributed: list[dict[str, Any]] = [
            {
                "proto": key[0],
                "src": key[1],
                "dst": key[2],
                "packets": count,
                "first_ns": first_ns,
                "last_ns": last_ns,
                "reason": "the server's own traffic",
            }
            for told in self._own
            for key, count, first_ns, last_ns in zip(
                told.keys,
                told.seen.packets.tolist(),
                clock.shown(told.seen.first_ns, self._spec.egress).tolist(),
                clock.shown(told.seen.last_ns, self._spec.egress).tolist(),
                strict=True,
            )
            if count
        ]
        return Truth(tuple(flows), tuple(self._tunnels), self._devices, clock.alignment, tuple(unattributed))
