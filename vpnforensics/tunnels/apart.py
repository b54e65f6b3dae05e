"""Tunnels kept apart from flows: a conversation never carries itself.

A capture of both sides holds the tunnels beside the flows that they carried; so may the egress capture of a
server with one interface. Whatever may be a tunnel is kept out of the flows that are to prove it, and what is
one out of the flows that are attributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.packets.table import AddressTable
from vpnforensics.tunnels.table import Tunnel

Ints = npt.NDArray[np.integer[Any]]


def flows_apart(flows: FlowTable, conversations: FlowTable, tunnels: Sequence[Tunnel]) -> FlowTable:
    """The flows but for the tunnels' own conversations and their other halves; their numbers are kept.

    Parameters
    ----------
    flows : FlowTable
        Of one capture.
    conversations : FlowTable
        Of the same capture or another, in which the tunnels were found.
    tunnels : sequence of Tunnel
    """
    outer = _also_here(flows, conversations, {c for t in tunnels for c in (t.conversation, *t.beside)})
    if not outer.any():
        return flows
    kept = np.flatnonzero(~outer[flows.flow])
    rest = assemble_flows(flows.packets.take(kept))
    first = rest.order[0][rest.order[1][:-1]]
    return replace(rest, number=flows.number[flows.flow[kept[first]]])


def _also_here(flows: FlowTable, conversations: FlowTable, numbers: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Which flows have the endpoints and the protocol of one of these conversations."""
    wanted = np.array(sorted(numbers), np.int64)
    here = _ids_here(flows.packets.addresses, conversations.packets.addresses)
    src, dst = here[conversations.src[wanted]], here[conversations.dst[wanted]]
    known = (src >= 0) & (dst >= 0)
    outer = _ends(conversations, wanted[known], src[known], dst[known])
    inner = _ends(flows, np.arange(len(flows)), flows.src, flows.dst)
    values, number = np.unique(np.concatenate([outer, inner]), return_inverse=True)
    low, high = number.reshape(-1, 2).T
    pair = low * len(values) + high
    return np.asarray(np.isin(pair[len(outer) :], pair[: len(outer)]))


def _ends(table: FlowTable, flows: Ints, src: Ints, dst: Ints) -> Ints:
    """Address, port and protocol of both ends in one number each, the lower first; shape (flows, 2)."""
    ends = [
        (address.astype(np.int64) << 16 | port[flows]) << 8 | table.proto[flows]
        for address, port in ((src, table.sport), (dst, table.dport))
    ]
    return np.sort(np.stack(ends, axis=1), axis=1)


def _ids_here(here: AddressTable, there: AddressTable) -> Ints:
    """Ids in one table of another's addresses, -1 for those that it lacks."""
    if here is there:
        return np.arange(len(here))
    known = {address: n for n, address in enumerate(_packed(here))}
    return np.array([known.get(address, -1) for address in _packed(there)], np.int64)


def _packed(table: AddressTable) -> list[tuple[int, bytes]]:
    return [(v, row.tobytes()) for v, row in zip(table.version.tolist(), table.packed, strict=True)]
