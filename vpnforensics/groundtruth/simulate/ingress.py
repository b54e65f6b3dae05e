"""Outer packets as the ingress tap sees them: datagrams, or segments of a tunnel over TCP."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.ip_ids import ip_ids
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.outer import Protocol
from vpnforensics.groundtruth.simulate.outer.datagrams import HEAD_BYTES, Bytes, Control, Datagrams, Framed
from vpnforensics.groundtruth.simulate.population import SYN_LAYOUTS
from vpnforensics.groundtruth.simulate.scripts import Scripts, write_endpoint
from vpnforensics.groundtruth.simulate.spec import Stack
from vpnforensics.groundtruth.simulate.surroundings import (
    DOWN,
    ESP,
    TCP,
    UDP,
    UP,
    Records,
    Surroundings,
    captured,
)

_SYN, _ACK = 2, 16
_LOW32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Tap:
    """One tunnel at the ingress tap: its endpoints and stacks."""

    name: str
    protocol: Protocol
    stack: Stack
    address: int
    port: int
    ttl: int
    around: Surroundings
    control: list[Control] = field(default_factory=list)
    """Set-up of a relay."""


def _addressed(tap: Tap, ts_ns: Ints, down: npt.NDArray[np.bool_], proto: int) -> npt.NDArray[np.void]:
    server, stack = tap.around.server_address, tap.around.spec.server.stack
    rows = np.zeros(len(ts_ns), frames.RECORD)
    rows["ts_ns"] = ts_ns
    rows["src"] = np.where(down, server, tap.address)
    rows["dst"] = np.where(down, tap.address, server)
    rows["sport"] = np.where(down, tap.protocol.port, tap.port)
    rows["dport"] = np.where(down, tap.port, tap.protocol.port)
    rows["proto"] = proto
    rows["ttl"] = np.where(down, stack.ttl, tap.ttl)
    rows["df"] = np.where(down, stack.df, tap.stack.df)
    rows["outgoing"] = down
    rows["version"] = tap.around.spec.ip.outer
    if tap.protocol.stream:
        rows["tos"] = np.where(down, 0, tap.protocol.stream.up_tos)
    return rows


def _mss(tap: Tap) -> int:
    return 1460 - tap.around.spec.ip.outer_header_bytes


def _all_ids(
    tap: Tap,
    up_ids: npt.NDArray[np.uint16],
    side: Ints,
    sent_ns: Ints,
    tcp: bool,
    random: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """The client's IP IDs and the server's, in the rows of their packets."""
    ids = np.zeros(len(side), np.uint16)
    ids[side == UP] = up_ids
    down = side == DOWN
    same = np.full(int(down.sum()), -1)
    model = tap.around.spec.server.stack.ip_id
    ids[down] = ip_ids(model, sent_ns[down], np.full(len(same), tcp), same, same, random)
    return ids


def _seen(tap: Tap, tap_ns: Ints, random: np.random.Generator) -> Ints:
    """Rows that the ingress capture holds."""
    return captured(tap_ns, tap.around.spec.ingress, tap.name, tap.around.end_ns, random)


def datagram_records(
    tap: Tap,
    datagrams: Datagrams,
    framed: Framed,
    up_ids: npt.NDArray[np.uint16],
    random: np.random.Generator,
) -> Records:
    """Records of one tunnel's datagrams at the ingress tap.

    Parameters
    ----------
    up_ids : ndarray of uint16
        IP IDs of what the client sent, in the order of the UP rows; the server's are made here.
    """
    ids = _all_ids(tap, up_ids, datagrams.side, datagrams.sent_ns, False, random)
    keep = _seen(tap, datagrams.tap_ns, random)
    proto = ESP if tap.protocol.transport == "esp" else UDP
    rows = _addressed(tap, datagrams.tap_ns[keep], datagrams.side[keep] == DOWN, proto)
    rows["ip_id"] = ids[keep]
    rows["length"] = framed.length[keep]
    if proto == ESP:
        rows["sport"] = rows["dport"] = 0
    rows["content"] = np.arange(len(keep)) * HEAD_BYTES
    rows["content_length"] = np.minimum(framed.head_length[keep], framed.length[keep])
    return Records(rows, framed.head[keep].reshape(-1))


def with_outer(scripts: Scripts, tap: Tap, starts_ns: Ints, control: list[Control]) -> Scripts:
    """Append outer connections to the kernel's rows; their script is the set-up."""
    stream = tap.protocol.stream
    assert stream is not None
    n = len(starts_ns)
    server = tap.around.spec.server.stack
    has_ts = int(tap.stack.clock.kind != "none" and server.clock.kind != "none")
    flows = np.zeros((n, k.FLOW_COLUMNS), np.int64)
    first = len(scripts.messages)
    flows[:, k.PROTO] = TCP
    flows[:, k.START] = starts_ns
    flows[:, k.FIRST_MESSAGE], flows[:, k.END_MESSAGE] = first, first + len(control)
    flows[:, k.CLOSER] = -1
    flows[:, k.HAS_TS] = has_ts
    flows[:, k.ROLE] = k.OUTER
    endpoints = np.zeros((2, k.ENDPOINT_COLUMNS), np.int64)
    for side, (mine, peer) in enumerate(((tap.stack, server), (server, tap.stack))):
        options = int(frames.OPTION_BYTES[_syn_layouts(tap)[side]])
        write_endpoint(endpoints[side], mine, peer, _mss(tap) - 12 * has_ts, options, reads=False)
        endpoints[side, k.NAGLE] = stream.nagle[side]
    messages = [(m.side, m.length + stream.control_bytes, m.wait_ns, 0) for m in control]
    return replace(
        scripts,
        flows=np.vstack([scripts.flows, flows]),
        endpoints=np.vstack([scripts.endpoints, np.tile(endpoints, (n, 1))]),
        messages=np.vstack([scripts.messages, np.array(messages, np.int64).reshape(-1, 4)]),
    )


def _syn_layouts(tap: Tap) -> tuple[int, int]:
    server = tap.around.spec.server.stack
    offered = tap.stack.clock.kind != "none"
    agreed = offered and server.clock.kind != "none"
    return SYN_LAYOUTS[tap.stack.options, offered], SYN_LAYOUTS[server.options, agreed]


def segment_records(
    tap: Tap,
    parts: list[Bytes],
    own: Ints,
    has_ts: bool,
    up_ids: npt.NDArray[np.uint16],
    clock: TimestampClock,
    random: np.random.Generator,
) -> Records:
    """Records of the segments of one outer connection.

    Parameters
    ----------
    parts : list of ndarray of uint8
        The stream's bytes, up and down.
    own : ndarray of int64, shape (n, PACKET_COLUMNS)
        The connection's segments.
    has_ts : bool
        They bear timestamps.
    up_ids : ndarray of uint16
        IP IDs of what the client sent, in the order of the UP rows.
    clock : TimestampClock
        Of the client's outer stack; a device that runs the tunnel itself has but one.
    """
    ids = _all_ids(tap, up_ids, own[:, k.SIDE], own[:, k.SENT_NS], True, random)
    salt = np.full(len(own), int(random.integers(0, 1 << 60)))
    side = own[:, k.SIDE]
    tsval = np.where(
        side == UP,
        clock.tsval(own[:, k.SENT_NS], salt, salt),
        tap.around.server_clock.tsval(own[:, k.SENT_NS], salt, salt),
    )
    tsecr = np.where(own[:, k.ECHO] >= 0, tsval[np.maximum(own[:, k.ECHO], 0)], 0) if len(own) else tsval
    isn = random.integers(0, 1 << 32, 2)
    keep = _seen(tap, own[:, k.IN_NS], random)
    own, side, flags = own[keep], side[keep], own[keep, k.FLAGS]
    rows = _addressed(tap, own[:, k.IN_NS], side == DOWN, TCP)
    rows["ip_id"] = ids[keep]
    rows["length"] = own[:, k.LENGTH]
    rows["flags"] = flags
    rows["seq"] = (isn[side] + own[:, k.SEQ]) & _LOW32
    rows["ack"] = np.where(flags & _ACK > 0, (isn[1 - side] + own[:, k.ACK]) & _LOW32, 0)
    syn = flags & _SYN > 0
    layout = np.where(syn, np.array(_syn_layouts(tap))[side], frames.DATA_TS if has_ts else frames.NO_OPTIONS)
    rows["layout"] = layout
    stamped = np.isin(layout, (frames.DATA_TS, frames.SYN_LINUX, frames.SYN_MACOS))
    rows["tsval"] = np.where(stamped, tsval[keep], 0)
    rows["tsecr"] = np.where(stamped, tsecr[keep], 0)
    held = own[:, k.SACK_RIGHT] > 0
    for name, column in (("sack_left", k.SACK_LEFT), ("sack_right", k.SACK_RIGHT)):
        rows[name] = np.where(held, (isn[1 - side] + own[:, column]) & _LOW32, 0)
    stacks = (tap.stack, tap.around.spec.server.stack)
    scale = np.array([s.window_scale for s in stacks])[side]
    first = np.array([s.window for s in stacks])[side]
    most = np.array([s.receive_bytes for s in stacks])[side]
    opened = np.minimum(first + own[:, k.ACK], most) >> scale
    rows["window"] = np.where(syn, first, np.minimum(opened, 65535))
    rows["scale"] = np.where(syn, scale, 0)
    rows["mss"] = np.where(syn, _mss(tap), 0)
    offset = np.where(side == UP, 0, len(parts[0]))
    rows["content"] = offset + np.maximum(own[:, k.SEQ] - 1, 0)
    rows["content_length"] = own[:, k.LENGTH]
    return Records(rows, np.concatenate(parts))
