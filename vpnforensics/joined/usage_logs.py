"""A decided case beside the usage logs of its server: whose the tunnels are, and what does not agree."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.joined.translations import Translated, named
from vpnforensics.logs.matching import SLACK_NS, Matching, Seen, match
from vpnforensics.logs.session import LogBook, LogFile, Session, host_of
from vpnforensics.report.escaping import visible
from vpnforensics.report.quantities import many, span, utc

_QUARTER_NS = 900_000_000_000
_ZONE_NS = 60_000_000_000
"""A clock so near to a quarter of an hour's multiple away is set to another zone."""
_BYTES_SHARE, _BYTES_SLACK = 1.02, 3000
"""Logs count a little less than captures: not what came while a session was being set up."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What logs add to a case."""

    users: list[str | None]
    """Of each tunnel, who used it; several in turn are parted by commas."""
    findings: list[str]
    usage: dict[str, Any] | None
    """The result contract's ``usage``; ``None`` without a log."""


def join(case: Case, tunnel: npt.NDArray[np.integer[Any]], book: LogBook) -> Joined:
    """Join usage logs to a case.

    Parameters
    ----------
    case : Case
    tunnel : ndarray of int, shape (flows,)
        The tunnel that each flow is linked to; negative without.
    book : LogBook
    """
    seen = [Seen(_client(t.client), t.first_ns, t.last_ns) for t in case.tunnels.tunnels]
    sessions_of: list[list[tuple[Session, int]]] = [[] for _ in seen]
    findings: list[str] = []
    files = []
    covered: list[tuple[int, int]] = []
    unmatched: list[tuple[Session, int]] = []
    for file in book.files:
        mine = [s for s in book.sessions if s.path == file.path]
        found = match(mine, seen)
        for s, t in found.pairs:
            sessions_of[t].append((mine[s], found.offset_ns))
        matched = {s for s, _ in found.pairs}.union(found.shared)
        unmatched += [(s, found.offset_ns) for n, s in enumerate(mine) if n not in matched]
        findings += _of_file(file, found, bool(mine))
        if matched and file.first_ns is not None and file.last_ns is not None:
            covered.append((file.first_ns - found.offset_ns, file.last_ns - found.offset_ns))
        files.append({**_file_row(file), "offset_ns": found.offset_ns if found.is_known else None,
                      "sessions": len(mine), "matched": len(matched)})  # fmt: skip
    users = [_user(sessions) for sessions in sessions_of]
    if not book.files:
        return Joined(users, [], None)
    findings += _of_tunnels(case, users, [bool(each) for each in sessions_of], covered)
    findings += _without_tunnel(unmatched, _span_of(case))
    findings += _at_other_times(case, tunnel, sessions_of)
    findings += _more_than_logged(case, tunnel, sessions_of)
    translated = Translated(case, tunnel, book.translations, sessions_of)
    usage = {"zone": book.zone, "year": book.year, "files": files, "translations": translated.counts()}
    return Joined(users, findings + translated.findings(), usage)


def _client(text: str) -> str:
    """A tunnel's client; without the port that IP itself has not."""
    return host_of(text) if text.endswith(":0") else text


def _span_of(case: Case) -> tuple[int, int]:
    ts_ns = case.conversations.packets.ts_ns
    return int(ts_ns.min()), int(ts_ns.max())


def _file_row(file: LogFile) -> dict[str, Any]:
    row = asdict(file)
    notes = row.pop("notes")
    return {**row, "formats": list(file.formats), "notes": list(notes)}


def _user(sessions: Sequence[tuple[Session, int]]) -> str | None:
    return ", ".join(dict.fromkeys(s.user for s, _ in sessions if s.user)) or None


def _of_file(file: LogFile, found: Matching, has_sessions: bool) -> list[str]:
    """What is wrong with a log, or with its clock."""
    name = visible(file.path)
    said = []
    if file.unknown:
        said.append(f"{name}: {many(file.unknown, 'line')} of {file.lines:,} in no known form")
    # A capture that shows where its clock stands says more than that its zone was assumed.
    said += [
        f"{name}: {note}" for note in file.notes if not (found.is_known and note.startswith("its times"))
    ]
    if has_sessions and not found.pairs and not found.shared:
        said.append(f"{name}: no session has the endpoint of a tunnel at its time; is it of this server?")
    if found.shared:
        said.append(
            f"{name}: {many(len(found.shared), 'session')} of addresses with several tunnels at their time,"
            " and no port to tell which"
        )
    if not found.offset_ns:
        return said
    way = "ahead of" if found.offset_ns > 0 else "behind"
    away = abs(found.offset_ns)
    quarters = round(away / _QUARTER_NS)
    text = f"its clock is {span(away)} {way} the ingress capture's"
    if file.clock == "boot":
        text = f"its times count from {utc(-found.offset_ns)} by the ingress capture's clock"
    elif quarters and abs(away - quarters * _QUARTER_NS) < _ZONE_NS and file.clock != "stated":
        hours, minutes = divmod(15 * quarters, 60)
        text = f"its times are {hours}:{minutes:02} h {way} the ingress capture's: of another zone"
    return [*said, f"{name}: {text}; sessions are compared without that"]


def _of_tunnels(
    case: Case, users: Sequence[str | None], known: Sequence[bool], covered: Sequence[tuple[int, int]]
) -> list[str]:
    """Tunnels that no log knows, though one was kept at their time, and those of several users."""
    missing, shared = [], []
    for name, tunnel, user, is_known in zip(
        case.tunnels.ids, case.tunnels.tunnels, users, known, strict=True
    ):
        was_kept = any(begin <= tunnel.last_ns and tunnel.first_ns <= end for begin, end in covered)
        if was_kept and not is_known:
            missing.append(f"{name} ({tunnel.client})")
        if user is not None and ", " in user:
            shared.append(f"{name} ({tunnel.client}: {visible(user)})")
    return named(missing, "tunnel", "in no log") + named(shared, "tunnel", "of several users, by the logs")


def _without_tunnel(sessions: Iterable[tuple[Session, int]], captured: tuple[int, int]) -> list[str]:
    """Sessions at the time of the capture that it has no tunnel of."""
    first_ns, last_ns = captured
    told = [
        f"{visible(s.user or '?')} from {s.endpoint or '?'} ({visible(s.path)}, line {s.line:,})"
        for s, offset_ns in sessions
        if s.first_ns - offset_ns < last_ns
        and (s.last_ns if s.end_ns is None else s.end_ns) - offset_ns > first_ns
    ]
    return named(told, "logged session", "without a tunnel in the ingress capture")


def _at_other_times(
    case: Case, tunnel: npt.NDArray[np.integer[Any]], sessions_of: Sequence[Sequence[tuple[Session, int]]]
) -> list[str]:
    """Links at a time at which the log has no session of the tunnel."""
    if not case.alignment.usable or not len(case.flows):
        return []
    begin_ns = case.alignment.to_ingress(case.flows.first_ns)
    told = []
    for flow in np.flatnonzero(tunnel >= 0).tolist():
        sessions = sessions_of[int(tunnel[flow])]
        if sessions and not any(_holds(s, offset_ns, int(begin_ns[flow])) for s, offset_ns in sessions):
            told.append(f"{case.flows.ids[flow]} ({case.tunnels.ids[int(tunnel[flow])]})")
    return named(told, "link", "at a time at which the log has no session of the tunnel")


def _holds(session: Session, offset_ns: int, at_ns: int) -> bool:
    begun = session.begin_ns is None or session.begin_ns - offset_ns - SLACK_NS <= at_ns
    return begun and (session.end_ns is None or at_ns <= session.end_ns - offset_ns + SLACK_NS)


def _more_than_logged(
    case: Case, tunnel: npt.NDArray[np.integer[Any]], sessions_of: Sequence[Sequence[tuple[Session, int]]]
) -> list[str]:
    """Tunnels to which more is linked than the log counts."""
    if not case.alignment.usable or not len(case.flows):
        return []
    egress = case.egress
    flow = np.repeat(np.arange(len(case.flows)), np.diff(egress.start))
    told = []
    for t, sessions in enumerate(sessions_of):
        counted_by = [each for each in sessions if each[0].received_bytes is not None]
        if len(counted_by) != 1:
            continue
        session, offset_ns = counted_by[0]
        counted = (tunnel[flow] == t) & (egress.ts_ns <= session.last_ns - offset_ns)
        for word, logged, up in (
            ("received", session.received_bytes, True),
            ("sent", session.sent_bytes, False),
        ):
            linked = int(egress.inner_bytes[counted & (egress.up == up)].sum())
            if logged is not None and linked > _BYTES_SHARE * logged + _BYTES_SLACK:
                told.append(f"{case.tunnels.ids[t]} ({linked:,} linked, {logged:,} {word} by the log)")
    return named(told, "tunnel", "with more bytes linked to it than the log counts")
