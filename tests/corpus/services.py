"""What networks run on: time, names, addresses, files, log-ins, and what reports about them."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tests.corpus.ordinary import HOST, SERVICE, talk, written
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import START_NS, Endpoint, Talk

_NOW_S = START_NS // 1_000_000_000


def _ntp(version: int) -> object:
    """Client and server packets of 48 bytes (RFC 5905, 7.3; version 1: RFC 1059, appendix B)."""

    def write(draft: Draft) -> None:
        line, rng = talk(draft, 123), draft.wire.rng
        for number in range(10):
            seconds = 2_208_988_800 + _NOW_S + 16 * number
            mode = (0, 0) if version == 1 else (3, 4)
            line.up(
                bytes([version << 3 | mode[0], 0, 4, 0xFA])
                + bytes(36)
                + struct.pack(">II", seconds, rng.getrandbits(32))
            )
            head = bytes([version << 3 | mode[1], 2, 4, 0xEB]) + bytes(8) + b"\xc0\0\2\x01"
            line.down(
                head + struct.pack(">8I", *(seconds if k % 2 == 0 else rng.getrandbits(32) for k in range(8)))
            )
            draft.wire.later(16)

    write.__name__ = f"ntp_v{version}"
    return write


def ntp_broadcast(draft: Draft) -> None:
    line = Talk(draft.wire, Endpoint(HOST, 123), Endpoint("198.51.100.255", 123))
    for number in range(10):
        line.up(
            bytes([4 << 3 | 5, 2, 6, 0xEB])
            + bytes(36)
            + struct.pack(">II", 2_208_988_800 + _NOW_S + number, number)
        )


def ptp_v2(draft: Draft) -> None:
    """Sync, follow-up, delay request and response (IEEE 1588, 13.3): a clock identity, a sequence number."""
    event = Talk(draft.wire, Endpoint(HOST, 319), Endpoint(SERVICE, 319))
    general = Talk(draft.wire, Endpoint(HOST, 320), Endpoint(SERVICE, 320))
    clocks = {True: b"\0\x1b\x19\xff\xfe\0\0\1", False: b"\0\x1b\x19\xff\xfe\0\0\2"}
    for number in range(12):
        for line, up, kind, size in (
            (event, False, 0, 44),
            (general, False, 8, 44),
            (event, True, 1, 44),
            (general, False, 9, 54),
        ):
            head = struct.pack(">BBHBBHQI", kind, 2, size, 0, 0, 0x0200, 0, 0) + clocks[up]
            head += struct.pack(">HHBB", 1, number, 0, 0)
            line.say(up, head + draft.wire.rng.randbytes(size - 34))


def ptp_signalling(draft: Draft) -> None:
    """Messages of type 12 with unicast requests and grants (IEEE 1588, 16.1)."""
    line = Talk(draft.wire, Endpoint(HOST, 320), Endpoint(SERVICE, 320))
    for number in range(12):
        up = number % 2 == 0
        head = struct.pack(">BBHBBHQI", 0x0C, 2, 54, 0, 0, 0x0400, 0, 0) + (
            b"\0\x1b\x19\xff\xfe\0\0\1" if up else b"\0\x1b\x19\xff\xfe\0\0\2"
        )
        line.say(
            up,
            head
            + struct.pack(">HHBB", 1, number // 2, 5, 0x7F)
            + bytes(10)
            + struct.pack(">HHI", 4, 6, 300)
            + bytes(2),
        )


def dhcp(draft: Draft) -> None:
    """Discover to acknowledge (RFC 2131, 2)."""
    client, server = Endpoint("0.0.0.0", 68), Endpoint("255.255.255.255", 67)
    rng = draft.wire.rng
    for _ in range(3):
        xid = rng.randbytes(4)
        for kind in (1, 2, 3, 5):
            op = 2 if kind in (2, 5) else 1
            body = (
                bytes([op, 1, 6, 0])
                + xid
                + bytes(20)
                + b"\2\0\0\0\0\1"
                + bytes(202)
                + b"\x63\x82\x53\x63\x35\1"
                + bytes([kind, 255])
                + bytes(40)
            )
            src, dst = (
                (Endpoint(SERVICE, 67), Endpoint("255.255.255.255", 68)) if op == 2 else (client, server)
            )
            draft.wire.udp(src, dst, body)


def dhcp_counting_xid(draft: Draft) -> None:
    """A load generator: its transaction ids count up."""
    for number in range(14):
        body = (
            struct.pack(">BBBBI", 1, 1, 6, 0, 0x1000 + number)
            + bytes(20)
            + b"\2\0\0\0\0\1"
            + bytes(202)
            + b"\x63\x82\x53\x63\x35\1\1\xff"
        )
        draft.wire.udp(Endpoint("0.0.0.0", 68), Endpoint("255.255.255.255", 67), body)


def dhcp_relay_counting(draft: Draft) -> None:
    line = Talk(draft.wire, Endpoint(HOST, 67), Endpoint(SERVICE, 67))
    for number in range(14):
        for up in (True, False):
            line.say(
                up,
                struct.pack(">BBBBI", 1 if up else 2, 1, 6, 1, 500 + number)
                + bytes(28)
                + bytes(200)
                + b"\x63\x82\x53\x63\xff",
            )


def _query(name: bytes, kind: int = 1) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in name.split(b".")) + struct.pack(">BHH", 0, kind, 1)


def dns(draft: Draft) -> None:
    line, rng = talk(draft, 53), draft.wire.rng
    for number in range(16):
        ident, asked = rng.randbytes(2), _query(b"host%d.example" % number)
        line.up(ident + b"\1\0\0\1\0\0\0\0\0\0" + asked)
        line.down(
            ident
            + b"\x81\x80\0\1\0\1\0\0\0\0"
            + asked
            + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2"
            + rng.randbytes(1)
        )


def dns_same_id_repeated(draft: Draft) -> None:
    """A query sent until somebody answers (RFC 1035, 4.2.1), its id an opcode of OpenVPN's resets."""
    line, asked = talk(draft, 53), _query(b"www.example")
    for _ in range(8):
        line.up(b"\x38\x11\1\0\0\1\0\0\0\0\0\0" + asked)
    for _ in range(2):
        line.down(b"\x38\x11\x81\x80\0\1\0\1\0\0\0\0" + asked + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7")


def dns_id_answers_alike(draft: Draft) -> None:
    line, asked = talk(draft, 53), _query(b"www.example", 28)
    for _ in range(6):
        line.up(b"\x50\x40\1\0\0\1\0\0\0\0\0\0" + asked)
        line.down(b"\x50\x40\x81\x80\0\1\0\0\0\1\0\0" + asked + bytes(30))


def mdns(draft: Draft) -> None:
    line = Talk(draft.wire, Endpoint(HOST, 5353), Endpoint("224.0.0.251", 5353))
    for number in range(16):
        line.up(
            b"\0\0\0\0\0\1\0\0\0\0\0\0" + _query(b"_ipp._tcp.local", 12)
            if number % 2
            else b"\0\0\x84\0\0\0\0\1\0\0\0\0" + _query(b"printer.local") + b"\0\0\0\x78\0\4\xc6\x33\x64\7"
        )


def llmnr(draft: Draft) -> None:
    line, rng = Talk(draft.wire, Endpoint(HOST, 53811), Endpoint("224.0.0.252", 5355)), draft.wire.rng
    for number in range(10):
        line.up(rng.randbytes(2) + b"\0\0\0\1\0\0\0\0\0\0" + _query(b"wpad", 1 if number % 2 else 28))


def netbios_names(draft: Draft) -> None:
    """Name queries (RFC 1002, 4.2.12) whose ids count."""
    line = Talk(draft.wire, Endpoint(HOST, 137), Endpoint("198.51.100.255", 137))
    for number in range(14):
        line.up(
            struct.pack(">HHHHHH", 0x8000 + number, 0x0110, 1, 0, 0, 0)
            + b"\x20"
            + b"CA" * 16
            + b"\0\0\x20\0\1"
        )


def ssdp(draft: Draft) -> None:
    line = Talk(draft.wire, Endpoint(HOST, 50123), Endpoint("239.255.255.250", 1900))
    for number in range(8):
        line.up(
            b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
            b'MAN: "ssdp:discover"\r\nMX: 1\r\nST: upnp:rootdevice\r\n\r\n'
        )
        draft.wire.udp(
            Endpoint("198.51.100.1", 1900),
            Endpoint(HOST, 50123),
            b"HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\nUSN: uuid:%d\r\n\r\n" % number,
        )


def radius(draft: Draft) -> None:
    """Requests and answers (RFC 2865, 3): code, a number that counts, length, authenticator."""
    line, rng = talk(draft, 1812), draft.wire.rng
    for number in range(16):
        line.up(struct.pack(">BBH", 1, number, 60) + rng.randbytes(56))
        line.down(struct.pack(">BBH", 2, number, 44) + rng.randbytes(40))


def radius_accounting(draft: Draft) -> None:
    line, rng = talk(draft, 1813), draft.wire.rng
    for number in range(16):
        line.up(struct.pack(">BBH", 4, number, 120) + rng.randbytes(116))
        line.down(struct.pack(">BBH", 5, number, 20) + rng.randbytes(16))


def tftp(draft: Draft) -> None:
    """A file in blocks of 512 bytes (RFC 1350, 5): opcode 3, a block number; opcode 4 acknowledges it."""
    talk(draft, 69).up(b"\0\1boot.bin\0octet\0")
    line = talk(draft, 51900)
    for block in range(1, 25):
        line.down(struct.pack(">HH", 3, block) + draft.wire.rng.randbytes(512 if block < 24 else 100))
        line.up(struct.pack(">HH", 4, block))


def snmp(draft: Draft) -> None:
    """GetNext and Response in BER (RFC 3416, 3), the request id counting."""
    line = talk(draft, 161)
    for number in range(20):
        for up, kind in ((True, 0xA1), (False, 0xA2)):
            inner = (
                b"\2\4"
                + struct.pack(">I", 0x10000000 + number)
                + b"\2\1\0\2\1\0\x30\x0e\x30\x0c\6\x08\x2b\6\1\2\1\1\1\0\5\0"
            )
            body = b"\2\1\1\4\6public" + bytes([kind, len(inner)]) + inner
            line.say(up, b"\x30" + bytes([len(body)]) + body)


def snmp_trap(draft: Draft) -> None:
    line = talk(draft, 162, seen="up")
    for number in range(12):
        line.up(
            b"\x30\x2c\2\1\1\4\6public\xa7\x1f\2\1"
            + bytes([number])
            + b"\2\1\0\2\1\0\x30\x14"
            + draft.wire.rng.randbytes(20)
        )


def syslog(draft: Draft) -> None:
    line = talk(draft, 514, here=514, seen="up")
    for number in range(14):
        line.up(
            b"<134>1 2023-11-14T22:13:%02dZ host app %d - - connection %d accepted"
            % (20 + number, 900, number)
        )


def _flows(version: int, *, records: int) -> object:
    """NetFlow version 5 (its sequence counts flows), version 9 (RFC 3954, 5.1) and IPFIX (RFC 7011, 3.1)."""

    def write(draft: Draft) -> None:
        line, rng = talk(draft, 2055 if version < 10 else 4739, seen="up"), draft.wire.rng
        for number in range(16):
            up_ms, now = 1_000_000 + 1000 * number, _NOW_S + number
            if version == 5:
                head = struct.pack(">HHIIIIHH", 5, records, up_ms, now, 0, number * records, 0, 0)
                body = rng.randbytes(48 * records)
            elif version == 9:
                head = struct.pack(">HHIIII", 9, 1, up_ms, now, 200 + number, 1)
                body = struct.pack(">HH", 256, 4 + 45 * records) + rng.randbytes(45 * records)
            else:
                size = 20 + 40 * records
                head = struct.pack(">HHIII", 10, size, now, number * records, 1)
                body = struct.pack(">HH", 256, size - 16) + rng.randbytes(size - 20)
            line.up(head + body)

    write.__name__ = f"netflow_v{version}_{records}_records" if version < 10 else f"ipfix_{records}_records"
    return write


def sflow(draft: Draft) -> None:
    """Version 5 (sflow.org, "sFlow Datagram Format"): agent, sequence, uptime, samples."""
    line, rng = talk(draft, 6343, seen="up"), draft.wire.rng
    for number in range(14):
        head = struct.pack(">II4sIIII", 5, 1, bytes([198, 51, 100, 77]), 0, 3000 + number, 90_000 + number, 1)
        line.up(head + struct.pack(">II", 1, 144) + rng.randbytes(144))


def memcached(draft: Draft) -> None:
    """The UDP frame (memcached, doc/protocol.txt): request id, sequence, datagrams in all, reserved."""
    line, rng = talk(draft, 11211), draft.wire.rng
    for number in range(24):
        line.up(struct.pack(">HHHH", number, 0, 1, 0) + b"get key%d\r\n" % number)
        line.down(
            struct.pack(">HHHH", number, 0, 1, 0) + b"VALUE key 0 64\r\n" + rng.randbytes(64) + b"\r\nEND\r\n"
        )


def statsd(draft: Draft) -> None:
    line = talk(draft, 8125, seen="up")
    for number in range(30):
        line.up(b"web.requests:%d|c\nweb.time:%d|ms" % (number, 7 * number))


def afs_rx(draft: Draft) -> None:
    """Rx headers (draft-zeldovich-rx-spec, 2): epoch, connection id, call, sequence, serial, type."""
    line, rng = talk(draft, 7000, here=7001), draft.wire.rng
    epoch, connection = b"\x3a\xb0\x11\x22", rng.randbytes(3) + b"\0"
    serial = {True: 0, False: 0}
    for call in range(1, 14):
        for up, kind in ((True, 1), (False, 1), (True, 2)):
            serial[up] += 1
            head = (
                epoch
                + connection
                + struct.pack(">IIIBBBBHH", call, 1, serial[up], kind, 5 if up else 4, 0, 0, 0, 52)
            )
            line.say(up, head + rng.randbytes(60 if kind == 1 else 24))


def afs_rx_renewal(draft: Draft) -> None:
    """An epoch whose first byte is on an opcode of OpenVPN's resets."""
    line, rng = talk(draft, 7003, here=7001), draft.wire.rng
    ident = b"\x3f\x21\x07\xe5\x9b\x10\x44\0"
    for call in range(1, 9):
        for up in (True, False):
            line.say(
                up, ident + struct.pack(">IIIBBBBHH", call, 1, call, 1, 4, 0, 0, 0, 1) + rng.randbytes(40)
            )


def epgm(draft: Draft) -> None:
    """PGM in UDP (RFC 3208, 8): ports, type, options, checksum, a global source id, length, then sequence."""
    line, rng = Talk(draft.wire, Endpoint(HOST, 7500), Endpoint("239.192.1.1", 7500)), draft.wire.rng
    for number in range(20):
        line.up(
            struct.pack(">HHBBH", 7500, 7500, 4, 0, 0)
            + b"\x1b\2\3\4\5\6"
            + struct.pack(">HII", 200, 8000 + number, 7000)
            + rng.randbytes(200)
        )


def epgm_tagged(draft: Draft) -> None:
    """A middleware's frame before it: a constant word, then a number that counts."""
    line, rng = Talk(draft.wire, Endpoint(HOST, 7501), Endpoint(SERVICE, 7501)), draft.wire.rng
    for number in range(30):
        up = number % 3 > 0
        line.say(up, b"\x0d\x1d\1\0" + struct.pack(">I", 500 + number) + rng.randbytes(90))


def rip(draft: Draft) -> None:
    line = Talk(draft.wire, Endpoint(HOST, 520), Endpoint("224.0.0.9", 520))
    for number in range(10):
        line.up(
            b"\2\2\0\0"
            + b"".join(
                b"\0\2\0\0" + bytes([10, 0, k, 0, 255, 255, 255, 0]) + bytes(7) + b"\1" for k in range(6)
            )
        )
        draft.wire.later(30 + number % 3)


def bfd(draft: Draft) -> None:
    """Liveness of a path (RFC 5880, 4.1): 24 bytes that hardly change."""
    line = talk(draft, 3784)
    for number in range(30):
        line.say(
            number % 2 == 0,
            b"\x20\xc0\3\x18" + struct.pack(">IIIII", 1 + number % 2, 2 - number % 2, 50_000, 50_000, 0),
        )


def specimens() -> Iterator[Specimen]:
    ntp = (_ntp(version) for version in (1, 2, 3, 4))
    flows = (
        _flows(5, records=1),
        _flows(5, records=30),
        _flows(9, records=4),
        _flows(10, records=5),
        _flows(10, records=1),
    )
    yield from written(
        "services",
        *ntp, ntp_broadcast, ptp_v2, ptp_signalling, dhcp, dhcp_counting_xid, dhcp_relay_counting,
        dns, dns_same_id_repeated, dns_id_answers_alike, mdns, llmnr, netbios_names, ssdp,
        radius, radius_accounting, tftp, snmp, snmp_trap, syslog, *flows, sflow, memcached, statsd,
        afs_rx, afs_rx_renewal, epgm, epgm_tagged, rip, bfd,
    )  # type: ignore[arg-type]  # fmt: skip
