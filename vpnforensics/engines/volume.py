"""Volume: what connections need of streams that carry many of them, against what passed there.

Theory of operation
-------------------
One stream of ``ssh -D`` carries all connections of its client, and writes what several of them wrote as one;
Tor puts them into cells of one size, on the circuits of up to three guards at a time (Conflux). So no write
has a partner. But nothing is lost: what a client's flows need (:mod:`vpnforensics.tunnels.needs`) passes the
ingress tap within what the relay lets it wait, and little else does.

So a client's streams are served as a queue: what is due first takes what passes first (the most needs that
can be met are met so). What a flow would have of a client is how much more is met with it than without, after
all flows that are believed to be the client's. Of each need is noted:

- *outcome*: whether its amount is there, and then, how much is left over; or some of it, or none;
- *place*: when the first of what was free for it came;
- *busy*: what passes around it. Through a download all is met, whoever needs it; both others are told apart
  by that.

Nothing is assumed of these classes: how often pairs have them, against how often others have them with the
same client, is counted in the case (:mod:`vpnforensics.evidence.class_worth`). Where each so many cells are
answered with one (SENDME), these answers are needs of the client itself.

How much too early something may seem to come, by jitter and drift, is the slack: the delay law of writes
says it. Without writes, clocks are known within some milliseconds, and set right by flows that are sure: what
they need and what passes for it are as far apart in either direction.

The work is by needs, those clients with whom a flow is not hopeless, and what both sides have within the
reach.

Assumptions: clocks known or aligned within :data:`SLACK_NS`; all streams of a client in the capture.

Silent for flows without TCP, where each flow has a connection of its own
(:mod:`vpnforensics.engines.connections`), where fewer than 20 flows are sure, and where needs times clients
are more than :data:`MOST_COMPARISONS`.

Known weaknesses: clients that ask for the same at one moment, one of whom was not captured; messages of the
relay's own (circuits that are built look like connections that are opened), which several needs of a flow may
meet at once; a busy relay lets cells wait for longer than the reach.

Counting packets: Serjantov & Sewell 2003 (ESORICS); stepping stones: Donoho et al. 2002 (RAID); KIST: Jansen
et al. 2014 (USENIX Security); Conflux: proposal 329; flow control: proposal 324.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines._volume_kernels import Asked, Desk, Due, Law, Seen
from vpnforensics.engines.case import Case
from vpnforensics.flows.grouping import runs
from vpnforensics.tunnels.carriers import client_is_source
from vpnforensics.tunnels.needs import KINDS, Measure, Needs, Parts, Passed, needs_of, passed
from vpnforensics.tunnels.writes import find_writes

NAME = "volume"

_MS = 1_000_000
MOST_COMPARISONS = 2_000_000
_REACH_NS = 80 * _MS
"""Tor's relays wait ten milliseconds for more cells (KIST), at each of three hops; the rest is what a machine
with all of them takes: on a quiet one hardly a cell waits longer."""
_BULK_GRAINS, _BULK_NS, _BULK_NS_A_GRAIN = 100, 500 * _MS, _MS
"""Larger needs wait for a window: half a second, and as long as a line of some megabits a second takes."""
_ANSWER_NS = 150 * _MS
"""A client's answer comes after its round trip."""
_SIZES: Ints = np.array([1, 3, 8, 31])
"""Grains up to which a need is of each size."""
_FEW_GRAINS = 2
"""What is left over is little up to so much, or half of the need."""
_LAG_NS, _LAGS, _LAG_SD, _LAG_NEAR = _MS // 4, 48, 2.0, 8
"""Steps in which lags are counted, how many either way, and the normal curve that smooths them."""
_EDGES_MS = [-20, -11, -7, -4, -2, -1, 0, 0.3, 0.6, 1, 2, 4, 7, 11, 16, 22, 30, 40, 55, 70, 90]
_EDGES_NS: Ints = (np.array(_EDGES_MS) * _MS).astype(np.int64)
_AROUND_NS, _AROUND = 400 * _MS, np.array([0.5, 3.0])
"""A stream is busy by what passes for so long before a need and after it: that would have been so many times
what is needed in its time."""
_BUSY = len(_AROUND) + 1
_OUTCOMES, _FOUND = 6, 3
_PLACED = KINDS * (len(_SIZES) + 1) * _BUSY * _OUTCOMES
_PLACES = len(_EDGES_NS) + 1
CLASSES = _PLACED + 2 * _FOUND * _BUSY * _PLACES
FEATURES: Ints = np.r_[
    np.repeat(np.arange(_PLACED // _OUTCOMES), _OUTCOMES),
    _PLACED // _OUTCOMES + np.repeat(np.arange(2 * _FOUND * _BUSY), _PLACES),
]
"""Of each class, that of which it is one."""
_class = np.arange(_PLACED)
_quiet = _class - _class // _OUTCOMES % _BUSY * _OUTCOMES
QUIET: Ints = np.r_[_quiet, _PLACED + np.tile(np.arange(2 * _FOUND * _PLACES), _BUSY)]
"""For each class, that which is the same but in a quiet stream."""
_outcome = np.r_[np.arange(_PLACED) % _OUTCOMES, np.full(CLASSES - _PLACED, _OUTCOMES)]
AGAINST: Bools = _outcome < 2
"""Classes of needs most of which is not there: never evidence for a pair."""
BEGUN = np.r_[-1.2, -0.8, -0.3, 0.8, 0.5, 0.2, 0.0][_outcome]
"""What classes are taken to be worth, in decades, until pairs are sure that show it."""
_BIN_NS, _MOST_BINS = 250 * _MS, 4096
"""Time is cut into bins of so long, or as many, to note in which of them flows change their client."""
SLACK_NS = 12 * _MS
"""How long before it is needed something may seem to have passed, where only volume knows the clocks: within
milliseconds, and taps jitter."""
_EARLY, _MOST_EARLY_NS = 0.02, 40 * _MS
"""Where writes know them: up to this share of the delay law, of the clearer direction, and no more."""


@dataclass(frozen=True, eq=False)
class Streams:
    """Both sides of a case, to compare need by need."""

    clients: Ints
    """Tunnel of each client."""
    passed: Passed
    needs: Needs
    parts: Parts
    measure: Measure
    slack_ns: int = 0

    def moved(self, by_ns: int, slack_ns: int) -> Streams:
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
        parts = parts.take(kept[parts.need])
        parts = replace(parts, ts_ns=parts.ts_ns + shift_ns[needs.flow[parts.need]], need=place[parts.need])
        needs = needs.take(kept)
        by_ns = shift_ns[needs.flow]
        moved = replace(needs, begin_ns=needs.begin_ns + by_ns, end_ns=needs.end_ns + by_ns)
        return replace(moved, flow=moved.flow + number), parts

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
            late = replace(more[1], need=more[1].need + len(needs))
            needs, parts = Needs.joined([needs, more[0]]), Parts.joined([parts, late])
        up, clients, grain = needs.down == 0, len(self.clients), self.measure.grain
        reach, early = self._reach(needs.amount) + 2 * self.slack_ns, self.slack_ns
        asked = Asked(
            np.searchsorted(needs.flow, np.arange(flows + 1)).astype(np.int64),
            needs.down,
            np.where(up, -needs.end_ns, needs.begin_ns) - early,
            np.where(up, -needs.begin_ns, needs.end_ns) - early,
            needs.amount,
            reach,
            (needs.kind * (len(_SIZES) + 1) + np.searchsorted(_SIZES * grain, needs.amount))
            * (_BUSY * _OUTCOMES),
        )
        span_ns = np.full((flows, 2), np.iinfo(np.int64).max)
        np.minimum.at(span_ns[:, 0], needs.flow, needs.begin_ns)
        np.minimum.at(span_ns[:, 1], needs.flow, -needs.end_ns)
        span_ns[:, 1] *= -1
        longest_ns = np.zeros(flows, np.int64)
        np.maximum.at(longest_ns, needs.flow, reach)
        bins, many = _bins(span_ns, longest_ns + 2 * (_REACH_NS + 2 * self.slack_ns))
        due = _due(needs, parts, early, reach, *self._answers(), flows)
        room = 2 * len(due.ts_ns) + 2
        law = Law(
            _REACH_NS + 2 * self.slack_ns,
            self.slack_ns,
            _PLACED,
            _FEW_GRAINS * grain,
            self.measure.spare,
            int(_SIZES[-1]) * grain,
            _AROUND_NS,
        )
        return Desk(
            law,
            self._seen(),
            due,
            asked,
            np.r_[np.full(flows, -1, np.int64), np.arange(clients)],
            np.ones((flows, clients), np.bool_),
            span_ns,
            _EDGES_NS,
            _AROUND,
            np.zeros(room, np.int64),
            np.zeros(room, np.int64),
            np.zeros(room, np.bool_),
            np.zeros((len(needs), 2), np.int64),
            np.full((flows, clients), -np.inf),
            np.full((flows, clients), -1, np.int64),
            np.zeros((clients, many), np.int64),
            np.zeros(1, np.int64),
            bins,
        )

    def _reach(self, amount: Ints) -> Ints:
        grains = amount // self.measure.grain
        more = _BULK_NS + _BULK_NS_A_GRAIN * grains
        return np.asarray(_REACH_NS + np.where(grains > _BULK_GRAINS, more, 0))

    def _seen(self) -> Seen:
        passed = self.passed
        ts_ns = np.where(passed.stream & 1, passed.ts_ns, -passed.ts_ns)
        order = np.lexsort((ts_ns, passed.stream))
        start = np.searchsorted(passed.stream, np.arange(2 * len(self.clients) + 1))
        amount = passed.amount[order]
        return Seen(start.astype(np.int64), ts_ns[order], amount, np.r_[0, np.cumsum(amount)])

    def _answers(self) -> tuple[Ints, Ints, Ints]:
        """Stream, time and number of answers to what each stream carried, in the other direction."""
        found = [(np.zeros(0, np.int64),) * 3]
        for answered in range(2 * len(self.clients) if self.measure.answered else 0):
            mine = self.passed.take(self.passed.stream == answered)
            more = np.diff(np.cumsum(mine.amount) // self.measure.answered, prepend=0)
            some = more > 0
            found.append((np.full(int(some.sum()), answered ^ 1), mine.ts_ns[some], more[some]))
        stream, ts_ns, count = (np.concatenate(c).astype(np.int64) for c in zip(*found, strict=True))
        return stream, ts_ns, count


def clock_error(streams: Streams, owner: Ints) -> int:
    """By how much needs seem later than they are, by flows whose client is known, in nanoseconds.

    What passes comes as long after needs downwards as before them upwards. What chance has is seen with other
    clients.

    Parameters
    ----------
    streams : Streams
    owner : ndarray of int64
        Client of each flow, -1 where not known.

    Returns
    -------
    int
        0 where nobody is known.
    """
    needs, clients = streams.needs, len(streams.clients)
    single = needs.take((needs.amount <= streams.measure.grain) & (owner[needs.flow] >= 0))
    excess = np.zeros((2, 2 * _LAGS + 1))
    for step, down in np.ndindex(clients, 2):
        one = single.take(single.down == down)
        count = _lags(streams, 2 * ((owner[one.flow] + step) % clients) + down, one.begin_ns)
        excess[down] += count if step == 0 else -count / max(clients - 1, 1)
    near = np.exp(-0.5 * (np.arange(-_LAG_NEAR, _LAG_NEAR + 1) / _LAG_SD) ** 2)
    up, back = (np.maximum(np.convolve(one, near, "same"), 0.0) for one in excess)
    if not up.any() or not back.any():
        return 0
    # Up by the error and down less it: their product, shifted against each other by twice the error.
    return int(np.correlate(up, back, "full").argmax() - 2 * _LAGS) * _LAG_NS // 2


def slack_by(delays: dict[str, Any]) -> int:
    """How long before it is needed something may seem to have passed, by the delay law of a decision; ns."""
    early = []
    for direction in ("up", "down"):
        share = np.cumsum(delays[direction]) / max(float(np.sum(delays[direction])), 1e-300)
        early.append(-(delays["low_ns"] + delays["step_ns"] * int(np.searchsorted(share, _EARLY))))
    return int(np.clip(min(early), 0, _MOST_EARLY_NS))


def _lags(streams: Streams, stream: Ints, need_ns: Ints) -> Floats:
    """How often something passed by each lag from needs, as it follows them; all around a need count one."""
    passed, count = streams.passed, np.zeros(2 * _LAGS + 1)
    for number in range(2 * len(streams.clients)):
        ts_ns = passed.ts_ns[passed.stream == number]
        mine = need_ns[stream == number]
        first, stop = (np.searchsorted(ts_ns, mine + sign * _LAGS * _LAG_NS) for sign in (-1, 1))
        of, row = runs(first, stop)
        lag_ns = (ts_ns[row] - mine[of]) * (1 if number & 1 else -1)
        place = np.minimum(lag_ns // _LAG_NS + _LAGS, 2 * _LAGS)
        count += np.bincount(place, 1.0 / (stop - first)[of], 2 * _LAGS + 1)
    return count


def _bins(span_ns: Ints, more_ns: Ints) -> tuple[Ints, int]:
    """Of each flow, by the bins that time is cut into: its own, first and past the last, and those with so
    much more either way; and how many bins there are.
    """
    having = span_ns[:, 0] <= span_ns[:, 1]
    low, high = span_ns[having, 0].min(initial=np.iinfo(np.int64).max), span_ns[having, 1].max(initial=0)
    low = min(low, high)
    width = max(_BIN_NS, (high - low) // _MOST_BINS + 1)
    edges = np.c_[span_ns, span_ns + np.c_[-more_ns, more_ns]]
    edges[~having] = low
    bins = np.clip(edges - low, 0, high - low) // width
    return bins + np.array([0, 1, 0, 1]), int((high - low) // width) + 1


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
    own_ns = np.where(stream & 1, answer_ns, -(answer_ns + _ANSWER_NS))
    ts_ns = np.r_[np.where(needs.down[parts.need], parts.ts_ns, -parts.ts_ns) - early_ns, own_ns]
    order = np.lexsort((ts_ns, down))
    none = np.full(len(stream), -1)
    columns = (
        ts_ns,
        np.r_[parts.amount, answers],
        np.r_[needs.flow[parts.need], flows + (stream >> 1)],
        np.r_[parts.need, none],
        np.r_[reach[parts.need], np.full(len(stream), _ANSWER_NS)],
    )
    start = np.searchsorted(down[order], np.arange(3)).astype(np.int64)
    return Due(start, *(column[order] for column in columns))


def prepare(case: Case, clients: Ints, measure: Measure) -> Streams | None:
    """What passed of some clients, and what the case's flows need; ``None`` where either is missing.

    Parameters
    ----------
    case : Case
    clients : ndarray of int64
        Tunnels.
    measure : Measure
        What their streams are counted in.
    """
    table, tunnels = case.conversations, case.tunnels.tunnels
    if not len(clients) or not case.alignment.usable:
        return None
    client_of = np.full(len(table), -1, np.int64)
    for place, n in enumerate(clients.tolist()):
        client_of[[tunnels[n].conversation, *tunnels[n].beside]] = place
    there = passed(table, client_of, client_is_source(table, find_writes(table)), measure)
    flows = case.captured or case.flows
    needs, parts = needs_of(flows, case.alignment.to_ingress(flows.packets.ts_ns), measure)
    return Streams(clients, there, needs, parts, measure) if len(there) and len(needs) else None
