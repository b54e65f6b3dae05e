"""Tunnels and relays over TCP: the byte stream that their frames make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.groundtruth.simulate.network import Relay
from vpnforensics.groundtruth.simulate.outer import (
    openvpn,
    proxies,
    shadowsocks,
    ssh,
    tls,
    tls13,
    wireguard,
)
from vpnforensics.groundtruth.simulate.outer.datagrams import DOWN, UP, Bytes, Control, Ints, put


@dataclass(frozen=True, slots=True)
class StreamFraming:
    """How packets become bytes of a stream.

    Parameters
    ----------
    overhead_bytes : int
        Frame bytes around each inner packet.
    control_bytes : int
        Frame bytes around each message of the set-up.
    set_up : callable
        The messages before the first packet.
    header : callable
        Writes the clear bytes of data frames: (frame lengths, counter) to an array of their first bytes.
    control_header : callable
        The same for one message of the set-up.
    nagle : tuple of bool
        Up, down: small frames wait for acknowledgements (RFC 896), which is what coalesces them.
    block : int
        Inner packets are padded to this multiple, up to the MTU.
    frame_extra, frame_block : int
        What a frame carries, with that many bytes more, is filled up to a multiple of the block.
    block_bytes : int
        What a block is on the wire; 0 where it has nothing of its own around it.
    adjust_bytes, adjust_after_bytes : int
        Frame that a receiver returns each time it has taken so much; 0 for none.
    up_tos : int
        Type of service of the client's packets.
    relay : Relay or None
        Where it carries byte streams, not packets.
    open_bytes : callable or None
        Of a relay: bytes of the request for a host name of a given length.
    ask_with_data : bool
        Of a relay: the request has no frame of its own.
    request, answer : callable or None, bytes
        Of a relay that keeps every byte: the request itself, and what is said once the server's connection
        stands.
    """

    overhead_bytes: int
    control_bytes: int
    set_up: Callable[[np.random.Generator], list[Control]]
    header: Callable[[Ints, Ints], Bytes]
    control_header: Callable[[Control], bytes]
    nagle: tuple[bool, bool] = (True, True)
    block: int = 1
    frame_extra: int = 0
    frame_block: int = 1
    block_bytes: int = 0
    adjust_bytes: int = 0
    adjust_after_bytes: int = 0
    up_tos: int = 0
    relay: Relay | None = None
    open_bytes: Callable[[int], int] | None = None
    ask_with_data: bool = False
    request: Callable[[int], bytes] | None = None
    answer: bytes = b""


def stream_bytes(
    framing: StreamFraming,
    script: list[Control],
    side: int,
    frame_end: Ints,
    frame_packet: Ints,
    random: np.random.Generator,
) -> Bytes:
    """One direction of a tunnel's stream.

    Parameters
    ----------
    script : list of Control
        The set-up, both directions.
    frame_end : ndarray of int64, shape (n,)
        Sequence number after each frame (the first byte has 1).
    frame_packet : ndarray of int64, shape (n,)
        Inner packet of each; -1 for the set-up's.
    """
    if not len(frame_end):
        return np.empty(0, np.uint8)
    stream = random.integers(0, 256, int(frame_end[-1]) - 1, np.uint8)
    start = np.concatenate([[1], frame_end[:-1]]) - 1
    data = np.flatnonzero(frame_packet >= 0)
    head = framing.header(frame_end[data] - 1 - start[data], np.arange(1, len(data) + 1))
    stream[start[data][:, None] + np.arange(head.shape[1])] = head
    mine = [message for message in script if message.side == side]
    for row, message in zip(np.flatnonzero(frame_packet < 0), mine, strict=False):
        text = np.frombuffer(framing.control_header(message), np.uint8)
        stream[start[row] : start[row] + len(text)] = text
    return stream


def relay_bytes(
    framing: StreamFraming,
    script: list[Control],
    side: int,
    length: int,
    frame_end: Ints,
    random: np.random.Generator,
) -> Bytes:
    """One direction of a relay's stream of ``length`` bytes: the set-up, then frames, hidden but for headers.

    Parameters
    ----------
    frame_end : ndarray of int64, shape (n,)
        Sequence number after each frame behind the set-up (the first byte has 1).
    """
    stream = random.integers(0, 256, length, np.uint8)
    start = 0
    for message in script:
        if message.side == side:
            text = np.frombuffer(framing.control_header(message), np.uint8)[: max(length - start, 0)]
            stream[start : start + len(text)] = text
            start += message.length + framing.control_bytes
    if framing.header is not _hidden and len(frame_end):
        ends = frame_end[1:] - 1 if framing.ask_with_data and side == UP else frame_end - 1
        starts = np.concatenate([[start], ends[:-1]])
        head = framing.header(ends - starts, np.arange(1, len(ends) + 1))
        for at, text in zip(starts, head, strict=True):
            room = stream[at : at + len(text)]
            room[:] = text[: len(room)]
    return stream


def _openvpn_header(length: Ints, counter: Ints) -> Bytes:
    head = np.zeros((len(length), 10), np.uint8)
    put(head, 0, length - 2, 2, "big")
    openvpn.write_data_header(head, 2, counter, 2, 0)
    return head


def _openvpn_control(message: Control) -> bytes:
    return message.length.to_bytes(2, "big") + message.head


def _tls_header(length: Ints, counter: Ints) -> Bytes:
    head = np.zeros((len(length), 13), np.uint8)
    head[:, 0] = tls.APPLICATION
    head[:, 1], head[:, 2] = 3, 3
    put(head, 3, length - 5, 2, "big")
    put(head, 5, counter, 8, "big")
    return head


def _tls_control(message: Control) -> bytes:
    return message.head


def _hidden(length: Ints, counter: Ints) -> Bytes:
    return np.empty((len(length), 0), np.uint8)


def _no_set_up(random: np.random.Generator) -> list[Control]:
    return []


def _wireguard_set_up(random: np.random.Generator) -> list[Control]:
    client, server = random.bytes(4), random.bytes(4)
    initiation = b"\x01\0\0\0" + client
    response = b"\x02\0\0\0" + server + client
    return [
        Control(UP, 0, wireguard.INITIATION_BYTES, initiation),
        Control(DOWN, 300_000, wireguard.RESPONSE_BYTES, response),
    ]


def _wireguard_header(length: Ints, counter: Ints) -> Bytes:
    head = np.zeros((len(length), 18), np.uint8)
    put(head, 0, length - 2, 2, "big")
    head[:, 2] = 4
    put(head, 10, counter - 1, 8)
    return head


OPENVPN_TCP = StreamFraming(
    2 + openvpn.OVERHEAD_V2_BYTES, 2, openvpn.set_up, _openvpn_header, _openvpn_control
)
# Record header 5, explicit nonce 8, tag 16; CSTP adds 8, SSTP 4 and PPP 4.
ANYCONNECT_TLS = StreamFraming(29 + 8, 0, tls.set_up, _tls_header, _tls_control)
# Receiver indexes of data messages are left at 0.
REFTUNNEL_TCP = StreamFraming(
    2 + 32, 2, _wireguard_set_up, _wireguard_header, _openvpn_control, nagle=(False, False), block=16
)
SSTP = StreamFraming(29 + 8, 0, tls.set_up, _tls_header, _tls_control)
# The client sends without delay; sshd does so only for sessions, and so coalesces.
SSH_TUN = StreamFraming(
    ssh.FRAME_BYTES,
    0,
    ssh.set_up,
    _hidden,
    _tls_control,
    nagle=(False, True),
    frame_extra=ssh.TUN_EXTRA_BYTES,
    frame_block=ssh.BLOCK_BYTES,
    adjust_bytes=ssh.WINDOW_ADJUST_BYTES,
    adjust_after_bytes=ssh.ADJUST_AFTER_BYTES,
    up_tos=0x10,
)
SSH_SOCKS = replace(
    SSH_TUN,
    frame_extra=ssh.CHANNEL_EXTRA_BYTES,
    relay=Relay(1, ssh.CHUNK_BYTES, ssh.CONFIRMATION_BYTES, ssh.CLOSE_BYTES, 0),
    open_bytes=ssh.open_bytes,
)
SHADOWSOCKS = StreamFraming(
    shadowsocks.CHUNK_OVERHEAD_BYTES,
    0,
    _no_set_up,
    _hidden,
    _tls_control,
    nagle=(False, False),
    relay=Relay(0, shadowsocks.CHUNK_BYTES, 0, 0, shadowsocks.SALT_BYTES),
    open_bytes=shadowsocks.open_bytes,
)
TROJAN = StreamFraming(
    tls13.RECORD_BYTES,
    0,
    tls13.handshake,
    tls13.header,
    _tls_control,
    nagle=(False, False),
    relay=Relay(0, tls13.CHUNK_BYTES, 0, tls13.CLOSE_BYTES, 0),
    open_bytes=tls13.trojan_request_bytes,
    ask_with_data=True,
)
# One circuit and one guard a client, where Tor takes several; the way to the exit is the server's delay.
TOR = StreamFraming(
    tls13.RECORD_BYTES,
    0,
    tls13.link_set_up,
    tls13.header,
    _tls_control,
    nagle=(False, False),
    frame_block=tls13.CELL_CONTENT_BYTES,
    block_bytes=tls13.CELL_BYTES,
    adjust_bytes=tls13.RECORD_BYTES + tls13.CELL_BYTES,
    adjust_after_bytes=tls13.SENDME_AFTER_BYTES,
    relay=Relay(
        1,
        tls13.CELLS_A_RECORD * tls13.CELL_CONTENT_BYTES,
        tls13.RECORD_BYTES + tls13.CELL_BYTES,
        tls13.RECORD_BYTES + tls13.CELL_BYTES,
        0,
    ),
    open_bytes=lambda name: tls13.RECORD_BYTES + tls13.CELL_BYTES,
)
SOCKS = StreamFraming(
    0,
    0,
    proxies.socks_set_up,
    _hidden,
    _tls_control,
    nagle=(False, False),
    relay=Relay(0, proxies.CHUNK_BYTES, len(proxies.SOCKS_ANSWER), 0, 0),
    open_bytes=lambda name: len(proxies.socks_request(name)),
    request=proxies.socks_request,
    answer=proxies.SOCKS_ANSWER,
)
HTTP_CONNECT = replace(
    SOCKS,
    set_up=_no_set_up,
    relay=Relay(0, proxies.CHUNK_BYTES, len(proxies.CONNECT_ANSWER), 0, 0),
    open_bytes=lambda name: len(proxies.connect_request(name)),
    request=proxies.connect_request,
    answer=proxies.CONNECT_ANSWER,
)
