"""Which egress packets the ingress capture could have shown, and why not the others: one table for all.

A packet whose record could not have been seen speaks against no tunnel. What is asked of it, who asks:

===============  ==================================================================  ====================
reason           of a packet                                                         asked by
===============  ==================================================================  ====================
``OUTSIDE``      whose flow reaches beyond the time of the ingress capture           denial, fields, report
``SILENT``       in a silence of all of the ingress capture that is out of its       and the score
                 ordinary (a rotated file is missing, a disk was full)
``UNTIMED``      whose time on the ingress clock is not known                        denial, fields, report
``SERVERS_OWN``  of ICMP errors, which the server itself sends                       denial, fields, report
``BESIDE``       while a connection beside a tunnel was busy (tinc sends over TCP    denial, fields, report
                 until it knows that datagrams arrive)
``TOO_LONG``     longer than any that the tunnels of a length map carry: it was cut  score, denial, report
                 on its way, or sent beside them
``UNPROVEN``     about whose time no packet of a linked flow has its record: nothing denial, report
                 shows that both captures were at work then
``SHARED``       sent alike by several clients or servers (both sides can be read)   denial, report
``EMPTY``        without anything to compare (likewise)                              denial, report
===============  ==================================================================  ====================

A packet has the first reason that holds. Duplicates, the same packet captured twice, are not in any table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Ints
from vpnforensics.engines.case import LONGEST_STAY_NS, USUAL_MISS, Case
from vpnforensics.flows.assemble import is_query
from vpnforensics.packets.table import PROTO_ICMP, PROTO_ICMPV6
from vpnforensics.scratch import ascending, beside, blocks, rows_where

STALL_NS = 100_000_000
"""So much a stalled server delays packets; longer ones would be seen as a silence."""
_SILENCE_NS = 5_000_000_000
"""Shorter silences are ordinary: a few clients do pause together for some seconds."""
_UNUSUAL = 10
"""A silence is out of the ordinary if half of the other time lies in gaps this much shorter. Of packets at
random one moment in a million lies in such a gap; clients pause together more often, and lose a denial."""
_MOMENT_NS, _MOST_MOMENTS = 1_000_000_000, 1_000_000
"""Moments are longer in captures that would have more of them, for memory's sake."""


class Why(IntEnum):
    """Whether a packet's record could have been seen, or why not."""

    SEEN = 0
    OUTSIDE = 1
    SILENT = 2
    UNTIMED = 3
    SERVERS_OWN = 4
    BESIDE = 5
    TOO_LONG = 6
    UNPROVEN = 7
    SHARED = 8
    EMPTY = 9


WORDS = {
    Why.OUTSIDE: "the flow reaches beyond the time of the ingress capture",
    Why.SILENT: "the ingress capture was silent",
    Why.UNTIMED: "their time on the ingress clock is not known",
    Why.SERVERS_OWN: "the server itself sends ICMP errors",
    Why.BESIDE: "a connection beside a tunnel may have carried them",
    Why.TOO_LONG: "they are longer than the tunnels carry in one piece",
    Why.UNPROVEN: "about their time no packet of a linked flow has its record",
    Why.SHARED: "the ingress capture has their like of several clients, or to another server",
    Why.EMPTY: "there is nothing in them to compare",
}
_OF_TIME = (Why.OUTSIDE, Why.SILENT, Why.UNTIMED, Why.SERVERS_OWN, Why.BESIDE)
"""Reasons that hold whatever the tunnels carry."""


@dataclass(frozen=True, eq=False)
class Observability:
    """The table: rows of packets as in EgressRows, for each length map; for all alike until that is noted."""

    start: Ints
    """``start[f]:start[f + 1]`` are flow f's packets."""
    why: npt.NDArray[np.uint8]
    readable: bool = True
    """Whether all tunnels were read and can be looked into: another may have carried anything."""

    @property
    def seen(self) -> Bools:
        """Packets whose records could have been seen, shape (maps, packets)."""
        return self._marks(lambda why: why == Why.SEEN)

    def noted(self, where: Bools, why: Why) -> Observability:
        """The same, with a reason for packets that had none; by packet, or by length map and packet."""
        shape = np.broadcast_shapes(self.why.shape, where.shape)
        noted, before, where = beside(self.why).empty(shape, np.uint8), self.why, np.atleast_2d(where)
        for rows in blocks(shape[1]):
            known = before[:, rows]
            noted[:, rows] = np.where(where[:, rows] & (known == Why.SEEN), np.uint8(why), known)
        return replace(self, why=noted)

    def per_flow(self, packets: Bools) -> Ints:
        """Packets of each flow among those marked, shape (maps, flows)."""
        return np.add.reduceat(np.atleast_2d(packets), self.start[:-1], axis=1, dtype=np.int64)

    def _marks(self, what: Callable[[npt.NDArray[np.uint8]], Bools]) -> Bools:
        array = beside(self.why).empty(self.why.shape, np.bool_)
        for rows in blocks(self.why.shape[1]):
            array[:, rows] = what(self.why[:, rows])
        return array

    @property
    def deniable(self) -> Bools:
        """Flows of which the ingress capture can say that a tunnel did not have them: those most of whose
        packets came when it could see them.
        """
        timely = self._marks(lambda why: ~np.isin(why, _OF_TIME))
        return np.asarray(2 * self.per_flow(timely[:1])[0] > np.diff(self.start))

    def words(self) -> list[str]:
        """How many packets of each flow could not have been seen, and the commonest reason; "" without any.

        A packet that the tunnels of one length map could have carried could have been seen.
        """
        shown = self.why.min(axis=0, initial=Why.EMPTY) == Why.SEEN
        why = np.where(shown, np.uint8(Why.SEEN), self.why.max(axis=0, initial=0))
        counts = np.stack([self.per_flow(why == reason)[0] for reason in Why])
        unseen, commonest = counts[1:].sum(axis=0), counts[1:].argmax(axis=0) + 1
        packets = np.diff(self.start)
        otherwise = (
            ""
            if self.readable
            else "a tunnel that was not read or cannot be looked into, or not all of it, may have it"
        )
        return [
            f"{n} of its {of} packets could not have been seen: {WORDS[Why(reason)]}" if n else otherwise
            for n, of, reason in zip(unseen.tolist(), packets.tolist(), commonest.tolist(), strict=True)
        ]


def observability(case: Case) -> Observability:
    """What time and kind of the packets allow; what tunnels carry is noted later."""
    egress, flows = case.egress, case.flows
    packets, scratch = len(egress.ts_ns), beside(egress.ts_ns)
    table = Observability(egress.start, scratch.full((1, packets), Why.SEEN, np.uint8))

    def note(where: Bools, why: Why) -> None:
        nonlocal table
        table = table.noted(where, why)

    def note_flows(where: Bools, why: Why) -> None:
        if where.any():
            note(scratch.repeated(where, egress.start), why)

    def untimed(rows: slice) -> Bools:
        row = egress.row[rows]
        within = [(row >= first) & (row <= last) for first, last in case.alignment.astray]
        return np.asarray(np.any(within, axis=0))

    note_flows(_reaches_out(case), Why.OUTSIDE)
    working = at_work(case)
    note(np.logical_not(working, out=working), Why.SILENT)
    if case.alignment.astray:
        note(scratch.filled(packets, np.bool_, untimed), Why.UNTIMED)
    note_flows(is_error(flows.proto, flows.icmp_type), Why.SERVERS_OWN)
    note_flows(_beside(case), Why.BESIDE)
    return table


def at_work(case: Case) -> Bools:
    """Egress packets at whose time the ingress capture was at work, shape (packets,)."""
    outer_ns, ts_ns = case.conversations.packets.ts_ns, case.egress.ts_ns
    start, end = unusual_silences(outer_ns)
    edges = (int(outer_ns.min()) - STALL_NS, int(outer_ns.max()) + STALL_NS) if len(outer_ns) else None

    def working(rows: slice) -> Bools:
        ns = ts_ns[rows]
        before = np.searchsorted(start, ns)  # silences that began before the packet
        at_work = before == np.searchsorted(end, ns, side="right")
        if edges:
            at_work &= (ns >= edges[0]) & (ns <= edges[1])
        return np.asarray(at_work)

    return beside(ts_ns).filled(len(ts_ns), np.bool_, working)


def unproven(ts_ns: Ints, record: npt.NDArray[np.integer]) -> Bools:
    """Egress packets about whose time no linked one has its record, shape (packets,).

    Where one has, both captures were at work, and the two clocks as the alignment has them.

    Parameters
    ----------
    ts_ns : ndarray of int64, shape (packets,)
    record : ndarray of integers, shape (packets,)
        Record of each linked flow's packets, or -1.
    """
    first_ns, last_ns = int(ts_ns.min()), int(ts_ns.max())
    moment_ns = max(_MOMENT_NS, (last_ns - first_ns) // _MOST_MOMENTS)
    seen = np.zeros((last_ns - first_ns) // moment_ns + 1, np.bool_)
    for rows in blocks(len(ts_ns)):
        seen[(ts_ns[rows][record[rows] >= 0] - first_ns) // moment_ns] = True
    none_near = np.convolve(seen, np.ones(3), "same") == 0
    return beside(ts_ns).filled(
        len(ts_ns), np.bool_, lambda rows: none_near[(ts_ns[rows] - first_ns) // moment_ns]
    )


def unusual_silences(ts_ns: Ints) -> tuple[Ints, Ints]:
    """Start and end of the gaps in a capture that its other gaps do not lead one to expect.

    Judged by time, not by number: most packets of a burst follow one another closely, and say nothing of
    how long the pauses between bursts are.
    """
    if not ascending(ts_ns):
        ts_ns = beside(ts_ns).copy(ts_ns)
        ts_ns.sort()
    least = _SILENCE_NS // _UNUSUAL
    at = rows_where(len(ts_ns), lambda rows: np.diff(ts_ns[rows.start : rows.stop + 1]) > least)
    gap = ts_ns[at + 1] - ts_ns[at]
    longer = np.sort(gap)
    # Time spent in gaps up to a length; no length below ``least`` is asked for.
    total = int(ts_ns[-1] - ts_ns[0]) if len(ts_ns) else 0
    spent = total - int(longer.sum()) + np.r_[0, np.cumsum(longer)]
    at, gap = at[gap > _SILENCE_NS], gap[gap > _SILENCE_NS]
    in_shorter = spent[np.searchsorted(longer, gap // _UNUSUAL, side="right")]
    at = at[2 * in_shorter >= total - gap]
    return ts_ns[at], ts_ns[at + 1]


def is_error(proto: npt.NDArray[np.uint8], icmp_type: npt.NDArray[np.uint8]) -> Bools:
    """ICMP other than echo and its like: routers and the server send it, too."""
    return np.asarray(np.isin(proto, (PROTO_ICMP, PROTO_ICMPV6)) & ~is_query(proto, icmp_type))


def _reaches_out(case: Case) -> Bools:
    """Flows that are not within the time of the ingress capture; without an alignment, all."""
    if not case.alignment.usable:
        return np.ones(len(case.flows), np.bool_)
    outer = case.conversations.packets.ts_ns
    first = case.alignment.to_ingress(case.flows.first_ns)
    last = case.alignment.to_ingress(case.flows.last_ns)
    return np.asarray((first < outer.min()) | (last > outer.max()))


def _beside(case: Case) -> Bools:
    """Flows of which a tunnel's TCP twin may have carried more than captures lose."""
    first = case.alignment.to_ingress(case.flows.first_ns) - LONGEST_STAY_NS
    last = case.alignment.to_ingress(case.flows.last_ns) + LONGEST_STAY_NS
    packets = case.conversations.packets
    beside = np.zeros(len(case.flows), np.bool_)
    for twin in {tunnel.twin for tunnel in case.tunnels.tunnels} - {-1}:
        rows = case.conversations.rows_of(twin)
        order = np.argsort(packets.ts_ns[rows], kind="stable")
        ts_ns = packets.ts_ns[rows][order]
        sent = np.r_[0, np.cumsum(packets.payload_bytes[rows][order], dtype=np.int64)]
        during = sent[np.searchsorted(ts_ns, last, side="right")] - sent[np.searchsorted(ts_ns, first)]
        beside |= during >= USUAL_MISS * case.flows.bytes
    return beside
