"""Shadowsocks with an AEAD cipher: salts, chunks, the address (https://shadowsocks.org/doc/aead.html)."""

from __future__ import annotations

from typing import Final

SALT_BYTES: Final = 32
CHUNK_OVERHEAD_BYTES: Final = 2 + 16 + 16
CHUNK_BYTES: Final = 0x3FFF


def open_bytes(name: int) -> int:
    """Salt, and a chunk with the address: type, length, host name, port."""
    return SALT_BYTES + CHUNK_OVERHEAD_BYTES + 1 + 1 + name + 2
