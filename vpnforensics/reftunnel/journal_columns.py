"""Columns of the journal, decoded from the raw heads of packets, all packets of a block at once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.reftunnel.journal_block import (
    COVER,
    DATA,
    HANDSHAKE,
    HEAD_BYTES,
    IN,
    KEEPALIVE,
    OUT,
    REFUSED,
    UNACKED,
    UNDELIVERED,
    UNSENT,
    Block,
    Ints,
)
from vpnforensics.reftunnel.routing import IPV4_HEADER_BYTES, IPV6_HEADER_BYTES

DIRECTIONS = {OUT: "out", IN: "in"}
KINDS = {
    DATA: "data",
    COVER: "cover",
    KEEPALIVE: "keepalive",
    HANDSHAKE: "handshake",
    REFUSED: "refused",
    UNSENT: "unsent",
    UNACKED: "unacked",
    UNDELIVERED: "undelivered",
}

_TCP_HEADER_BYTES, _UDP_HEADER_BYTES = 20, 8

_USUAL_OPTIONS = 0x0101080A
"""Two NOPs, then the timestamp option: what Linux, Windows and macOS send in all but SYNs."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts that repeat: one number a row into a list of different ones."""

    codes: Ints
    values: list[str]

    def to_list(self) -> list[str]:
        """The texts themselves."""
        return [self.values[code] for code in self.codes.tolist()]


def _field(heads: Ints, offset: int, width: int) -> Ints:
    """Big-endian integers at one offset of all packets of a group."""
    return np.ascontiguousarray(heads[:, offset : offset + width]).view(f">u{width}")[:, 0]


def _timestamps(heads: Ints, tcp: int) -> tuple[Ints, Ints, Ints]:
    """Whether there is a timestamp option, TSval and TSecr (RFC 7323, section 3.2)."""
    usual = (_field(heads, tcp + 20, 4) == _USUAL_OPTIONS) & (heads[:, tcp + 12] >= 0x80)
    value = _field(heads, tcp + 24, 4).astype(np.int64)
    echo = _field(heads, tcp + 28, 4).astype(np.int64)
    if usual.all():
        return usual, value, echo
    has = usual.copy()
    others = np.flatnonzero(~usual)
    has[others], value[others], echo[others] = _timestamps_anywhere(heads[others], tcp)
    return has, value, echo


def _timestamps_anywhere(heads: Ints, tcp: int) -> tuple[Ints, Ints, Ints]:
    count = len(heads)
    everyone = np.arange(count)
    at = np.full(count, tcp + 20)
    end = np.minimum(tcp + 4 * (heads[:, tcp + 12] >> 4).astype(np.int64), HEAD_BYTES)
    found = np.zeros(count, np.int64)
    # The options of all packets are walked at once; a header of 60 bytes has at most 40 of them.
    for _ in range(40):
        alive = (found == 0) & (at + 1 < end)
        if not alive.any():
            break
        here = np.minimum(at, HEAD_BYTES - 2)
        kind, length = heads[everyone, here], heads[everyone, here + 1].astype(np.int64)
        hit = alive & (kind == 8) & (length == 10) & (at + 10 <= end)
        found[hit] = at[hit] + 2
        step = np.where(kind == 1, 1, length)
        # End of options, or an option that claims no length: nothing more to be found.
        step[(kind == 0) | ((kind != 1) & (length < 2))] = HEAD_BYTES
        at = np.where(alive & ~hit, at + step, at)
    has = found > 0
    value, echo = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for offset in np.unique(found[has]).tolist():
        same = found == offset
        value[same], echo[same] = _field(heads[same], offset, 4), _field(heads[same], offset + 4, 4)
    return has, value, echo


def _addresses(head: Ints, v4: Ints, v6: Ints, size: int, at_v4: int, at_v6: int) -> Texts:
    """Addresses of all rows; rows that are not IP have an empty text."""
    codes, values = np.zeros(size, np.int32), [""]
    for rows, offset, width in ((v4, at_v4, 4), (v6, at_v6, 16)):
        if not len(rows):
            continue
        packed = np.ascontiguousarray(head[rows, offset : offset + width])
        if width == 4:  # as numbers, which sort in a tenth of the time; there are few different ones
            numbers = packed.view(">u4")[:, 0].astype(np.uint32)
            different = np.unique(numbers)
            codes[rows] = np.searchsorted(different, numbers) + len(values)
            values += [str(ipaddress.IPv4Address(number)) for number in different.tolist()]
            continue
        different, inverse = np.unique(packed.view(f"V{width}")[:, 0], return_inverse=True)
        codes[rows] = inverse + len(values)
        values += [str(ipaddress.ip_address(raw)) for raw in different.tolist()]
    return Texts(codes, values)


_NUMERIC = {
    **dict.fromkeys(("proto", "tos", "ttl"), np.int16),
    **dict.fromkeys(("ip_id", "sport", "dport"), np.int32),
    "tcp_flags": np.int16,
    **dict.fromkeys(("seq", "ack", "tsval", "tsecr"), np.int64),
    "window": np.int32,
}


def _decode_group(columns: dict[str, Any], rows: Ints, heads: Ints, sizes: Ints, first_byte: int) -> None:
    """Fill in the columns for packets that begin with the same byte.

    `sizes` are the bytes that are the packets' own: what stands behind them in a head is another's.
    """
    if first_byte >> 4 == 4:
        l4 = 4 * (first_byte & 15)
        proto = heads[:, 9]
        sizes = np.minimum(sizes, _field(heads, 2, 2))
        columns["tos"][rows], columns["ttl"][rows] = heads[:, 1], heads[:, 8]
        columns["df"][rows], columns["ip_id"][rows] = heads[:, 6] & 0x40 != 0, _field(heads, 4, 2)
        whole = (_field(heads, 6, 2) & 0x1FFF == 0) & (l4 >= IPV4_HEADER_BYTES)
    else:
        l4 = IPV6_HEADER_BYTES
        proto = heads[:, 6]
        sizes = np.minimum(sizes, l4 + _field(heads, 4, 2).astype(np.int64))
        columns["tos"][rows], columns["ttl"][rows] = (heads[:, 0] & 15) << 4 | heads[:, 1] >> 4, heads[:, 7]
        whole = np.ones(len(rows), bool)
    columns["proto"][rows] = proto
    room = sizes.astype(np.int64) - l4
    tcp_bytes = 4 * (heads[:, min(l4 + 12, HEAD_BYTES - 1)] >> 4).astype(np.int64)
    is_tcp = whole & (proto == 6) & (room >= _TCP_HEADER_BYTES)
    is_tcp &= (tcp_bytes >= _TCP_HEADER_BYTES) & (tcp_bytes <= room)
    is_udp = whole & (proto == 17) & (room >= _UDP_HEADER_BYTES)
    ported, ported_heads = _some(rows, heads, is_tcp | is_udp)
    columns["sport"][ported] = _field(ported_heads, l4, 2)
    columns["dport"][ported] = _field(ported_heads, l4 + 2, 2)
    tcp, heads = _some(rows, heads, is_tcp)
    if not len(tcp):
        return
    columns["seq"][tcp], columns["ack"][tcp] = _field(heads, l4 + 4, 4), _field(heads, l4 + 8, 4)
    columns["tcp_flags"][tcp], columns["window"][tcp] = heads[:, l4 + 13], _field(heads, l4 + 14, 2)
    columns["has_ts"][tcp], columns["tsval"][tcp], columns["tsecr"][tcp] = _timestamps(heads, l4)


def _some(rows: Ints, heads: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Rows that are wanted and their heads; nothing is copied where all are, as is usual."""
    return (rows, heads) if wanted.all() else (rows[wanted], heads[wanted])


def decode(block: Block) -> dict[str, Any]:
    """Named columns of a block.

    Fields that a row has no meaning for are -1 (or an empty text, or false), and so are those of a header
    that does not fit its packet.

    Returns
    -------
    dict of str to ndarray or Texts
        ``direction, kind, inner_ns, outer_ns, peer, endpoint, counter, outer_bytes, inner_bytes,
        ip_version, src, dst, proto, tos, ttl, df, ip_id, sport, dport, tcp_flags, seq, ack, window,
        has_ts, tsval, tsecr``.
    """
    head, size = block.head, len(block.kind)
    version = head[:, 0] >> 4
    is_v4 = (version == 4) & (block.inner_bytes >= IPV4_HEADER_BYTES)
    is_v6 = (version == 6) & (block.inner_bytes >= IPV6_HEADER_BYTES)
    version[~(is_v4 | is_v6)] = 0
    columns: dict[str, Any] = {name: np.full(size, -1, dtype) for name, dtype in _NUMERIC.items()}
    columns["df"], columns["has_ts"] = np.zeros(size, bool), np.zeros(size, bool)
    everyone = np.arange(size)
    # Packets whose headers are laid out alike are decoded together: there are one or two such groups.
    layout = np.where(version == 4, head[:, 0], np.where(version == 6, 0x60, 0)) if size else version
    for group in np.flatnonzero(np.bincount(layout)).tolist() if size else []:
        if group:
            rows, heads = _some(everyone, head, layout == group)
            _decode_group(columns, rows, heads, block.inner_bytes[rows], group)
    v4, v6 = np.flatnonzero(version == 4), np.flatnonzero(version == 6)
    return {
        "direction": Texts(block.direction, list(DIRECTIONS.values())),
        # Cover is a packet of zeros, whose first byte no IP packet has.
        "kind": Texts(
            np.where((block.kind == DATA) & (head[:, 0] == 0), COVER, block.kind), list(KINDS.values())
        ),
        "inner_ns": block.inner_ns,
        "outer_ns": block.outer_ns,
        # A handshake message that came does not say whose it is: its peer is -1, the empty text.
        "peer": Texts(block.peer + 1, ["", *block.peer_names]),
        "endpoint": Texts(block.endpoint, block.endpoint_names),
        "counter": block.counter,
        "outer_bytes": block.outer_bytes,
        "inner_bytes": block.inner_bytes,
        "ip_version": version,
        "src": _addresses(head, v4, v6, size, 12, 8),
        "dst": _addresses(head, v4, v6, size, 16, 24),
        **columns,
    }
