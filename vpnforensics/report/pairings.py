"""Which outer packet carried each packet of a linked flow: a table as large as the captures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.pairing import pair_in_order
from vpnforensics.tunnels.write_law import OPENING


def pairing_rows(case: Case, decision: Decision) -> pd.DataFrame:
    """For each packet of a linked flow, the outer packet that carried it."""
    egress, records = case.egress, case.tunnels.records
    flow = np.repeat(np.arange(len(case.flows)), np.diff(egress.start))
    keep = decision.tunnel[flow] >= 0
    flow, record, row = flow[keep], pair_in_order(case, decision)[keep], egress.row[keep]
    got = record >= 0
    at = np.where(got, record, 0)
    outer_row = records.row[at] if len(records) else np.zeros(len(at), np.int64)
    inner, outer = case.flows.packets, case.conversations.packets
    difference = egress.ts_ns[keep] - (records.ts_ns[at] if len(records) else 0)
    up = egress.up[keep]
    sizes = records.size[at] if len(records) else np.zeros(len(at), np.int32)
    opens = sizes >= OPENING  # a relay's first write: the mark is none of its bytes, the relay's own are
    return pd.DataFrame(
        {
            "flow": pd.Categorical.from_codes(flow, categories=pd.Index(case.flows.ids)),
            "egress_frame": inner.frame[row],
            "egress_ns": inner.ts_ns[row],
            "up": up,
            "inner_bytes": inner.ip_len_bytes[row] % OPENING,
            "ingress_frame": _optional(outer.frame[outer_row], got),
            "ingress_ns": _optional(outer.ts_ns[outer_row], got),
            "outer_bytes": _optional(np.where(opens, outer.payload_bytes[outer_row], sizes), got),
            "counter": _optional(records.counter[at], got),
            "delay_ns": _optional(np.where(up, difference, -difference), got),
            "inner_ip_id": _optional(inner.ip_id[row], inner.ip_id[row] >= 0),
            "inner_tsval": _optional(inner.tsval[row], inner.has_ts[row] == 1),
            "outer_ip_id": _optional(outer.ip_id[outer_row], got & (outer.ip_id[outer_row] >= 0)),
            "outer_tsval": _optional(outer.tsval[outer_row], got & (outer.has_ts[outer_row] == 1)),
        }
    )


def _optional(values: npt.NDArray[np.integer[Any]], present: npt.NDArray[np.bool_]) -> Any:
    """Integers that may be missing."""
    return pd.arrays.IntegerArray(values.astype(np.int64), ~present)
