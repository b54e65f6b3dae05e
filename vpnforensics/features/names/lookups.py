"""Names for flows: those they gave themselves, and those that a lookup had given their address before.

The lookups of the flow's own tunnel go first: another client's say only that somebody gave the address this
name. Programs hold on to an address for longer than its time to live says, so that lives are stretched.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.extras import how_to_get
from vpnforensics.features.names import dns
from vpnforensics.features.names.find import FlowNames, Lookup
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import AddressTable

HELD_NS = 3_600_000_000_000
"""A program may use an address for so long after its time to live."""
MOST_NAMES = 5
"""Names from lookups a flow: an address of a large provider has had hundreds."""
_LATEST = 64
_ANYBODY = -2
"""In place of a tunnel: whoever it was; -1 is a flow that is not linked, whose tunnel is not known."""


def name_rows(
    flows: FlowTable, names: FlowNames, tunnel: npt.NDArray[np.integer[Any]]
) -> list[list[dict[str, str]]]:
    """``names`` of each flow, as in the result contract: name, source, and the flow in which it was read.

    Parameters
    ----------
    flows : FlowTable
    names : FlowNames
        Of these flows.
    tunnel : ndarray of int, shape (flows,)
        The tunnel that carried each; negative where that is not decided.
    """
    owner = tunnel.tolist()
    known = _by_address(flows, names, owner)
    ids = flows.ids
    rows = []
    for flow, (address, first_ns) in enumerate(zip(flows.dst.tolist(), flows.first_ns.tolist(), strict=True)):
        told = {name: (source, flow) for name, source in names.own.get(flow, ())}
        if flows.dport[flow] != dns.PORT:
            own = _latest(known.get((address, owner[flow]), ()), first_ns)
            for lookup in own or _latest(known.get((address, _ANYBODY), ()), first_ns):
                source = lookup.source if own or lookup.source != "dns" else "dns_elsewhere"
                told.setdefault(lookup.name, (source, lookup.flow))
        rows.append([{"name": n, "source": s, "flow": ids[f]} for n, (s, f) in told.items()])
    return rows


def unread_names(names: FlowNames, capture: str = "the egress capture") -> list[str]:
    """What kept names of a capture from being read, as warnings."""
    said = []
    if names.unread:
        said.append(f"names in {capture} were not all read: {names.unread}")
    if names.hidden:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(names.hidden.items()))
        said.append(
            f"the snap length of {capture} hid names ({kinds}); whole packets (tcpdump -s 0) have them"
        )
    if names.undecrypted:
        said.append(f"{names.undecrypted:,} QUIC handshakes were not read: {how_to_get('cryptography')}")
    return said


def address_ids(table: AddressTable) -> dict[bytes, int]:
    """Number of each address, by its 4 or 16 bytes in network order."""
    return {
        (row[12:].tobytes() if version == 4 else row.tobytes()): number
        for number, (row, version) in enumerate(zip(table.packed, table.version, strict=True))
    }


def _by_address(flows: FlowTable, names: FlowNames, owner: list[int]) -> dict[tuple[int, int], list[Lookup]]:
    """Lookups in order of time, by address id and tunnel, and all of an address together."""
    ids = address_ids(flows.packets.addresses)
    known: dict[tuple[int, int], list[Lookup]] = {}
    for lookup in names.lookups:
        number = ids.get(lookup.address)
        if number is None:
            continue
        known.setdefault((number, _ANYBODY), []).append(lookup)
        if owner[lookup.flow] >= 0:
            known.setdefault((number, owner[lookup.flow]), []).append(lookup)
    return known


def _latest(lookups: Sequence[Lookup], at_ns: int) -> list[Lookup]:
    """The latest lookups before a flow began that may still hold, each name once."""
    until = bisect_right(lookups, at_ns, key=lambda lookup: lookup.ts_ns)
    found: dict[str, Lookup] = {}
    for lookup in reversed(lookups[max(0, until - _LATEST) : until]):
        if at_ns <= lookup.ts_ns + lookup.ttl_s * 1_000_000_000 + HELD_NS and len(found) < MOST_NAMES:
            found.setdefault(lookup.name, lookup)
    return list(found.values())
