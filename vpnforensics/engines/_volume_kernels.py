"""Loops over what passed: which needs of a client's flows it serves, and what one flow more would have.

Streams up run backwards in time here, so that whatever is needed comes first, and what serves it after it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.kernels import inner_kernel, kernel

NEVER = 1 << 62
HEAPED = 5
"""Outcome of a need that is met with much left over."""


class Seen(NamedTuple):
    """What passed in the clients' streams: rows ``start[s]:start[s + 1]`` are stream s's, in its time."""

    start: npt.NDArray[np.int64]
    ts_ns: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    before: npt.NDArray[np.int64]
    """Amount of all rows before each, and of all."""


class Due(NamedTuple):
    """What is needed, part by part: rows ``start[d]:start[d + 1]`` are of one direction, in its time."""

    start: npt.NDArray[np.int64]
    ts_ns: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    need: npt.NDArray[np.int64]
    """-1 for what clients need of themselves."""
    reach_ns: npt.NDArray[np.int64]
    """How long after it may come what serves it."""


class Asked(NamedTuple):
    """Needs of flows: rows ``start[f]:start[f + 1]`` are flow f's."""

    start: npt.NDArray[np.int64]
    down: npt.NDArray[np.int64]
    begin_ns: npt.NDArray[np.int64]
    """In its direction's time, as ``end_ns``."""
    end_ns: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int64]
    reach_ns: npt.NDArray[np.int64]
    """How long after it may come what serves it."""
    feature: npt.NDArray[np.int64]
    """First of its outcomes' classes."""


class Law(NamedTuple):
    """What is fixed of a case: when a need may be served, and how that is put into classes."""

    reach_ns: int
    """How long after a need comes what serves it; of large ones it may come later."""
    slack_ns: int
    """How long before a need that may be, by what clocks and jitter do."""
    places: int
    """First class of places."""
    few: int
    """What is left over is little up to this."""
    spare: int
    """And nothing up to this."""
    large: int
    """Larger needs of a flow are of one transfer."""
    around_ns: int
    """For how long, before and after a need, what passes tells how busy a stream is."""


class Desk(NamedTuple):
    """The case, and room to work in."""

    law: Law
    seen: Seen
    due: Due
    asked: Asked
    owner: npt.NDArray[np.int64]
    """Client of each flow, -1 for none; and of what clients need of themselves."""
    hopeful: npt.NDArray[np.bool_]
    """Clients that each flow is asked of."""
    span_ns: npt.NDArray[np.int64]
    """First and last time of each flow."""
    edges_ns: npt.NDArray[np.int64]
    """Between classes of places."""
    around: npt.NDArray[np.float64]
    """Between classes of how busy a stream is."""
    waiting: npt.NDArray[np.int64]
    """Two queues, of needs with the usual reach and with more; amounts."""
    until_ns: npt.NDArray[np.int64]
    own: npt.NDArray[np.bool_]
    noted: npt.NDArray[np.int64]
    """Classes of the needs that were looked at last: outcome, and place or -1."""
    score: npt.NDArray[np.float64]
    """What each flow was worth to each client when it was asked last."""
    asked_at: npt.NDArray[np.int64]
    """When that was, counted in changes of owners."""
    changed_at: npt.NDArray[np.int64]
    """When a client's flows changed last, bin by bin of time."""
    changes: npt.NDArray[np.int64]
    """One entry: how many there were."""
    bins: npt.NDArray[np.int64]
    """Of each flow: bins of its own time, first and past the last, and of what its score depends on."""


@inner_kernel
def _served(desk, stream, flow, upto, begin_ns, end_ns):  # type: ignore[no-untyped-def]
    """Amount of a client's stream that serves needs of its flows, and of one flow's those up to one.

    Around a time; what is due first is served first. Also how much serves nobody then, and when the first of
    that came.
    """
    seen, due, owner = desk.seen, desk.due, desk.owner
    client, down = stream >> 1, stream & 1
    low, high = begin_ns - 2 * desk.law.reach_ns, end_ns + 2 * desk.law.reach_ns
    half = desk.waiting.size // 2
    first, stop = seen.start[stream], seen.start[stream + 1]
    row = first + np.searchsorted(seen.ts_ns[first:stop], low)
    at, last = due.start[down], due.start[down + 1]
    at += np.searchsorted(due.ts_ns[at:last], low)
    served, left, left_ns = np.int64(0), np.int64(0), np.int64(NEVER)
    head, tail, late, later = 0, 0, half, half
    while row < stop and seen.ts_ns[row] <= high:
        now, free = seen.ts_ns[row], seen.amount[row]
        while at < last and due.ts_ns[at] <= now:
            whose = due.flow[at]
            mine = due.need[at] <= upto if whose == flow else owner[whose] == client
            if mine and due.reach_ns[at] > desk.law.reach_ns and later < 2 * half:
                desk.waiting[later], desk.own[later] = due.amount[at], due.need[at] < 0
                desk.until_ns[later] = due.ts_ns[at] + due.reach_ns[at]
                later += 1
            elif mine and due.reach_ns[at] <= desk.law.reach_ns and tail < half:
                desk.waiting[tail] = due.amount[at]
                desk.until_ns[tail] = due.ts_ns[at] + due.reach_ns[at]
                tail += 1
            at += 1
        while head < tail and free > 0:
            if desk.until_ns[head] < now:
                head += 1
                continue
            some = min(free, desk.waiting[head])
            desk.waiting[head] -= some
            free -= some
            served += some
            if desk.waiting[head] == 0:
                head += 1
        while late < later and free > 0:
            if desk.until_ns[late] < now:
                late += 1
                continue
            some = min(free, desk.waiting[late])
            desk.waiting[late] -= some
            free -= some
            if not desk.own[late]:
                served += some
            if desk.waiting[late] == 0:
                late += 1
        if free > 0 and begin_ns <= now <= end_ns:
            left += free
            left_ns = min(left_ns, now)
        row += 1
    return served, left, left_ns


@inner_kernel
def _busy(desk, stream, begin_ns, end_ns, amount):  # type: ignore[no-untyped-def]
    """Class of how much passes in a stream around a need, and not in its time."""
    seen, around_ns = desk.seen, desk.law.around_ns
    first, stop = seen.start[stream], seen.start[stream + 1]
    ts_ns, before = seen.ts_ns[first:stop], seen.before[first : stop + 1]
    passed = before[np.searchsorted(ts_ns, begin_ns)] - before[np.searchsorted(ts_ns, begin_ns - around_ns)]
    passed += before[np.searchsorted(ts_ns, end_ns + around_ns)] - before[np.searchsorted(ts_ns, end_ns)]
    expected = passed * (end_ns - begin_ns) / (2.0 * around_ns)
    return np.searchsorted(desk.around, expected / amount)


@inner_kernel
def _note(desk, flow, client):  # type: ignore[no-untyped-def]
    """Classes of a flow's needs in a client's streams, one need after the other."""
    asked, seen = desk.asked, desk.seen
    for need in range(asked.start[flow], asked.start[flow + 1]):
        stream, amount = 2 * client + asked.down[need], asked.amount[need]
        begin_ns = asked.begin_ns[need]
        end_ns = asked.end_ns[need] + asked.reach_ns[need]
        first, stop = seen.start[stream], seen.start[stream + 1]
        row = first + np.searchsorted(seen.ts_ns[first:stop], begin_ns)
        got, left, left_ns = np.int64(0), np.int64(0), np.int64(NEVER)
        if row < stop and seen.ts_ns[row] <= end_ns:
            more, left, _ = _served(desk, stream, flow, need, begin_ns, end_ns)
            less, _, left_ns = _served(desk, stream, flow, need - 1, begin_ns, end_ns)
            got = more - less
        place, busy = np.int64(-1), _busy(desk, stream, begin_ns, end_ns, amount)
        if got < amount:
            outcome = 0 if got <= 0 else (1 if 2 * got < amount else 2)
        else:
            outcome = 3 if left <= desk.law.spare else (4 if left <= max(desk.law.few, amount // 2) else 5)
            if asked.reach_ns[need] <= desk.law.reach_ns and left_ns < NEVER:
                place = np.int64(np.searchsorted(desk.edges_ns, left_ns - begin_ns - desk.law.slack_ns))
                found = (2 * busy + asked.down[need]) * 3 + outcome - 3
                place += desk.law.places + found * (desk.edges_ns.size + 1)
        desk.noted[need, 0] = asked.feature[need] + (HEAPED + 1) * busy + outcome
        desk.noted[need, 1] = place


@inner_kernel
def _score(desk, flow, client, worth):  # type: ignore[no-untyped-def]
    """What the classes of a flow in a client's streams are worth there, in decades; ``worth`` is of folds of
    the flows, clients and classes.

    Where one large need is met, or one in a heap, others mostly are, whoever they are of: these count as the
    root of their number.
    """
    _note(desk, flow, client)
    of_fold = worth[flow % worth.shape[0], client]
    score, heaped, many = 0.0, 0.0, 0
    for need in range(desk.asked.start[flow], desk.asked.start[flow + 1]):
        decades = of_fold[desk.noted[need, 0]]
        if desk.noted[need, 1] >= 0:
            decades += of_fold[desk.noted[need, 1]]
        in_heap = desk.noted[need, 0] % (HEAPED + 1) == HEAPED
        if in_heap or desk.asked.amount[need] > desk.law.large:
            heaped += decades
            many += 1
        else:
            score += decades
    return score + (heaped / np.sqrt(many) if heaped > 0.0 else heaped)


@inner_kernel
def _ask(desk, flow, worth):  # type: ignore[no-untyped-def]
    """What a flow is worth to each client that it is asked of, had it none yet; it has none then."""
    desk.owner[flow] = -1
    first, stop = desk.bins[flow, 2], desk.bins[flow, 3]
    for client in range(desk.score.shape[1]):
        if not desk.hopeful[flow, client]:
            desk.score[flow, client] = -np.inf
        elif desk.asked_at[flow, client] < desk.changed_at[client, first:stop].max():
            desk.score[flow, client] = _score(desk, flow, client, worth)
            desk.asked_at[flow, client] = desk.changes[0]


@inner_kernel
def _give(desk, flow, before, client):  # type: ignore[no-untyped-def]
    """Let a flow be a client's, or nobody's, that was another's."""
    desk.owner[flow] = client
    if client == before:
        return
    desk.changes[0] += 1
    first, stop = desk.bins[flow, 0], desk.bins[flow, 1]
    if before >= 0:
        desk.changed_at[before, first:stop] = desk.changes[0]
    if client >= 0:
        desk.changed_at[client, first:stop] = desk.changes[0]


@kernel
def give_all(desk, owner):  # type: ignore[no-untyped-def]
    """Let flows be those clients' from now on."""
    for flow in range(owner.size):
        _give(desk, flow, desk.owner[flow], owner[flow])


@kernel
def place_all(desk, order, worth, believed):  # type: ignore[no-untyped-def]
    """Each flow, in an order, is asked of its clients, and given to the likeliest if that is sure."""
    clients = desk.score.shape[1]
    for flow in order:
        before = desk.owner[flow]
        _ask(desk, flow, worth)
        score = desk.score[flow]
        best = np.argmax(score)
        against = float(clients)
        for client in range(clients):
            if client != best:
                against += 10.0 ** min(score[client], 60.0)
        _give(desk, flow, before, best if score[best] - np.log10(against) > believed else -1)


@kernel
def draw_all(desk, order, worth, nobody, uniform, chance):  # type: ignore[no-untyped-def]
    """Each flow, in an order, is given to a client or to none, as likely as each is beside all other flows.

    ``chance`` (flows, clients) is added to, the owners change. ``nobody`` is the odds that a flow is of no
    client, against any one of them.
    """
    weight = np.empty(chance.shape[1])
    for k in range(order.size):
        flow = order[k]
        before = desk.owner[flow]
        _ask(desk, flow, worth)
        most = max(0.0, desk.score[flow].max())
        weight[:] = 10.0 ** (desk.score[flow] - most)
        whole = weight.sum() + nobody * 10.0**-most
        chance[flow] += weight / whole
        drawn = np.searchsorted(np.cumsum(weight), uniform[k] * whole)
        _give(desk, flow, before, drawn if drawn < weight.size else -1)


@kernel
def score_all(desk, order, worth):  # type: ignore[no-untyped-def]
    """Each flow is asked of its clients, all others being where they are."""
    for flow in order:
        before = desk.owner[flow]
        _ask(desk, flow, worth)
        desk.owner[flow] = before


@kernel
def count_classes(desk, flows, clients, counts):  # type: ignore[no-untyped-def]
    """How often flows have each class in a client's streams, had they no client yet; into ``counts``."""
    for k in range(flows.size):
        flow, client = flows[k], clients[k]
        before = desk.owner[flow]
        desk.owner[flow] = -1
        _note(desk, flow, client)
        desk.owner[flow] = before
        for need in range(desk.asked.start[flow], desk.asked.start[flow + 1]):
            counts[client, desk.noted[need, 0]] += 1.0
            if desk.noted[need, 1] >= 0:
                counts[client, desk.noted[need, 1]] += 1.0


@inner_kernel
def _gain(desk, flow, other, claim, worth, prior):  # type: ignore[no-untyped-def]
    """What another flow would gain, had this one no client, and it that client; in decades."""
    client = desk.owner[flow]
    now = max(_score(desk, other, client, worth) - prior, claim[other], 0.0)
    desk.owner[flow] = -1
    then = _score(desk, other, client, worth) - prior
    desk.owner[flow] = client
    return max(then - now, 0.0)


@inner_kernel
def _pair(desk, flow, other, client, others, worth):  # type: ignore[no-untyped-def]
    """What two flows are worth, each with a client; they have none before, nor after."""
    desk.owner[other] = -1
    desk.owner[flow] = -1
    decades = _score(desk, flow, client, worth)
    desk.owner[flow] = client
    decades += _score(desk, other, others, worth)
    desk.owner[flow] = -1
    return decades


@kernel
def find_rivals(desk, order, claim, least, homeless, worth, nobody, gain, odds):  # type: ignore[no-untyped-def]
    """What else may be, of each flow that claims a client: ``gain`` and ``odds`` are filled.

    Parameters
    ----------
    order : ndarray of int64
        Flows, by their beginning.
    claim : ndarray of float64, shape (flows,)
        What each has now.
    least, homeless : float
        Claim from which on it is asked, and up to which a flow would come for another's client.
    nobody : float
        As :func:`draw_all` has it.
    gain : ndarray of float64, shape (flows,)
        The most that another would gain, had the flow no client.
    odds : ndarray of float64, shape (flows,)
        That it and another have each other's client, against that they have what they have.
    """
    prior, hopeful, owner = np.log10(nobody), desk.hopeful, desk.owner
    for i in range(order.size):
        flow = order[i]
        for k in range(i + 1, order.size):
            other = order[k]
            if desk.span_ns[other, 0] > desk.span_ns[flow, 1] + desk.law.reach_ns:
                break
            mine, its = owner[flow], owner[other]
            asked, so_is = mine >= 0 and claim[flow] >= least, its >= 0 and claim[other] >= least
            if mine == its or not (asked or so_is):
                continue
            comes, goes = mine >= 0 and hopeful[other, mine], its >= 0 and hopeful[flow, its]
            if asked and comes and claim[other] < homeless:
                gain[flow] = max(gain[flow], _gain(desk, flow, other, claim, worth, prior))
            if so_is and goes and claim[flow] < homeless:
                gain[other] = max(gain[other], _gain(desk, other, flow, claim, worth, prior))
            if comes and goes:
                now = _pair(desk, flow, other, mine, its, worth)
                then = _pair(desk, flow, other, its, mine, worth)
                owner[flow], owner[other] = mine, its
                exchanged = 10.0 ** min(then - now, 60.0)
                odds[flow] += exchanged
                odds[other] += exchanged
