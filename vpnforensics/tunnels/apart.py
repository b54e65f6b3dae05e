"""Tunnels kept apart from flows: a conversation never carries itself.

A capture of both sides holds the tunnels beside the flows that they carried; so may the egress capture of a
server with one interface. Whatever may be a tunnel is kept out of the flows that are to prove it, and what is
one out of the flows that are attributed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.packets.table import AddressTable
from vpnforensics.tunnels.table import Tunnel

_Ends = tuple[tuple[int, int], tuple[int, int], int]
"""The two endpoints of a conversation (address id, port), the lower first, and the protocol."""


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
    here = _ids_here(flows.packets.addresses, conversations.packets.addresses)
    wanted: set[_Ends] = set()
    for n in numbers:
        src, dst = here[conversations.src[n]], here[conversations.dst[n]]
        if src >= 0 and dst >= 0:
            ports = int(conversations.sport[n]), int(conversations.dport[n])
            wanted.add(_ends(int(src), ports[0], int(dst), ports[1], int(conversations.proto[n])))
    found = np.zeros(len(flows), np.bool_)
    addresses = [address for (first, _), (second, _), _ in wanted for address in (first, second)]
    for f in np.flatnonzero(np.isin(flows.src, addresses) & np.isin(flows.dst, addresses)).tolist():
        ends = (flows.src[f], flows.sport[f], flows.dst[f], flows.dport[f], flows.proto[f])
        found[f] = _ends(*map(int, ends)) in wanted
    return found


def _ends(src: int, sport: int, dst: int, dport: int, proto: int) -> _Ends:
    first, second = sorted([(src, sport), (dst, dport)])
    return first, second, proto


def _ids_here(here: AddressTable, there: AddressTable) -> npt.NDArray[np.int64]:
    """Ids in one table of another's addresses, -1 for those that it lacks."""
    if here is there:
        return np.arange(len(here))
    known = {
        (int(v), row.tobytes()): n for n, (v, row) in enumerate(zip(here.version, here.packed, strict=True))
    }
    return np.array(
        [known.get((int(v), row.tobytes()), -1) for v, row in zip(there.version, there.packed, strict=True)],
        np.int64,
    )
