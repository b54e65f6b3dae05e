"""Collects the truth while clients run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.spec import Client, SimulationSpec
from vpnforensics.groundtruth.simulate.surroundings import ICMP, TCP, UDP, ClientRun, Surroundings
from vpnforensics.groundtruth.simulate.taps import Clocks
from vpnforensics.groundtruth.simulate.truth import DeviceTruth, FlowTruth, Truth, TunnelTruth, address_text

_NAMES = {TCP: "tcp", UDP: "udp", ICMP: "icmp"}


@dataclass(frozen=True, slots=True)
class _Seen:
    """Endpoints of one client's flows, with their true first and last time at the egress tap."""

    keys: list[tuple[str, str, str]]
    inner: list[str | None]
    device: list[str]
    kind: list[str]
    first_ns: Ints
    last_ns: Ints
    packets: Ints
    client: str
    connection: list[str | None]


class Teller:
    """Truth of a case in the making; only what the captures hold becomes part of it."""

    def __init__(self, spec: SimulationSpec, around: Surroundings) -> None:
        self._spec = spec
        self._around = around
        self._seen: list[_Seen] = []
        self._own: list[_Seen] = []
        self._tunnels: list[TunnelTruth] = []
        self._devices: dict[str, DeviceTruth] = {}

    def client(self, client: Client, run: ClientRun, public: Ints) -> None:
        """Take in a client, with the public ports of its flows."""
        protocol = PROTOCOLS[client.protocol or self._spec.protocol]
        esp = protocol.transport == "esp"
        version = self._spec.ip.outer
        ports = [0] if esp else run.ports.tolist()
        outer = [address_text(run.address, port, version) for port in ports]
        server_port = 0 if esp else self._spec.port or protocol.port
        server = address_text(self._around.server_address, server_port, version)
        rows = run.ingress.rows
        present = set(np.where(rows["outgoing"], rows["dport"], rows["sport"]).tolist())
        seen = [end for port, end in zip(ports, outer, strict=True) if port in present]
        named = (seen or outer)[0]
        if seen:
            also = tuple(f"{protocol.transport} {end} {server}" for end in seen[1:])
            self._tunnels.append(TunnelTruth(named, server, protocol.name, client.name, also))
        for device in client.devices:
            self._devices[device.name] = DeviceTruth(device.stack.clock, device.stack.ip_id, named)
        devices = [device.name for device in client.devices]
        connections = [outer[i] if protocol.relay else None for i in run.carrier.tolist()]
        self._seen.append(self._look(run, public, devices, named, connections))

    def own(self, run: ClientRun, public: Ints) -> None:
        """Take in a conversation of the server itself."""
        self._own.append(self._look(run, public, ["server"], "", [None] * len(run.talks)))

    def _look(
        self, run: ClientRun, public: Ints, devices: list[str], client: str, connection: list[str | None]
    ) -> _Seen:
        version = self._spec.ip.inner
        names = _NAMES | ({ICMP: "icmpv6"} if version == 6 else {})
        n = len(run.talks)
        first, last = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
        times = run.egress.rows["ts_ns"]
        np.minimum.at(first, run.egress_flow, times)
        np.maximum.at(last, run.egress_flow, times)
        keys = []
        for talk, port in zip(run.talks, public.tolist(), strict=True):
            # A ping is named by its identifier at both ends.
            far_port = port if talk.proto == ICMP else talk.port
            far = address_text(int(self._around.population.address[talk.host]), far_port, version)
            keys.append((names[talk.proto], address_text(self._around.egress_address, port, version), far))
        inside = [
            None if relayed else address_text(int(run.inner_address[talk.device]), port, version)
            for talk, port, relayed in zip(run.talks, run.inner_port.tolist(), connection, strict=True)
        ]
        return _Seen(
            keys,
            inside,
            [devices[talk.device] for talk in run.talks],
            [talk.kind for talk in run.talks],
            first,
            last,
            np.bincount(run.egress_flow, minlength=n),
            client,
            connection,
        )

    def truth(self, clock: Clocks) -> Truth:
        """The truth, in the egress capture's times."""
        flows: list[FlowTruth] = []
        for seen in self._seen:
            first = clock.shown(seen.first_ns, self._spec.egress).tolist()
            last = clock.shown(seen.last_ns, self._spec.egress).tolist()
            for i in np.flatnonzero(seen.packets).tolist():
                times = first[i], last[i], int(seen.packets[i])
                flows.append(
                    FlowTruth(
                        *seen.keys[i],
                        *times,
                        seen.client,
                        seen.inner[i],
                        seen.device[i],
                        seen.kind[i],
                        seen.connection[i],
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
            for seen in self._own
            for key, count, first_ns, last_ns in zip(
                seen.keys,
                seen.packets.tolist(),
                clock.shown(seen.first_ns, self._spec.egress).tolist(),
                clock.shown(seen.last_ns, self._spec.egress).tolist(),
                strict=True,
            )
            if count
        ]
        return Truth(tuple(flows), tuple(self._tunnels), self._devices, clock.alignment, tuple(unattributed))
