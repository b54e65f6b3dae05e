"""Packets held back: in batches, or until the tick of a constant rate.

Each end of a tunnel holds what it sends. A packet that travels up was held by its client, so that its record
comes to the server later, and the packet leaves at egress as long after its record as it did. One that
travels down comes to the server when it did, and its record leaves later. Ends pass packets on in the order
in which they come:

* A batch begins with the first packet that waits and ends so much later; then all that wait leave (as in the
  reference tunnel; ``netem slot`` begins batches by the clock).
* At a constant rate one datagram leaves at each tick, with a packet if one waits
  (:mod:`vpnforensics.audit.copies.cover` fills the others). The newest packet is dropped where too many wait.
  What comes one at a time is passed on sooner than what comes in bursts, or after a silence.

*Causality.* A packet that answered another one cannot come before it. It is taken for the answer to the last
packet of the other direction that was then a round trip old, the round trip being that of the conversation's
first exchange, and it comes no sooner than one round trip after that one's new time. Conversations keep the
order of their packets, and no more of them are under way at a time than were in the recording. So a transfer
takes longer, as it does over a longer path, and a pause absorbs what it can.

Known weaknesses: a stream paced by a clock (a call) is held back as if each of its packets were an answer;
no window opens further because the path has become longer; packets that found the queue full are gone, and
nobody sends them again. Timestamps and IP IDs stay those of the times at which packets were sent in the
recording, so that a copy does not show how flows of one device are tied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.arrays import Bools, Ints
from vpnforensics.audit.copies import cover
from vpnforensics.audit.copies._kernels import DROPPED, Arrivals, Pace, departures
from vpnforensics.audit.copies.belonging import Belonging, in_order
from vpnforensics.audit.copies.sending import sent_again
from vpnforensics.packets.table import PacketTable

MOST_QUEUED = 1024
"""Packets that wait for their tick, at most: the reference tunnel's."""
_LEAST_DELAYS = 30
"""From fewer no law is drawn: the median of so many is off by a quarter of their spread (1.25 / sqrt 30)."""
_NS = 1_000_000_000
_NEVER = np.iinfo(np.int64).max // 4


@dataclass(frozen=True, eq=False)
class Carried:
    """Packets that tunnels carried, those of one conversation together, in order of time."""

    row: Ints
    """Row at egress; -1 of a record whose packet is not known."""
    record: Ints
    """Row in the RecordTable; -1 of a packet whose record is not known."""
    tunnel: Ints
    up: Bools
    conversation: Ints
    at_ns: Ints
    """At the queue that holds it: of what travels down, when it came to the server; of what travels up, when
    it left its client, plus the way to the server. On the ingress clock."""
    after_ns: Ints
    """From its leaving the queue to its being seen on the server's other side."""
    down_ns: int
    """That time, of all that travels down."""


@dataclass(frozen=True, eq=False)
class Held:
    """When carried packets came and left; ns on the ingress clock, ``DROPPED`` for those that never left."""

    came_ns: Ints
    left_ns: Ints


def paced(
    known: Belonging,
    ingress: PacketTable,
    egress: PacketTable,
    batch_s: float,
    cover_hz: float,
    rng: np.random.Generator,
) -> tuple[PacketTable, PacketTable]:
    """Both sides with their packets held back, and with the datagrams that fill a constant rate.

    Parameters
    ----------
    known : Belonging
    ingress, egress : PacketTable
        Rows as in ``known``.
    batch_s, cover_hz : float
        0 is off.
    rng : numpy.random.Generator
        Phases of the ticks, and what fills datagrams.

    Returns
    -------
    ingress, egress : PacketTable
        In order of time.

    Raises
    ------
    NoCopyError
        The datagrams of a constant rate would be too many.
    """
    pace = _pace(known, batch_s, cover_hz, rng)
    cover.refuse_too_many(known, pace)
    packets = carried(known)
    held = hold_back(packets, pace, len(known.tunnels))
    filling = cover.nothing()
    if pace.tick_ns:
        ticks = cover.ticks_of(known, pace, rng)
        filling = cover.filling(known, packets, held, pace, ticks)
        held = replace(held, left_ns=cover.seen_at(packets, held, pace, ticks))
        packets = replace(packets, after_ns=_one_by_one(packets, _between_ticks_ns(pace, known), rng))
    lost = held.left_ns == DROPPED
    seen = packets.row >= 0
    egress_ns, kept = egress.ts_ns.copy(), np.ones(len(egress), np.bool_)
    moved = seen & ~(packets.up & lost)
    at_egress_ns = np.where(packets.up, held.left_ns + packets.after_ns, held.came_ns)
    egress_ns[packets.row[moved]] = at_egress_ns[moved]
    kept[packets.row[seen & packets.up & lost]] = False
    record_ns = known.records.ts_ns.copy()
    has_record = packets.record >= 0
    left_ns = np.where(packets.up, held.left_ns, held.left_ns + packets.after_ns)
    record_ns[packets.record[has_record]] = np.where(lost, DROPPED, left_ns)[has_record]
    ingress = sent_again(known, ingress, record_ns, filling, rng)
    return in_order(ingress), in_order(replace(egress, ts_ns=egress_ns).take(kept))


def carried(known: Belonging) -> Carried:
    """The packets of tunnels over datagrams; of flows whose tunnel is known, also those without a record."""
    case, records = known.case, known.records
    egress = case.egress
    flow = np.repeat(np.arange(len(case.flows)), np.diff(egress.start))
    tunnel = known.tunnel_of[flow]
    usable = np.r_[known.mapped, False]
    mine = np.flatnonzero((tunnel >= 0) & usable[tunnel])
    record = known.record_of[mine]
    up = egress.up[mine]
    egress_ns = egress.ts_ns[mine]
    record_ns = np.where(record >= 0, records.ts_ns[record], 0)
    usual = [
        _usual_delay(np.where(d, egress_ns - record_ns, record_ns - egress_ns)[(record >= 0) & (up == d)])
        for d in (False, True)
    ]
    record_ns = np.where(record >= 0, record_ns, np.where(up, egress_ns - usual[1], egress_ns + usual[0]))
    alone = np.setdiff1d(np.flatnonzero(usable[records.tunnel]), record)  # what each carried is not known
    count = len(case.flows)
    alone_ns = records.ts_ns[alone] - np.where(records.up[alone], 0, usual[0])
    at_ns = np.r_[np.where(up, record_ns, egress_ns), alone_ns]
    every_up = np.r_[up, records.up[alone]]
    server_ns = np.r_[np.maximum(egress_ns - record_ns, 0), np.zeros(len(alone), np.int64)]
    # What travels down waits where the server has already looked at it: after that, all take the same.
    after_ns = np.where(every_up, server_ns, usual[0])
    conversation = np.r_[flow[mine], count + np.arange(len(alone))]
    order = np.lexsort((np.r_[mine, alone], at_ns, conversation))
    return Carried(
        np.r_[egress.row[mine].astype(np.int64), np.full(len(alone), -1)][order],
        np.r_[record, alone][order],
        np.r_[tunnel[mine], records.tunnel[alone].astype(np.int64)][order],
        every_up[order],
        conversation[order],
        at_ns[order],
        after_ns[order],
        usual[0],
    )


def hold_back(packets: Carried, pace: Pace, tunnels: int) -> Held:
    """When each packet came and left.

    Parameters
    ----------
    packets : Carried
    pace : Pace
    tunnels : int
        How many there are; each client is an end, and the server is one.
    """
    count = len(packets.at_ns)
    following = np.full(count, -1)
    same = packets.conversation[1:] == packets.conversation[:-1]
    following[:-1][same] = np.flatnonzero(same) + 1
    trip_ns = _trips(packets)
    cause, answer_ns = _causes(packets, trip_ns)
    before, around_ns = _windows(packets, trip_ns)
    arrivals = Arrivals(
        packets.at_ns,
        following,
        cause,
        answer_ns,
        before,
        around_ns,
        np.where(packets.up, 1 + packets.tunnel, 0),
        2 * packets.tunnel + packets.up,
    )
    left_ns, came_ns = np.zeros(count, np.int64), np.zeros(count, np.int64)
    heads = np.flatnonzero(np.r_[True, ~same]) if count else np.zeros(0, np.int64)
    departures(arrivals, pace, heads, np.zeros(1 + tunnels, np.int64), left_ns, came_ns)
    return Held(came_ns, left_ns)


def _pace(known: Belonging, batch_s: float, cover_hz: float, rng: np.random.Generator) -> Pace:
    """Clocks of the server, common to all its tunnels, and of each client."""
    tick_ns = round(_NS / cover_hz) if cover_hz else 0
    begin_ns = int(known.ingress.ts_ns.min())
    tunnels = len(known.tunnels)
    phase = rng.integers(0, max(tick_ns, 1), tunnels + 1)
    phase_ns = begin_ns + np.stack([np.full(tunnels, phase[0]), phase[1:]], axis=1).ravel()
    return Pace(np.int64(round(batch_s * _NS)), np.int64(tick_ns), np.int64(MOST_QUEUED), phase_ns)


def _between_ticks_ns(pace: Pace, known: Belonging) -> float:
    """Mean time from one client's tick to another's at the server."""
    return float(pace.tick_ns) / max(int(known.mapped.sum()), 1)


def _one_by_one(packets: Carried, apart_ns: float, rng: np.random.Generator) -> Ints:
    """Times from queue to far side where clients' packets come one at a time, as ticks make them come.

    In a recording they come in bursts, of which each waits for those before it, and after silences, from
    which the server has to wake. At a constant rate there is neither: what travels up takes as long as the
    packets that came about ``apart_ns`` after another one, between half and twice of it.
    """
    order = np.argsort(packets.at_ns, kind="stable")
    gap_ns = np.empty(len(order), np.int64)
    gap_ns[order] = np.diff(packets.at_ns[order], prepend=packets.at_ns[order][:1])
    known = packets.up & (packets.row >= 0) & (packets.record >= 0)
    like = packets.after_ns[known & (2 * gap_ns >= apart_ns) & (gap_ns < 2 * apart_ns)]
    if len(like) < _LEAST_DELAYS:
        return packets.after_ns
    return np.where(packets.up, rng.choice(like, len(order)), packets.after_ns)


def _trips(packets: Carried) -> Ints:
    """Round trip of each packet's conversation on the side that it comes from; ``_NEVER`` where not known."""
    trip_ns = np.full(len(packets.at_ns), _NEVER)
    for up in (False, True):
        asking, answering = np.flatnonzero(packets.up != up), np.flatnonzero(packets.up == up)
        trip_ns[answering] = _first_exchange(packets, asking, answering)[answering]
    return trip_ns


def _causes(packets: Carried, trip_ns: Ints) -> tuple[Ints, Ints]:
    """What each packet answers, or -1, and the least time from that one's leaving to the answer's coming."""
    seen_ns = packets.at_ns + packets.after_ns
    count = len(seen_ns)
    cause, answer_ns = np.full(count, -1), np.zeros(count, np.int64)
    for up in (False, True):
        asking, answering = np.flatnonzero(packets.up != up), np.flatnonzero(packets.up == up)
        wanted_ns = packets.at_ns[answering] - trip_ns[answering]
        found = _last_before(packets.conversation, asking, seen_ns[asking], answering, wanted_ns)
        # Earlier in the conversation's own order, too: that is the order in which they are let go.
        valid = (found >= 0) & (found < answering)
        cause[answering] = np.where(valid, found, -1)
        answer_ns[answering] = np.where(valid, packets.after_ns[found] + trip_ns[answering], 0)
    return cause, answer_ns


def _windows(packets: Carried, trip_ns: Ints) -> tuple[Ints, Ints]:
    """The packet that has to be acknowledged before each may come, or -1, and the round trip that takes.

    Of a conversation and direction no more packets are under way at a time than there were in the recording.
    """
    count = len(packets.at_ns)
    talks = int(packets.conversation.max(initial=-1)) + 1
    way = 2 * packets.conversation + packets.up
    longest = np.zeros(talks, np.int64)
    for up in (False, True):
        mine = np.flatnonzero(packets.up == up)
        a_trip = np.full(talks, _NEVER)
        a_trip[packets.conversation[mine]] = trip_ns[mine]
        longest = np.minimum(longest + a_trip, _NEVER)
    around_ns = longest[packets.conversation]
    order = np.argsort(way, kind="stable")
    place = np.empty(count, np.int64)
    place[order] = np.arange(count) - np.searchsorted(way[order], way[order], side="left")
    every = np.arange(count)
    found = np.full(count, -1)
    for up in (False, True):
        mine = every[packets.up == up]
        found[mine] = _last_before(
            packets.conversation, mine, packets.at_ns[mine], mine, packets.at_ns[mine] - around_ns[mine]
        )
    under_way = place - np.where(found >= 0, place[found], -1)
    window = np.zeros(2 * talks, np.int64)
    np.maximum.at(window, way, under_way)
    back = window[way]
    has = (place >= back) & (around_ns < _NEVER) & (back > 0)
    start = np.searchsorted(way[order], way, side="left")
    before = np.where(has, order[np.where(has, start + place - back, 0)], -1)
    return before, np.where(has, around_ns, 0)


def _last_before(conversation: Ints, offered: Ints, offered_ns: Ints, asking: Ints, asking_ns: Ints) -> Ints:
    """For each of ``asking`` the last of ``offered`` of its conversation at or before a time, or -1."""
    order = np.lexsort(
        (
            np.r_[np.zeros(len(offered)), np.ones(len(asking))],
            np.r_[offered_ns, asking_ns],
            np.r_[conversation[offered], conversation[asking]],
        )
    )
    asks = order >= len(offered)
    who = np.r_[offered, asking][order]
    last = np.maximum.accumulate(np.where(asks, -1, np.arange(len(order))))
    of = np.where(last >= 0, who[last], -1)[asks]
    mine = who[asks]
    found = np.empty(len(asking), np.int64)
    found[order[asks] - len(offered)] = np.where((of >= 0) & (conversation[of] == conversation[mine]), of, -1)
    return found


def _first_exchange(packets: Carried, asking: Ints, answering: Ints) -> Ints:
    """From the first packet that asks to the first one that answers it, in each packet's conversation."""
    seen_ns = packets.at_ns + packets.after_ns
    talks = int(packets.conversation.max(initial=-1)) + 1
    asked = np.full(talks, _NEVER)
    np.minimum.at(asked, packets.conversation[asking], seen_ns[asking])
    later = answering[packets.at_ns[answering] > asked[packets.conversation[answering]]]
    answered = np.full(talks, _NEVER)
    np.minimum.at(answered, packets.conversation[later], packets.at_ns[later])
    trip_ns: Ints = np.where((asked < _NEVER) & (answered < _NEVER), answered - asked, _NEVER)
    return trip_ns[packets.conversation]


def _usual_delay(delay_ns: Ints) -> int:
    return int(max(np.median(delay_ns), 0)) if len(delay_ns) else 0
