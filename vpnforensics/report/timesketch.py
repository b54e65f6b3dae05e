"""A case as events for Timesketch: JSON Lines with ``message``, ``datetime`` and ``timestamp_desc``.

https://timesketch.org/guides/user/import-from-json-csv/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.endpoints import parted
from vpnforensics.report.escaping import json_text
from vpnforensics.report.quantities import iso_utc, many, ratio
from vpnforensics.report.result import CaseResult

_SOURCE = "VPN traffic analysis"


def timesketch(case: CaseResult) -> Iterator[str]:
    """The events of a case, one a line, in order of time: its tunnels' and flows' first and last packets.

    Times are of the clock of the side that was captured: tunnels' of the ingress, flows' of the egress
    capture.
    """
    made = {"tool": f"{case.tool['name']} {case.tool['version']}"}
    files = {side["role"]: [file["sha256"] for file in side["files"]] for side in case.inputs}
    events = [*_of_tunnels(case), *_of_flows(case)]
    for event in sorted(events, key=lambda event: event["ns"]):
        ns = event.pop("ns")
        digests = " ".join(files[event["capture"]])
        dated = {"datetime": iso_utc(ns), "timestamp": ns // 1000, "source": "VPN", "source_long": _SOURCE}
        yield json_text({**event, **dated, "capture_sha256": digests, **made}) + "\n"


def _of_tunnels(case: CaseResult) -> Iterator[dict[str, Any]]:
    for row in plain_rows(case.tunnels):
        client, server = parted(row["client"]), parted(row["server"])
        whose = f" of {row['user']}" if row["user"] else ""
        about = {
            "capture": "ingress", "tunnel": row["id"], "user": row["user"], "protocol": row["protocol"],
            "src_ip": client[0], "src_port": client[1], "dst_ip": server[0], "dst_port": server[1],
            "packets": row["packets_up"] + row["packets_down"],
        }  # fmt: skip
        said = f"{row['protocol']} tunnel {row['id']}{whose} from {row['client']} to {row['server']}"
        yield {"message": said, "timestamp_desc": "Tunnel First Packet", "ns": row["first_ns"], **about}
        yield {"message": said, "timestamp_desc": "Tunnel Last Packet", "ns": row["last_ns"], **about}


def _of_flows(case: CaseResult) -> Iterator[dict[str, Any]]:
    ends = case.endpoints.set_index("id")[["community_id", "first_ns", "last_ns"]]
    for row in plain_rows(case.beside.join(ends, on="flow")):
        source, destination = parted(row["src"]), parted(row["dst"])
        name = row["names"].partition(" ")[0]
        about = {
            "capture": "egress", "flow": row["flow"], "verdict": row["verdict"], "tunnel": row["tunnel"],
            "client": row["client"], "user": row["user"], "llr": row["llr"], "error": row["error"],
            "protocol": row["proto"], "src_ip": source[0], "src_port": source[1], "dst_ip": destination[0],
            "dst_port": destination[1], "names": row["names"].split(), "community_id": row["community_id"],
            "packets": row["packets"], "bytes": row["bytes"],
        }  # fmt: skip
        said = (
            f"{row['proto']} flow {row['flow']} to {row['dst']}{f' ({name})' if name else ''}, {_linked(row)}"
        )
        yield {"message": said, "timestamp_desc": "Flow First Packet", "ns": row["first_ns"], **about}
        yield {"message": said, "timestamp_desc": "Flow Last Packet", "ns": row["last_ns"], **about}


def _linked(row: dict[str, Any]) -> str:
    packets = many(row["packets"], "packet")
    if row["tunnel"] is None:
        return f"{packets}, {row['verdict'].replace('_', ' ')}"
    whose = row["user"] or row["client"]
    return f"{packets}, linked to {whose} ({row['tunnel']}, LLR {ratio(row['llr'], row['llr_bounded'])})"
