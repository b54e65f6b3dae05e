"""The first bytes that the opener of each TCP connection sent: what a relay passes on as it is.

Where no socket of a relay belongs to one client (an exit of Tor serves all), the bytes do: a program's bytes
at its own proxy are the bytes of the connection that the relay opened for it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vpnforensics.groundtruth.lab.conntrack import Endpoint, Key
from vpnforensics.groundtruth.lab.truth import read_frames

_HEAD_BYTES = 256
"""Holds the 32 random bytes of a TLS ClientHello, and the cookie of an HTTP request."""
_KEPT_BYTES = 2 * _HEAD_BYTES + 300
"""And what a SOCKS5 client says before, a name of 255 bytes at most."""
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_BYTES = {_IPV4: 4, _IPV6: 16}


@dataclass(slots=True)
class Opening:
    """A TCP connection as its opener began it; bytes are kept by their place in the stream."""

    near: Endpoint
    far: Endpoint
    isn: int
    segments: dict[int, bytes] = field(default_factory=dict)

    def text(self) -> bytes:
        """The bytes without a gap from the first on."""
        known = b""
        for at, payload in sorted(self.segments.items()):
            if at > len(known):
                break
            known += payload[len(known) - at :]
        return known


def read_openings(path: Path) -> list[Opening]:
    """All connections whose SYN an Ethernet capture holds."""
    latest: dict[tuple[bytes, bytes], Opening] = {}
    found: list[Opening] = []
    for _, frame, _ in read_frames(path):
        ip, header = frame[14:], 14 + 4 * (frame[14] & 15)
        if len(ip) < 40 or ip[9] != 6 or frame[12:14] != b"\x08\0":
            continue
        tcp = frame[header : 14 + int.from_bytes(ip[2:4], "big")]
        key = ip[12:20], tcp[:4]
        seq, flags = int.from_bytes(tcp[4:8], "big"), tcp[13]
        if flags & 0x12 == 0x02:
            near = _endpoint(ip[12:16], tcp[:2])
            far = _endpoint(ip[16:20], tcp[2:4])
            if key not in latest or latest[key].isn != seq:
                latest[key] = Opening(near, far, seq)
                found.append(latest[key])
        elif key in latest:
            place = (seq - latest[key].isn - 1) & 0xFFFFFFFF
            payload = tcp[4 * (tcp[12] >> 4) :]
            if payload and place < _KEPT_BYTES:
                latest[key].segments.setdefault(place, payload[: _KEPT_BYTES - place])
    return found


def _endpoint(address: bytes, port: bytes) -> Endpoint:
    return Endpoint(".".join(map(str, address)), int.from_bytes(port, "big"))


def behind_socks(text: bytes) -> bytes:
    """What a program sends through a SOCKS5 proxy without authentication (RFC 1928)."""
    request = 2 + text[1] if len(text) > 1 else len(text)
    if len(text) < request + 5 or text[0] != 5:
        return b""
    kind = text[request + 3]
    address = 1 + text[request + 4] if kind == _NAME else _ADDRESS_BYTES.get(kind, 0)
    return text[request + 4 + address + 2 :]


def matched(egress: Path, local: Mapping[int, Path], port: int) -> dict[Key, set[int]]:
    """Clients behind each egress connection: those whose programs began a connection with the same bytes.

    Parameters
    ----------
    egress : Path
        The Internet-facing capture, whole.
    local : mapping of int to Path
        By client number: a capture of what its programs hand to their SOCKS proxy, whole.
    port : int
        Where that proxy listens.
    """
    who: dict[bytes, set[int]] = defaultdict(set)
    for number, path in local.items():
        for opening in read_openings(path):
            if opening.far.port == port:
                who[behind_socks(opening.text())[:_HEAD_BYTES]].add(number)
    return {
        ("tcp", opening.near, opening.far): who[head]
        for opening in read_openings(egress)
        if (head := opening.text()[:_HEAD_BYTES]) and head in who
    }
