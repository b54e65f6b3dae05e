"""tshark as an oracle: every column of a packet table against the fields of an independent decoder.

``assert_equal_to_tshark(path)`` reads a capture both ways. What tshark has no field for (the head of
packets that are neither TCP nor UDP) is left to other tests.
"""

from __future__ import annotations

import subprocess
from decimal import Decimal
from pathlib import Path

from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable

FIELDS = """
frame.number frame.time_epoch frame.interface_id sll.ifindex
ip.version ip.src ip.dst ip.proto ip.len ip.hdr_len ip.id ip.flags.df ip.flags.mf ip.frag_offset ip.ttl
ip.dsfield
ipv6.src ipv6.dst ipv6.nxt ipv6.plen ipv6.hlim ipv6.tclass
ipv6.hopopts.nxt ipv6.hopopts.len_oct ipv6.routing.nxt ipv6.routing.len_oct
ipv6.dstopts.nxt ipv6.dstopts.len_oct
ipv6.fraghdr.nxt ipv6.fraghdr.offset ipv6.fraghdr.more ah.next_header ah.length
tcp.srcport tcp.dstport tcp.seq_raw tcp.ack_raw tcp.flags tcp.window_size_value tcp.len tcp.payload
tcp.options.timestamp.tsval tcp.options.timestamp.tsecr tcp.options.mss_val
udp.srcport udp.dstport udp.length udp.payload icmp.type icmp.code icmpv6.type icmpv6.code
icmp.ident icmpv6.echo.identifier
""".split()  # noqa: SIM905 - a list of sixty quoted names reads worse

OPTIONS = [
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "tcp.relative_sequence_numbers:FALSE",
    "tcp.analyze_sequence_numbers:FALSE",
]

EXTENSION_FIELDS = {
    0: ("ipv6.hopopts.nxt", "ipv6.hopopts.len_oct"),
    43: ("ipv6.routing.nxt", "ipv6.routing.len_oct"),
    60: ("ipv6.dstopts.nxt", "ipv6.dstopts.len_oct"),
    44: ("ipv6.fraghdr.nxt", None),
    51: ("ah.next_header", "ah.length"),
}

Fields = dict[str, list[str]]


def tshark_fields(path: Path) -> list[Fields]:
    """For every frame, the occurrences of each field."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-E", "separator=/t", "-E", "aggregator=/s"]
    for option in OPTIONS:
        command += ["-o", option]
    for name in FIELDS:
        command += ["-e", name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout or not run.returncode, run.stderr
    return [
        {name: cell.split(" ") if cell else [] for name, cell in zip(FIELDS, line.split("\t"), strict=True)}
        for line in run.stdout.splitlines()
    ]


def expected_row(fields: Fields) -> dict[str, object] | None:
    """The row that tshark's fields amount to; None where there is no IP packet."""

    def first(name: str) -> int:
        return int(fields[name][0], 0) if fields[name] else 0

    row: dict[str, object] = dict.fromkeys(
        ("sport", "dport", "tcp_flags", "seq", "ack", "window", "tsval", "tsecr", "has_ts", "mss"), 0
    )
    version = first("ip.version")  # of both versions; the outermost comes first
    if not version:
        return None
    row["ts_ns"] = int(Decimal(fields["frame.time_epoch"][0]) * 10**9)
    row["frame"] = first("frame.number")
    row["iface"] = first("sll.ifindex") & 0xFFFF if fields["sll.ifindex"] else first("frame.interface_id")
    row["ip_version"] = version
    if version == 4:
        row["src"], row["dst"] = fields["ip.src"][0], fields["ip.dst"][0]
        row["ip_len_bytes"], row["ip_id"], row["df"] = first("ip.len"), first("ip.id"), first("ip.flags.df")
        row["ttl"], row["tos"] = first("ip.ttl"), first("ip.dsfield")
        later, more = first("ip.frag_offset"), first("ip.flags.mf")
        proto, left = first("ip.proto"), first("ip.len") - first("ip.hdr_len")
    else:
        row["src"], row["dst"] = fields["ipv6.src"][0], fields["ipv6.dst"][0]
        row["ip_len_bytes"], row["ip_id"], row["df"] = first("ipv6.plen") + 40, -1, 1
        row["ttl"], row["tos"] = first("ipv6.hlim"), first("ipv6.tclass")
        later, more = first("ipv6.fraghdr.offset"), first("ipv6.fraghdr.more")
        proto, left = first("ipv6.nxt"), first("ipv6.plen")
    proto, left = behind_extensions(fields, proto, left)
    row["frag"] = 2 if later else 1 if more else 0
    row["proto"], row["payload_bytes"] = proto, left
    if not later and proto == 6:
        row["sport"], row["dport"] = first("tcp.srcport"), first("tcp.dstport")
        row["seq"], row["ack"], row["window"] = (
            first("tcp.seq_raw"), first("tcp.ack_raw"), first("tcp.window_size_value"),
        )  # fmt: skip
        row["tcp_flags"] = first("tcp.flags")
        row["has_ts"] = int(bool(fields["tcp.options.timestamp.tsval"]))
        row["tsval"], row["tsecr"] = (
            first("tcp.options.timestamp.tsval"),
            first("tcp.options.timestamp.tsecr"),
        )
        row["mss"], row["payload_bytes"] = first("tcp.options.mss_val"), first("tcp.len")
        if not first("tcp.flags") & 0x06:  # data on SYN and RST have fields of their own
            row["head"] = (fields["tcp.payload"] or [""])[0]
    elif not later and proto == 17:
        row["sport"], row["dport"] = first("udp.srcport"), first("udp.dstport")
        row["payload_bytes"] = (first("udp.length") if not more else left) - 8
        row["head"] = (fields["udp.payload"] or [""])[0]
    elif not later and proto in (1, 58):
        name = "icmp" if proto == 1 else "icmpv6"
        row["sport"], row["dport"] = first(f"{name}.type"), first(f"{name}.code")
        if row["sport"] in ((3, 4, 5, 11, 12) if proto == 1 else (1, 2, 3, 4)):
            row["seq"] = quoted_ports(fields)
    if "head" in row:
        row["head"] = bytes.fromhex(str(row["head"]).replace(":", ""))[:32].ljust(32, b"\0")
    return row


def quoted_ports(fields: Fields) -> int:
    """Ports, or twice the identifier, of the packet within an ICMP error, as tshark reads them."""
    for source, destination in (
        ("udp.srcport", "udp.dstport"),
        ("tcp.srcport", "tcp.dstport"),
        ("icmp.ident", "icmp.ident"),
        ("icmpv6.echo.identifier", "icmpv6.echo.identifier"),
    ):
        if fields[source]:
            return int(fields[source][0], 0) << 16 | int(fields[destination][0], 0)
    return 0


def behind_extensions(fields: Fields, proto: int, left: int) -> tuple[int, int]:
    seen = dict.fromkeys(EXTENSION_FIELDS, 0)
    while proto in EXTENSION_FIELDS:
        following, length = EXTENSION_FIELDS[proto]
        i = seen[proto]
        seen[proto] += 1
        if i >= len(fields[following]):
            break
        left -= int(fields[length][i], 0) if length else 8
        is_later = proto == 44 and int(fields["ipv6.fraghdr.offset"][0], 0)
        proto = int(fields[following][i], 0)
        if is_later:
            break
    return proto, left


def actual_row(table: PacketTable, i: int) -> dict[str, object]:
    row: dict[str, object] = {}
    for spec, array in table.columns():
        if spec.name in ("src", "dst"):
            row[spec.name] = table.addresses.texts[array[i]]
        else:
            row[spec.name] = array[i].tobytes() if spec.width > 1 else int(array[i])
    return row


def assert_equal_to_tshark(path: str | Path) -> int:
    """Compare every column of every packet; returns the number of packets compared."""
    table = read_capture(path)
    expected = [row for row in map(expected_row, tshark_fields(Path(path))) if row is not None]
    assert table.frame.tolist() == [row["frame"] for row in expected], "different frames carry IP"
    for i, row in enumerate(expected):
        actual = actual_row(table, i)
        wrong = {name: (actual[name], value) for name, value in row.items() if actual[name] != value}
        assert not wrong, f"{path}, frame {row['frame']}: (ours, tshark's) {wrong}"
    return len(expected)
