"""The same columns by other readers, each written as its users would write it at its fastest.

Every reader takes a path and returns the number of packets it decoded. They import what they need
when called, so that one that is not installed is reported and the others still run.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

# MAC addresses, EtherType; IPv4; TCP; NOP, NOP, timestamps: what nearly every packet of the file is.
_HEADERS = struct.Struct(">12xHBBHHHBBH4s4sHHIIHHHHIII")
HEAD_BYTES = 32


def _columns(packets: Iterable[tuple[int, bytes]]) -> int:
    """One ``struct`` a packet, checks for the general case, one list a column."""
    rows = []
    add = rows.append
    unpack = _HEADERS.unpack_from
    for ts_ns, raw in packets:
        if len(raw) < 66:
            continue
        (
            ethertype, version_ihl, tos, total, ident, flags_offset, ttl, proto, _, src, dst,
            sport, dport, seq, ack, offset_flags, window, _, _, nops, tsval, tsecr,
        ) = unpack(raw)  # fmt: skip
        if ethertype != 0x0800 or version_ihl != 0x45 or proto != 6 or nops != 0x0101080A:
            continue
        header = (offset_flags >> 12) * 4
        add((
            ts_ns, src, dst, sport, dport, total, total - 20 - header, ident, flags_offset >> 14 & 1, ttl,
            tos, offset_flags & 0xFFF, seq, ack, window, tsval, tsecr,
            raw[34 + header : 34 + header + HEAD_BYTES],
        ))  # fmt: skip
    columns = list(zip(*rows, strict=True))
    return len(columns[0])


def dpkt_full_decode(path: Path) -> int:
    import dpkt

    rows = []
    with path.open("rb") as file:
        for ts, raw in dpkt.pcap.Reader(file):
            ip = dpkt.ethernet.Ethernet(raw).data
            if not isinstance(ip, dpkt.ip.IP) or not isinstance(ip.data, dpkt.tcp.TCP):
                continue
            tcp = ip.data
            tsval = tsecr = mss = 0
            for kind, value in dpkt.tcp.parse_opts(tcp.opts):
                if kind == dpkt.tcp.TCP_OPT_TIMESTAMP:
                    tsval, tsecr = struct.unpack(">II", value)
                elif kind == dpkt.tcp.TCP_OPT_MSS:
                    mss = int.from_bytes(value, "big")
            rows.append((
                ts, ip.src, ip.dst, tcp.sport, tcp.dport, ip.len, len(tcp.data), ip.id, ip.df, ip.ttl, ip.tos,
                tcp.flags, tcp.seq, tcp.ack, tcp.win, tsval, tsecr, mss, tcp.data[:HEAD_BYTES],
            ))  # fmt: skip
    columns = list(zip(*rows, strict=True))
    return len(columns[0])


def nfstream_flows(path: Path) -> int:
    from nfstream import NFStreamer

    return sum(flow.bidirectional_packets for flow in NFStreamer(source=str(path), n_dissections=0))


def fpcap_columns(path: Path) -> int:
    import fpcap

    def packets() -> Iterable[tuple[int, bytes]]:
        reader = fpcap.PacketReader(str(path))
        while not reader.is_exhausted():
            packet = reader.next_packet()
            if packet is None:
                return
            yield packet.timestamp_seconds * 1_000_000_000 + packet.timestamp_microseconds * 1000, packet.data

    return _columns(packets())


def pcapy_columns(path: Path) -> int:
    import pcapy

    def packets() -> Iterable[tuple[int, bytes]]:
        reader = pcapy.open_offline(str(path))
        while True:
            header, raw = reader.next()
            if header is None:
                return
            seconds, microseconds = header.getts()
            yield seconds * 1_000_000_000 + microseconds * 1000, raw

    return _columns(packets())


def wa1kpcap_columns(path: Path) -> int:
    from wa1kpcap.native.engine import NativeEngine

    rows = []
    for packet in NativeEngine(app_layer_mode=2).read_and_parse(path):
        ip, tcp = packet.ip, packet.tcp
        if ip is None or tcp is None:
            continue
        options = tcp.options
        at = options.find(b"\x08\x0a") if options else -1
        tsval, tsecr = struct.unpack_from(">II", options, at + 2) if at >= 0 else (0, 0)
        rows.append((
            packet.timestamp, ip.src, ip.dst, tcp.sport, tcp.dport, ip.len, packet.app_len, ip.id, ip.flags,
            ip.ttl, tcp.flags, tcp.seq, tcp.ack_num, tcp.win, tsval, tsecr, packet.payload[:HEAD_BYTES],
        ))  # fmt: skip
    columns = list(zip(*rows, strict=True))
    return len(columns[0])


PEERS = {
    "dpkt, full decode": dpkt_full_decode,
    "NFStream, flows": nfstream_flows,
    "fpcap, struct": fpcap_columns,
    "pcapy-ng, struct": pcapy_columns,
    "wa1kpcap, parsed": wa1kpcap_columns,
}
