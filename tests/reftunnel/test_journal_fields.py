"""Fields of the journal come from the packet's own bytes: random packets against dpkt."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import dpkt
import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from vpnforensics.reftunnel.journal_block import DATA, HEAD_BYTES, Block
from vpnforensics.reftunnel.journal_columns import Texts, decode

from .test_kernels import tcp_packet
from .test_scrub import option

NONE = {
    **dict.fromkeys(("ip_version", "has_ts", "df"), 0),
    **dict.fromkeys(("src", "dst"), ""),
    **dict.fromkeys(("proto", "tos", "ttl", "ip_id", "sport", "dport"), -1),
    **dict.fromkeys(("tcp_flags", "seq", "ack", "window", "tsval", "tsecr"), -1),
}
NO_TIMESTAMPS = {"has_ts": 0, "tsval": 0, "tsecr": 0}

some_options = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda before, value, echo: before + struct.pack(">BBII", 8, 10, value, echo),
        st.sampled_from([b"", b"\1\1", b"\2\4\5\xb4", b"\2\4\5\xb4\4\2", b"\0"]),
        st.integers(0, 2**32 - 1),
        st.integers(0, 2**32 - 1),
    ),
)


@st.composite
def segments(draw):
    """Something that may be a TCP or UDP header and more, with a header length that may be a lie."""
    options = draw(some_options)
    options += bytes(-len(options) % 4)
    right = 5 + len(options[:40]) // 4
    words = draw(st.sampled_from([right, right, right, 0, 4, 5, 8, 15]))
    header = draw(st.binary(min_size=12, max_size=12)) + bytes([words << 4])
    return header + draw(st.binary(min_size=7, max_size=7)) + options + draw(st.binary(max_size=30))


@st.composite
def packets(draw):
    """IP packets, some of which are cut or say of themselves what is not so."""
    body, proto = draw(segments()), draw(st.sampled_from([6, 6, 6, 17, 1, 44, 0]))
    addresses = draw(st.binary(min_size=32, max_size=32))
    if draw(st.booleans()):
        words = draw(st.sampled_from([5, 5, 5, 6, 15, 4, 0]))
        total = 20 + 4 * max(0, words - 5) + len(body)
        total = draw(st.sampled_from([total, total, 20, 22, 0, 65_535]))
        fragment = draw(st.sampled_from([0, 0x4000, 0x2000, 0x2001, 7]))
        rest = draw(st.binary(min_size=3, max_size=3))
        header = struct.pack(">BBHHHBB", 0x40 | words, rest[0], total, 513, fragment, rest[1], proto)
        packet = header + b"\0\0" + addresses[:8] + bytes(4 * max(0, words - 5)) + body
    else:
        size = draw(st.sampled_from([len(body), len(body), 0, 3, 65_535]))
        traffic = draw(st.integers(0, 255))
        header = struct.pack(">IHBB", 6 << 28 | traffic << 20, size, proto, 64)
        packet = header + addresses + body
    return packet[: draw(st.sampled_from([len(packet), len(packet), draw(st.integers(1, len(packet)))]))]


def timestamps(options: bytes) -> dict[str, int]:
    """One option after the other (RFC 9293, section 3.1)."""
    at = 0
    while at < len(options):
        kind = options[at]
        length = 1 if kind == 1 else options[at + 1] if at + 1 < len(options) else 0
        if kind == 8 and length == 10 and at + 10 <= len(options):
            value, echo = struct.unpack_from(">II", options, at + 2)
            return {"has_ts": 1, "tsval": value, "tsecr": echo}
        if kind == 0 or length < 1 or (kind != 1 and length < 2):
            break
        at += length
    return NO_TIMESTAMPS


def transport(proto: int, body: bytes) -> dict[str, int]:
    kind = {6: dpkt.tcp.TCP, 17: dpkt.udp.UDP}.get(proto)
    try:
        header = kind(body) if kind else None
    except dpkt.UnpackError:
        header = None
    if header is None or (proto == 6 and 4 * header.off > len(body)):
        return {}
    fields = {"sport": header.sport, "dport": header.dport}
    if proto == 6:
        fields |= {"tcp_flags": header.flags & 0xFF, "seq": header.seq, "ack": header.ack}
        fields |= {"window": header.win, **timestamps(header.opts)}
    return fields


def by_dpkt(packet: bytes) -> dict[str, Any]:
    """What a well-kept parser reads from these bytes and no others."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        ip = dpkt.ip.IP(b"\x45" + packet[1:20])
        fields = {"ip_version": 4, "proto": ip.p, "tos": ip.tos, "ttl": ip.ttl, "ip_id": ip.id, "df": ip.df}
        header_bytes = 4 * (packet[0] & 15)
        if header_bytes >= 20 and ip.offset == 0:
            fields |= transport(ip.p, packet[header_bytes : ip.len])
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        ip = dpkt.ip6.IP6(packet[:6] + b"\x3b" + packet[7:40])  # "no next header": it looks no further
        fields = {"ip_version": 6, "proto": packet[6], "tos": ip.fc, "ttl": ip.hlim}
        fields |= transport(packet[6], packet[40 : 40 + ip.plen])
    else:
        return NONE
    addresses = {"src": str(ipaddress.ip_address(ip.src)), "dst": str(ipaddress.ip_address(ip.dst))}
    return {**NONE, **fields, **addresses}


def journaled(packet_list: list[bytes], rest: bytes) -> list[dict[str, Any]]:
    """Rows of packets that lie over the rests of others, as in buffers that are used again and again."""
    block = Block.empty(len(packet_list))
    for row, packet in enumerate(packet_list):
        head = (packet + rest[len(packet) :])[:HEAD_BYTES]
        block.head[row, : len(head)] = np.frombuffer(head, np.uint8)
        block.inner_bytes[row] = len(packet)
        block.kind[row] = DATA
    block.peer_names, block.endpoint_names = ["peer"], ["192.0.2.1:1"]
    columns = {
        name: value.to_list() if isinstance(value, Texts) else value.tolist()
        for name, value in decode(block).items()
        if name in NONE
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


OTHER = tcp_packet(4, b"x" * 200, seq=4_000_000_000, options=option(123456, 654321), ports=(40_000, 443))
CUT = struct.pack(">BBHHHBBH", 0x45, 0, 22, 1, 0, 64, 6, 0) + bytes([10, 0, 0, 2, 10, 0, 0, 1]) + b"\1\2"


@given(st.lists(packets(), min_size=1, max_size=20), st.sampled_from([OTHER, b"\xff" * 150]))
@example([CUT], OTHER)
def test_every_field_is_what_dpkt_reads_from_the_packet_alone(packet_list, rest):
    assert journaled(packet_list, rest) == [by_dpkt(packet) for packet in packet_list]


def test_a_header_that_is_cut_has_no_port_of_the_packet_before_it():
    (row,) = journaled([CUT], OTHER)
    assert (row["src"], row["sport"], row["seq"], row["tsval"]) == ("10.0.0.2", -1, -1, -1)
