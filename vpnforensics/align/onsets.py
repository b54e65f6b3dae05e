"""Clocks of a relay without one matching length: from when its writes begin.

What comes in after a silence goes out at once, whatever becomes of its size: the beginnings of writes on
either side (*onsets*) are two point processes, one of which follows the other. To the search for the clocks
(:mod:`vpnforensics.align.estimate`) they are packets of a single size in each direction: the same piles, the
same line through both directions, and the same refusals where no offset stands clear of the next best, where
they are too few, or where they drift as no clocks do. Either direction alone had settled on a wrong offset
(50 ms off, of a real ``ssh -D``), so both have to be on one line.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.settle import clocks
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.tunnels.carriers import Carriers
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable, TunnelSet
from vpnforensics.tunnels.writes import WriteTable

_QUIET_NS = 30_000_000
"""Silence of a direction before an onset: within a burst, relays merge and part writes as they like."""
_ALL_ALIKE = LengthMap(0, 1 << 16, cap=1)
"""One size for everything."""


def align_by_onsets(
    carriers: Carriers, flows: FlowTable, writes: WriteTable, rng: np.random.Generator
) -> Alignment:
    """The relation of the two clocks by the onsets of writes on either side.

    Parameters
    ----------
    carriers : Carriers
    flows : FlowTable
        Egress flows.
    writes : WriteTable
        Of these flows.
    rng : numpy.random.Generator
    """
    outer, inner = onsets(carriers.writes), onsets(writes)
    told = carriers.writes
    outer = outer[carriers.carrier_of[told.connection[outer]] >= 0]
    outer = outer[np.argsort(told.first_ns[outer], kind="stable")]
    inner = inner[np.argsort(writes.first_row[inner], kind="stable")]
    records = RecordTable(
        told.first_ns[outer],
        carriers.carrier_of[told.connection[outer]].astype(np.int32),
        told.up[outer] == carriers.forward[told.connection[outer]],
        np.ones(len(outer), np.int32),
        np.full(len(outer), -1, np.int64),
        told.first_row[outer],
    )
    packets = flows.packets.take(writes.first_row[inner].astype(np.intp))
    begun = replace(
        flows,
        packets=replace(packets, ip_len_bytes=np.ones(len(inner), np.int32)),
        flow=writes.connection[inner],
        up=writes.up[inner],
    )
    tunnels = TunnelSet(carriers.tunnels, records, np.zeros(0, np.int64))
    if not len(records) or not len(inner):
        return Alignment("not_identifiable", reason="one side has no writes")
    found = clocks(tunnels, dict.fromkeys(range(len(carriers)), _ALL_ALIKE), begun, (), rng)
    return replace(found, breaks=(), astray=())


def onsets(writes: WriteTable) -> npt.NDArray[np.intp]:
    """The writes before which their direction of their connection was silent."""
    begins = np.ones(len(writes), np.bool_)
    same = (writes.connection[1:] == writes.connection[:-1]) & (writes.up[1:] == writes.up[:-1])
    begins[1:] = ~same | (writes.first_ns[1:] - writes.last_ns[:-1] > _QUIET_NS)
    return np.flatnonzero(begins)
