"""One client: its conversations through its network, as records at both taps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.egress import egress_records, written_fields
from vpnforensics.groundtruth.simulate.frames import RECORD
from vpnforensics.groundtruth.simulate.ingress import Tap, datagram_records, segment_records, with_outer
from vpnforensics.groundtruth.simulate.inner import tun_records
from vpnforensics.groundtruth.simulate.ip_ids import ip_ids
from vpnforensics.groundtruth.simulate.network import Ints, Traffic, Wiring, run_network
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.network.links import JITTER_LAWS, Link
from vpnforensics.groundtruth.simulate.outer import Protocol
from vpnforensics.groundtruth.simulate.outer.datagrams import DATA, Datagrams, Endpoint, Framed
from vpnforensics.groundtruth.simulate.outer.streams import stream_bytes
from vpnforensics.groundtruth.simulate.padding import add_cover, padded
from vpnforensics.groundtruth.simulate.relay import (
    Kept,
    relay_ports,
    relay_records,
    relayed,
    server_device,
)
from vpnforensics.groundtruth.simulate.scripts import Scripts, internet_mss, write_scripts
from vpnforensics.groundtruth.simulate.spec import AccessPath, Client
from vpnforensics.groundtruth.simulate.surroundings import (
    DOWN,
    TCP,
    UP,
    ClientRun,
    Packets,
    Records,
    Surroundings,
)
from vpnforensics.groundtruth.simulate.traffic import Conversation, converse

_FIRST_EPHEMERAL, _EPHEMERAL = 32768, 28232
_CRYPTO_NS = 45_000.0


def client_address(index: int) -> int:
    """A public address from the shared range of RFC 6598."""
    return (100 << 24 | 64 << 16) + 257 + index


def inner_addresses(index: int, devices: int) -> Ints:
    """Tunnel addresses of a client's devices."""
    return (10 << 24 | 8 << 16) + 16 + 8 * index + np.arange(devices, dtype=np.int64)


def carry(
    client: Client,
    index: int,
    protocol: Protocol | None,
    around: Surroundings,
    random: np.random.Generator,
    *,
    at: int = k.OUT_NS,
) -> ClientRun:
    """Simulate one client.

    Parameters
    ----------
    client : Client
        Who.
    index : int
        Its number, which its addresses come from.
    protocol : Protocol or None
        Of its tunnel; ``None`` for packets that cross the path as they are.
    around : Surroundings
        Server, Internet, span.
    random : numpy.random.Generator
        This client's own: nobody else draws from it.
    at : int
        Packet column with the time at which the inner packets are recorded.
    """
    clocks = [TimestampClock(device.stack.clock, around.end_ns, random) for device in client.devices]
    outer = client.outer or client.devices[0].stack
    outer_clock = TimestampClock(outer.clock, around.end_ns, random) if client.outer else clocks[0]
    delay_ns = int(client.path.delay_s * 1e9)
    talks: list[Conversation] = []
    for activity in client.traffic:
        talks += converse(activity, random, around.population.internet, delay_ns, around.end_ns)
    ip = around.spec.ip
    mss = protocol.inner_mss(ip) if protocol and not protocol.relay else internet_mss(ip)
    devices = client.devices
    if protocol and protocol.relay:
        # The server itself talks to the Internet.
        devices = (server_device(around.spec.server.stack),) * len(client.devices)
        clocks = [around.server_clock] * len(devices)
    seen = replace(client, devices=devices)
    scripts = write_scripts(talks, devices, around.population, mss, around.spec.server, ip, random)
    address, outer_ports = client_address(index), np.zeros(1, np.int64)
    carrier = np.zeros(len(talks), np.int64)
    kept: Kept | None = None
    if protocol:
        port = protocol.client_port or int(random.integers(_FIRST_EPHEMERAL, 61000))
        tap = Tap(client.name, protocol, outer, address, port, outer.ttl - client.path.hops, around)
        if protocol.relay:
            assert protocol.stream is not None
            tap = replace(tap, control=protocol.stream.set_up(random))
            scripts, carrier = relayed(scripts, client, tap, delay_ns)
            outer_ports = relay_ports(port, int(carrier.max(initial=0)) + 1, random)
            kept = Kept.draw(len(talks), random) if protocol.stream.request else None
            inner, ingress = _through_relay(scripts, tap, outer_ports, client, kept, outer_clock, random)
            ids, _ = _sender_ids(
                replace(seen, outer=outer), scripts, inner, np.empty(0, np.int64), False, random
            )
        else:
            outer_ports = np.array([port], np.int64)
            inner, ingress, ids = _through_tunnel(client, scripts, tap, outer_clock, random)
    else:
        inner = _network(scripts, _wiring(client, around, None), around, random)
        ingress = Records(np.empty(0, RECORD), np.empty(0, np.uint8))
        ids, _ = _sender_ids(client, scripts, inner, np.empty(0, np.int64), False, random)
    ports = _ports(len(talks), random)
    written = written_fields(scripts, inner, ids, clocks, around, random)
    egress, packet = egress_records(seen, scripts, inner, written, ports, mss, at, around, random)
    addresses = inner_addresses(index, len(client.devices))
    if kept:
        egress = kept.shown(egress, inner.packets[packet], scripts.proto)
    tun = None
    if around.spec.inner and protocol and not protocol.relay:
        tun = tun_records(client, scripts, inner, written, addresses, ports, protocol, around)
    flow = inner.column(k.FLOW)[packet]
    packets = Packets(ingress, egress, flow, packet, tun)
    return ClientRun(address, outer_ports, carrier, addresses, ports, talks, packets)


def _wiring(client: Client, around: Surroundings, protocol: Protocol | None) -> Wiring:
    up, down = access_links(client.path)
    measures, ip = around.spec.countermeasures, around.spec.ip
    wiring = Wiring(
        up,
        down,
        around.law,
        _CRYPTO_NS,
        around.spec.server.internet_loss,
        overhead_bytes=0,
        inner_header=ip.inner_header_bytes,
        outer_header=ip.outer_header_bytes,
    )
    if protocol is None:
        return replace(wiring, crypto_ns=0.0, server=around.law._replace(slot_up_ns=0.0, slot_down_ns=0.0))
    wiring = replace(
        wiring,
        overhead_bytes=protocol.overhead_bytes + ip.outer_header_bytes,
        pad_bytes=protocol.mtu if measures.pad_mtu else 0,
        pad_block=max(measures.pad_block, protocol.stream.block if protocol.stream else 1),
        mtu=protocol.mtu,
    )
    stream = protocol.stream
    if stream is None:
        return wiring
    return replace(
        wiring,
        stream_overhead=stream.overhead_bytes,
        frame_extra=stream.frame_extra,
        frame_block=stream.frame_block,
        block_bytes=stream.block_bytes,
        adjust_bytes=stream.adjust_bytes,
        adjust_after_bytes=stream.adjust_after_bytes,
        relay=stream.relay,
    )


def _network(scripts: Scripts, wiring: Wiring, around: Surroundings, random: np.random.Generator) -> Traffic:
    seed = int(random.integers(0, 1 << 62))
    return run_network(scripts.flows, scripts.endpoints, scripts.messages, wiring, seed, around.end_ns)


def _through_tunnel(
    client: Client, scripts: Scripts, tap: Tap, outer_clock: TimestampClock, random: np.random.Generator
) -> tuple[Traffic, Records, npt.NDArray[np.uint16]]:
    """Inner packets, outer records, and the IP IDs of the inner ones: both are one host's work."""
    around, protocol = tap.around, tap.protocol
    wiring = _wiring(client, around, protocol)
    if protocol.stream:
        stream = protocol.stream
        control = stream.set_up(random)
        scripts = with_outer(scripts, tap, np.array([int(client.start_s * 1e9)]), control)
        wiring = replace(wiring, tunnel_flow=len(scripts.talks))
        inner, own = _network(scripts, wiring, around, random).split(wiring.tunnel_flow)
        sent_ns = own[own[:, k.SIDE] == UP, k.SENT_NS]
        inner_ids, outer_ids = _sender_ids(client, scripts, inner, sent_ns, True, random)
        parts = [
            stream_bytes(stream, control, side, inner.frame_end[side], inner.frame_packet[side], random)
            for side in (UP, DOWN)
        ]
        has_ts = bool(scripts.flows[-1, k.HAS_TS])
        return inner, segment_records(tap, parts, own, has_ts, outer_ids, outer_clock, random), inner_ids
    inner = _network(scripts, wiring, around, random)
    datagrams, framed = _datagrams(inner, protocol, client, around, random)
    sent_ns = datagrams.sent_ns[datagrams.side == UP]
    inner_ids, outer_ids = _sender_ids(client, scripts, inner, sent_ns, False, random)
    return inner, datagram_records(tap, datagrams, framed, outer_ids, random), inner_ids


def _through_relay(
    scripts: Scripts,
    tap: Tap,
    ports: Ints,
    client: Client,
    kept: Kept | None,
    clock: TimestampClock,
    random: np.random.Generator,
) -> tuple[Traffic, Records]:
    """Packets of the server's connections, and records of the outer ones."""
    first = len(scripts.talks)
    wiring = replace(_wiring(client, tap.around, tap.protocol), tunnel_flow=first)
    traffic = _network(scripts, wiring, tap.around, random)
    inner, own = traffic.split(first)
    return inner, relay_records(tap, own, first, ports, scripts, traffic, kept, clock, random)


def access_links(path: AccessPath) -> tuple[Link, Link]:
    """Both directions of an access path for the kernels."""

    def link(mbit: float) -> Link:
        return Link(
            ns_per_byte=8000.0 / mbit if mbit else 0.0,
            delay_ns=path.delay_s * 1e9,
            jitter_ns=path.jitter_s * 1e9,
            law=JITTER_LAWS.index(path.jitter),
            loss=path.loss,
            queue_ns=path.queue_s * 1e9,
            burst_hz=path.burst_hz,
            burst_ns=path.burst_s * 1e9,
            reorder=path.reorder,
            reorder_ns=path.reorder_s * 1e9,
        )

    return link(path.up_mbit), link(path.down_mbit)


def _datagrams(
    traffic: Traffic, protocol: Protocol, client: Client, around: Surroundings, random: np.random.Generator
) -> tuple[Datagrams, Framed]:
    measures = around.spec.countermeasures
    entered = np.flatnonzero(traffic.column(k.TUNNEL_NS) >= 0)
    packets = traffic.packets[entered]
    end = Endpoint(
        random,
        int(client.start_s * 1e9),
        around.end_ns,
        int(client.path.delay_s * 1e9),
        int(client.keepalive_s * 1e9),
        protocol.mtu,
    )
    datagrams = Datagrams(
        side=packets[:, k.SIDE],
        sent_ns=packets[:, k.TUNNEL_NS],
        tap_ns=packets[:, k.IN_NS],
        inner=entered,
        kind=np.full(len(entered), DATA),
        size=padded(packets[:, k.IP_LEN], measures, protocol.mtu),
    )
    if measures.cover_hz:
        datagrams = add_cover(datagrams, measures, protocol.mtu, end)
    assert protocol.framing is not None
    return protocol.framing(datagrams, end)


def _ports(count: int, random: np.random.Generator) -> Ints:
    """Ephemeral ports, distinct within the client as far as there are any."""
    if count > _EPHEMERAL:
        return _FIRST_EPHEMERAL + random.integers(0, _EPHEMERAL, count)
    return _FIRST_EPHEMERAL + random.permutation(_EPHEMERAL)[:count].astype(np.int64)


def _sender_ids(
    client: Client,
    scripts: Scripts,
    inner: Traffic,
    outer_ns: Ints,
    outer_tcp: bool,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """IP IDs of inner packets and of the tunnel's own, sent at ``outer_ns``: one counter may serve both."""
    flow = inner.column(k.FLOW)
    up = inner.column(k.SIDE) == UP
    inner_ids = np.zeros(len(flow), np.uint16)
    outer_ids = np.zeros(len(outer_ns), np.uint16)
    same = np.full(len(outer_ns), -1)
    tcp = np.full(len(outer_ns), outer_tcp)
    for i, device in enumerate(client.devices):
        mine = np.flatnonzero(up & (scripts.device[flow] == i))
        extra = slice(None) if i == 0 and client.outer is None else slice(0)
        ids = ip_ids(
            device.stack.ip_id,
            np.concatenate([inner.packets[mine, k.SENT_NS], outer_ns[extra]]),
            np.concatenate([scripts.proto[flow[mine]] == TCP, tcp[extra]]),
            np.concatenate([flow[mine], same[extra]]),
            np.concatenate([scripts.host[flow[mine]], same[extra]]),
            random,
        )
        inner_ids[mine] = ids[: len(mine)]
        outer_ids[extra] = ids[len(mine) :]
    if client.outer is not None:
        outer_ids = ip_ids(client.outer.ip_id, outer_ns, tcp, same, same, random)
    return inner_ids, outer_ids
