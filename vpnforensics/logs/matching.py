"""Which sessions of a log are which tunnels of a capture, and how far the log's clock is from the capture's.

They are the same where the client's endpoint is, and the times meet. A log's clock is another machine's, may
be of a zone that its lines do not state, and a session is written down once it has been agreed upon: a moment
after its first packet. The distance is the one at which most sessions begin where tunnels do, none if that is
as good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vpnforensics.logs.session import Session, host_of

_NS = 1_000_000_000
SLACK_NS = 5 * _NS
"""A log tells of a session so long after its first packet, and so long after its last."""
_MOST_LOOKS = 2_000_000
"""Pairs looked at, over all distances tried, the small ones first: some seconds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A tunnel as a capture has it."""

    endpoint: str
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Matching:
    """What of a log is what of a capture."""

    offset_ns: int
    """The log's clock is so far ahead of the capture's."""
    is_known: bool
    """Whether any session begins where a tunnel does: else the offset is taken to be none."""
    pairs: tuple[tuple[int, int], ...]
    """(session, tunnel), by their places in what was given."""
    shared: tuple[int, ...] = ()
    """Sessions of an address that had several tunnels at their time, none of which begins with them alone."""


def match(sessions: Sequence[Session], seen: Sequence[Seen]) -> Matching:
    """Match the sessions of one log with the tunnels of a capture.

    Parameters
    ----------
    sessions : sequence of Session
    seen : sequence of Seen
    """
    possible = _of_one_endpoint(sessions, seen)
    if not possible:
        return Matching(0, False, ())
    starts = [
        (s, t, begin - seen[t].first_ns) for s, t in possible if (begin := sessions[s].begin_ns) is not None
    ]
    distances = sorted({d for _, _, d in starts}, key=abs)[: _MOST_LOOKS // len(possible) + 1]
    best = max([0, *distances], key=lambda d: (*_fit(sessions, seen, possible, d), -abs(d)))
    near = sorted(d for _, _, d in starts if abs(d - best) <= SLACK_NS)
    offset_ns = near[len(near) // 2] if near else 0
    # A moment more or less is what a log takes to tell, and no clock's fault.
    offset_ns = offset_ns if abs(offset_ns) > SLACK_NS else 0
    met: dict[int, list[int]] = {}
    for s, t in possible:
        if _meet(sessions[s], seen[t], offset_ns):
            met.setdefault(s, []).append(t)
    told = {s: _apart(sessions[s], ts, seen, offset_ns) for s, ts in met.items()}
    pairs = tuple((s, t) for s, ts in told.items() for t in ts)
    return Matching(offset_ns, bool(near), pairs, tuple(s for s, ts in told.items() if not ts))


def _apart(session: Session, tunnels: list[int], seen: Sequence[Seen], offset_ns: int) -> list[int]:
    """Of several tunnels of the session's address, the one that begins with it; none if that is not one."""
    exact = (session.endpoint, *session.moved_to, *session.assigned)
    if len(tunnels) == 1 or any(seen[t].endpoint in exact for t in tunnels):
        return tunnels
    if session.begin_ns is None:
        return []
    begun = [t for t in tunnels if abs(session.begin_ns - offset_ns - seen[t].first_ns) <= SLACK_NS]
    return begun if len(begun) == 1 else []


def _of_one_endpoint(sessions: Sequence[Session], seen: Sequence[Seen]) -> list[tuple[int, int]]:
    """Pairs with the same endpoint; by address where the log has no port, or one of another connection.

    Where a capture can be read, its clients are seen by the addresses that the log assigned to them.
    """
    by_endpoint: dict[str, list[int]] = {}
    for t, tunnel in enumerate(seen):
        for key in (tunnel.endpoint, host_of(tunnel.endpoint)):
            by_endpoint.setdefault(key, []).append(t)
    found = []
    for s, session in enumerate(sessions):
        exact: list[int] = []
        for endpoint in (session.endpoint, *session.moved_to, *session.assigned):
            exact += by_endpoint.get(endpoint, ())
        if not exact and session.endpoint:
            exact = by_endpoint.get(host_of(session.endpoint), [])
        found += [(s, t) for t in dict.fromkeys(exact)]
    return found


def _fit(
    sessions: Sequence[Session], seen: Sequence[Seen], possible: Sequence[tuple[int, int]], offset_ns: int
) -> tuple[int, int]:
    """How many tunnels have a session at their time, and how many one that begins with them.

    One alone that begins with its tunnel is chance, where the clock is said to be off.
    """
    meet, begin = set(), set()
    for s, t in possible:
        if _meet(sessions[s], seen[t], offset_ns):
            meet.add(t)
            begin_ns = sessions[s].begin_ns
            if begin_ns is not None and abs(begin_ns - offset_ns - seen[t].first_ns) <= SLACK_NS:
                begin.add(t)
    return len(meet), len(begin) if len(begin) > 1 or not offset_ns else 0


def _meet(session: Session, tunnel: Seen, offset_ns: int) -> bool:
    """Whether both were at one time; a session whose end the log does not tell goes on."""
    begins = session.begin_ns is None or session.begin_ns - offset_ns <= tunnel.last_ns + SLACK_NS
    return begins and (session.end_ns is None or session.end_ns - offset_ns >= tunnel.first_ns - SLACK_NS)
