"""Which names the flows of a decrypted capture give away, each read in the flow itself.

The first bytes of a connection name the server it is for; a lookup names the addresses that come next. What
is read, in one further pass over the capture, are the messages of DNS and the first packets of everything
else; in memory is only what of a flow has not come to its name yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from vpnforensics.arrays import Ints
from vpnforensics.capture.payloads import can_be_read_again
from vpnforensics.errors import CaptureError
from vpnforensics.features.names import dns, http, quic, tls
from vpnforensics.features.names.payloads import Payload, payloads
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import FRAG_WHOLE, PROTO_TCP, PROTO_UDP, PacketTable
from vpnforensics.scratch import blocks
from vpnforensics.tunnels.reassembly import reassemble_streams

Source = Literal["sni", "http", "quic", "query", "reverse", "dns", "dns_elsewhere", "zeek", "zeek_dns"]
"""Where a name comes from: the flow's own first bytes; what its lookup asked for; an answer to a lookup, of
the tunnel that carried the flow or of another; or a log of Zeek, of the flow itself or of a lookup."""

_FIRST_PACKETS = 10
"""Datagrams of a flow that is no DNS: a QUIC client repeats its hello only before the answer."""
_FIRST_SEGMENTS, _FIRST_STREAM_BYTES = 24, 1 << 14
"""A client speaks within its first segments; SSH, SMTP and others, where the server does, have no name."""
_BATCH_FLOWS = 1024


@dataclass(frozen=True, slots=True)
class Lookup:
    """That a name has an address, as a flow of DNS told at some time."""

    flow: int
    ts_ns: int
    name: str
    address: bytes
    ttl_s: int
    source: Source = "dns"


@dataclass(eq=False)
class FlowNames:
    """What was read: names by flow number, lookups in order of time, and what could not be read."""

    own: dict[int, list[tuple[str, Source]]] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    hidden: dict[str, int] = field(default_factory=dict)
    """Flows or messages whose name the snap length hid, by kind."""
    undecrypted: int = 0
    """QUIC handshakes for which the package with the ciphers is missing."""
    unread: str = ""
    """Why nothing, or not all, could be read."""

    def add(self, flow: int, name: str | None, source: Source) -> None:
        """A name that a flow gave itself, once."""
        if name is not None and (name, source) not in self.own.setdefault(flow, []):
            self.own[flow].append((name, source))

    def hide(self, kind: str) -> None:
        """Count what a snap hid."""
        self.hidden[kind] = self.hidden.get(kind, 0) + 1


def find_names(flows: FlowTable) -> FlowNames:
    """Read the names in a capture; what cannot be read is said in the result, and is no error.

    Parameters
    ----------
    flows : FlowTable
        Of a decrypted capture, in a file.
    """
    names = FlowNames()
    if not can_be_read_again(flows.packets.source):
        names.unread = (
            "the capture is no file" if flows.packets.source is None else "the capture cannot be read twice"
        )
        return names
    streams = _first_pieces(flows)
    rows = np.concatenate([_first_datagrams(flows), np.unique(streams.lead)])
    reading = _Reading(flows, names, streams)
    try:
        for payload in payloads(flows.packets, rows):
            reading.take(payload)
    except CaptureError as error:
        names.unread = str(error)
    reading.end()
    names.lookups.sort(key=lambda lookup: lookup.ts_ns)
    return names


def _first_datagrams(flows: FlowTable) -> Ints:
    """Rows of all DNS over UDP, and of the first datagrams of other flows."""
    packets, (order, starts) = flows.packets, flows.order
    found = [np.zeros(0, np.int64)]
    for some in blocks(len(flows)):
        start = starts[some.start : some.stop + 1]
        rows, sizes = order[start[0] : start[-1]], np.diff(start)
        place = np.arange(len(rows)) - np.repeat(start[:-1] - start[0], sizes)
        wanted = (place < _FIRST_PACKETS) | np.repeat(flows.dport[some] == dns.PORT, sizes)
        rows = rows[wanted].astype(np.int64)
        udp = (packets.proto[rows] == PROTO_UDP) & (packets.frag[rows] == FRAG_WHOLE)
        found.append(rows[udp & (packets.payload_bytes[rows] > 0)])
    return np.sort(np.concatenate(found))


@dataclass(frozen=True, eq=False)
class _Streams:
    """The pieces to read of each stream, in order of the rows that have them."""

    lead: Ints
    """Row: of a super-frame that was split, the first, where all bytes are."""
    stream: Ints
    """``2 f`` is what flow f's client side says, ``2 f + 1`` the other."""
    pos: Ints
    """Position in the stream."""
    before: Ints
    """Bytes of the frame's payload before the piece."""
    size: Ints
    missing: Ints
    """Of each stream: pieces that have not been read yet. Is counted down."""

    def of_row(self, row: int) -> Iterator[tuple[int, int, int, int]]:
        """Stream, position, bytes before and size of each piece in a row."""
        first, after = np.searchsorted(self.lead, [row, row + 1])
        columns = (of[first:after].tolist() for of in (self.stream, self.pos, self.before, self.size))
        return zip(*columns, strict=True)


def _first_pieces(flows: FlowTable) -> _Streams:
    """What to read of TCP: what the client side says first, and all of DNS within the same bounds."""
    packets = flows.packets
    lead_of = _leads(packets)
    parts: list[tuple[Ints, ...]] = [(np.zeros(0, np.int64),) * 5]
    numbers = np.flatnonzero(flows.proto == PROTO_TCP).astype(np.int64)
    for begin in range(0, len(numbers), _BATCH_FLOWS):
        batch = numbers[begin : begin + _BATCH_FLOWS]
        pieces = reassemble_streams(flows, batch, first_packets=_FIRST_SEGMENTS)
        flow = batch[pieces.stream >> 1]
        wanted = (pieces.pos < _FIRST_STREAM_BYTES) & (
            (pieces.stream & 1 == 0) | (flows.dport[flow] == dns.PORT)
        )
        row = pieces.row[wanted].astype(np.int64)
        lead = row if lead_of is None else lead_of[row]
        before = (packets.seq[row].astype(np.int64) - packets.seq[lead].astype(np.int64)) & 0xFFFFFFFF
        stream = 2 * flow[wanted] + (pieces.stream[wanted] & 1)
        parts.append((lead, stream, pieces.pos[wanted], before + pieces.skip[wanted], pieces.size[wanted]))
    columns = [np.concatenate(of_batches) for of_batches in zip(*parts, strict=True)]
    order = np.argsort(columns[0], kind="stable")
    lead, stream, pos, before, size = (column[order] for column in columns)
    return _Streams(lead, stream, pos, before, size, np.bincount(stream, minlength=2 * len(flows)))


def _leads(packets: PacketTable) -> Ints | None:
    """For each row the first one of its frame, where super-frames were split; ``None`` where none was."""
    frame = packets.frame
    pairs = (frame[rows.start : rows.stop + 1] for rows in blocks(len(packets)))
    if all((some[1:] > some[:-1]).all() for some in pairs):
        return None
    _, first, frame_of = np.unique(frame, return_index=True, return_inverse=True)
    return first[frame_of].astype(np.int64)


class _Reading:
    """Payloads to names, as they come; what is half read waits in buffers of its flow."""

    def __init__(self, flows: FlowTable, names: FlowNames, streams: _Streams) -> None:
        self.flows, self.names, self.streams = flows, names, streams
        self._pieces: dict[int, list[tuple[int, bytes, bool]]] = {}
        self._handshakes: dict[int, quic.Handshake] = {}
        self._asked: dict[int, list[dns.Message]] = {}
        self._undecrypted: set[int] = set()
        self._cut: set[int] = set()

    def take(self, payload: Payload) -> None:
        """One more payload."""
        flow = int(self.flows.flow[payload.row])
        if self.flows.proto[flow] != PROTO_TCP:
            self._datagram(flow, payload)
            return
        for stream, pos, skip, size in self.streams.of_row(payload.row):
            got = payload.octets[skip : skip + size]
            self._pieces.setdefault(stream, []).append((pos, got, len(got) < size))
            self.streams.missing[stream] -= 1
            if not self.streams.missing[stream]:
                self._stream(stream, payload.row)

    def end(self) -> None:
        """What the end of the capture leaves half told."""
        for stream in sorted(self._pieces):
            self._stream(stream, 0)
        for flow in sorted(self._handshakes):
            found = self._handshakes[flow].found()
            if found is not None and found.name is not None:
                self.names.add(flow, found.name, "quic")
                self._cut.discard(flow)
        for _ in self._cut:
            self.names.hide("QUIC hellos")
        self.names.undecrypted = len(self._undecrypted)

    def _datagram(self, flow: int, payload: Payload) -> None:
        if self.flows.dport[flow] == dns.PORT:
            message = dns.read_message(payload.octets)
            if message is not None:
                self._message(flow, payload.row, message, payload.is_cut)
            elif payload.is_cut:
                self.names.hide("DNS messages")
        elif quic.is_initial(payload.octets):
            self._initial(flow, payload)
        else:
            self._perhaps_dns(flow, payload)

    def _initial(self, flow: int, payload: Payload) -> None:
        if not self.flows.up[payload.row]:
            return
        if payload.is_cut:
            self._cut.add(flow)
        elif not quic.can_decrypt():
            self._undecrypted.add(flow)
        else:
            self._handshakes.setdefault(flow, quic.Handshake()).add(payload.octets)

    def _perhaps_dns(self, flow: int, payload: Payload) -> None:
        """DNS at another port: taken for it where question and answer agree."""
        message = dns.read_message(payload.octets)
        if message is None:
            return
        if not message.is_response:
            self._asked.setdefault(flow, []).append(message)
        elif any((m.ident, m.name) == (message.ident, message.name) for m in self._asked.get(flow, ())):
            self._message(flow, payload.row, message, payload.is_cut)

    def _message(self, flow: int, row: int, message: dns.Message, is_cut: bool) -> None:
        self.names.add(flow, message.name, "query")
        if is_cut and message.cut:
            self.names.hide("answers to lookups")
        ts_ns = int(self.flows.packets.ts_ns[row])
        for answer in message.answers:
            self.names.lookups.append(Lookup(flow, ts_ns, message.name, answer.address, answer.ttl_s))
        address = dns.address_of(message.name) if message.reverse else None
        if address is not None:
            for name in message.reverse:
                self.names.lookups.append(Lookup(flow, ts_ns, name, address, 0, "reverse"))

    def _stream(self, stream: int, row: int) -> None:
        """All of a stream's beginning has come: its name, if it has one."""
        flow = stream >> 1
        octets, is_cut = _joined(self._pieces.pop(stream))
        if self.flows.dport[flow] == dns.PORT:
            for message in dns.read_stream(octets, cut=is_cut):
                self._message(flow, row, message, is_cut)
            return
        kinds: tuple[tuple[Source, str, tls.Found | None], ...] = (
            ("sni", "TLS hellos", tls.read_records(octets)),
            ("http", "HTTP requests", http.read_request(octets)),
        )
        for source, kind, found in kinds:
            if found is not None:
                self.names.add(flow, found.name, source)
                if found.cut and is_cut:
                    self.names.hide(kind)


def _joined(pieces: list[tuple[int, bytes, bool]]) -> tuple[bytes, bool]:
    """The bytes from the stream's beginning on without a hole, and whether a snap is what ended them."""
    octets = b""
    for pos, piece, is_cut in sorted(pieces):
        if pos > len(octets):
            return octets, False
        octets += piece[len(octets) - pos :]
        if is_cut:
            return octets, True
    return octets, False
