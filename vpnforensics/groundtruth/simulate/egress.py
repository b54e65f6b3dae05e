"""Inner packets in the clear, with the fields their stacks gave them; and as the egress tap sees them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.network import Ints, Traffic
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.scripts import Scripts, internet_mss
from vpnforensics.groundtruth.simulate.spec import Client
from vpnforensics.groundtruth.simulate.surroundings import (
    DOWN,
    ICMP,
    TCP,
    UP,
    Records,
    Surroundings,
    captured,
)

_SYN, _ACK = 2, 16
_LOW32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Written:
    """What the stacks wrote into one client's inner packets, in the packets' order.

    Parameters
    ----------
    tsval, tsecr : ndarray of uint32
    ids : ndarray of uint16
        IP IDs.
    isn : ndarray of int64, shape (flows, 2)
        Initial sequence numbers.
    """

    tsval: npt.NDArray[np.uint32]
    tsecr: npt.NDArray[np.uint32]
    ids: npt.NDArray[np.uint16]
    isn: Ints


def written_fields(
    scripts: Scripts,
    traffic: Traffic,
    up_ids: npt.NDArray[np.uint16],
    clocks: list[TimestampClock],
    around: Surroundings,
    random: np.random.Generator,
) -> Written:
    """Fill the fields of both ends.

    Parameters
    ----------
    up_ids : ndarray of uint16, shape (packets,)
        IP IDs of what the devices sent.
    clocks : list of TimestampClock
        Of each device.
    """
    tsval, tsecr = _timestamps(scripts, traffic, clocks, around, random)
    ids = _with_peers(up_ids, scripts, traffic, around, random)
    return Written(tsval, tsecr, ids, random.integers(0, 1 << 32, (len(scripts.talks), 2)))


def egress_records(
    client: Client,
    scripts: Scripts,
    traffic: Traffic,
    written: Written,
    ports: Ints,
    mss: int,
    at: int,
    around: Surroundings,
    random: np.random.Generator,
) -> tuple[Records, Ints]:
    """Records of one client's inner packets at the egress tap, still with the client's ports.

    Parameters
    ----------
    ports : ndarray of int64, shape (flows,)
        Source ports.
    mss : int
        In SYN packets up.
    at : int
        Packet column with the time at the tap.

    Returns
    -------
    Records
    ndarray of int64
        The packet of each.
    """
    out_ns = traffic.column(at)
    keep = captured(out_ns, around.spec.egress, client.name, around.end_ns, random)
    near = np.full(len(scripts.talks), around.egress_address)
    records = packet_records(client, scripts, traffic, written, keep, out_ns, near, ports, mss, around)
    rows, flow = records.rows, traffic.column(k.FLOW)[keep]
    down = traffic.column(k.SIDE)[keep] == DOWN
    # One hop at the server, for what comes through it.
    rows["ttl"] -= ~down
    measures = around.spec.countermeasures
    if measures.scrub_ip_id:
        rows["ip_id"] = np.where(down, rows["ip_id"], random.integers(0, 65536, len(keep)))
    if measures.scrub_tsval:
        _scrub_tsval(rows, flow, down, len(scripts.talks), random)
    if measures.normalise_ttl:
        rows["ttl"] = np.where(down, rows["ttl"], measures.normalise_ttl)
    return records, keep


def packet_records(
    client: Client,
    scripts: Scripts,
    traffic: Traffic,
    written: Written,
    keep: Ints,
    times_ns: Ints,
    near: Ints,
    ports: Ints,
    mss: int,
    around: Surroundings,
) -> Records:
    """Some of the inner packets, in the clear, as they are between the client's host and the server.

    Parameters
    ----------
    keep : ndarray of int64, shape (n,)
        Which packets.
    times_ns : ndarray of int64, shape (packets,)
        When all of them stood at the tap.
    near, ports : ndarray of int64, shape (flows,)
        Address and port of the client's side.
    mss : int
        In SYN packets up.
    """
    packets = traffic.packets[keep]
    flow, side = packets[:, k.FLOW], packets[:, k.SIDE]
    isn = written.isn
    down = side == DOWN
    proto = scripts.proto[flow]
    tcp = proto == TCP
    flags = packets[:, k.FLAGS]
    syn = tcp & (flags & _SYN > 0)
    rows = np.zeros(len(keep), frames.RECORD)
    rows["ts_ns"] = times_ns[keep]
    far = around.population.address[scripts.host[flow]]
    rows["src"] = np.where(down, far, near[flow])
    rows["dst"] = np.where(down, near[flow], far)
    rows["version"] = around.spec.ip.inner
    rows["sport"] = np.where(down, scripts.port[flow], ports[flow])
    rows["dport"] = np.where(down, ports[flow], scripts.port[flow])
    rows["proto"] = proto
    rows["ip_id"] = written.ids[keep]
    rows["length"] = packets[:, k.LENGTH]
    rows["outgoing"] = ~down
    rows["seq"] = np.where(tcp, (isn[flow, side] + packets[:, k.SEQ]) & _LOW32, packets[:, k.SEQ] >> 1)
    rows["ack"] = np.where(tcp & (flags & _ACK > 0), (isn[flow, 1 - side] + packets[:, k.ACK]) & _LOW32, 0)
    rows["flags"] = np.where(tcp, flags, np.where((proto == ICMP) & ~down, 8, scripts.lead[flow]))
    plain = np.where(scripts.has_ts[flow] > 0, frames.DATA_TS, frames.NO_OPTIONS)
    layout = np.where(syn, scripts.syn_layout[flow, side], np.where(tcp, plain, frames.NO_OPTIONS))
    rows["layout"] = layout
    stamped = np.isin(layout, (frames.DATA_TS, frames.SYN_LINUX, frames.SYN_MACOS))
    rows["tsval"] = np.where(stamped, written.tsval[keep], 0)
    rows["tsecr"] = np.where(stamped, written.tsecr[keep], 0)
    held = packets[:, k.SACK_RIGHT] > 0
    for name, column in (("sack_left", k.SACK_LEFT), ("sack_right", k.SACK_RIGHT)):
        rows[name] = np.where(held, (isn[flow, 1 - side] + packets[:, column]) & _LOW32, 0)
    _stack_fields(rows, client, scripts, packets, syn, mss, around)
    return Records(rows, _place_content(rows, packets, scripts))


def _timestamps(
    scripts: Scripts,
    traffic: Traffic,
    clocks: list[TimestampClock],
    around: Surroundings,
    random: np.random.Generator,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """TSval of every packet by its sender's clock, and TSecr by the packet its sender echoes."""
    packets = traffic.packets
    flow = packets[:, k.FLOW]
    up = packets[:, k.SIDE] == UP
    tsval = np.zeros(len(packets), np.uint32)
    tcp = scripts.proto[flow] == TCP
    # Connections differ between clients: the salt stands for the address pair's client side.
    salt = int(random.integers(0, 1 << 40)) << 20
    for i, clock in enumerate(clocks):
        mine = np.flatnonzero(up & tcp & (scripts.device[flow] == i))
        if clock.model.kind != "none" and len(mine):
            f = flow[mine]
            tsval[mine] = clock.tsval(packets[mine, k.SENT_NS], salt + scripts.host[f], salt + f)
    from_host = np.flatnonzero(~up & tcp)
    from_host = from_host[np.argsort(scripts.host[flow[from_host]], kind="stable")]
    hosts = scripts.host[flow[from_host]]
    edges = np.flatnonzero(np.diff(hosts, prepend=-1, append=-1))
    for start, end in pairwise(edges.tolist()):
        host = around.population.hosts[hosts[start]]
        if host.stack.clock.kind != "none":
            rows = from_host[start:end]
            f = flow[rows]
            tsval[rows] = host.clock.tsval(packets[rows, k.SENT_NS], salt + f * 0, salt + f)
    echo = packets[:, k.ECHO]
    tsecr = np.where(echo >= 0, tsval[np.maximum(echo, 0)], 0).astype(np.uint32)
    return tsval, tsecr


def _with_peers(
    up_ids: npt.NDArray[np.uint16],
    scripts: Scripts,
    traffic: Traffic,
    around: Surroundings,
    random: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """Add the Internet hosts' IDs: a counter a flow (Linux; 0 on its SYN-ACK), 0, or a counter a client."""
    packets = traffic.packets
    down = np.flatnonzero(packets[:, k.SIDE] == DOWN)
    flow = packets[down, k.FLOW]
    kind = around.population.ids[scripts.host[flow]]
    pooled = np.where(kind == "per_destination", -1 - scripts.host[flow], flow)
    order = np.lexsort((packets[down, k.SENT_NS], pooled))
    first = np.flatnonzero(np.diff(pooled[order], prepend=pooled[order][:1] - 1))
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    rank = np.arange(len(order)) - first[group]
    ids = np.empty(len(down), np.int64)
    ids[order] = random.integers(0, 65536, len(first))[group] + rank
    syn = packets[down, k.FLAGS] & _SYN > 0
    ids[(kind == "zero") | (syn & (kind == "per_flow"))] = 0
    result = up_ids.copy()
    result[down] = ids & 0xFFFF
    return result


def _stack_fields(
    rows: npt.NDArray[np.void],
    client: Client,
    scripts: Scripts,
    packets: Ints,
    syn: npt.NDArray[np.bool_],
    mss: int,
    around: Surroundings,
) -> None:
    """TTL, DF, window, MSS and window scale, by the sender's stack."""
    flow = packets[:, k.FLOW]
    up = packets[:, k.SIDE] == UP
    host = scripts.host[flow]
    device = scripts.device[flow]
    # One hop at a gateway when the device lies behind it.
    ttl = np.array([d.stack.ttl - (d.lan_delay_s > 0) for d in client.devices], np.int64)
    rows["ttl"] = np.where(up, ttl[device], around.population.ttl[host])
    rows["df"] = np.where(up, np.array([d.stack.df for d in client.devices])[device], True)
    tcp = rows["proto"] == TCP
    rows["df"] &= tcp | up

    def pick(attribute: str) -> Ints:
        mine = np.array([getattr(d.stack, attribute) for d in client.devices], np.int64)
        theirs = np.array([getattr(h.stack, attribute) for h in around.population.hosts], np.int64)
        return np.where(up, mine[device], theirs[host])

    initial, scale = pick("window"), pick("window_scale")
    # Autotuning: the window opens as data arrive, up to the receive buffer.
    opened = np.minimum(initial + packets[:, k.ACK], pick("receive_bytes")) >> scale
    window = np.where(syn, np.minimum(initial, 65535), np.minimum(opened, 65535))
    rows["window"] = np.where(tcp, window, 0)
    rows["scale"] = np.where(syn, scale, 0)
    rows["mss"] = np.where(syn, np.where(up, mss, internet_mss(around.spec.ip)), 0)


def _scrub_tsval(
    rows: npt.NDArray[np.void],
    flow: Ints,
    down: npt.NDArray[np.bool_],
    flows: int,
    random: np.random.Generator,
) -> None:
    """A random constant a connection on what leaves, taken off what is echoed (as pf `reassemble tcp`)."""
    shift = random.integers(0, 1 << 32, flows)[flow]
    stamped = np.isin(rows["layout"], (frames.DATA_TS, frames.SYN_LINUX, frames.SYN_MACOS))
    out = stamped & ~down
    rows["tsval"] = np.where(out, (rows["tsval"] + shift) & _LOW32, rows["tsval"])
    echoes = stamped & down & (rows["tsecr"] > 0)
    rows["tsecr"] = np.where(echoes, (rows["tsecr"] + shift) & _LOW32, rows["tsecr"])


def _place_content(rows: npt.NDArray[np.void], packets: Ints, scripts: Scripts) -> npt.NDArray[np.uint8]:
    """Put the content of datagrams that mean something beside the rows."""
    parts: list[bytes] = []
    at = 0
    speaking = np.array([bool(talk.payloads) for talk in scripts.talks], np.bool_)
    if not speaking.any():
        return np.empty(0, np.uint8)
    flow = packets[:, k.FLOW]
    for i in np.flatnonzero(speaking[flow]):
        f = flow[i]
        message = int(packets[i, k.SEQ]) - int(scripts.flows[f, k.FIRST_MESSAGE])
        text = scripts.talks[f].payloads.get(message, b"")
        rows["content"][i] = at
        rows["content_length"][i] = len(text)
        parts.append(text)
        at += len(text)
    return np.frombuffer(b"".join(parts), np.uint8)
