"""Ordinary TCP: the web, mail, a shell, files, a database."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import HOST, SERVICE, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.ssh import CHACHA, Ssh
from tests.corpus.tls_vpn import Tls, record
from tests.corpus.wire import Connection, Endpoint


def _connect(draft: Draft, port: int, *, opened: bool = True) -> Connection:
    return Connection(draft.wire, Endpoint(HOST, 49152), Endpoint(SERVICE, port), opened=opened)


def https(draft: Draft) -> None:
    """Requests, and pages in records as large as they may be (RFC 8446, 5.1)."""
    connection = _connect(draft, 443)
    Tls(connection).handshake()
    for size in (3000, 16401, 9000):
        connection.up(record(23, draft.wire.rng.randbytes(400)))
        connection.down(record(23, draft.wire.rng.randbytes(size)))
    connection.close()


def https_small_requests(draft: Draft) -> None:
    session = Tls(_connect(draft, 443), extra=0)
    session.handshake()
    for _ in range(30):
        session.packet(True, draft.wire.rng.randrange(80, 700))
        session.packet(False, draft.wire.rng.randrange(60, 1500))


def https_1_2_gcm_mid(draft: Draft) -> None:
    session = Tls(_connect(draft, 443, opened=False), "tls1.2_gcm", extra=0)
    for _ in range(30):
        session.packet(True, draft.wire.rng.randrange(80, 700))
        session.packet(False, draft.wire.rng.randrange(60, 1500))


def web_socket(draft: Draft) -> None:
    connection = _connect(draft, 80)
    connection.up(
        b"GET /live HTTP/1.1\r\nHost: example.org\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    )
    connection.down(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n")
    for number in range(40):
        connection.say(number % 2 == 0, b"\x82\x7e\0\xa0" + draft.wire.rng.randbytes(160))


def http(draft: Draft) -> None:
    connection = _connect(draft, 80)
    for number in range(24):
        connection.up(b"GET /%d HTTP/1.1\r\nHost: example.org\r\n\r\n" % number)
        connection.down(b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + b"a page " * 42 + b"etc. .")
    connection.close()


def ssh(draft: Draft) -> None:
    _shell(Ssh(_connect(draft, 22), CHACHA))


def ssh_gcm(draft: Draft) -> None:
    _shell(Ssh(_connect(draft, 22)))


def _shell(session: Ssh) -> None:
    session.handshake()
    for _ in range(30):
        session.message(True, 10)
        session.message(False, session.connection.wire.rng.choice((10, 40, 80)))


def sftp_gcm(draft: Draft) -> None:
    """A file in channel messages of 32 KiB."""
    session = Ssh(_connect(draft, 22))
    session.handshake()
    for _ in range(20):
        session.message(True, 40)
        session.message(False, 32_768 + 9)


def length_and_trailer(draft: Draft) -> None:
    """Messages behind lengths of four bytes that leave 16 of a trailer out, as ssh's do: but with fields."""
    connection = _connect(draft, 9000)
    for number in range(40):
        body = struct.pack(">IQI", 0x01020000, number, 7) + bytes(16 * draft.wire.rng.randrange(1, 30))
        connection.say(number % 2 == 0, struct.pack(">I", len(body)) + body + draft.wire.rng.randbytes(16))


def smtp(draft: Draft) -> None:
    connection = _connect(draft, 25)
    connection.down(b"220 mx.example ESMTP\r\n")
    for line in (b"EHLO host.example", b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA"):
        connection.up(line + b"\r\n")
        connection.down(b"250 OK\r\n")
    for number in range(20):
        connection.up(b"This is line %d of a letter that says nothing.\r\n" % number)
    connection.up(b".\r\n")
    connection.down(b"250 OK\r\n")
    connection.close()


def imap_with_starttls(draft: Draft) -> None:
    connection = _connect(draft, 143)
    connection.down(b"* OK ready\r\n")
    connection.up(b"a STARTTLS\r\n")
    connection.down(b"a OK\r\n")
    session = Tls(connection, extra=0)
    session.handshake()
    for _ in range(20):
        session.packet(True, 60)
        session.packet(False, 900)


def dns_on_tcp(draft: Draft) -> None:
    """Messages behind their lengths of two bytes (RFC 1035, 4.2.2), as frames of a VPN are."""
    connection = _connect(draft, 53)
    for number in range(30):
        question = struct.pack(">HHHHHH", 0x3000 + number, 0x0100, 1, 0, 0, 0) + b"\3www\7example\0\0\1\0\1"
        connection.up(struct.pack(">H", len(question)) + question)
        answer = question[:2] + b"\x81\x80" + question[4:] + draft.wire.rng.randbytes(40)
        connection.down(struct.pack(">H", len(answer)) + answer)


def database(draft: Draft) -> None:
    """Three bytes of length (little-endian) and a sequence number (MySQL, "Protocol basics")."""
    connection = _connect(draft, 3306)
    connection.down(b"\x4a\0\0\0\x0a8.0.30\0" + draft.wire.rng.randbytes(66))
    for _ in range(30):
        connection.up(b"\x0f\0\0\0\3select * from a")
        connection.down(
            b"\1\0\0\1\1" + b"\x30\0\0\2" + draft.wire.rng.randbytes(48) + b"\5\0\0\3\xfe\0\0\2\0"
        )


def remote_desktop(draft: Draft) -> None:
    """TPKT (RFC 2126) with an X.224 request, then TLS."""
    connection = _connect(draft, 3389)
    connection.up(b"\3\0\0\x13\x0e\xe0\0\0\0\0\0\1\0\x08\0\3\0\0\0")
    connection.down(b"\3\0\0\x13\x0e\xd0\0\0\x12\x34\0\2\x1f\x08\0\2\0\0\0")
    session = Tls(connection, extra=0)
    session.handshake()
    for _ in range(30):
        session.packet(True, 40)
        session.packet(False, draft.wire.rng.choice((90, 700, 1300)))


def specimens() -> Iterator[Specimen]:
    yield from written(
        "plain_tcp",
        https, https_small_requests, https_1_2_gcm_mid, web_socket, http, ssh, ssh_gcm, sftp_gcm,
        length_and_trailer, smtp, imap_with_starttls, dns_on_tcp, database, remote_desktop,
    )  # fmt: skip
