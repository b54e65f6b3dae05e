"""TCP conversations made by hand: bytes cut into segments, lost, doubled and shuffled, with their truth."""

from __future__ import annotations

import struct

import numpy as np

from tests.packets import frames as build
from tests.tables import table, tcp
from vpnforensics.capture.writer import write_pcap
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.packets.read import read_capture

CLIENT, SERVER = ("10.0.0.2", 40000), ("10.0.0.1", 1194)


def openvpn_frames(rng, count, *, version=2, peer=5, first=1, sizes=(40, 52, 700, 1400)):
    """Data frames of inner packets, numbered from ``first``: their bytes and their sizes."""
    frames, lengths = [], []
    for i in range(count):
        inner = int(rng.choice(sizes))
        head = bytes([9 << 3]) + peer.to_bytes(3, "big") if version == 2 else bytes([6 << 3])
        body = head + struct.pack(">I", first + i) + rng.bytes(inner + 16)
        frames.append(struct.pack(">H", len(body)) + body)
        lengths.append(len(body))
    return frames, lengths


def openvpn_handshake(rng):
    """Control frames of the two directions: resets, acknowledgements, some TLS."""
    up, down = rng.bytes(8), rng.bytes(8)

    def framed(opcode, session, more):
        body = bytes([opcode << 3]) + session + more
        return struct.pack(">H", len(body)) + body

    return (
        [
            framed(7, up, b"\x00" + bytes(4)),
            framed(5, up, b"\x01" + bytes(4) + down),
            framed(4, up, b"\x00" + struct.pack(">I", 1) + rng.bytes(295)),
        ],
        [
            framed(8, down, b"\x01" + bytes(4) + up + bytes(4)),
            framed(4, down, b"\x00" + struct.pack(">I", 1) + rng.bytes(1195)),
            framed(5, down, b"\x01" + struct.pack(">I", 1) + up),
        ],
    )


def tls_records(rng, sizes, *, kind=23, nonce=None):
    """Records of these length fields; with a nonce that counts where one is given."""
    records = []
    for i, size in enumerate(sizes):
        body = rng.bytes(size)
        if nonce is not None:
            body = struct.pack(">Q", nonce + i) + body[8:]
        records.append(struct.pack(">BHH", kind, 0x0303, size) + body)
    return records


def cut(stream, rng, *, most=1448, start=1000):
    """Segments of a byte string: (sequence number, bytes)."""
    segments, at = [], 0
    while at < len(stream):
        size = int(rng.integers(1, most + 1))
        segments.append(((start + at) % 2**32, stream[at : at + size]))
        at += size
    return segments


def segments_of(groups, *, start=1000, most=1448):
    """Segments that begin with their group of frames, as a sender writes them."""
    segments, at = [], 0
    for group in groups:
        data = b"".join(group)
        for k in range(0, len(data), most):
            segments.append(((start + at) % 2**32, data[k : k + most]))
            at += len(data[k : k + most])
    return segments


class Talk:
    """Packets of TCP and UDP conversations in order of capture."""

    def __init__(self):
        self.rows = []
        self.raw = []
        self.now_s = 1_700_000_000.0

    def syn(self, client=CLIENT, server=SERVER, seqs=(999, 4999)):
        self._tcp(client, server, 0x02, seqs[0], b"")
        self._tcp(server, client, 0x12, seqs[1], b"")

    def segment(self, up, seq, data, *, ack=0, client=CLIENT, server=SERVER, step_s=0.001):
        ends = (client, server) if up else (server, client)
        self._tcp(*ends, 0x10, seq, data, ack=ack, step_s=step_s)

    def gre(self, up, data, *, client=CLIENT, server=SERVER, step_s=0.001, frag=0):
        """A packet of IP protocol 47, which has no ports."""
        (src, _), (dst, _) = (client, server) if up else (server, client)
        self.now_s += step_s
        self.rows.append(
            {
                "ts_ns": round(self.now_s * 1e9), "src": src, "dst": dst, "sport": 0, "dport": 0, "proto": 47,
                "payload_bytes": len(data), "ip_len_bytes": len(data) + 20, "head": data[:32], "frag": frag,
            }
        )  # fmt: skip
        self.raw.append(build.ethernet(build.ipv4(data, 47, src=src, dst=dst)))

    def datagram(self, up, data, *, client=CLIENT, server=SERVER, length=None, step_s=0.001):
        (src, sport), (dst, dport) = (client, server) if up else (server, client)
        self.now_s += step_s
        size = len(data) if length is None else length
        self.rows.append(
            {
                "ts_ns": round(self.now_s * 1e9), "src": src, "sport": sport, "dst": dst, "dport": dport,
                "proto": 17, "payload_bytes": size, "ip_len_bytes": size + 28, "head": data[:32],
            }
        )  # fmt: skip
        self.raw.append(
            build.ethernet(build.ipv4(build.udp(data, sport=sport, dport=dport), 17, src=src, dst=dst))
        )

    def _tcp(self, source, target, flags, seq, data, *, ack=0, step_s=0.001):
        self.now_s += step_s
        self.rows.append(
            tcp(
                self.now_s, *source, *target, flags, seq=seq % 2**32, ack=ack % 2**32,
                payload_bytes=len(data), ip_len_bytes=40 + len(data), head=data[:32],
            )
        )  # fmt: skip
        packet = build.tcp(
            data, sport=source[1], dport=target[1], seq=seq % 2**32, ack=ack % 2**32, flags=flags
        )
        self.raw.append(build.ethernet(build.ipv4(packet, 6, src=source[0], dst=target[0])))

    def from_table(self):
        """Conversations of which only the heads are known."""
        return assemble_flows(table(self.rows), idle_tcp_s=np.inf, idle_other_s=np.inf)

    def from_file(self, path, snaplen=1 << 18):
        """The same, read from a file."""
        times = np.round(np.array([row["ts_ns"] for row in self.rows])).astype(np.int64)
        write_pcap(path, times, self.raw, snaplen=snaplen)
        return assemble_flows(read_capture(path), idle_tcp_s=np.inf, idle_other_s=np.inf)
