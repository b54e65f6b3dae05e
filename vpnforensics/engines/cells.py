"""Cells: what connections need against what passed, of clients of Tor.

Theory of operation
-------------------
Tor puts all connections of a client into cells of one size, on the circuits of up to three guards at a time
(Conflux), so no write has a partner. But no cell is lost: the cells that a client's flows need pass the
ingress tap within what the relays let them wait, and little else does.

So a client's streams are served as a queue: what is due first takes the first cells (the most needs that can
be met are met so). What a flow would have of a client is how many needs more are met with it than without,
after all flows that are believed to be the client's. Of each need is noted:

- *outcome*: whether its cells are there, and then, how many are left over; or some of them, or none;
- *place*: when the first cell came that was free for it.

Nothing is assumed of these classes: how often pairs that are sure have them, against how often others have
them with the same client, is counted in the case (:mod:`vpnforensics.evidence.cells`). Clients that down- or
upload answer every 31st cell (SENDME); these answers are needs of the client itself.

The work is by needs, clients, and what both sides have within the reach.

Assumptions: known or aligned clocks; all guards of a client in the capture.

Silent without a client of Tor, for flows without TCP, and where needs times clients are more than
:data:`MOST_COMPARISONS`.

Known weaknesses: cells that build circuits look like those that open connections; a busy relay lets cells
wait for longer than the reach; each need is asked of all clients.

Counting packets: Serjantov & Sewell 2003 (ESORICS); KIST: Jansen et al. 2014 (USENIX Security); Conflux:
proposal 329; flow control: proposal 324.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.engines._cell_kernels import Asked, Desk, Due, Law, Seen
from vpnforensics.engines.case import Case
from vpnforensics.tunnels.carriers import client_is_source
from vpnforensics.tunnels.cells import CELLS_A_SENDME, KINDS, Cells, Needs, Parts, cells_needed, cells_seen
from vpnforensics.tunnels.writes import find_writes

NAME = "cells"

_MS = 1_000_000
PROTOCOL = "tor"
MOST_COMPARISONS = 300_000
_REACH_NS = 80 * _MS
"""Relays wait ten milliseconds for more cells (KIST), at each of three hops; the rest is what a machine with
all of them takes: on a quiet one hardly a cell waits longer."""
_BULK_CELLS, _BULK_NS, _BULK_NS_A_CELL = 100, 500 * _MS, _MS
"""Larger needs wait for the circuit's window: half a second, and as long as a line of 4 Mbit/s takes."""
_SENDME_NS = 150 * _MS
"""A client's answer comes after its round trip."""
_SIZES = np.array([1, 3, 8, 31])
"""Cells up to which a need is of each size."""
_EDGES_NS: Ints = (np.array([0.3, 0.6, 1, 2, 4, 7, 11, 16, 22, 30, 40, 55, 70]) * _MS).astype(np.int64)
_OUTCOMES, _FOUND = 6, 3
_PLACED = KINDS * (len(_SIZES) + 1) * _OUTCOMES
_PLACES = len(_EDGES_NS) + 1
CLASSES = _PLACED + 2 * _FOUND * _PLACES
FEATURES: Ints = np.r_[
    np.repeat(np.arange(_PLACED // _OUTCOMES), _OUTCOMES),
    _PLACED // _OUTCOMES + np.repeat(np.arange(2 * _FOUND), _PLACES),
]
"""Of each class, that of which it is one."""
_outcome = np.r_[np.arange(_PLACED) % _OUTCOMES, np.full(CLASSES - _PLACED, _OUTCOMES)]
AGAINST: Bools = _outcome < 2
"""Classes of needs most of whose cells are not there: never evidence for a pair."""
BEGUN = np.r_[-1.2, -0.8, -0.3, 0.8, 0.5, 0.2, 0.0][_outcome]
"""What classes are taken to be worth, in decades, until pairs are sure that show it."""
LAW = Law(_REACH_NS, _PLACED)


@dataclass(frozen=True, eq=False)
class Tor:
    """Both sides of a case, to compare need by need."""

    clients: Ints
    """Tunnel of each client."""
    cells: Cells
    needs: Needs
    parts: Parts

    @property
    def too_many(self) -> bool:
        """Whether comparing all would take too long."""
        return len(self.needs) * len(self.clients) > MOST_COMPARISONS

    def turned(self, shift_ns: Ints, of: Bools, number: int) -> tuple[Needs, Parts]:
        """Needs of some flows, each flow moved by a time, its number raised by one."""
        needs, parts = self.needs, self.parts
        kept = of[needs.flow]
        place = np.cumsum(kept) - 1
        flow = needs.flow[kept]
        parts = parts.take(kept[parts.need])
        by_ns = shift_ns[needs.flow]
        moved = Parts(place[parts.need], parts.ts_ns + by_ns[kept][place[parts.need]], parts.cells)
        by_ns = shift_ns[flow]
        return (
            Needs(
                flow + number,
                needs.kind[kept],
                needs.down[kept],
                needs.begin_ns[kept] + by_ns,
                needs.end_ns[kept] + by_ns,
                needs.cells[kept],
            ),
            moved,
        )

    def desk(self, flows: int, more: tuple[Needs, Parts] | None = None) -> Desk:
        """The case set out for comparing, with needs of more flows behind its own.

        Parameters
        ----------
        flows : int
            Numbers of flows, all needs.
        more : tuple of Needs and Parts, optional
        """
        needs, parts = self.needs, self.parts
        if more is not None:
            late = Parts(more[1].need + len(needs), more[1].ts_ns, more[1].cells)
            needs, parts = Needs.joined([needs, more[0]]), Parts.joined([parts, late])
        up, clients = needs.down == 0, len(self.clients)
        reach = _reach(needs.cells)
        asked = Asked(
            np.searchsorted(needs.flow, np.arange(flows + 1)).astype(np.int64),
            needs.down,
            np.where(up, -needs.end_ns, needs.begin_ns),
            np.where(up, -needs.begin_ns, needs.end_ns),
            needs.cells,
            reach,
            (needs.kind * (len(_SIZES) + 1) + np.searchsorted(_SIZES, needs.cells)) * _OUTCOMES,
        )
        due = _due(needs, parts, reach, *self._answers(), flows)
        room = 2 * len(due.ts_ns) + 2
        return Desk(
            self._seen(),
            due,
            asked,
            np.r_[np.full(flows, -1, np.int64), np.arange(clients)],
            _EDGES_NS,
            np.zeros(room, np.int64),
            np.zeros(room, np.int64),
            np.zeros(room, np.bool_),
            np.zeros((len(needs), 2), np.int64),
        )

    def _seen(self) -> Seen:
        cells = self.cells
        ts_ns = np.where(cells.stream & 1, cells.ts_ns, -cells.ts_ns)
        order = np.lexsort((ts_ns, cells.stream))
        start = np.searchsorted(cells.stream, np.arange(2 * len(self.clients) + 1))
        return Seen(start.astype(np.int64), ts_ns[order], cells.count[order])

    def _answers(self) -> tuple[Ints, Ints, Ints]:
        """Stream, time and number of answers to each client's cells, in the other direction."""
        cells = self.cells
        found = []
        for answered in range(2 * len(self.clients)):
            mine = cells.take(cells.stream == answered)
            more = np.diff(np.cumsum(mine.count) // CELLS_A_SENDME, prepend=0)
            some = more > 0
            found.append((np.full(int(some.sum()), answered ^ 1), mine.ts_ns[some], more[some]))
        stream, ts_ns, count = (np.concatenate(c).astype(np.int64) for c in zip(*found, strict=True))
        return stream, ts_ns, count


def _reach(cells: Ints) -> Ints:
    more = _BULK_NS + _BULK_NS_A_CELL * cells
    return np.asarray(_REACH_NS + np.where(cells > _BULK_CELLS, more, 0))


def _due(
    needs: Needs, parts: Parts, reach: Ints, stream: Ints, answer_ns: Ints, answers: Ints, flows: int
) -> Due:
    """Parts of needs, and answers, by direction and its time."""
    down = np.r_[needs.down[parts.need], stream & 1]
    # An answer comes after what it answers, whatever its direction: upwards it is due at the end of its time.
    own_ns = np.where(stream & 1, answer_ns, -(answer_ns + _SENDME_NS))
    ts_ns = np.r_[np.where(needs.down[parts.need], parts.ts_ns, -parts.ts_ns), own_ns]
    order = np.lexsort((ts_ns, down))
    none = np.full(len(stream), -1)
    columns = (
        ts_ns,
        np.r_[parts.cells, answers],
        np.r_[needs.flow[parts.need], flows + (stream >> 1)],
        np.r_[parts.need, none],
        np.r_[reach[parts.need], np.full(len(stream), _SENDME_NS)],
    )
    start = np.searchsorted(down[order], np.arange(3)).astype(np.int64)
    return Due(start, *(column[order] for column in columns))


def prepare(case: Case) -> Tor | None:
    """The case's clients of Tor, and what its flows need; ``None`` where either is missing."""
    table, tunnels = case.conversations, case.tunnels.tunnels
    clients = np.array([n for n, t in enumerate(tunnels) if t.protocol == PROTOCOL], np.int64)
    if not len(clients) or not case.alignment.usable:
        return None
    client_of = np.full(len(table), -1, np.int64)
    for place, n in enumerate(clients.tolist()):
        client_of[[tunnels[n].conversation, *tunnels[n].beside]] = place
    cells = cells_seen(table, client_of, client_is_source(table, find_writes(table)))
    flows = case.captured or case.flows
    needs, parts = cells_needed(flows, case.alignment.to_ingress(flows.packets.ts_ns))
    return Tor(clients, cells, needs, parts) if len(cells) and len(needs) else None
