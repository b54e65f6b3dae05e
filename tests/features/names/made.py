"""Messages and captures of names, made by the documents' own rules: dpkt, struct and cryptography."""

from __future__ import annotations

import struct
from pathlib import Path

import dpkt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.corpus.wire import Connection, Endpoint, Wire, pcap

CLIENT, SERVER, RESOLVER = "203.0.113.1", "192.0.2.80", "192.0.2.53"

RFC_9001_A2 = {
    "header": bytes.fromhex("c300000001088394c8f03e5157080000449e00000002"),
    "keys": (
        "1f369613dd76d5467730efcbe3b1a22d",
        "fa044b2f42a3fd3b46fb255c",
        "9f50449e04a0e810283a1e9933adedd2",
    ),
    "begins": "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
    "ends": "e221af44860018ab0856972e194cd934",
}
"""Header, client's key, IV and header-protection key, and both ends of the packet they make."""
RFC_9369_A2 = {
    "header": bytes.fromhex("d36b3343cf088394c8f03e5157080000449e00000002"),
    "keys": (
        "8b1a0bc121284290a29e0971b5cd045d",
        "91f73e2351d8fa91660e909f",
        "45b95e15235d6f45a6b19cbcb0294ba9",
    ),
    "begins": "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
    "ends": "a18b2faa745b6fe189cf772a9f84cbfc",
}
HELLO_FRAME = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868"
    "04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578"
    "616d706c652e636f6dff01000100000a00080006001d00170018001000070005"
    "04616c706e000500050100000000003300260024001d00209370b2c9caa47fba"
    "baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400"
    "0d0010000e0403050306030203080408050806002d00020101001c0002400100"
    "3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000"
    "75300901100f088394c8f03e51570806048000ffff"
)
"""The CRYPTO frame of both documents' example, for example.com."""


def sealed(header: bytes, frames: bytes, keys: tuple[str, str, str], *, number_bytes: int = 4) -> bytes:
    """A packet under the given keys, step by step as RFC 9001, 5.3 and 5.4 say."""
    key, iv, header_key = map(bytes.fromhex, keys)
    number = header[-number_bytes:]
    nonce = bytes(a ^ b for a, b in zip(iv, number.rjust(12, b"\0"), strict=True))
    body = AESGCM(key).encrypt(nonce, frames, header)
    sample = body[4 - number_bytes :][:16]
    mask = Cipher(algorithms.AES(header_key), modes.ECB()).encryptor().update(sample)
    hidden = bytes(a ^ b for a, b in zip(number, mask[1:], strict=False))
    return bytes([header[0] ^ mask[0] & 15]) + header[1:-number_bytes] + hidden + body


def initial(frames: bytes, number: int = 2, *, vector: dict = RFC_9001_A2, token: bytes = b"") -> bytes:
    """An Initial packet for the connection id of the documents' example."""
    header = vector["header"]
    length = 4 + len(frames) + 16
    changed = header[:15] + bytes([len(token)]) + token + struct.pack(">HI", 0x4000 | length, number)
    return sealed(changed, frames, vector["keys"])


def crypto(offset: int, octets: bytes) -> bytes:
    """A CRYPTO frame (RFC 9000, 19.6)."""
    return b"\x06" + struct.pack(">HH", 0x4000 | offset, 0x4000 | len(octets)) + octets


def client_hello(name: bytes | None, *, before: bytes = b"", size: int = 0) -> bytes:
    """A handshake message; ``before`` are extensions ahead of the name, ``size`` pads behind it."""
    server_name = b"" if name is None else _extension(0, _vector(2, b"\0" + _vector(2, name)))
    padding = _extension(21, bytes(size)) if size else b""
    extensions = before + server_name + padding
    body = b"\3\3" + bytes(32) + b"\0" + _vector(2, b"\x13\x01") + b"\1\0" + _vector(2, extensions)
    return b"\1" + len(body).to_bytes(3, "big") + body


def records(message: bytes, size: int = 1 << 14) -> bytes:
    """TLS records of at most so many bytes."""
    return b"".join(b"\x16\x03\x01" + _vector(2, message[i : i + size]) for i in range(0, len(message), size))


def _extension(kind: int, body: bytes) -> bytes:
    return struct.pack(">H", kind) + _vector(2, body)


def _vector(width: int, body: bytes) -> bytes:
    return len(body).to_bytes(width, "big") + body


def query(name: str, ident: int = 7, kind: int = 1) -> bytes:
    """A question, by dpkt."""
    message = dpkt.dns.DNS(id=ident, qr=0, op=0x0100)
    message.qd = [dpkt.dns.DNS.Q(name=name, type=kind, cls=1)]
    return bytes(message)


def answer(name: str, *addresses: bytes, ident: int = 7, ttl_s: int = 60) -> bytes:
    """An answer with compressed owner names."""
    question = query(name, ident)
    given = b"".join(
        b"\xc0\x0c" + struct.pack(">HHIH", 1 if len(a) == 4 else 28, 1, ttl_s, len(a)) + a for a in addresses
    )
    return (
        question[:2] + b"\x81\x80\0\1" + struct.pack(">H", len(addresses)) + bytes(4) + question[12:] + given
    )


def packed(address: str) -> bytes:
    """An IPv4 address in network order."""
    return bytes(map(int, address.split(".")))


def connect(wire: Wire, port: int, *up: bytes, sport: int = 40001, server: str = SERVER) -> None:
    """A TCP connection in which the client says so much."""
    connection = Connection(wire, Endpoint(CLIENT, sport), Endpoint(server, port))
    connection.up(*up)
    connection.down(b"ok")
    connection.close()


def look_up(
    wire: Wire, name: str, *addresses: str, sport: int = 50001, port: int = 53, ttl_s: int = 60
) -> None:
    """A lookup over UDP."""
    client, resolver = Endpoint(CLIENT, sport), Endpoint(RESOLVER, port)
    wire.udp(client, resolver, query(name))
    wire.later(0.01)
    wire.udp(resolver, client, answer(name, *map(packed, addresses), ttl_s=ttl_s))
    wire.later(0.01)


def capture(wire: Wire, path: Path, *, snap: int = 1 << 16) -> Path:
    """A pcap of what is on the wire."""
    path.write_bytes(pcap(wire.sorted(), nanoseconds=True, snap=snap))
    return path
