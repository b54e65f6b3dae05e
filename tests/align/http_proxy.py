"""Both sides of an HTTP proxy in captures made by hand: it passes a request on, and an answer, after 4 ms."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.packets.frames import ethernet, ipv4, tcp
from vpnforensics.capture.writer import write_pcap
from vpnforensics.packets.read import read_capture

RELAY, OUTSIDE, HOST = "203.0.113.1", "203.0.113.2", "192.0.2.7"
START_NS = 1_700_000_000_000_000_000


class Proxied:
    """Exchanges, one after the other, and what either capture shows of them."""

    def __init__(self, seed: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.sides: tuple[list[tuple[float, bytes]], ...] = ([], [])
        self._sent: dict[tuple[str, int, str, int], dict[bool, int]] = {}
        self.ports = 0

    def get(self, at_s, client, path, body=None, *, port=None, upstream=None, cookie="", seen=True,
            goes_on=True, lost=(), wait_s=0.004, more=()):  # fmt: skip
        """One exchange; ``lost`` names messages that a capture lacks: asked, passed, came, answered.

        The request waits ``wait_s`` at the proxy; ``more`` are segments of the answer behind its beginning.
        """
        self.ports += 1
        port, upstream = port or 40_000 + self.ports, upstream or 50_000 + self.ports
        body = self.rng.bytes(300) if body is None else body
        fields = f"Host: www.example.org\r\n{f'Cookie: id={cookie}{chr(13)}{chr(10)}' if cookie else ''}"
        answer = b"200 OK\r\nContent-Length: %d\r\n" % len(body)
        inside = (client, port, RELAY, 8888), f"GET http://www.example.org{path} HTTP/1.1\r\n{fields}\r\n"
        outside = (OUTSIDE, upstream, HOST, 80), f"GET {path} HTTP/1.1\r\n{fields}Via: 1.1 proxy\r\n\r\n"
        if seen:
            self._say(0, at_s, *inside, lost="asked" in lost)
            octets = b"HTTP/1.1 " + answer + b"Via: 1.1 proxy\r\n\r\n" + body
            self._say(0, at_s + 0.046 + wait_s, inside[0], octets, up=False, lost="answered" in lost)
        if goes_on:
            self._say(1, at_s + wait_s, *outside, lost="passed" in lost)
            octets = b"HTTP/1.1 " + answer + b"\r\n" + body
            self._say(1, at_s + 0.042 + wait_s, outside[0], octets, up=False, lost="came" in lost)
        for n, segment in enumerate(more):
            later_s = at_s + 0.047 + wait_s + n / 1000
            self._say(0, later_s, inside[0], segment, up=False)
            self._say(1, later_s - 0.004, outside[0], segment, up=False)
        return upstream

    def _say(self, side, at_s, ends, octets, *, up=True, lost=False):
        octets = octets.encode() if isinstance(octets, str) else octets
        sent = self._sent.get(ends)
        if sent is None:
            sent = self._sent[ends] = {True: 1000, False: 9000}
            self._put(side, at_s - 0.002, ends, b"", {True: 999, False: 8999}, True, 2)
            self._put(side, at_s - 0.001, ends, b"", {True: 1000, False: 8999}, False, 0x12)
        if not lost:
            self._put(side, at_s, ends, octets, sent, up, 0x18)
        sent[up] += len(octets)

    def _put(self, side, at_s, ends, octets, sent, up, flags):
        src, sport, dst, dport = ends if up else (ends[2], ends[3], ends[0], ends[1])
        segment = tcp(octets, sport=sport, dport=dport, seq=sent[up], ack=sent[not up], flags=flags)
        self.sides[side].append((at_s, ethernet(ipv4(segment, 6, src=src, dst=dst))))

    def captures(self, folder: Path, *, later_s: float = 0.0, snaplen: int = 65_535):
        """Both, read; the egress clock is so much ahead."""
        read = []
        for name, rows, ahead_s in zip(("in", "out"), self.sides, (0.0, later_s), strict=True):
            rows = sorted(rows, key=lambda row: row[0])
            times = [START_NS + round((at_s + ahead_s) * 1e9) for at_s, _ in rows]
            write_pcap(folder / f"{name}.pcap", times, [frame for _, frame in rows], snaplen=snaplen)
            read.append(read_capture(folder / f"{name}.pcap"))
        return read
