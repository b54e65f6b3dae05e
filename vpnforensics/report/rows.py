"""A decided case as rows: the tables of the result contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence.attribution import Attribution
from vpnforensics.evidence.likelihood import verbal
from vpnforensics.packets.table import PacketTable

_NO_TUNNEL = 1e-3
"""A flow is in no tunnel if each would have lost so much of it only this often."""


def input_row(role: str, packets: PacketTable) -> dict[str, Any]:
    source = packets.source
    if source is None:
        empty = not len(packets)
        return {
            "role": role,
            "path": None,
            "packets": len(packets),
            "first_ns": None if empty else int(packets.ts_ns.min()),
            "last_ns": None if empty else int(packets.ts_ns.max()),
        }
    return {
        "role": role,
        "path": source.path,
        "sha256": source.sha256,
        "bytes": source.bytes,
        "format": source.format,
        "linktypes": list(source.linktypes),
        "packets": source.packets,
        "first_ns": source.first_ns,
        "last_ns": source.last_ns,
        "health": source.health.to_dict(),
    }


def tunnel_rows(case: Case, found: Attribution | None) -> pd.DataFrame:
    records = case.tunnels.records
    total = np.bincount(records.tunnel, minlength=len(case.tunnels))
    explained = np.zeros(len(case.tunnels), np.int64)
    if found is not None:
        used = np.unique(found.record[found.record >= 0])
        explained = np.bincount(records.tunnel[used], minlength=len(case.tunnels))
    rows = []
    for t, tunnel in enumerate(case.tunnels.tunnels):
        number = case.map_of_tunnel[t]
        rows.append(
            {
                "id": f"t{t + 1}",
                "client": tunnel.client,
                "server": tunnel.server,
                "transport": tunnel.transport,
                "protocol": tunnel.protocol,
                "first_ns": tunnel.first_ns,
                "last_ns": tunnel.last_ns,
                "packets_up": tunnel.packets_up,
                "packets_down": tunnel.packets_down,
                "length_map": case.maps[number].to_dict() if number >= 0 else None,
                "clock": None,
                "ip_id": None,
                "explained_share": round(float(explained[t] / total[t]), 6) if total[t] and found else None,
            }
        )
    columns = ["id", "client", "server", "transport", "protocol", "first_ns", "last_ns", "packets_up", "packets_down", "length_map", "clock", "ip_id", "explained_share"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}


def flow_rows(case: Case) -> pd.DataFrame:
    flows = case.flows
    everyone = range(len(flows))
    return pd.DataFrame(
        {
            "id": [f"f{f + 1}" for f in everyone],
            "proto": [_PROTOCOLS.get(p, str(p)) for p in flows.proto.tolist()],
            "src": [flows.source(f) for f in everyone],
            "dst": [flows.destination(f) for f in everyone],
            "community_id": flows.community_ids,
            "packets": flows.packets_up + flows.packets_down,
            "bytes": flows.bytes,
            "first_ns": flows.first_ns,
            "last_ns": flows.last_ns,
            "device": None,
            "clock": None,
            "ip_id": None,
        }
    )


def score_rows(scores: ScoreTable, llr: npt.NDArray[np.float64], case: Case) -> pd.DataFrame:
    sizes = np.diff(case.egress.start) if len(scores) else np.zeros(0, np.int64)
    rows = [
        {
            "flow": f"f{f + 1}",
            "tunnel": f"t{t + 1}",
            "llr": round(ratio, 4),
            "engines": {
                packets_engine.NAME: {
                    "score": round(score, 4),
                    "llr": round(ratio, 4),
                    "n": int(sizes[f]),
                    "note": f"{hits} of {sizes[f]} packets found",
                }
            },
        }
        for f, t, score, hits, ratio in zip(
            scores.flow.tolist(),
            scores.tunnel.tolist(),
            scores.score.tolist(),
            scores.hits.tolist(),
            llr.tolist(),
            strict=True,
        )
    ]
    return pd.DataFrame(rows, columns=["flow", "tunnel", "llr", "engines"])


def link_rows(
    case: Case,
    found: Attribution | None,
    scores: ScoreTable,
    llr: npt.NDArray[np.float64],
    carried: npt.NDArray[np.float64],
    alive: npt.NDArray[np.int64],
) -> pd.DataFrame:
    """One row a flow: its tunnel where linked, and what was concluded."""
    count = len(case.flows)
    tunnel = found.tunnel if found is not None else np.full(count, -1, np.int32)
    ratio = np.full(count, np.nan)
    np.fmax.at(ratio, scores.flow, llr)
    mine = tunnel[scores.flow] == scores.tunnel
    ratio[scores.flow[mine]] = llr[mine]
    # The best chance that any tunnel carried the flow and lost this much of it.
    chance = np.zeros(count)
    np.maximum.at(chance, scores.flow, carried)
    rows = []
    for f in range(count):
        if tunnel[f] >= 0:
            verdict = "linked"
        elif case.alignment.usable and (alive[f] == 0 or chance[f] < _NO_TUNNEL):
            verdict = "no_tunnel"
        else:
            verdict = "undecided"
        known = ratio[f] == ratio[f]
        rows.append(
            {
                "flow": f"f{f + 1}",
                "tunnel": f"t{tunnel[f] + 1}" if tunnel[f] >= 0 else None,
                "verdict": verdict,
                "llr": round(float(ratio[f]), 4) if known else None,
                "verbal": verbal(float(ratio[f])) if known else None,
            }
        )
    return pd.DataFrame(rows, columns=["flow", "tunnel", "verdict", "llr", "verbal"])


def pairing_rows(case: Case, found: Attribution | None) -> pd.DataFrame:
    """For each packet of a linked flow, the outer packet that carried it."""
    egress, records = case.egress, case.tunnels.records
    flow = np.repeat(np.arange(len(case.flows)), np.diff(egress.start))
    tunnel = found.tunnel if found is not None else np.full(len(case.flows), -1, np.int32)
    record = found.record if found is not None else np.full(len(flow), -1, np.int64)
    keep = tunnel[flow] >= 0
    flow, record, row = flow[keep], record[keep], egress.row[keep]
    got = record >= 0
    at = np.where(got, record, 0)
    outer_row = records.row[at] if len(records) else np.zeros(len(at), np.int64)
    inner, outer = case.flows.packets, case.conversations.packets
    difference = egress.ts_ns[keep] - (records.ts_ns[at] if len(records) else 0)
    up = egress.up[keep]
    return pd.DataFrame(
        {
            "flow": pd.Categorical.from_codes(flow, categories=[f"f{f + 1}" for f in range(len(case.flows))]),  # type: ignore[arg-type]
            "egress_frame": inner.frame[row],
            "egress_ns": inner.ts_ns[row],
            "up": up,
            "inner_bytes": inner.ip_len_bytes[row],
            "ingress_frame": _optional(outer.frame[outer_row], got),
            "ingress_ns": _optional(outer.ts_ns[outer_row], got),
            "outer_bytes": _optional(records.size[at], got),
            "counter": _optional(records.counter[at], got),
            "delay_ns": _optional(np.where(up, difference, -difference), got),
        }
    )


def _optional(values: npt.NDArray[np.integer[Any]], present: npt.NDArray[np.bool_]) -> Any:
    """Integers that may be missing."""
    return pd.arrays.IntegerArray(values.astype(np.int64), ~present)
