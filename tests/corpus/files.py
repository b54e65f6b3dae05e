"""The same case in every form of file, and in files that are damaged."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterator

from tests.corpus.clocks import SERVER, case
from tests.corpus.specimen import UNREADABLE, Draft, Specimen
from tests.corpus.wire import Packet, pcap


def modified_pcap(packets: list[Packet]) -> bytes:
    """Kuznetsov's patched libpcap: magic 0xa1b2cd34, and 8 bytes more in each record's header."""
    parts = [struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 262144, 1)]
    for p in packets:
        seconds, rest = divmod(p.ts_ns, 1_000_000_000)
        head = struct.pack("<IIIIIHBB", seconds, rest // 1000, len(p.frame), len(p.frame), 2, 0x0800, 0, 0)
        parts.append(head + p.frame)
    return b"".join(parts)


def _block(end: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(end + "I", 12 + len(body))
    return struct.pack(end + "I", kind) + length + body + length


def pcapng(packets: list[Packet], *, end: str = "<", interfaces: int = 1) -> bytes:
    """draft-ietf-opsawg-pcapng, 4.1 to 4.3: one section; what is not WireGuard is from the last interface."""
    parts = [_block(end, 0x0A0D0D0A, struct.pack(end + "IHHq", 0x1A2B3C4D, 1, 0, -1))]
    resolution = struct.pack(end + "HHB3xHH", 9, 1, 9, 0, 0)  # if_tsresol 9: nanoseconds
    parts += [_block(end, 1, struct.pack(end + "HHI", 1, 0, 0) + resolution) for _ in range(interfaces)]
    port = struct.pack(">H", SERVER.port)
    for p in packets:
        interface = 0 if port in (p.frame[34:36], p.frame[36:38]) else interfaces - 1
        high, low = p.ts_ns >> 32, p.ts_ns & 0xFFFFFFFF
        size = len(p.frame)
        parts.append(_block(end, 6, struct.pack(end + "IIIII", interface, high, low, size, size) + p.frame))
    return b"".join(parts)


def specimens() -> Iterator[Specimen]:
    whole = {
        "microseconds": pcap,
        "nanoseconds": lambda p: pcap(p, nanoseconds=True),
        "big-endian": lambda p: pcap(p, end=">"),
        "big-endian-nanoseconds": lambda p: pcap(p, end=">", nanoseconds=True),
        "modified-magic": modified_pcap,
        "pcapng": pcapng,
        "pcapng-big-endian": lambda p: pcapng(p, end=">"),
        "pcapng-three-interfaces": lambda p: pcapng(p, interfaces=3),
        "gzip": lambda p: gzip.compress(pcap(p), mtime=0),
        "snapped-at-96": lambda p: pcap(p, snap=96),
        "snapped-at-60": lambda p: pcap(p, snap=60),
        "cut-tail": lambda p: pcap(p)[:-37],
        "cut-in-a-header": lambda p: pcap(p) + bytes(9),
    }
    for name, write in whole.items():
        yield case(f"file-{name}", "files").done(write)
    for name, raw in {
        "without-packets": pcap([]),
        "pcapng-without-packets": pcapng([]),
        "cut-in-the-first-header": pcap([])[:17],
        "empty": b"",
        "no-capture": b"no capture at all, but a line of text\n" * 9,
    }.items():
        yield Draft(f"file-{name}", "files").done(lambda _, raw=raw: raw, exit_code=UNREADABLE)
