"""What each flow finds in its likeliest tunnel once all others there have theirs.

A tunnel that carried a flow has a record for each of its packets, and another for each of everybody else's.
A flow of a client that was not captured finds records in a busy tunnel, too, where pages are loaded at one
moment and jitter hides the order; but they are those of others, who lack as many. So whoever finds little
when it is served last may be in the place of flows that fit as well without it, or be one of these: in such
a moment nobody tells, and nothing is believed of any. Among them are flows that stood first in that tunnel
and are in none.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines._hole_kernels import LITTLE, UNCOUNTED
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.joint._graph_kernels import Reach, kinds_of_runs
from vpnforensics.flows.grouping import count_in_groups
from vpnforensics.scratch import beside, blocks

_LACKING = 0.5
"""Whoever takes others' records leaves about as many packets without; where there are less than this share of
its own while it lasts, it is not asked."""
_TURNS = 32
"""Flows of one tunnel at one moment that can be asked, at most; what is left is not believed."""


def share_when_last(containment: Containment, tunnel: Int32s, strength: Floats, rivals: Ints) -> Floats:
    """Share of its records that each flow still finds when all others of its tunnel are served first.

    Parameters
    ----------
    containment : Containment
        With all records.
    tunnel : ndarray of int32, shape (flows,)
        Where each is likeliest or, of ``rivals``, stands first; else -1.
    strength : ndarray of float64, shape (flows,)
        Above 0; the stronger is served first.
    rivals : ndarray of int64
        Flows that are likelier in no tunnel: they are not asked.

    Returns
    -------
    ndarray of float64, shape (flows,)
        1 for all that were not asked.
    """
    start, likely = containment.egress.start, tunnel >= 0
    likely[rivals] = False
    some = np.flatnonzero(likely).astype(np.int32)
    record = containment.own(some, tunnel[some], strength[some]).matched
    share, found = np.ones(len(tunnel)), count_in_groups(record, start)
    asked = np.flatnonzero(likely & (_lacking(containment, tunnel, record) >= _LACKING * found))
    if not len(asked):
        return share
    turn = _turns(tunnel[asked], *(ts_ns[asked] for ts_ns in _spans(containment)))
    for number in range(min(int(turn.max()) + 1, _TURNS)):
        last = asked[turn == number]
        there = np.flatnonzero(np.isin(tunnel, tunnel[last])).astype(np.int32)
        order = strength.copy()
        order[last] = 0.0
        owned = containment.own(there, tunnel[there], order[there])
        kept = count_in_groups(owned.matched, start)[last] / np.maximum(found[last], 1)
        share[last] = np.minimum(kept, 1.0)
    share[asked[turn >= _TURNS]] = 0.0
    return share


def _spans(containment: Containment) -> tuple[Ints, Ints]:
    """First and last time of each flow."""
    start, ts_ns = containment.egress.start, containment.egress.ts_ns
    return ts_ns[start[:-1]], ts_ns[start[1:] - 1]


def _lacking(containment: Containment, tunnel: Int32s, record: Int32s) -> Ints:
    """Packets without a record in the tunnel of each flow, while it lasts; without those about whose time its
    counter says that much was not read: they lack theirs for that.
    """
    start, ts_ns = containment.egress.start, containment.egress.ts_ns
    there: Bools = beside(record).repeated(tunnel >= 0, start)
    rows = [b.start + np.flatnonzero(there[b] & (record[b] < 0)) for b in blocks(len(record))]
    row = np.concatenate([np.zeros(0, np.int64), *rows])
    its = tunnel[np.searchsorted(start, row, side="right") - 1]
    law = containment.law
    reach = Reach(law.low_ns, law.step_bits, len(law.up))
    kind = kinds_of_runs(its, containment.egress.up[row], ts_ns[row], containment.holes, reach)
    read = (kind // 2 <= LITTLE) | (kind // 2 == UNCOUNTED)
    its, row = its[read], row[read]
    order = np.lexsort((ts_ns[row], its))
    its, at_ns = its[order], ts_ns[row][order]
    count = np.zeros(len(tunnel), np.int64)
    first_ns, last_ns = _spans(containment)
    for number in np.unique(its).tolist():
        mine = at_ns[slice(*np.searchsorted(its, (number, number + 1)))]
        flows = np.flatnonzero(tunnel == number)
        until = np.searchsorted(mine, last_ns[flows], side="right")
        count[flows] = until - np.searchsorted(mine, first_ns[flows])
    return count


def _turns(tunnel: Int32s, first_ns: Ints, last_ns: Ints) -> Ints:
    """A number for each flow, so that those of one number and tunnel do not overlap in time."""
    turn, until = np.zeros(len(tunnel), np.int64), dict[tuple[int, int], int]()
    for flow in np.argsort(first_ns, kind="stable").tolist():
        its, number = int(tunnel[flow]), 0
        while number < _TURNS and until.get((its, number), first_ns[flow] - 1) >= first_ns[flow]:
            number += 1
        turn[flow], until[its, number] = number, int(last_ns[flow])
    return turn
