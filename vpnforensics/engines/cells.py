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

Clocks that are known within some milliseconds are set right by flows that are sure: what they need and its
cells are as far apart in either direction. How much too early cells may seem to come, by jitter and drift, is
the slack by which most flows are sure.

Assumptions: clocks known or aligned within :data:`SLACKS_NS`; all guards of a client in the capture.

Silent without a client of Tor, for flows without TCP, and where needs times clients are more than
:data:`MOST_COMPARISONS`.

Known weaknesses: cells that build circuits look like those that open connections; a busy relay lets cells
wait for longer than the reach; each need is asked of all clients.

Counting packets: Serjantov & Sewell 2003 (ESORICS); KIST: Jansen et al. 2014 (USENIX Security); Conflux:
proposal 329; flow control: proposal 324.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines._cell_kernels import Asked, Desk, Due, Law, Seen
from vpnforensics.engines.case import Case
from vpnforensics.flows.grouping import runs
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
_LAG_NS, _LAGS, _LAG_SD, _LAG_NEAR = _MS // 4, 48, 2.0, 8
"""Steps in which lags are counted, how many either way, and the normal curve that smooths them."""
_EDGES_MS = [-20, -11, -7, -4, -2, -1, 0, 0.3, 0.6, 1, 2, 4, 7, 11, 16, 22, 30, 40, 55, 70, 90]
_EDGES_NS: Ints = (np.array(_EDGES_MS) * _MS).astype(np.int64)
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
_LOST = 32
"""One of so many cells may be missing from a capture, of needs as large."""
SLACKS_NS: Ints = np.array([0, 4, 12, 30]) * _MS
"""How long before it is needed a cell may seem to have passed: clocks are known within milliseconds, and taps
jitter."""


@dataclass(frozen=True, eq=False)
class Tor:
    """Both sides of a case, to compare need by need."""

    clients: Ints
    """Tunnel of each client."""
    cells: Cells
    needs: Needs
    parts: Parts
    slack_ns: int = 0

    def moved(self, by_ns: int, slack_ns: int) -> Tor:
        """With needs so much later, and so much slack."""
        needs, parts = self.needs, self.parts
        needs = replace(needs, begin_ns=needs.begin_ns + by_ns, end_ns=needs.end_ns + by_ns)
        return replace(self, needs=needs, parts=replace(parts, ts_ns=parts.ts_ns + by_ns), slack_ns=slack_ns)

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
        reach, early = _reach(needs.cells) + 2 * self.slack_ns, self.slack_ns
        asked = Asked(
            np.searchsorted(needs.flow, np.arange(flows + 1)).astype(np.int64),
            needs.down,
            np.where(up, -needs.end_ns, needs.begin_ns) - early,
            np.where(up, -needs.begin_ns, needs.end_ns) - early,
            needs.cells,
            reach,
            (needs.kind * (len(_SIZES) + 1) + np.searchsorted(_SIZES, needs.cells)) * _OUTCOMES,
        )
        due = _due(needs, parts, early, reach, *self._answers(), flows)
        room = 2 * len(due.ts_ns) + 2
        return Desk(
            Law(_REACH_NS + 2 * self.slack_ns, self.slack_ns, _PLACED, _LOST),
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


def clock_error(tor: Tor, owner: Ints) -> int:
    """By how much needs seem later than they are, by flows whose client is known, in nanoseconds.

    Cells come as long after needs downwards as needs after cells upwards. What chance has is seen with other
    clients.

    Parameters
    ----------
    tor : Tor
    owner : ndarray of int64
        Client of each flow, -1 where not known.

    Returns
    -------
    int
        0 where nobody is known.
    """
    single = tor.needs.take((tor.needs.cells == 1) & (owner[tor.needs.flow] >= 0))
    excess = np.zeros((2, 2 * _LAGS + 1))
    for step, down in np.ndindex(len(tor.clients), 2):
        one = single.take(single.down == down)
        count = _lags(tor, 2 * ((owner[one.flow] + step) % len(tor.clients)) + down, one.begin_ns)
        excess[down] += count if step == 0 else -count / max(len(tor.clients) - 1, 1)
    near = np.exp(-0.5 * (np.arange(-_LAG_NEAR, _LAG_NEAR + 1) / _LAG_SD) ** 2)
    up, back = (np.maximum(np.convolve(one, near, "same"), 0.0) for one in excess)
    if not up.any() or not back.any():
        return 0
    # Up by the error and down less it: their product, shifted against each other by twice the error.
    return int(np.correlate(up, back, "full").argmax() - 2 * _LAGS) * _LAG_NS // 2


def _lags(tor: Tor, stream: Ints, need_ns: Ints) -> Floats:
    """How often cells are by each lag from needs, as cells follow needs; all around a need count one."""
    cells, count = tor.cells, np.zeros(2 * _LAGS + 1)
    for number in range(2 * len(tor.clients)):
        ts_ns = cells.ts_ns[cells.stream == number]
        mine = need_ns[stream == number]
        first, stop = (np.searchsorted(ts_ns, mine + sign * _LAGS * _LAG_NS) for sign in (-1, 1))
        of, row = runs(first, stop)
        lag_ns = (ts_ns[row] - mine[of]) * (1 if number & 1 else -1)
        place = np.minimum(lag_ns // _LAG_NS + _LAGS, 2 * _LAGS)
        count += np.bincount(place, 1.0 / (stop - first)[of], 2 * _LAGS + 1)
    return count


def _reach(cells: Ints) -> Ints:
    more = _BULK_NS + _BULK_NS_A_CELL * cells
    return np.asarray(_REACH_NS + np.where(cells > _BULK_CELLS, more, 0))


def _due(
    needs: Needs,
    parts: Parts,
    early_ns: int,
    reach: Ints,
    stream: Ints,
    answer_ns: Ints,
    answers: Ints,
    flows: int,
) -> Due:
    """Parts of needs, and answers, by direction and its time."""
    down = np.r_[needs.down[parts.need], stream & 1]
    # An answer comes after what it answers, whatever its direction: upwards it is due at the end of its time.
    own_ns = np.where(stream & 1, answer_ns, -(answer_ns + _SENDME_NS))
    ts_ns = np.r_[np.where(needs.down[parts.need], parts.ts_ns, -parts.ts_ns) - early_ns, own_ns]
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
