r"""The flows of a case as a ``conn.log`` in the form that Zeek writes, with columns of our own at the end.

What Zeek knows by other names has them; ``vpn_`` is what the case adds: which tunnel, how sure, and who. The
columns that Zeek splits by direction are left out, since a case has their sums only.

https://docs.zeek.org/en/master/log-formats.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.endpoints import parted
from vpnforensics.report.provenance import made_by
from vpnforensics.report.result import CaseResult

_FIELDS: Mapping[str, str] = {
    "ts": "time",
    "uid": "string",
    "id.orig_h": "addr",
    "id.orig_p": "port",
    "id.resp_h": "addr",
    "id.resp_p": "port",
    "proto": "enum",
    "duration": "interval",
    "community_id": "string",
    "vpn_flow": "string",
    "vpn_packets": "count",
    "vpn_ip_bytes": "count",
    "vpn_names": "set[string]",
    "vpn_verdict": "enum",
    "vpn_tunnel": "string",
    "vpn_client_h": "addr",
    "vpn_client_p": "port",
    "vpn_user": "string",
    "vpn_protocol": "string",
    "vpn_llr": "double",
    "vpn_llr_bounded": "bool",
    "vpn_error": "double",
}
_PROTOCOLS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmpv6": "icmp"}
_WITH_PORTS = ("tcp", "udp", "sctp")
_OTHER = "unknown_transport"
_UNSET, _EMPTY, _OF_SET = "-", "(empty)", ","
_US_A_SECOND = 1_000_000


def conn_log(case: CaseResult) -> Iterator[str]:
    """The lines of the log, in the case's order; between its head and its rows, comments on what made it.

    Times are of the egress capture's clock, to the microsecond as Zeek has them. ``uid`` is Zeek's
    where a log was joined, else the flow's id.
    """
    yield from _head(case)
    tunnels = {row["id"]: row for row in plain_rows(case.tunnels)}
    flows = case.endpoints.join(case.links.set_index("flow"), on="id")
    for row in plain_rows(flows):
        values = _values(row, tunnels.get(row["tunnel"], {}))
        yield "\t".join(_cell(values[name]) for name in _FIELDS) + "\n"
    yield f"#close\t{_opened(case)}\n"


def _head(case: CaseResult) -> Iterator[str]:
    yield "#separator \\x09\n"
    yield f"#set_separator\t{_OF_SET}\n#empty_field\t{_EMPTY}\n#unset_field\t{_UNSET}\n#path\tconn\n"
    yield f"#open\t{_opened(case)}\n"
    yield f"#made_by\t{_escaped(made_by(case.tool))}\n"
    for side in case.inputs:
        for file in side["files"]:
            yield f"#{side['role']}\t{_escaped(file['path'])}\tsha256 {file['sha256']}\n"
    yield "\t".join(("#fields", *_FIELDS)) + "\n" + "\t".join(("#types", *_FIELDS.values())) + "\n"


def _opened(case: CaseResult) -> str:
    return str(case.tool["date"]).removesuffix("Z").translate(str.maketrans("T:", "--"))


def _values(row: Mapping[str, Any], tunnel: Mapping[str, Any]) -> dict[str, Any]:
    (source, sport), (destination, dport) = parted(row["src"]), parted(row["dst"])
    client, cport = parted(tunnel["client"]) if tunnel else (None, None)
    has_ports = (
        row["proto"] in _WITH_PORTS
    )  # of ICMP, Zeek has type and code there, and a case the identifier
    return {
        "ts": _seconds(row["first_ns"]),
        "uid": row["uids"].partition(" ")[0] or row["id"],
        "id.orig_h": source,
        "id.orig_p": sport if has_ports else None,
        "id.resp_h": destination,
        "id.resp_p": dport if has_ports else None,
        "proto": _PROTOCOLS.get(row["proto"], _OTHER),
        "duration": _seconds(row["last_ns"] - row["first_ns"]),
        "community_id": row["community_id"],
        "vpn_flow": row["id"],
        "vpn_packets": row["packets"],
        "vpn_ip_bytes": row["bytes"],
        "vpn_names": row["names"].split(),
        "vpn_verdict": row["verdict"],
        "vpn_tunnel": row["tunnel"],
        "vpn_client_h": client,
        "vpn_client_p": cport,
        "vpn_user": tunnel.get("user"),
        "vpn_protocol": tunnel.get("protocol"),
        "vpn_llr": row["llr"],
        "vpn_llr_bounded": row["llr_bounded"],
        "vpn_error": row["error"],
    }


def _seconds(length_ns: int) -> str:
    """Seconds to the microsecond, exactly: a float has not the digits.

    >>> _seconds(1_700_000_000_123_456_789), _seconds(-1_500_000_000)
    ('1700000000.123456', '-1.500000')
    """
    seconds, rest = divmod(abs(length_ns) // 1000, _US_A_SECOND)
    return f"{'-' if length_ns < 0 else ''}{seconds}.{rest:06d}"


def _cell(value: Any) -> str:
    if value is None:
        return _UNSET
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list):
        return _OF_SET.join(_escaped(each).replace(_OF_SET, "\\x2c") for each in value) or _EMPTY
    return _escaped(value) if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    r"""Text as Zeek writes it: what is no printable ASCII as ``\xHH`` of its bytes.

    >>> _escaped("a\tb\\ü-"), _escaped("-")
    ('a\\x09b\\\\\\xc3\\xbc-', '\\x2d')
    """
    if not text:
        return _EMPTY
    if text in (_UNSET, _EMPTY):  # the words themselves, and not what they stand for
        return f"\\x{ord(text[0]):02x}{text[1:]}"
    if text.isascii() and text.isprintable() and "\\" not in text:
        return text
    octets = text.encode("utf-8", "surrogateescape")
    return "".join(
        "\\\\" if octet == 0x5C else chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}"
        for octet in octets
    )
