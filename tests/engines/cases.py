"""Simulated cases with their truth, for the header-field engines."""

from __future__ import annotations

import dataclasses

import numpy as np

from vpnforensics.align.alignment import same_clock
from vpnforensics.engines.case import Case
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.presets import STACKS
from vpnforensics.groundtruth.simulate.spec import Activity, Client, Device, SimulationSpec
from vpnforensics.packets.read import read_capture
from vpnforensics.tunnels.find import RecordTable, Tunnel, TunnelSet

_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp"}
LEAST_SCORE, LEAST_MARGIN = 4.0, 1.0


def skewed(name, rng, sd_ppm=30.0):
    """A stock stack with a quartz of its own."""
    stack = STACKS[name]
    if stack.clock.kind == "none" or stack.clock.skew_ppm:
        return stack
    return dataclasses.replace(
        stack, clock=dataclasses.replace(stack.clock, skew_ppm=float(rng.normal(0, sd_ppm)))
    )


def devices_behind_one_tunnel(stack, seed, *, devices=3, flows=60, seconds=600.0, protocol="wireguard"):
    """One client whose devices browse, keep terminals open and poll."""
    rng = np.random.default_rng(seed)
    each = flows // devices
    traffic = []
    for d in range(devices):
        traffic += [
            Activity("ssh", flows=each // 4, device=d, end_s=seconds * 0.5, scale=4),
            Activity("longpoll", flows=each // 6, device=d, end_s=seconds * 0.4),
            Activity("browse", flows=each, device=d, end_s=seconds * 0.9),
        ]
    members = tuple(Device(f"d{d}", skewed(stack, rng), 0.0005) for d in range(devices))
    return SimulationSpec((Client("client", members, tuple(traffic)),), duration_s=seconds, protocol=protocol)


def clients_of_one_stack(stack, protocol, clients, seed, seconds=60.0):
    """Tunnels of one device each, all of the same system."""
    rng = np.random.default_rng(seed)
    traffic = (
        Activity("browse", flows=8, end_s=seconds * 0.8),
        Activity("ssh", flows=2),
        Activity("dns", flows=3),
        Activity("download", flows=1),
    )
    return SimulationSpec(
        tuple(
            Client(f"c{c}", (Device(f"c{c}-device", skewed(stack, rng)),), traffic) for c in range(clients)
        ),
        duration_s=seconds,
        protocol=protocol,
    )


def owners(flows, truth, of):
    """Number of each flow's device or client among those of the truth, -1 where it has none."""
    known = {(t.proto, t.src, t.dst, t.first_ns): getattr(t, of) for t in truth.flows}
    names = [t.client for t in truth.tunnels] if of == "client" else sorted(set(known.values()))
    number = {name: n for n, name in enumerate(names)}
    keys = (
        (_PROTOCOLS.get(int(flows.proto[f])), flows.source(f), flows.destination(f), int(flows.first_ns[f]))
        for f in range(len(flows))
    )
    return np.array([number.get(known.get(key), -1) for key in keys])


def case_of(folder, truth, alignment=None):
    """Case of a simulated folder with the true tunnels, and each flow's true tunnel."""
    case = case_between(
        *(read_capture(folder / f"{side}.pcap") for side in ("ingress", "egress")), truth, alignment
    )
    return case, owners(case.flows, truth, "client")


def case_between(ingress, egress, truth, alignment=None):
    """Case of two captures with the true tunnels."""
    outer = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    known = {(t.client, t.server): t for t in truth.tunnels}
    tunnels = []
    for t in truth.tunnels:
        for c in range(len(outer)):
            ends = outer.source(c), outer.destination(c)
            if known.get(ends) is t or known.get(ends[::-1]) is t:
                transport = "tcp" if outer.proto[c] == 6 else "udp"
                tunnels.append(Tunnel(t.client, t.server, transport, t.protocol, "", 1.0, 0, 0, 0, 0, (), c))
                break
    none = np.zeros(0, np.int64)
    records = RecordTable(
        none, none.astype(np.int32), none.astype(np.bool_), none.astype(np.int32), none, none
    )
    return Case(
        outer,
        TunnelSet(tuple(tunnels), records, none),
        assemble_flows(egress),
        alignment or same_clock("stated by the simulation"),
        (),
        np.full(len(tunnels), -1, np.int64),
    )


def best_alone(scores, flows):
    """Tunnel of each flow by one engine's scores: the best, if it is clear; else -1."""
    linked = np.full(flows, -1)
    for f in np.unique(scores.flow):
        mine = np.flatnonzero(scores.flow == f)
        order = mine[np.argsort(-scores.score[mine])]
        best = scores.score[order[0]]
        if best >= LEAST_SCORE and (len(order) == 1 or best - scores.score[order[1]] >= LEAST_MARGIN):
            linked[f] = scores.tunnel[order[0]]
    return linked
