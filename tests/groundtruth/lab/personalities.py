"""Recordings of hosts that look like other systems, and what the IP ID classifier makes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpnforensics.features.ip_id import classify_ip_ids
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.scenario import PERSONALITIES, Scenario, loads
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PROTO_ICMP, PROTO_TCP, PROTO_UDP

_PROTOCOLS = {"tcp": PROTO_TCP, "udp": PROTO_UDP, "icmp": PROTO_ICMP}


@dataclass(frozen=True)
class Graded:
    """One sender: what it was made to be, and what it was taken for."""

    device: str
    true: str
    found: str
    packets: int


def scenario(seconds: float, each: int = 1, seed: int = 5) -> Scenario:
    """Clients of every personality behind one WireGuard server."""
    clients = "".join(
        f"  - {{name: {name}-{i + 1}, traffic: [browse, browse, dns], stack: {{personality: {name}}}}}\n"
        for name in PERSONALITIES
        for i in range(each)
    )
    return loads(f"duration_s: {seconds}\nseed: {seed}\nvpn: {{kind: wireguard}}\nclients:\n{clients}")


def grade(folder: Path, loss: float = 0.0, seed: int = 1) -> list[Graded]:
    """Class of each device's IP IDs at egress, beside the truth.

    A device is judged by the packets that are numbered as its TCP is: Linux has another way for echoes.
    """
    truth = json.loads((folder / "truth.json").read_text())
    packets = read_capture(folder / "egress.pcap")
    kept = np.random.default_rng(seed).random(len(packets)) >= loss
    flows = assemble_flows(packets.take(np.flatnonzero(kept)))
    packets = flows.packets
    owner = {(f["src"], f["dst"]): f["device"] for f in truth["flows"]}
    # A capture without its SYN may take the far end for the near one.
    ends = [(flows.source(i), flows.destination(i)) for i in range(len(flows))]
    device = np.array([owner.get(pair, owner.get(pair[::-1], "")) for pair in ends])
    forward = np.array([pair in owner for pair in ends])
    sent = flows.up == forward[flows.flow]
    graded = []
    for name, known in truth["devices"].items():
        mine = sent & (device[flows.flow] == name)
        alike = [
            number for name, number in _PROTOCOLS.items() if known["ip_id"][name] == known["ip_id"]["tcp"]
        ]
        mine &= np.isin(packets.proto, alike)
        rows = np.flatnonzero(mine)
        found = classify_ip_ids(
            packets.ts_ns[rows], packets.ip_id[rows], flows.flow[rows], packets.dst[rows]
        ).ip_id_class
        graded.append(Graded(name, known["ip_id"]["tcp"], found, len(rows)))
    return graded
