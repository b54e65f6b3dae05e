"""What the report's tables and pictures are drawn from: columns of plain values, each text once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vpnforensics.align.alignment import Alignment
from vpnforensics.errors import VpnForensicsError
from vpnforensics.report.escaping import visible
from vpnforensics.report.html.packets import packet_lists
from vpnforensics.report.html.strings import SCRIPT
from vpnforensics.report.naming import marked
from vpnforensics.report.plots.clocks import alignment_points
from vpnforensics.report.plots.overview import timeline_lanes
from vpnforensics.report.result import CaseResult
from vpnforensics.report.wireshark import conversation

_MOST_POINTS = 6_000
"""Points of the alignment picture."""
_DRAWN = (("clock", "tsval"), ("ip_id", "ip_id"))
"""What the contract knows of a sender, and the header field that it comes from."""


class Texts:
    """Texts by number, so that each is stored once; what deceives the eye is spelled out."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def __call__(self, text: object) -> int:
        """The number of a text; -1 of none."""
        return -1 if text is None else self.number.setdefault(visible(text), len(self.number))


def report_data(case: CaseResult) -> dict[str, Any]:
    """All that the report's script draws from.

    Parameters
    ----------
    case : CaseResult
        Opened from its file, it reads its captures again for the packets; where they are gone, the report has
        none, and ``no_packets`` says why.
    """
    contract = case.to_dict()
    texts = Texts()
    flows = [row["id"] for row in contract["flows"]]
    data: dict[str, Any] = {
        "words": dict(SCRIPT),
        "files": {
            side["role"]: [visible(file["path"]) for file in side["files"]] for side in contract["inputs"]
        },
        "tunnels": [_tunnel(row) for row in contract["tunnels"]],
        "flows": _flows(contract, texts),
        "stacks": {
            str(n): {"clock": row["clock"], "ip_id": row["ip_id"]}
            for n, row in enumerate(contract["flows"])
            if row["clock"] or row["ip_id"]
        },
        "scores": _scores(contract, flows, texts),
        "null_comparisons": contract["null_comparisons"],
        "law": contract["delay_law"],
        "timeline": _timeline(case, flows),
    }
    data["no_packets"] = why_no_packets(case)
    data |= {"packets": {}, "alignment": None}
    if not data["no_packets"]:
        data["packets"] = packet_lists(case.pairings, flows, _fields(contract))
        # As rounded in the contract, so that a case opened from its file gives the same picture.
        stated = Alignment.from_dict(contract["alignment"])
        data["alignment"] = _alignment(replace(case, alignment=stated))
    return data | {"texts": list(texts.number)}


def why_no_packets(case: CaseResult) -> str:
    """Why a case's packets cannot be listed: its captures are gone, or were in no file; empty if they can."""
    try:
        _ = case.pairings
    except VpnForensicsError as error:
        return visible(error)
    return ""


def _tunnel(row: dict[str, Any]) -> dict[str, Any]:
    told = {key: visible(row[key]) for key in ("id", "client", "server", "protocol")}
    law = row["length_map"] or row.get("write_law")
    return told | {
        "user": visible(row["user"] or ""),
        "first": str(row["first_ns"]),
        "last": str(row["last_ns"]),
        "up": row["packets_up"],
        "down": row["packets_down"],
        "length": visible(law["formula"]) if law else "",
        "share": row["explained_share"],
        "clock": row["clock"],
        "ip_id": row["ip_id"],
        "inner": row["inner"],
        "filter": conversation(row["transport"], row["client"], row["server"]),
    }


def _flows(contract: dict[str, Any], texts: Texts) -> dict[str, list[Any]]:
    """Columns of the flows with their links; ``tunnel`` is a number, -1 for none."""
    rows, links = contract["flows"], contract["links"]
    tunnel = {row["id"]: n for n, row in enumerate(contract["tunnels"])}
    named = [[texts(marked(each)) for each in row["names"]] for row in rows]
    columns: dict[str, list[Any]] = {
        "names": named,
        "first": [str(row["first_ns"]) for row in rows],
        "last": [str(row["last_ns"]) for row in rows],
        "tunnel": [tunnel.get(link["tunnel"], -1) for link in links],
        "bounded": [int(link["llr_bounded"]) for link in links],
        "filter": [conversation(row["proto"], row["src"], row["dst"]) for row in rows],
    }
    columns |= {key: [row[key] for row in rows] for key in ("id", "packets", "bytes", "community_id")}
    columns |= {key: [texts(row[key]) for row in rows] for key in ("proto", "src", "dst", "device")}
    columns |= {key: [link[key] for link in links] for key in ("verdict", "llr", "error", "unlisted_llr")}
    columns |= {key: [texts(link[key]) for link in links] for key in ("verbal", "why")}
    return columns


def _fields(contract: dict[str, Any]) -> list[set[str]]:
    """For each flow, the header fields that its page draws: where the client's clock or IP IDs are known.

    Those of the outer packets are for comparison.
    """
    tunnels = {row["id"]: row for row in contract["tunnels"]}
    made = []
    for flow, link in zip(contract["flows"], contract["links"], strict=True):
        tunnel = tunnels.get(link["tunnel"]) or {}
        own = [(key, field) for key, field in _DRAWN if flow[key]]
        outer = {f"outer_{field}" for key, field in own if tunnel.get(key)}
        made.append({f"inner_{field}" for _, field in own} | outer)
    return made


def _scores(contract: dict[str, Any], flows: list[str], texts: Texts) -> dict[str, list[Any]]:
    """By flow, each candidate: tunnel, LLR, bounded, and each engine's name, score, LLR, n and note."""
    flow = {each: str(n) for n, each in enumerate(flows)}
    tunnel = {row["id"]: n for n, row in enumerate(contract["tunnels"])}
    made: dict[str, list[Any]] = {}
    for row in contract["scores"]:
        said = [
            [texts(name), part["score"], part["llr"], part["n"], texts(part["note"])]
            for name, part in row["engines"].items()
        ]
        about = [tunnel[row["tunnel"]], row["llr"], int(row["llr_bounded"]), said]
        made.setdefault(flow[row["flow"]], []).append(about)
    return made


def _alignment(case: CaseResult) -> dict[str, Any] | None:
    if not case.alignment.usable:
        return None
    try:
        points = alignment_points(case, _MOST_POINTS)
    except ValueError:  # no flow is linked
        return None
    found = case.alignment
    low, high = (edge - found.offset_ns for edge in found.offset_interval_ns)
    return {
        "at_ms": (points.at_s * 1e3).round().astype(int).tolist(),
        "difference_ns": points.difference_ns.tolist(),
        "up": points.up.astype(int).tolist(),
        "line_s": points.line_s.round(6).tolist(),
        "line_ns": points.line_ns.round().astype(int).tolist(),
        "interval_ns": [low, high],
        "limits_ns": [round(edge) for edge in points.limits_ns],
        "count_up": points.count_up,
        "count_down": points.count_down,
        "beyond": points.beyond,
        "offset_s": f"{found.offset_ns / 1e9:,.6f}",
        "drift_ppm": f"{found.drift_ppm:+.2f}",
    }


def _timeline(case: CaseResult, flows: list[str]) -> dict[str, Any]:
    if not flows:
        return {"lanes": [], "bars": [], "hidden": 0}
    shown = timeline_lanes(case)
    number = {flow: n for n, flow in enumerate(flows)}
    lane = {name: n for n, name in enumerate(shown.lanes)}
    tunnels = {row: n for n, row in enumerate(case.tunnels["id"])}
    table = shown.table
    bars = zip(
        table["flow"].map(number).tolist(),
        table["lane"].map(lane).tolist(),
        table["row"].tolist(),
        table["first_s"].round(4).tolist(),
        table["last_s"].round(4).tolist(),
        strict=True,
    )
    rows = table.groupby("lane")["rows"].first()
    return {
        "lanes": [[tunnels.get(each, -1), int(rows[each]), int(shown.counts[each])] for each in shown.lanes],
        "bars": [list(bar) for bar in bars],
        "hidden": shown.hidden,
    }
