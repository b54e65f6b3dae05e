"""Devices, buildings and plants: CoAP, MQTT-SN, BACnet, KNX, Modbus, OPC UA, LWM2M on DTLS."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import HOST, SERVICE, talk, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.tls_vpn import Dtls
from tests.corpus.wire import Connection, Endpoint


def coap(draft: Draft) -> None:
    """Version, type and token length, code, message id (RFC 7252, 3), then token and options."""
    line, rng = talk(draft, 5683), draft.wire.rng
    for number in range(20):
        token = rng.randbytes(4)
        line.up(struct.pack(">BBH", 0x44, 1, 9000 + number) + token + b"\xb4temp")
        line.down(struct.pack(">BBH", 0x64, 0x45, 9000 + number) + token + b"\xc0\xff" + b"21.5 C")


def coap_observed(draft: Draft) -> None:
    line, token = talk(draft, 5683), draft.wire.rng.randbytes(8)
    line.up(b"\x48\1\0\7" + token + b"\x60\x54temp")
    for number in range(24):
        line.down(
            struct.pack(">BBH", 0x58, 0x45, 4000 + number)
            + token
            + b"\x62"
            + struct.pack(">H", number)
            + b"\xff21.5 C"
        )


def coaps(draft: Draft) -> None:
    session = Dtls(talk(draft, 5684))
    session.handshake()
    for number in range(20):
        session.packet(number % 2 == 0, 20 + 10 * (number % 3))


def mqtt_sn(draft: Draft) -> None:
    """Length, type (MQTT-SN 1.2, 5.2), then PUBLISH: flags, topic, a message id that counts."""
    line, rng = talk(draft, 1884), draft.wire.rng
    line.up(b"\x0a\4\4\1\0\x3cnode")
    line.down(b"\3\5\0")
    for number in range(24):
        line.up(b"\x13\x0c\x22\0\1" + struct.pack(">H", number) + rng.randbytes(12))
        line.down(b"\7\x0d\0\1" + struct.pack(">H", number) + b"\0")


def bacnet(draft: Draft) -> None:
    """BVLC, NPDU, confirmed requests with an invoke id that counts (ASHRAE 135, annex J and 20.1.2)."""
    line = talk(draft, 47808, here=47808)
    for number in range(24):
        line.up(b"\x81\x0a\0\x11\1\4\0\5" + bytes([number]) + b"\x0c\x0c\2\0\0\1\x19\x4d")
        line.down(b"\x81\x0a\0\x14\1\0\x30" + bytes([number]) + b"\x0c\x0c\2\0\0\1\x19\x4d\x3e\x22\1\xe0")


def knx_tunnelling(draft: Draft) -> None:
    """KNXnet/IP: header, channel, a sequence counter of one byte, then cEMI (KNX 03_08_04)."""
    line, rng = talk(draft, 3671), draft.wire.rng
    for number in range(24):
        line.up(
            b"\6\x10\4\x20\0\x15\4\1"
            + bytes([number, 0])
            + b"\x11\0\xbc\xe0\0\0"
            + rng.randbytes(2)
            + b"\1\0\x80"
        )
        line.down(b"\6\x10\4\x21\0\x0a\4\1" + bytes([number, 0]))


def modbus_tcp(draft: Draft) -> None:
    """A transaction id that counts, protocol 0, length, unit (Modbus on TCP/IP, 3.1.3)."""
    connection = Connection(draft.wire, Endpoint(HOST, 49000), Endpoint(SERVICE, 502))
    for number in range(30):
        connection.up(struct.pack(">HHHBBHH", number, 0, 6, 1, 3, 100, 10))
        connection.down(struct.pack(">HHHBBB", number, 0, 23, 1, 3, 20) + draft.wire.rng.randbytes(20))


def modbus_udp(draft: Draft) -> None:
    line = talk(draft, 502)
    for number in range(30):
        line.up(struct.pack(">HHHBBHH", number, 0, 6, 1, 3, 100, 10))
        line.down(struct.pack(">HHHBBB", number, 0, 23, 1, 3, 20) + draft.wire.rng.randbytes(20))


def opc_ua(draft: Draft) -> None:
    """Hello, then messages of channel, token, sequence and request number (OPC 10000-6, 6.7.2)."""
    connection = Connection(draft.wire, Endpoint(HOST, 49001), Endpoint(SERVICE, 4840))
    connection.up(b"HELF" + struct.pack("<I", 32) + bytes(24))
    connection.down(b"ACKF" + struct.pack("<I", 28) + bytes(20))
    for number in range(30):
        for up in (True, False):
            body = struct.pack("<IIII", 7, 1, 51 + number, 1 + number) + draft.wire.rng.randbytes(60)
            connection.say(up, b"MSGF" + struct.pack("<I", 8 + len(body)) + body)


def opc_ua_pubsub(draft: Draft) -> None:
    """Network messages by multicast (OPC 10000-14, 7.2.4): flags, publisher, group, a sequence number."""
    for number in range(24):
        head = b"\xf1\1" + struct.pack("<HBHI", 2234, 0x0F, 100, 1) + struct.pack("<HH", 1, number)
        draft.wire.udp(Endpoint(HOST, 4840), Endpoint("239.0.0.1", 4840), head + draft.wire.rng.randbytes(40))


def lwm2m_with_connection_id(draft: Draft) -> None:
    """DTLS records of type 25 that carry a connection id (RFC 9146, 4)."""
    line, rng = talk(draft, 5684), draft.wire.rng
    ident = {True: rng.randbytes(8), False: rng.randbytes(8)}
    for number in range(20):
        up, size = number % 2 == 0, 40 + number % 5
        head = b"\x19\xfe\xfd" + struct.pack(">HHI", 1, 0, 90 + number) + ident[up] + struct.pack(">H", size)
        line.say(up, head + rng.randbytes(size))


def specimens() -> Iterator[Specimen]:
    yield from written(
        "things",
        coap, coap_observed, coaps, mqtt_sn, bacnet, knx_tunnelling, modbus_tcp, modbus_udp, opc_ua,
        opc_ua_pubsub, lwm2m_with_connection_id,
    )  # fmt: skip
