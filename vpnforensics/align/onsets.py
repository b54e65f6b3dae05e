"""Clocks of a relay without one matching length: from when its writes begin.

What comes in after a silence goes out at once, whatever becomes of its size: the beginnings of writes on
either side (*onsets*) are two point processes, one of which follows the other. To the search for the clocks
(:mod:`vpnforensics.align.estimate`) they are packets of a single size in each direction: the same piles, the
same line through both directions, and the same refusals where no offset stands clear of the next best, where
they are too few, or where they drift as no clocks do. Either direction alone had settled on a wrong offset
(50 ms off, of a real ``ssh -D``), so both have to be on one line. Where no offset stands out, it is looked
for near that at which both sides are busy together (:mod:`vpnforensics.align.volume`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.learning import share_obeying
from vpnforensics.align.settle import clocks, egress_lengths
from vpnforensics.align.volume import SURE_WITHIN_NS, Volume, sure_offset
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import Carriers
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.table import RecordTable, TunnelSet
from vpnforensics.tunnels.writes import WriteTable

_QUIET_NS = 30_000_000
"""Silence of a direction before an onset: within a burst, relays merge and part writes as they like."""
_LEAST_SHARE, _LEAST_ONSETS, _SURELY = 0.2, 20, 4.0
"""Of a carrier's onsets that have one of the egress side beside them, beyond chance: this share, so many, and
so many standard deviations of what chance makes of it (half of them, where the egress side is busy)."""
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
    records, begun = _records(carriers), _begun(flows, writes)
    if not len(records) or not len(begun.packets):
        return Alignment("not_identifiable", reason="one side has no writes")
    tunnels = TunnelSet(carriers.tunnels, records, np.zeros(0, np.int64))
    alike = dict.fromkeys(range(len(carriers)), _ALL_ALIKE)
    found = clocks(tunnels, alike, begun, (), rng)
    if not found.usable:
        offset_ns = sure_offset(
            _volume(carriers.conversations, carriers.carrier_of >= 0, carriers.forward),
            _volume(flows, flows.proto == PROTO_TCP, np.ones(len(flows), np.bool_)),
        )
        if offset_ns is not None:
            found = clocks(tunnels, alike, begun, (), rng, (offset_ns, SURE_WITHIN_NS))
    return replace(found, breaks=(), astray=())


def _volume(table: FlowTable, which: npt.NDArray[np.bool_], forward: npt.NDArray[np.bool_]) -> Volume:
    """Bytes of some conversations, as they were captured."""
    packets = table.packets
    rows = np.flatnonzero(which[table.flow] & (packets.payload_bytes > 0))
    rows = rows[np.argsort(packets.ts_ns[rows], kind="stable")]
    amount = packets.payload_bytes[rows].astype(np.float64)
    return Volume(packets.ts_ns[rows], amount, table.up[rows] == forward[table.flow[rows]])


def followed(
    carriers: Carriers,
    flows: FlowTable,
    writes: WriteTable,
    alignment: Alignment,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """Carriers whose onsets are those of the egress side clearly oftener than chance has it.

    Parameters
    ----------
    carriers : Carriers
    flows : FlowTable
    writes : WriteTable
        Of these flows.
    alignment : Alignment
    rng : numpy.random.Generator
    """
    records, begun = _records(carriers), _begun(flows, writes)
    egress = egress_lengths(begun, alignment.to_ingress(begun.packets.ts_ns))
    found = np.zeros(len(carriers), np.bool_)
    for n in range(len(carriers)):
        mine = records.take(records.tunnel == n)
        least = max(_LEAST_SHARE, _SURELY / np.sqrt(max(len(mine), 1)))
        found[n] = len(mine) >= _LEAST_ONSETS and share_obeying(_ALL_ALIKE, mine, egress, rng) >= least
    return found


def _records(carriers: Carriers) -> RecordTable:
    """The carriers' onsets, in order of time."""
    writes, begins = carriers.writes, onsets(carriers.writes)
    begins = begins[carriers.carrier_of[writes.connection[begins]] >= 0]
    begins = begins[np.argsort(writes.first_ns[begins], kind="stable")]
    connection = writes.connection[begins]
    return RecordTable(
        writes.first_ns[begins],
        carriers.carrier_of[connection].astype(np.int32),
        writes.up[begins] == carriers.forward[connection],
        np.ones(len(begins), np.int32),
        np.full(len(begins), -1, np.int64),
        writes.first_row[begins],
    )


def _begun(flows: FlowTable, writes: WriteTable) -> FlowTable:
    """The flows with their onsets in the place of packets, all of one size."""
    begins = onsets(writes)
    begins = begins[np.argsort(writes.first_row[begins], kind="stable")]
    packets = flows.packets.take(writes.first_row[begins].astype(np.intp))
    return replace(
        flows,
        packets=replace(packets, ip_len_bytes=np.ones(len(begins), np.int32)),
        flow=writes.connection[begins],
        up=writes.up[begins],
    )


def onsets(writes: WriteTable) -> npt.NDArray[np.intp]:
    """The writes before which their direction of their connection was silent."""
    begins = np.ones(len(writes), np.bool_)
    same = (writes.connection[1:] == writes.connection[:-1]) & (writes.up[1:] == writes.up[:-1])
    begins[1:] = ~same | (writes.first_ns[1:] - writes.last_ns[:-1] > _QUIET_NS)
    return np.flatnonzero(begins)
