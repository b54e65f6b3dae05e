"""Conversations as the rows the network kernel takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.groundtruth.simulate.frames import OPTION_BYTES
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.population import SYN_LAYOUTS, Population
from vpnforensics.groundtruth.simulate.spec import Device, IpVersions, Server, Stack
from vpnforensics.groundtruth.simulate.traffic import Conversation


def internet_mss(ip: IpVersions) -> int:
    """MSS of hosts on Ethernet."""
    return 1460 - ip.inner_header_bytes


@dataclass(frozen=True, slots=True)
class Scripts:
    """Kernel rows of a client's conversations, in the same order."""

    talks: list[Conversation]
    flows: Ints
    endpoints: Ints
    messages: Ints
    device: Ints
    host: Ints
    port: Ints
    proto: Ints
    lead: Ints
    has_ts: Ints
    syn_layout: Ints
    """TCP option layout of the SYN and of the SYN-ACK, shape (n, 2)."""


def write_scripts(
    talks: list[Conversation],
    devices: tuple[Device, ...],
    population: Population,
    inner_mss: int,
    server: Server,
    ip: IpVersions,
    random: np.random.Generator,
) -> Scripts:
    """Rows for :func:`run_network`.

    Parameters
    ----------
    talks : list of Conversation
        What is said.
    devices : tuple of Device
        Who says it.
    population : Population
        To whom.
    inner_mss : int
        Largest segment the tunnel lets through.
    server : Server
        For the ways beyond it.
    ip : IpVersions
        Longer headers leave less room.
    random : numpy.random.Generator
        Draws each path's rate and queueing.
    """
    n = len(talks)
    flows = np.zeros((n, k.FLOW_COLUMNS), np.int64)
    endpoints = np.zeros((2 * n, k.ENDPOINT_COLUMNS), np.int64)
    syn_layout = np.zeros((n, 2), np.int64)
    rows: list[tuple[int, int, int, int]] = []
    places = population.internet.places
    rate_mbit = server.host_mbit * random.lognormal(0.0, 0.8, n)
    for i, talk in enumerate(talks):
        device = devices[talk.device]
        host = population.hosts[talk.host]
        has_ts = int(device.stack.clock.kind != "none" and host.stack.clock.kind != "none")
        flow = flows[i]
        flow[k.PROTO] = talk.proto
        flow[k.START] = talk.start_ns
        flow[k.FIRST_MESSAGE] = len(rows)
        rows += talk.messages
        flow[k.END_MESSAGE] = len(rows)
        flow[k.CLOSER] = talk.closer
        flow[k.CLOSE_WAIT] = talk.close_wait_ns
        flow[k.HAS_TS] = has_ts
        flow[k.DISTANCE] = population.internet.distance_ns[talk.host]
        flow[k.WOBBLE] = int(server.host_jitter_s * 1e9)
        flow[k.PS_PER_BYTE] = int(8e6 / rate_mbit[i])
        if places is not None:
            # As the lab's links do: each packet has its own delay, and order is kept.
            way = places.hosts[talk.host]
            flow[k.WOBBLE], flow[k.FAR_JITTER] = 0, int(way.jitter_ms * 1e6)
            flow[k.PS_PER_BYTE] = int(8e6 / way.up_mbit) if way.up_mbit else 0
        flow[k.LAN] = int(device.lan_delay_s * 1e9)
        for side, (stack, peer) in enumerate(((device.stack, host.stack), (host.stack, device.stack))):
            offered = has_ts if side else stack.clock.kind != "none"
            layout = SYN_LAYOUTS[stack.options, bool(offered)]
            syn_layout[i, side] = layout
            write_endpoint(
                endpoints[2 * i + side],
                stack,
                peer,
                min(inner_mss, internet_mss(ip)) - 12 * has_ts,
                int(OPTION_BYTES[layout]),
                reads=side == 0,
            )
    messages = np.array(rows, np.int64).reshape(-1, 4)
    named = np.array([(t.device, t.host, t.port, t.proto, t.lead) for t in talks], np.int64).reshape(-1, 5)
    who, whom, port, proto, lead = named.T.copy()
    stamped = flows[:, k.HAS_TS].copy()
    return Scripts(talks, flows, endpoints, messages, who, whom, port, proto, lead, stamped, syn_layout)


def write_endpoint(row: Ints, stack: Stack, peer: Stack, mss: int, syn_options: int, *, reads: bool) -> None:
    """One end of a connection; its sending window is what its peer can receive.

    An end that mostly ``reads`` acknowledges what it has read; one that answers lets the answer do it.
    """
    row[k.MSS] = mss
    row[k.RWND] = peer.receive_bytes
    row[k.ACK_EVERY] = stack.ack_every
    row[k.GRO] = int(stack.gro_us * 1000)
    row[k.DELACK] = int(stack.delayed_ack_ms * 1e6)
    row[k.QUICK] = stack.quick_acks
    row[k.IW] = stack.initial_window
    row[k.SYN_OPTIONS] = syn_options
    row[k.READ] = int(stack.read_us * 1000) if reads else 0
