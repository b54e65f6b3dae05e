"""A decided case as rows: the tables of the result contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.engines import exact, writes
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.verbal import verbal
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.report.reasons import reasons
from vpnforensics.report.stacks import Stacks

_TUNNEL_COLUMNS = (
    "id",
    "client",
    "server",
    "transport",
    "protocol",
    "variant",
    "first_ns",
    "last_ns",
    "packets_up",
    "packets_down",
    "length_map",
    "write_law",
    "connections",
    "clock",
    "ip_id",
    "user",
    "explained_share",
)


def tunnel_rows(case: Case, decision: Decision, stacks: Stacks) -> pd.DataFrame:
    """``tunnels``; ``explained_share`` is of the records, the packets that can carry something."""
    records = case.tunnels.records
    total = np.bincount(records.tunnel, minlength=len(case.tunnels))
    used = np.zeros(len(records), np.bool_)
    used[decision.record[decision.record >= 0]] = True
    explained = np.bincount(records.tunnel[used], minlength=len(case.tunnels))
    clocks, ip_ids = stacks.tunnel_clocks(), stacks.tunnel_ip_ids()
    rows = []
    for t, tunnel in enumerate(case.tunnels.tunnels):
        number = case.map_of_tunnel[t]
        rows.append(
            {
                "id": case.tunnels.ids[t],
                "client": tunnel.client,
                "server": tunnel.server,
                "transport": tunnel.transport,
                "protocol": tunnel.protocol,
                "variant": tunnel.variant or None,
                "first_ns": tunnel.first_ns,
                "last_ns": tunnel.last_ns,
                "packets_up": tunnel.packets_up,
                "packets_down": tunnel.packets_down,
                "length_map": case.maps[number].to_dict() if number >= 0 and not case.by_writes else None,
                "write_law": case.maps[number].to_dict() if number >= 0 and case.by_writes else None,
                "connections": 1 + len(tunnel.beside),
                "clock": clocks[t],
                "ip_id": ip_ids[t],
                "user": None,
                "explained_share": round(float(explained[t] / total[t]), 6)
                if total[t] and decision.engine in (packets_engine.NAME, exact.NAME, writes.NAME)
                else None,
            }
        )
    return pd.DataFrame(rows, columns=list(_TUNNEL_COLUMNS))


PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp"}


def flow_rows(flows: FlowTable) -> pd.DataFrame:
    """``flows`` but for their stacks, in the order of their first packets."""
    everyone = range(len(flows))
    return pd.DataFrame(
        {
            "id": flows.ids,
            "proto": [PROTOCOL_NAMES.get(p, str(p)) for p in flows.proto.tolist()],
            "src": [flows.source(f) for f in everyone],
            "dst": [flows.destination(f) for f in everyone],
            "names": [[] for _ in everyone],
            "community_id": flows.community_ids,
            "uids": [[] for _ in everyone],
            "packets": flows.packets_up + flows.packets_down,
            "bytes": flows.bytes,
            "first_ns": flows.first_ns,
            "last_ns": flows.last_ns,
        }
    )


def score_rows(case: Case, decision: Decision) -> pd.DataFrame:
    """``scores``: the pairs listed, with what each engine said."""
    scores, flows, tunnels = decision.scores, case.flows.ids, case.tunnels.ids
    engines: list[dict[str, Any]] = [{} for _ in range(len(scores))]
    for voice in decision.voices:
        said = zip(engines, *_said(voice), strict=True)
        for row, score, llr, n, note in said:
            row[voice.engine] = {"score": score, "llr": llr, "n": n, "note": note}
    return pd.DataFrame(
        {
            "flow": [flows[f] for f in scores.flow.tolist()],
            "tunnel": [tunnels[t] for t in scores.tunnel.tolist()],
            "llr": decision.llr.round(4),
            "llr_bounded": decision.bounded(),
            "null_comparisons": decision.null_comparisons,
            "engines": engines,
        }
    )


def _said(voice: Voice) -> tuple[Sequence[Any], ...]:
    """Columns of one engine's part: rounded, ``None`` where it is silent."""
    score, llr = (_optional_floats(values.round(4)) for values in (voice.score, voice.llr))
    return score, llr, voice.n.tolist(), voice.note


def link_rows(case: Case, decision: Decision) -> pd.DataFrame:
    """``links``: one row a flow, its tunnel where linked, and what was concluded."""
    scores, tunnel = decision.scores, decision.tunnel
    best = np.full(len(case.flows), np.nan)
    bounded = np.zeros(len(case.flows), np.bool_)
    order = np.argsort(np.nan_to_num(decision.llr, nan=-np.inf), kind="stable")
    mine = tunnel[scores.flow] == scores.tunnel
    for rows in (order, np.flatnonzero(mine)):  # the largest; a link's own where there is one
        best[scores.flow[rows]] = decision.llr[rows]
        bounded[scores.flow[rows]] = decision.bounded()[rows]
    llr = _optional_floats(best)
    wording = {x: None if x is None else verbal(x) for x in set(llr)}  # most are at a bound
    return pd.DataFrame(
        {
            "flow": case.flows.ids,
            "tunnel": [case.tunnels.ids[t] if t >= 0 else None for t in tunnel.tolist()],
            "connection": None,
            "verdict": decision.verdicts(),
            "llr": [None if x is None else round(x, 4) for x in llr],
            "llr_bounded": bounded,
            "error": [
                float(f"{x:.3g}") if t >= 0 else None for x, t in zip(decision.error, tunnel, strict=True)
            ],
            "verbal": [wording[x] for x in llr],
            "unlisted_llr": _optional_floats(decision.unlisted_llr.round(4)),
            "why": reasons(case, decision),
        }
    )


def _optional_floats(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [x if x == x else None for x in values.tolist()]
