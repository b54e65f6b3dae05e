"""Which TCP conversations may be tunnels, and the frames in them.

Recognition works on the frames that the heads of a conversation's first packets show; only what passes has
its stream followed to the end (which may need a second pass over the file), and is judged again on all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import HEAD_BYTES, PROTO_TCP, TCP_ACK, TCP_SYN
from vpnforensics.tunnels import openvpn_tcp, ssh, ssh_key_exchange, stream, tls, wireguard_tcp
from vpnforensics.tunnels.framing import Frames, Framing, StreamHealth, follow_frames
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, Records
from vpnforensics.tunnels.reassembly import Pieces, reassemble_streams
from vpnforensics.tunnels.stream_bytes import opening_bytes

_SAMPLE_PACKETS, _LONG_SAMPLE_PACKETS = 400, 8_000
"""A capture that begins within a bulk transfer shows no frame's beginning for a while."""
_BATCH_CONVERSATIONS = 256
_OPENING_PACKETS = 40
"""Within so many an ssh connection has exchanged its KEXINIT messages."""


class StreamProtocol(Protocol):
    """One VPN protocol that frames packets in a TCP stream."""

    name: str
    server_ports: tuple[int, ...]
    framing: Framing
    header_bytes: int
    """Length field in front of what a datagram would hold."""
    length_bytes: int
    """First bytes of a frame that its size does not count."""
    counter_bytes: int
    """First bytes of a frame up to the end of its counter."""
    least_frames: int
    """Frames without which nothing is recognised."""

    def recognise(self, sample: Datagrams, begun: bool) -> Recognition | None:
        """Judge a conversation by its frames; ``begun`` where its start is in the capture."""
        ...

    def records(self, datagrams: Datagrams, variant: str) -> Records:
        """Which frames carry an inner packet, and their counters."""
        ...

    def length_maps(self, datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
        """The length maps this protocol may have, likeliest first."""
        ...


STREAM_PROTOCOLS: Mapping[Framing, StreamProtocol] = MappingProxyType(
    {module.framing: cast(StreamProtocol, module) for module in (openvpn_tcp, wireguard_tcp, ssh, tls)}
)


@dataclass(frozen=True, eq=False)
class FoundStream:
    """A TCP conversation that is, or may be, a tunnel."""

    number: int
    """In the FlowTable."""
    protocol: str
    recognition: Recognition
    server_ports: tuple[int, ...]
    client_opened: bool | None
    """Whether the flow table's client side sent the SYN; ``None`` where none was seen."""
    length_maps: tuple[LengthMap, ...]
    health: StreamHealth | None
    row: npt.NDArray[np.int64]
    """Of the records: row of the completing segment, size, direction by the flow table, counter."""
    size: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    counter: npt.NDArray[np.int64]


def find_streams(conversations: FlowTable) -> list[FoundStream]:
    """Tunnels and candidates among the TCP conversations, by number."""
    total = conversations.packets_up + conversations.packets_down
    tcp = np.flatnonzero((conversations.proto == PROTO_TCP) & (total >= 8)).astype(np.int64)
    framed: list[tuple[int, Framing]] = []
    found: list[FoundStream] = []
    for begin in range(0, len(tcp), _BATCH_CONVERSATIONS):
        numbers = tcp[begin : begin + _BATCH_CONVERSATIONS]
        pieces = reassemble_streams(conversations, numbers, first_packets=_SAMPLE_PACKETS)
        chosen = _first_look(conversations, numbers, pieces)
        unread = np.array([f is None for f in chosen]) & ~pieces.begun.reshape(-1, 2).all(axis=1)
        again = np.flatnonzero(unread & (total[numbers] > _SAMPLE_PACKETS))
        if len(again):
            longer = reassemble_streams(conversations, numbers[again], first_packets=_LONG_SAMPLE_PACKETS)
            found_later = _first_look(conversations, numbers[again], longer)
            for k, framing in zip(again.tolist(), found_later, strict=True):
                chosen[k] = framing
        framed += [(int(n), f) for n, f in zip(numbers, chosen, strict=True) if f is not None]
        for k in _worth_a_look(conversations, pieces, len(numbers)):
            if chosen[k] is None:
                candidate = _without_frames(conversations, int(numbers[k]), pieces, k)
                found += [candidate] if candidate is not None else []
    found += _with_frames(conversations, framed)
    return sorted(_with_suites(conversations, found), key=lambda f: f.number)


def _first_look(
    conversations: FlowTable, numbers: npt.NDArray[np.int64], pieces: Pieces
) -> list[Framing | None]:
    """The framing of each conversation that its sample shows, if any."""
    chosen: list[Framing | None] = [None] * len(numbers)
    best = np.zeros(len(numbers))
    for framing, protocol in STREAM_PROTOCOLS.items():
        frames = _frames(conversations, pieces, [framing] * pieces.streams, heads_only=True)
        counts = np.bincount(frames.stream >> 1, minlength=len(numbers))
        for k in np.flatnonzero(counts >= protocol.least_frames).tolist():
            sample, known = _as_datagrams(protocol, conversations, int(numbers[k]), frames, k)
            begun = bool(pieces.begun[2 * k : 2 * k + 2].all())
            recognition = protocol.recognise(sample.take(known), begun) if known.any() else None
            if recognition is not None and recognition.confidence > best[k]:
                chosen[k], best[k] = framing, recognition.confidence
    return chosen


def _with_frames(conversations: FlowTable, framed: list[tuple[int, Framing]]) -> list[FoundStream]:
    """The conversations that passed the first look, followed to their ends."""
    numbers = np.array([n for n, _ in framed], np.int64)
    pieces = reassemble_streams(conversations, numbers)
    framing_of: list[Framing] = [f for _, f in framed for _ in range(2)]
    frames = _frames(conversations, pieces, framing_of)
    missing = pieces.holes_bytes
    found = []
    for k, (number, framing) in enumerate(framed):
        protocol = STREAM_PROTOCOLS[framing]
        datagrams, known = _as_datagrams(protocol, conversations, number, frames, k)
        begun = bool(pieces.begun[2 * k : 2 * k + 2].all())
        recognition = protocol.recognise(datagrams.take(known), begun) if known.any() else None
        if recognition is None:
            continue
        records = protocol.records(datagrams, recognition.variant)
        mine = frames.of_conversation(k)[records.carries]
        found.append(
            FoundStream(
                number,
                protocol.name,
                recognition,
                protocol.server_ports,
                _client_opened(conversations, number),
                protocol.length_maps(datagrams, recognition.variant),
                frames.health((2 * k, 2 * k + 1), missing),
                frames.row[mine],
                frames.size[mine],
                datagrams.up[records.carries],
                np.where(known, records.counter, -1)[records.carries],
            )
        )
    return found


def _with_suites(conversations: FlowTable, found: list[FoundStream]) -> Iterator[FoundStream]:
    """What was found; the variant of ssh names what its ends agreed on, where that was captured."""
    numbers = np.array([f.number for f in found if f.protocol == ssh.name], np.int64)
    pieces = reassemble_streams(conversations, numbers, first_packets=_OPENING_PACKETS)
    openings = opening_bytes(conversations.packets, pieces, ssh_key_exchange.OPENING_BYTES)
    both = dict(zip(numbers.tolist(), zip(openings[::2], openings[1::2], strict=True), strict=True))
    for f in found:
        up, down = both.get(f.number, (b"", b""))
        suite = ssh_key_exchange.agreed(*((down, up) if f.client_opened is False else (up, down)))
        if not suite:
            yield f
            continue
        variant = f.recognition.variant.replace(ssh.PACKETS, suite) or suite
        yield replace(f, recognition=replace(f.recognition, variant=variant))


def _worth_a_look(conversations: FlowTable, pieces: Pieces, count: int) -> list[int]:
    """Conversations of the sample that are long enough for a stream, or greet as ssh does."""
    whole = pieces.skip == 0
    of = pieces.stream[whole] >> 1
    enough = np.bincount(of, minlength=count) >= stream.LEAST_SEGMENTS
    enough[of[stream.greets_as_ssh(conversations.packets.head[pieces.row[whole]])]] = True
    return [int(k) for k in np.flatnonzero(enough)]


def _without_frames(conversations: FlowTable, number: int, pieces: Pieces, k: int) -> FoundStream | None:
    """A candidate of which only byte arrivals are known."""
    packets = conversations.packets
    mine = np.flatnonzero((pieces.stream >> 1 == k) & (pieces.skip == 0))
    rows = pieces.row[mine]
    streams = pieces.stream[mine]
    segments = _datagrams(conversations, number, packets.payload_bytes[rows], packets.head[rows], streams)
    known = stream.recognise(segments)
    if known is None or _is_tls(segments):
        return None
    none = np.zeros(0, np.int64)
    return FoundStream(
        number, known[0], known[1], (22,), _client_opened(conversations, number), (), None,
        none, none.astype(np.int32), none.astype(np.bool_), none,
    )  # fmt: skip


def _is_tls(segments: Datagrams) -> bool:
    """TLS whose records are no packets: the web, and no candidate."""
    kind = segments.head[:, 0]
    begins = (kind >= tls.CHANGE_CIPHER_SPEC) & (kind <= tls.APPLICATION_DATA) & (segments.head[:, 1] == 3)
    return bool(begins[:1].any() or begins.mean() > 0.05)


def _frames(
    conversations: FlowTable, pieces: Pieces, framing_of: list[Framing], *, heads_only: bool = False
) -> Frames:
    packets = conversations.packets
    whole = pieces.skip == 0
    streams, heads = pieces.stream[whole], packets.head[pieces.row[whole]]
    keys = np.full(pieces.streams, -1, np.int64)
    if openvpn_tcp.framing in framing_of:
        keys = openvpn_tcp.data_keys(streams, heads, pieces.streams)
    if ssh.framing in framing_of:
        tags = ssh.tag_bytes(streams, pieces.pos[whole], heads, pieces.streams)
        keys = np.where(np.array(framing_of) == ssh.framing, tags, keys)
    return follow_frames(packets, pieces, framing_of, keys, heads_only=heads_only)


def _as_datagrams(
    protocol: StreamProtocol, conversations: FlowTable, number: int, frames: Frames, k: int
) -> tuple[Datagrams, npt.NDArray[np.bool_]]:
    """The k-th conversation's frames as if they had been datagrams, and whose headers are known."""
    mine = frames.of_conversation(k)
    head = np.zeros((len(mine), HEAD_BYTES), np.uint8)
    kept = frames.head[mine][:, protocol.header_bytes :]
    head[:, : kept.shape[1]] = kept
    sample = _datagrams(conversations, number, frames.size[mine], head, frames.stream[mine])
    whole = np.minimum(protocol.counter_bytes, protocol.length_bytes + frames.size[mine])
    return sample, frames.known_bytes[mine] >= whole


def _datagrams(
    conversations: FlowTable,
    number: int,
    size: npt.NDArray[np.int32],
    head: npt.NDArray[np.uint8],
    streams: npt.NDArray[np.int64],
) -> Datagrams:
    ports = (int(conversations.sport[number]), int(conversations.dport[number]))
    return Datagrams(size, head, streams & 1 == 0, PROTO_TCP, ports)


def _client_opened(conversations: FlowTable, number: int) -> bool | None:
    rows = conversations.rows_of(number)[:_SAMPLE_PACKETS]
    flags = conversations.packets.tcp_flags[rows]
    asking = rows[(flags & (TCP_SYN | TCP_ACK)) == TCP_SYN]
    answering = rows[(flags & (TCP_SYN | TCP_ACK)) == TCP_SYN | TCP_ACK]
    if len(asking):
        return bool(conversations.up[asking[0]])
    return not bool(conversations.up[answering[0]]) if len(answering) else None
