"""Relays: what a client asks of one, and the segments that carry it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.ingress import Tap, segment_records, with_outer
from vpnforensics.groundtruth.simulate.ip_ids import ip_ids
from vpnforensics.groundtruth.simulate.network import Ints, Traffic
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.outer.datagrams import Bytes
from vpnforensics.groundtruth.simulate.outer.streams import StreamFraming, relay_bytes
from vpnforensics.groundtruth.simulate.scripts import Scripts
from vpnforensics.groundtruth.simulate.spec import Client, Device, Stack
from vpnforensics.groundtruth.simulate.surroundings import DOWN, TCP, UP, Records, joined

THROUGH_PROXY = ("browse", "download", "upload", "longpoll", "idle", "ssh", "telemetry")
"""Activities whose programs can use a proxy: those over TCP. Names are looked up by the server."""
_READ_AHEAD_BYTES = 400_000
_FIRST_PORT, _PORTS = 32768, 28232
_TABLE_BYTES = 1 << 17
"""Drawn once for all flows: of so many pairs of them, one begins at the same place."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What flows say, where a relay keeps every byte: each flow and side begins somewhere in one table."""

    table: Bytes
    base: Ints
    """Shape (flows, 2)."""

    @classmethod
    def draw(cls, flows: int, random: np.random.Generator) -> Kept:
        """Bytes that hardly two flows share."""
        table = random.integers(0, 256, _TABLE_BYTES, np.uint8)
        return cls(np.tile(table, 2), random.integers(0, _TABLE_BYTES, (flows, 2)))

    def stream(self, flow: int, side: int, length: int) -> Bytes:
        """The first bytes of one direction."""
        place = (self.base[flow, side] + np.arange(length)) % _TABLE_BYTES
        said: Bytes = np.take(self.table, place)
        return said

    def shown(self, records: Records, packets: Ints, proto: Ints) -> Records:
        """The records of packets with these bytes in them."""
        rows, flow = records.rows.copy(), packets[:, k.FLOW]
        tcp = np.flatnonzero(proto[flow] == TCP)
        segment = packets[tcp]
        place = self.base[segment[:, k.FLOW], segment[:, k.SIDE]] + np.maximum(segment[:, k.SEQ] - 1, 0)
        rows["content"][tcp] = len(records.content) + place % _TABLE_BYTES
        rows["content_length"][tcp] = segment[:, k.LENGTH]
        return Records(rows, np.concatenate([records.content, self.table]))


def refuse_impossible(client: Client, name: str) -> None:
    """Raise :class:`ScenarioError` where a relay cannot carry what a client does."""
    for activity in client.traffic:
        if activity.kind not in THROUGH_PROXY:
            raise ScenarioError(f"{client.name}: {activity.kind} cannot use a proxy ({name})")
    if len(client.devices) > 1 or client.outer is not None:
        raise ScenarioError(f"{client.name}: a relay has no devices behind it ({name})")


def server_device(stack: Stack) -> Device:
    """The server as the sender of egress packets; its last hop is ours to undo."""
    return Device("server", replace(stack, ttl=stack.ttl + 1, receive_bytes=_READ_AHEAD_BYTES))


def relayed(scripts: Scripts, client: Client, tap: Tap, delay_ns: int) -> tuple[Scripts, Ints]:
    """Give each conversation its way through the relay, and append the outer connections.

    Parameters
    ----------
    delay_ns : int
        One-way delay of the access path.

    Returns
    -------
    Scripts
    ndarray of int64, shape (talks,)
        The outer connection of each conversation; a lookup goes with the connection that it is for.
    """
    stream = tap.protocol.stream
    assert stream is not None
    assert stream.relay is not None
    assert stream.open_bytes is not None
    flows = scripts.flows
    n = len(flows)
    streams = scripts.proto == TCP
    flows[:, k.ROLE] = np.where(streams, k.RELAYED, k.RELAYS_OWN)
    flows[:, k.OPEN_BYTES] = [stream.open_bytes(_name_bytes(talk.host)) for talk in scripts.talks]
    # The server looks a name up when the request has come to it.
    trips = sum(message.side == DOWN and message.wait_ns > 0 for message in tap.control)
    before = 0 if stream.relay.channels else trips
    flows[~streams, k.START] += (3 + 2 * before) * delay_ns
    if stream.relay.channels:
        starts = np.array([int(client.start_s * 1e9)])
        carrier = np.zeros(n, np.int64)
    else:
        starts = flows[streams, k.START]
        # A lookup stands before what it is for.
        carrier = np.minimum(np.cumsum(streams) - streams, max(int(streams.sum()) - 1, 0))
    flows[:, k.PARTNER] = n + carrier
    scripts = with_outer(scripts, tap, starts, tap.control)
    if not stream.relay.channels:
        scripts.flows[n:, k.PARTNER] = np.flatnonzero(streams)
    return scripts, carrier


def _name_bytes(host: int) -> int:
    """Length of a host's name."""
    return 10 + host % 24


def relay_ports(first: int, count: int, random: np.random.Generator) -> Ints:
    """Client ports of the outer connections, distinct as far as there are any."""
    if count == 1:
        return np.array([first], np.int64)
    steps = random.permutation(_PORTS - 1)[: count - 1] + 1 if count <= _PORTS else np.arange(1, count)
    return _FIRST_PORT + (first - _FIRST_PORT + np.concatenate([[0], steps])) % _PORTS


def relay_records(
    tap: Tap,
    own: Ints,
    first: int,
    ports: Ints,
    scripts: Scripts,
    traffic: Traffic,
    kept: Kept | None,
    clock: TimestampClock,
    random: np.random.Generator,
) -> Records:
    """Records of all outer connections of one client.

    Parameters
    ----------
    traffic : Traffic
        All of the client's, for its frames.
    kept : Kept or None
        What its flows say, where the relay keeps it.
    own : ndarray of int64, shape (n, PACKET_COLUMNS)
        Their segments.
    first : int
        Row of the first of them among the flows.
    ports : ndarray of int64
        The client's port of each.
    clock : TimestampClock
        Of the client's outer stack.
    """
    stream = tap.protocol.stream
    assert stream is not None
    assert stream.relay is not None
    up = own[:, k.SIDE] == UP
    sent_ns, flow = own[up, k.SENT_NS], own[up, k.FLOW]
    ids = np.zeros(len(own), np.uint16)
    same = np.full(len(flow), -1)
    ids[up] = ip_ids(tap.stack.ip_id, sent_ns, np.ones(len(flow), np.bool_), flow, same, random)
    has_ts = bool(scripts.flows[-1, k.HAS_TS])
    parts = []
    for number, port in enumerate(ports.tolist()):
        mine = np.flatnonzero(own[:, k.FLOW] == first + number)
        segments = own[mine]
        echo = segments[:, k.ECHO]
        segments[:, k.ECHO] = np.where(echo >= 0, np.searchsorted(mine, echo), -1)
        content = []
        flow = -1 if stream.relay.channels else int(scripts.flows[first + number, k.PARTNER])
        for side in (UP, DOWN):
            ends = segments[segments[:, k.SIDE] == side]
            length = int((ends[:, k.SEQ] + ends[:, k.LENGTH]).max(initial=1)) - 1
            of = traffic.frame_packet[side]
            frames = traffic.frame_end[side][of == flow if flow >= 0 else of >= 0]
            text = relay_bytes(stream, tap.control, side, length, frames, random)
            if kept and flow >= 0:
                _keep(text, stream, tap, side, kept, flow, scripts.talks[flow].host)
            content.append(text)
        up_ids = ids[mine][segments[:, k.SIDE] == UP]
        at = replace(tap, port=port)
        parts.append(segment_records(at, content, segments, has_ts, up_ids, clock, random))
    return joined(parts)


def _keep(text: Bytes, stream: StreamFraming, tap: Tap, side: int, kept: Kept, flow: int, host: int) -> None:
    """Write the request or the answer behind the set-up, and what the flow says behind that."""
    assert stream.request is not None
    start = sum(message.length for message in tap.control if message.side == side)
    said = stream.request(_name_bytes(host)) if side == UP else stream.answer
    room = text[start : start + len(said)]
    room[:] = np.frombuffer(said, np.uint8)[: len(room)]
    rest = text[start + len(said) :]
    rest[:] = kept.stream(flow, side, len(rest))
