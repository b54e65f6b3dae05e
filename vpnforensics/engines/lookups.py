"""Lookups: who asked for a name goes to an address of it.

Theory of operation
-------------------
A lookup has two packets, and its like is often another client's of the same moment: neither lengths nor times
tell them apart. What the client does next does. A program that has asked for a name connects to one of its
addresses, most within tens of milliseconds, and a connection has packets enough to be linked by them. So a
lookup is held against the first flow of each tunnel that goes to an address of the name it asked for: how
long after the question does that flow begin, or is there none?

What a delay is worth is counted in the case itself, by lookups that packets link
(:mod:`vpnforensics.evidence.lookups`). Silent where nobody sees names (snapped or encrypted lookups, no
answer with an address).

RFC 1034 (lookups come before connections); the relation of both in traffic: Bermudez et al. 2012 (IMC, "DNS
to the rescue").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Int32s, Ints
from vpnforensics.features.names.find import FlowNames
from vpnforensics.features.names.lookups import address_ids
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import runs

NAME = "lookups"

WITHIN_NS = 1_000_000_000
"""What begins later after a question has as a rule another reason."""
_MOST = 64
"""Flows to an address that are looked at after a question: where more come within a second, it is
everybody's."""


@dataclass(frozen=True, eq=False)
class Asked:
    """Lookups of names with known addresses, and what else went there."""

    lookup: Int32s
    """Flows, ascending."""
    of: Ints
    """Row of ``lookup``, of each flow that went to an address of its name soon after."""
    flow: Ints
    """That flow."""
    delay_ns: Ints
    """How long after the question."""


def find_asked(flows: FlowTable, names: FlowNames) -> Asked | None:
    """The lookups of a capture, and what came of them; None where there is none.

    Parameters
    ----------
    flows : FlowTable
    names : FlowNames
        Of these flows.
    """
    ids = address_ids(flows.packets.addresses)
    addresses: dict[str, set[int]] = {}
    for each in names.lookups:
        if (number := ids.get(each.address)) is not None:
            addresses.setdefault(each.name, set()).add(number)
    asked = sorted(
        {
            (flow, address)
            for flow, own in names.own.items()
            for name, source in own
            if source == "query"
            for address in addresses.get(name, ())
        }
    )
    if not asked:
        return None
    flow, address = np.array(asked, np.int64).T
    lookup, row = np.unique(flow, return_inverse=True)
    begin_ns = flows.first_ns
    others = np.setdiff1d(np.arange(len(flows)), lookup)
    of, after = _soon_after(address, begin_ns[flow], flows.dst[others].astype(np.int64), begin_ns[others])
    after = others[after]
    return Asked(lookup.astype(np.int32), row[of], after, begin_ns[after] - begin_ns[flow[of]])


def _soon_after(key: Ints, at_ns: Ints, of_key: Ints, of_ns: Ints) -> tuple[Ints, Ints]:
    """Row of each, and of every other of its key that begins at its time or soon after: pairs."""
    time = np.sort(of_ns)
    ranks = len(time) + 1
    order = np.lexsort((of_ns, of_key))
    known = of_key[order] * ranks + np.searchsorted(time, of_ns[order])
    first = np.searchsorted(known, key * ranks + np.searchsorted(time, at_ns))
    stop = np.searchsorted(known, key * ranks + np.searchsorted(time, at_ns + WITHIN_NS))
    of, row = runs(first, np.clip(stop, first, first + _MOST))
    return of, order[row]
