"""Calls and streams: STUN, TURN, DTLS-SRTP, RTP, SIP, MPEG-TS, and programs with formats of their own."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import HOST, SERVICE, talk, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.tls_vpn import Dtls, Tls
from tests.corpus.wire import Connection, Endpoint, Talk

_COOKIE = b"\x21\x12\xa4\x42"  # RFC 8489, 5


def stun_message(line: Talk, up: bool, kind: int, size: int, ident: bytes | None = None) -> bytes:
    """A STUN message (RFC 8489, 5): type, length, magic cookie, transaction id of 12 bytes, attributes."""
    rng = line.wire.rng
    ident = ident or rng.randbytes(12)
    body = b"\x80\x22" + struct.pack(">H", size) + rng.randbytes(size)
    line.say(up, struct.pack(">HH", kind, len(body)) + _COOKIE + ident + body)
    return ident


def stun(draft: Draft) -> None:
    line = talk(draft, 3478)
    for _ in range(16):
        ident = stun_message(line, True, 0x0001, 8)
        stun_message(line, False, 0x0101, 12, ident)


def stun_classic(draft: Draft) -> None:
    """Before the cookie (RFC 3489, 11.1): the transaction id is 16 bytes, repeated when nobody answers."""
    line, ident = talk(draft, 3478), draft.wire.rng.randbytes(16)
    for _ in range(9):
        line.up(struct.pack(">HH", 1, 8) + ident + b"\0\3\0\4\0\0\0\0")
    line.down(struct.pack(">HH", 0x101, 12) + ident + b"\0\1\0\x08\0\1\xcb\1\xcb\0\x71\x4d")


def _turn(line: Talk, count: int) -> None:
    """Allocate, permission, channel; then channel data (RFC 8656, 12.4): channel number, length, data."""
    for kind in (0x0003, 0x0008, 0x0009):
        ident = stun_message(line, True, kind, 40)
        stun_message(line, False, kind | 0x0100, 32, ident)
    rng = line.wire.rng
    for number in range(count):
        up = rng.random() < 0.5
        data = struct.pack(">BBHII", 0x80, 111, number, 960 * number, 0x1234) + rng.randbytes(
            rng.choice((60, 92, 140))
        )
        line.say(up, struct.pack(">HH", 0x4001, len(data)) + data)


def turn_channel_data(draft: Draft) -> None:
    _turn(talk(draft, 3478), 30)


def turn_channel_data_mid(draft: Draft) -> None:
    line, rng = talk(draft, 3478), draft.wire.rng
    for number in range(40):
        data = struct.pack(">BBHII", 0x80, 96, 700 + number, 3000 * number, 77) + rng.randbytes(200)
        line.say(number % 2 == 0, struct.pack(">HH", 0x4000, len(data)) + data)


def turn_send_indications(draft: Draft) -> None:
    line = talk(draft, 3478)
    for number in range(30):
        stun_message(line, number % 2 == 0, 0x0016 if number % 2 == 0 else 0x0017, 120)


def turn_on_tls_and_dtls(draft: Draft) -> None:
    """A TURN server on one port over both (RFC 8656, 2.1), and one client that uses both."""
    server = Endpoint(SERVICE, 443)
    control = Tls(Connection(draft.wire, Endpoint(HOST, 50001), server), extra=0)
    control.handshake()
    for _ in range(20):
        control.packet(True, 68)
        control.packet(False, 92)
    session = Dtls(Talk(draft.wire, Endpoint(HOST, 50002), server))
    session.handshake()
    for _ in range(20):
        session.packet(True, draft.wire.rng.choice((107, 131)))
        session.packet(False, draft.wire.rng.choice((107, 131)))


def dtls_1_2_webrtc(draft: Draft) -> None:
    """STUN, DTLS and SRTP in one conversation, told apart by their first byte (RFC 7983)."""
    line = talk(draft, 49170)
    stun_message(line, True, 1, 40)
    stun_message(line, False, 0x101, 32)
    Dtls(line).handshake()
    _srtp(line, 30)


def dtls_1_2_data_channel(draft: Draft) -> None:
    session = Dtls(talk(draft, 49171))
    session.handshake()
    for number in range(24):
        session.packet(number % 2 == 0, draft.wire.rng.choice((28, 60, 400)))


def dtls_1_3(draft: Draft) -> None:
    """Unified headers (RFC 9147, 4): 001, long number, length, epoch; then all is encrypted."""
    line, rng = talk(draft, 4433), draft.wire.rng
    Dtls(line).record(True, 22, b"\1\0\0\xc8\0\0\0\0\0\0\0\xc8\xfe\xfd" + rng.randbytes(198), epoch=0)
    Dtls(line).record(False, 22, b"\2\0\0\x7a\0\0\0\0\0\0\0\x7a\xfe\xfd" + rng.randbytes(120), epoch=0)
    for number in range(28):
        size = rng.choice((40, 90, 300))
        epoch = 2 if number < 6 else 3
        line.say(number % 2 == 0, struct.pack(">BHH", 0x2C | epoch, number, size) + rng.randbytes(size))


def rtp(line: Talk, count: int, kind: int = 111, *, both: bool = True) -> None:
    """RTP (RFC 3550, 5.1): version 2, payload type, a number that counts, a time, a constant source."""
    rng = line.wire.rng
    source, first = {True: rng.randrange(1 << 32), False: rng.randrange(1 << 32)}, rng.randrange(1 << 15)
    for number in range(count):
        up = number % 2 == 0 or not both
        head = struct.pack(">BBHII", 0x80, kind, first + number, 160 * number, source[up])
        line.say(up, head + rng.randbytes(160 if kind == 0 else rng.randrange(60, 160)))


def _srtp(line: Talk, count: int) -> None:
    rtp(line, count, 96)


def rtp_g711(draft: Draft) -> None:
    rtp(talk(draft, 40002, here=40000), 40, 0)


def rtp_one_way(draft: Draft) -> None:
    rtp(talk(draft, 40002, here=40000), 40, 33, both=False)


def srtp_opus(draft: Draft) -> None:
    _srtp(talk(draft, 40002, here=40000), 40)


def rtcp(draft: Draft) -> None:
    """Sender and receiver reports (RFC 3550, 6.4) every 5 s."""
    line, rng = talk(draft, 40003, here=40001), draft.wire.rng
    source = {True: rng.randrange(1 << 32), False: rng.randrange(1 << 32)}
    for number in range(24):
        up = number % 2 == 0
        body = struct.pack(
            ">BBHIQIII", 0x80, 200, 6, source[up], rng.getrandbits(64), 160 * number, number, number
        )
        line.say(
            up, body + struct.pack(">BBHI", 0x81, 202, 6, source[up]) + b"\1\x10user@example.org\0\0\0\0"
        )
        draft.wire.later(2.5)


def sip_request(method: str, number: int) -> bytes:
    text = (
        f"{method} sip:192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP {HOST}:5060;branch=z9hG4bK{number:08x}\r\n"
        f"From: <sip:100@192.0.2.10>;tag=1\r\nTo: <sip:100@192.0.2.10>\r\nCall-ID: 0000@{HOST}\r\n"
        f"CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
    )
    return text.encode()


def sip_answer(code: str, number: int, method: str) -> bytes:
    return f"SIP/2.0 {code}\r\n".encode() + sip_request(method, number).split(b"\r\n", 1)[1]


def sip_register(draft: Draft) -> None:
    """REGISTER, refused, and again (RFC 3261, 10)."""
    line = talk(draft, 5060, here=5060)
    for number in range(1, 9):
        line.up(sip_request("REGISTER", number))
        line.down(sip_answer("401 Unauthorized" if number % 2 else "200 OK", number, "REGISTER"))


def sip_call(draft: Draft) -> None:
    line = talk(draft, 5060, here=5060)
    line.up(sip_request("INVITE", 1))
    for code in ("100 Trying", "180 Ringing", "200 OK"):
        line.down(sip_answer(code, 1, "INVITE"))
    line.up(sip_request("ACK", 1))
    for number in range(2, 8):
        line.down(sip_request("OPTIONS", number))
        line.up(sip_answer("200 OK", number, "OPTIONS"))
    line.up(sip_request("BYE", 9))
    line.down(sip_answer("200 OK", 9, "BYE"))


def sip_subscribe_only_up(draft: Draft) -> None:
    line = talk(draft, 5060, here=5060)
    for number in range(12):
        line.up(sip_request("SUBSCRIBE", number))


def mpeg_ts(draft: Draft) -> None:
    """Seven transport packets of 188 bytes a datagram (ISO 13818-1, 2.4.3): sync byte, PID, counter."""
    line, rng = talk(draft, 1234, seen="up"), draft.wire.rng
    for number in range(12):
        cells = (b"G\1\0" + bytes([0x10 | (7 * number + k) & 15]) + rng.randbytes(184) for k in range(7))
        line.up(b"".join(cells))


def rtp_mpeg_ts(draft: Draft) -> None:
    line, rng = talk(draft, 5004, seen="up"), draft.wire.rng
    for number in range(12):
        cells = b"".join(b"G\1\0\x10" + rng.randbytes(184) for _ in range(3))
        line.up(struct.pack(">BBHII", 0x80, 33, 100 + number, 3003 * number, 0xCAFE) + cells)


def zoom_like(draft: Draft) -> None:
    """A header of its own before RTP: type, a number that counts, direction, then media type and RTP."""
    line, rng = talk(draft, 8801), draft.wire.rng
    for number in range(50):
        up = number % 2 == 0
        media = b"\x0f" + rng.randbytes(2) + struct.pack(">HI", number, 960 * number) + bytes(10)
        head = b"\5\x64" + struct.pack(">H", 400 + number) + bytes([0, 0, 0, 0 if up else 4]) + media
        line.say(
            up, head + struct.pack(">BBHII", 0x90, 112, number, 960 * number, 0x01000402) + rng.randbytes(120)
        )


def remote_desktop_like(draft: Draft) -> None:
    """A remote control program: its magic, a command, a length, and a session number each way."""
    line, rng = talk(draft, 5938), draft.wire.rng
    session = {True: rng.randbytes(4), False: rng.randbytes(4)}
    for number in range(50):
        up = rng.random() < 0.4
        size = rng.choice((24, 60, 500, 900))
        line.say(up, b"\x17\x24\x11\4" + session[up] + struct.pack("<HI", size, number) + rng.randbytes(size))


def specimens() -> Iterator[Specimen]:
    yield from written(
        "media",
        stun, stun_classic, turn_channel_data, turn_channel_data_mid, turn_send_indications,
        turn_on_tls_and_dtls, dtls_1_2_webrtc, dtls_1_2_data_channel, dtls_1_3,
        rtp_g711, rtp_one_way, srtp_opus, rtcp, sip_register, sip_call, sip_subscribe_only_up,
        mpeg_ts, rtp_mpeg_ts, zoom_like, remote_desktop_like,
    )  # fmt: skip
