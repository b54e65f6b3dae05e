"""What a relay makes of a write: the bytes on its outer side as a function of those on its inner one.

One form covers the relays in use::

    outer = frame * ceil(n / chunk) + unit * ceil((n + extra) / room)

``unit`` and ``room`` 1 add constants (Shadowsocks, TLS); 8 or 16 both are blocks (ssh); 514 and 498 are Tor's
cells. ``frame`` is what each chunk of at most ``chunk`` bytes has in front and behind. The first writes of a
connection may have more (``opening``): :data:`VARIES` where that is no constant (an address).

===============  ==================================================================================
law              source
===============  ==================================================================================
Shadowsocks      AEAD chunk: length 2, tag 16, payload up to 0x3fff, tag 16; salt of 32 (or 16) bytes
                 first, and from the client an address (https://shadowsocks.org/doc/aead.html)
TLS 1.3          record: 5 in clear, type 1, tag 16 (RFC 8446, 5.2); 1.2 with GCM: nonce 8, tag 16
                 (RFC 5288, 3)
ssh              packet: length 4, padding length 1, payload, padding of 4 and more to whole blocks,
                 tag 16 or MAC; a channel's data has 9 bytes in front, a tun device's packet 13 (RFC
                 4253, 6; RFC 4254, 5.2; OpenSSH's PROTOCOL, 2.3 and 1.6)
Tor              cells of 514 bytes with 498 of data, in one TLS record (tor-spec, 3 and 6.1)
SOCKS, CONNECT   the bytes themselves, after the request (RFC 1928, RFC 9110)
===============  ==================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.length_map import LengthMap, Origin

CELL_BYTES, CELL_DATA_BYTES = 514, 498
MOST_WRITE_BYTES = 16_000
"""Larger writes are read and passed on in pieces: they have no single partner."""
OPENING = 1 << 16
"""Added to the size of a write that opens its connection, on both sides: it is compared with such only."""
VARIES = -1
CHANNEL_OPENED_BYTES, CHANNEL_ENDED_BYTES = 8, 0
"""As much data has a message as long as ssh's that a connection was opened (17 bytes; data has 9 in front),
and as those that it sends no more, or is closed (5, padded as no data would be; RFC 4254, 5.1-5.3)."""

WriteLawKind = Literal["constant", "block", "cell"]


@dataclass(frozen=True, slots=True)
class WriteLaw:
    """Bytes of an outer write for an inner one of a given size; of a packet, where ``of_packets``."""

    name: str
    """The protocol that has it; "" where that is not known, or many have it."""
    variant: str = ""
    frame: int = 0
    chunk: int = MOST_WRITE_BYTES
    unit: int = 1
    room: int = 1
    extra: int = 0
    opening: tuple[int, int] | None = None
    """Bytes that a connection's first writes (up, down) have more, where it carries one connection from its
    first byte on; ``None`` where first writes are like any others."""
    of_packets: bool = False
    """Whether what is carried are IP packets (``ssh -w``), and not what a relay read."""
    of_frames: bool = False
    """Whether it is of what a length in clear says, and not of writes: several frames may be one write. Each
    of ssh's messages is one, those too that say that a connection was opened or ended."""
    origin: Origin = "formula"

    @property
    def cap(self) -> int:
        """As a length map's; nothing is longer."""
        return 2 * OPENING

    def outer(self, inner_bytes: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.int64]:
        """Outer bytes of inner writes (or IP packets) of these sizes; those that open have
        :data:`OPENING` more.
        """
        n = inner_bytes.astype(np.int64)
        opening = np.where(n >= OPENING, OPENING, 0)
        n = n - opening
        return self.frame * -(-n // self.chunk) + self.unit * -(-(n + self.extra) // self.room) + opening

    @property
    def kind(self) -> WriteLawKind:
        """``constant``, ``block`` (rounded up), or ``cell`` (into pieces of one size)."""
        if self.room == 1:
            return "constant"
        return "block" if self.unit == self.room else "cell"

    def __str__(self) -> str:
        chunks = f"{self.frame}" if self.room > 1 or self.frame == 0 else f"{self.frame} k"
        inner = "n" if self.extra == 0 else f"(n{self.extra:+d})"
        body = "n" if self.room == 1 else f"{self.unit}⌈{inner}/{self.room}⌉"
        return f"{body} + {chunks}" if self.frame else body

    def to_dict(self) -> dict[str, Any]:
        """The law as the result contract's ``write_law``."""
        return {
            "kind": self.kind,
            "formula": str(self),
            "frame": self.frame,
            "chunk": self.chunk,
            "unit": self.unit,
            "room": self.room,
            "extra": self.extra,
            "opening": None if self.opening is None else [b if b != VARIES else None for b in self.opening],
            "of_packets": self.of_packets,
            "of_frames": self.of_frames,
            "origin": self.origin,
        }


def _ssh(variant: str, frame: int, block: int) -> tuple[WriteLaw, WriteLaw]:
    """Channel data, and a tun device's packets: 14 and 18 bytes more, padding included."""
    return (
        WriteLaw("ssh", variant, frame, unit=block, room=block, extra=14),
        WriteLaw("ssh", variant, frame, unit=block, room=block, extra=18, of_packets=True),
    )


_CLEAR = (WriteLaw(""),)
_SSH = (
    WriteLaw("ssh", "lengths in clear", unit=16, room=16, extra=14, of_frames=True),
    WriteLaw("ssh", "lengths in clear", unit=8, room=8, extra=14, of_frames=True),
    *_ssh("chacha20-poly1305", 20, 8),
    *_ssh("aes-gcm", 20, 16),
    *_ssh("etm, 32", 36, 16),
    *_ssh("etm, 64", 68, 16),
)
LAWS: dict[str, tuple[WriteLaw, ...]] = {
    "socks5": _CLEAR,
    "socks4": _CLEAR,
    "http-proxy": _CLEAR,
    "tor": (WriteLaw("tor", frame=22, unit=CELL_BYTES, room=CELL_DATA_BYTES),),
    "ssh": _SSH,
    "tls": (
        WriteLaw("tls", "tls1.3", 22),
        WriteLaw("tls", "tls1.2_gcm", 29),
        WriteLaw("tls", "tls1.2", 21),
        WriteLaw("tls", "openvpn in tls1.3", 22 + 2 + 24, of_packets=True),
    ),
    "stream": (
        WriteLaw("shadowsocks", frame=34, chunk=0x3FFF, opening=(VARIES, 32)),
        WriteLaw("shadowsocks", frame=34, chunk=0x3FFF, opening=(VARIES, 16)),
        *_SSH,  # joined after its banner
    ),
}
"""By protocol, likeliest first."""
LengthLaw = LengthMap | WriteLaw
"""What says how long an outer record, or write, is."""
