"""OpenSSH as a VPN: its set-up and the lengths of its binary packets (RFC 4253, RFC 4254).

With chacha20-poly1305@openssh.com (OpenSSH's first choice) a packet is 4 bytes of encrypted length; then
padding length, payload and at least 4 bytes of padding, together a multiple of 8; then a tag of 16. Nothing
marks where one begins. A tun device's packet stands in a channel message with its length and address family
(OpenSSH's PROTOCOL file, section 2.3).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import DOWN, UP, Control

BLOCK_BYTES: Final = 8
FRAME_BYTES: Final = 4 + 16
_PADDING_BYTES: Final = 1 + 4  # its length, and the least of it
TUN_EXTRA_BYTES: Final = _PADDING_BYTES + 1 + 4 + 4 + 4  # message type, channel, length, address family
CHANNEL_EXTRA_BYTES: Final = _PADDING_BYTES + 1 + 4 + 4
_BANNER = b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7\r\n"


def packet_bytes(payload: int) -> int:
    """Bytes on the wire of a message."""
    return FRAME_BYTES + -(-(payload + _PADDING_BYTES) // BLOCK_BYTES) * BLOCK_BYTES


WINDOW_ADJUST_BYTES: Final = packet_bytes(1 + 4 + 4)
CONFIRMATION_BYTES: Final = packet_bytes(1 + 4 * 4)
CLOSE_BYTES: Final = 2 * packet_bytes(1 + 4)  # CHANNEL_EOF and CHANNEL_CLOSE
CHUNK_BYTES: Final = 32_768
ADJUST_AFTER_BYTES: Final = 3 * CHUNK_BYTES  # channel_check_window


def open_bytes(name: int) -> int:
    """CHANNEL_OPEN of type direct-tcpip, for a host name of that length, asked for at 127.0.0.1."""
    return packet_bytes(1 + (4 + 12) + 3 * 4 + (4 + name) + 4 + (4 + 9) + 4)


def _clear(kind: int, length: int) -> bytes:
    """First bytes of a packet before encryption: length, padding, message type."""
    return (length - 4).to_bytes(4, "big") + bytes([10, kind])


def set_up(random: np.random.Generator) -> list[Control]:
    """Banners, key exchange in the clear (sntrup761x25519), then what an exchange by public key comes to."""
    ms = 1_000_000
    clear = [
        (UP, 0, len(_BANNER), _BANNER),
        (DOWN, 6 * ms, len(_BANNER), _BANNER),
        (UP, ms // 2, 1560, _clear(20, 1560) + random.bytes(16)),
        (DOWN, ms, 1088, _clear(20, 1088) + random.bytes(16)),
        (UP, 45 * ms, 1208, _clear(30, 1208)),
        (DOWN, 9 * ms, 1564, _clear(31, 1564)),
        (UP, 25 * ms, 16, _clear(21, 16)),
    ]
    hidden = [(UP, 1, 44), (DOWN, 1, 44), (UP, 1, 60), (DOWN, 7, 76), (UP, 1, 140), (DOWN, 1, 100)]
    hidden += [(UP, 1, 308), (DOWN, 12, 28), (UP, 1, 128), (DOWN, 1, 256)]
    return [Control(*message) for message in clear] + [
        Control(side, wait * ms, length) for side, wait, length in hidden
    ]
