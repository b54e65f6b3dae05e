"""The decoder once more, slow and obvious: one frame, Python slices, a cursor that cannot overrun."""

from __future__ import annotations

from dataclasses import dataclass, field

EXTENSIONS = {0, 43, 60, 135, 139, 140}


class CutError(Exception):
    """A read past what was captured."""


class NotIPError(Exception):
    """The frame carries no IP packet."""


class MalformedError(Exception):
    """No row can be made of the frame."""


class CutHeaderError(Exception):
    """No row can be made of what was captured of the frame."""


@dataclass
class Row:
    iface: int = 0
    ip_version: int = 0
    src: bytes = b""
    dst: bytes = b""
    proto: int = 0
    sport: int = 0
    dport: int = 0
    ip_len_bytes: int = 0
    payload_bytes: int = 0
    ip_id: int = -1
    df: int = 1
    ttl: int = 0
    tos: int = 0
    frag: int = 0
    tcp_flags: int = 0
    seq: int = 0
    ack: int = 0
    window: int = 0
    tsval: int = 0
    tsecr: int = 0
    has_ts: int = 0
    mss: int = 0
    head: bytes = bytes(32)
    sound: bool = field(default=True, compare=False)
    cut: str = field(default="", compare=False)
    """``header`` or ``options``, where the capture ends inside of them."""
    huge: bool = field(default=False, compare=False)


class Bytes:
    """Captured bytes from a position on."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

    def number(self, at: int, width: int) -> int:
        if at < 0 or at + width > len(self.raw):
            raise CutError
        return int.from_bytes(self.raw[at : at + width], "big")

    def after(self, at: int) -> Bytes:
        return Bytes(self.raw[at:])

    def __len__(self) -> int:
        return len(self.raw)


def network_packet(frame: Bytes, linktype: int, row: Row) -> Bytes:
    if linktype == 1:
        return behind_ethertype(frame.after(14), frame.number(12, 2))
    if linktype == 113:
        return behind_ethertype(frame.after(16), frame.number(14, 2))
    if linktype == 276:
        frame.number(19, 1)
        row.iface = frame.number(4, 4) & 0xFFFF
        return behind_ethertype(frame.after(20), frame.number(0, 2))
    if linktype in (12, 14, 101, 228, 229):
        return frame
    if linktype in (0, 108):
        family = frame.number(0, 4)
        if family > 0xFFFF or family == 0:
            family = int.from_bytes(family.to_bytes(4, "big"), "little")
        if family not in (2, 24, 28, 30, 10):
            raise NotIPError
        return frame.after(4)
    if linktype in (9, 50):
        return behind_ppp(frame.after(2) if frame.raw[:2] == b"\xff\x03" else frame)
    raise NotIPError


def behind_ethertype(rest: Bytes, ethertype: int) -> Bytes:
    while ethertype in (0x8100, 0x88A8, 0x9100):
        ethertype, rest = rest.number(2, 2), rest.after(4)
    if ethertype in (0x0800, 0x86DD):
        return rest
    if ethertype in (0x8847, 0x8848):
        return behind_labels(rest)
    if ethertype == 0x8864:
        return behind_ppp(rest.after(6))
    raise NotIPError


def behind_labels(rest: Bytes) -> Bytes:
    while True:
        rest.number(0, 5)
        is_last = rest.raw[2] & 1
        rest = rest.after(4)
        if is_last:
            break
    if rest.raw[0] in range(0x45, 0x50) or rest.raw[0] >> 4 == 6:
        return rest
    for control in (4, 0) if rest.raw[0] >> 4 == 0 else (0,):
        frame = rest.after(control)
        if frame.raw[12:14] in (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", b"\x88\x47"):
            return behind_ethertype(frame.after(14), frame.number(12, 2))
    raise NotIPError


def behind_ppp(rest: Bytes) -> Bytes:
    rest.number(0, 2)
    width = 1 if rest.raw[0] & 1 else 2
    if rest.number(0, width) not in (0x21, 0x57):
        raise NotIPError
    return rest.after(width)


def decode(frame_bytes: bytes, wire_bytes: int, linktype: int, iface: int = 0) -> Row:
    """One row; raises NotIPError or MalformedError where there is none."""
    row = Row(iface=iface)
    frame = Bytes(frame_bytes)
    try:
        packet = network_packet(frame, linktype, row)
        if not packet:
            raise CutError
        wire_ip = wire_bytes - (len(frame) - len(packet))
        version = packet.raw[0] >> 4
        if version == 4:
            rest, left, offset, more = ipv4_header(packet, wire_ip, row)
        elif version == 6:
            rest, left, offset, more = ipv6_header(packet, wire_ip, row)
        elif linktype in (12, 14, 101, 228, 229):
            raise NotIPError
        else:
            raise MalformedError
    except CutError:
        raise (CutHeaderError if len(frame) < wire_bytes else MalformedError) from None
    if row.ip_len_bytes > wire_ip:
        row.sound = False
    if version == 6 or (row.proto == 51 and not offset):
        rest, left, offset_6, more_6 = skip_extensions(rest, left, row)
        offset, more = offset or offset_6, more or more_6
    row.frag = 2 if offset else 1 if more else 0
    transport(rest, left, row)
    return row


def ipv4_header(packet: Bytes, wire_ip: int, row: Row) -> tuple[Bytes, int, int, int]:
    packet.number(19, 1)
    header_bytes = (packet.raw[0] & 15) * 4
    total = packet.number(2, 2)
    if total == 0:
        total, row.huge = wire_ip, True
    if header_bytes < 20 or total < header_bytes:
        raise MalformedError
    row.ip_version = 4
    row.ip_len_bytes = total
    row.tos = packet.number(1, 1)
    row.ip_id = packet.number(4, 2)
    row.ttl = packet.number(8, 1)
    row.proto = packet.number(9, 1)
    row.src, row.dst = packet.raw[12:16], packet.raw[16:20]
    flags_offset = packet.number(6, 2)
    row.df = flags_offset >> 14 & 1
    inside = Bytes(packet.raw[:total])
    return inside.after(header_bytes), total - header_bytes, flags_offset & 0x1FFF, flags_offset >> 13 & 1


def ipv6_header(packet: Bytes, wire_ip: int, row: Row) -> tuple[Bytes, int, int, int]:
    packet.number(39, 1)
    row.ip_version = 6
    row.proto = packet.number(6, 1)
    total = packet.number(4, 2) + 40
    if total == 40 and wire_ip > 40 + 65535:
        total, row.huge = wire_ip, True
    elif total == 40 and row.proto == 0 and len(packet) >= 48 and packet.number(42, 2) == 0xC204:
        total = packet.number(44, 4) + 40
        if total > 0x7FFFFFFF:
            raise MalformedError
    row.ip_len_bytes = total
    row.tos = packet.number(0, 2) >> 4 & 0xFF
    row.ttl = packet.number(7, 1)
    row.src, row.dst = packet.raw[8:24], packet.raw[24:40]
    return Bytes(packet.raw[:total]).after(40), total - 40, 0, 0


def skip_extensions(rest: Bytes, left: int, row: Row) -> tuple[Bytes, int, int, int]:
    offset = more = 0
    while row.proto in EXTENSIONS | {44, 51}:
        if len(rest) < 8:
            cut_header(row, left >= 8)
            row.proto += 1000  # nothing behind it can be told
            break
        if row.proto == 44:
            size = 8
        elif row.proto == 51:
            size = (rest.raw[1] + 2) * 4
        else:
            size = (rest.raw[1] + 1) * 8
        if size > left:
            row.sound = False
            row.proto += 1000
            break
        was_fragment = row.proto == 44
        if was_fragment:
            field_value = rest.number(2, 2)
            offset, more = field_value >> 3, more | field_value & 1
        row.proto = rest.raw[0]
        rest, left = rest.after(size), left - size
        if was_fragment and offset:
            break
    return rest, left, offset, more


def cut_header(row: Row, by_the_snap: bool) -> None:
    """A header is not all there: the capture's doing, or its packet has no room for it."""
    if by_the_snap:
        row.cut = "header"
    else:
        row.sound = False


def transport(rest: Bytes, left: int, row: Row) -> None:
    row.payload_bytes = left
    body = rest.raw
    if row.frag == 2:
        pass
    elif row.proto == 6:
        body = transport_tcp(rest, left, row)
    elif row.proto == 17:
        body = transport_udp(rest, left, row)
    elif (row.proto, row.ip_version) in ((1, 4), (58, 6)):
        if len(rest) >= 2:
            row.sport, row.dport = rest.raw[0], rest.raw[1]
        if len(rest) < 4:
            cut_header(row, left >= 4)
        elif row.sport in ((3, 4, 5, 11, 12) if row.proto == 1 else (1, 2, 3, 4)):
            row.seq = quoted_ports(rest.after(8), row.ip_version)
    row.proto %= 1000
    row.head = body[: row.payload_bytes][:32].ljust(32, b"\0")


def quoted_ports(packet: Bytes, version: int) -> int:
    """Both ports, or an echo's identifier twice, of the packet in an ICMP error; 0 where there are none."""
    try:
        if packet.number(0, 1) >> 4 != version:
            return 0
        size, proto, offset = 40, packet.number(6, 1), 0
        if version == 4:
            size, proto, offset = (packet.raw[0] & 15) * 4, packet.number(9, 1), packet.number(6, 2) & 0x1FFF
        if size < 20 or offset:
            return 0
        if proto == (1 if version == 4 else 58):
            return packet.number(size + 4, 2) << 16 | packet.number(size + 4, 2)
        return packet.number(size, 4) if proto in (6, 17) else 0
    except CutError:
        return 0


def transport_udp(rest: Bytes, left: int, row: Row) -> bytes:
    if len(rest) >= 4:
        row.sport, row.dport = rest.number(0, 2), rest.number(2, 2)
    row.payload_bytes = max(0, left - 8)
    if len(rest) < 8:
        cut_header(row, left >= 8)
    if len(rest) >= 6 and row.frag == 0:
        length = rest.number(4, 2)
        if 8 <= length <= left:
            row.payload_bytes = length - 8
        elif not (length == 0 and left > 65535):
            row.sound = False
    return rest.raw[8:]


def transport_tcp(rest: Bytes, left: int, row: Row) -> bytes:
    have = len(rest)
    if have >= 4:
        row.sport, row.dport = rest.number(0, 2), rest.number(2, 2)
    if have >= 8:
        row.seq = rest.number(4, 4)
    if have >= 12:
        row.ack = rest.number(8, 4)
    header_bytes = None
    if have >= 14:
        row.tcp_flags = rest.number(12, 2) & 0xFFF
        header_bytes = (rest.raw[12] >> 4) * 4
    if have >= 16:
        row.window = rest.number(14, 2)
    if have < 20:
        cut_header(row, left >= 20)
        row.payload_bytes = 0 if header_bytes is None else max(0, left - max(20, header_bytes))
        return b""
    assert header_bytes is not None
    if header_bytes < 20 or header_bytes > left:
        row.sound = False
        header_bytes = 20 if header_bytes < 20 else left
    else:
        sound = tcp_options(rest.raw[20:header_bytes], row)
        if have < header_bytes:
            row.cut = row.cut or "options"
        else:
            row.sound = row.sound and sound
    row.payload_bytes = left - header_bytes
    return rest.raw[header_bytes:]


def tcp_options(options: bytes, row: Row) -> bool:
    while options and options[0] != 0:
        if options[0] == 1:
            options = options[1:]
            continue
        if len(options) < 2 or options[1] < 2 or options[1] > len(options):
            return False
        kind, value = options[0], options[2 : options[1]]
        if kind == 8 and len(value) == 8:
            row.has_ts = 1
            row.tsval, row.tsecr = int.from_bytes(value[:4], "big"), int.from_bytes(value[4:], "big")
        if kind == 2 and len(value) == 2:
            row.mss = int.from_bytes(value, "big")
        options = options[options[1] :]
    return True
