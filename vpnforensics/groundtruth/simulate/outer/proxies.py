"""Proxies that keep every byte: SOCKS5 (RFC 1928) and HTTP CONNECT (RFC 9110, section 9.3.6).

What a client says before its own bytes, and what it is told once the server's connection stands. As curl and
MicroSocks, and curl and Tinyproxy, say it.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import DOWN, UP, Control

_GREETING: Final = b"\x05\x02\x00\x01"  # without authentication, or by GSSAPI
_CHOSEN: Final = b"\x05\x00"
SOCKS_ANSWER: Final = b"\x05\x00\x00\x01" + bytes(6)
CONNECT_ANSWER: Final = b"HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n"
CHUNK_BYTES: Final = 16_384
"""Most that one read takes, assumed: programs with a smaller buffer cut large writes more often."""


def socks_set_up(random: np.random.Generator) -> list[Control]:
    """The method: one round trip before the request."""
    return [Control(UP, 0, len(_GREETING), _GREETING), Control(DOWN, 100_000, len(_CHOSEN), _CHOSEN)]


def host_name(length: int) -> bytes:
    """A name of so many characters."""
    return b".example".rjust(length, b"w")[-length:]


def socks_request(name: int) -> bytes:
    """CONNECT to a host name of that length."""
    return b"\x05\x01\x00\x03" + bytes([name]) + host_name(name) + b"\x01\xbb"


def connect_request(name: int) -> bytes:
    """CONNECT to a host name of that length."""
    host = host_name(name) + b":443"
    text = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (host, host)
    return text + b"User-Agent: curl/7.88.1\r\nProxy-Connection: Keep-Alive\r\n\r\n"
