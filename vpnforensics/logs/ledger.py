"""The book that every format's reader keeps: sessions that are opened, told more of, and closed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol

from vpnforensics.logs.session import Session, Translation


class Line(NamedTuple):  # made for each line: a dataclass takes four times as long
    """One line of a log, out of its frame."""

    number: int
    ts_ns: int
    """Of the line, or of the last one before that had a time; -1 before any had."""
    text: str
    """Behind its time, and what a logger put there."""
    raw: str
    """Behind what a logger put there only: some lines begin with a number that looks like a time."""
    ns_of: Callable[[str], int | None]
    """The time that a text begins with, by the clock of the file."""


class Format(Protocol):
    """One kind of log; a new object reads one file."""

    name: ClassVar[str]
    programs: ClassVar[tuple[str, ...]]
    """How loggers name who writes it; other programs' lines in a shared log are not looked at."""
    dated: ClassVar[bool]
    """Whether its lines have a time in front; those of others may tell theirs otherwise."""

    def feed(self, line: Line) -> bool:
        """Take a line; whether it says something of a session or translation."""
        ...

    def end(self) -> tuple[list[Session], list[Translation]]:
        """What the file said, once it has ended."""
        ...


@dataclass(slots=True)
class Entry:
    """A session as far as it has been told."""

    line: int
    begin_ns: int | None
    first_ns: int
    last_ns: int
    user: str = ""
    endpoint: str = ""
    assigned: dict[str, None] = field(default_factory=dict)
    moved_to: list[str] = field(default_factory=list)
    received_bytes: int | None = None
    sent_bytes: int | None = None
    end_ns: int | None = None

    def assign(self, *addresses: str) -> None:
        """Addresses inside the tunnel, each once; empty ones are none."""
        self.assigned.update((each, None) for each in addresses if each)

    def move(self, endpoint: str) -> None:
        """The client was seen at an endpoint."""
        if not self.endpoint:
            self.endpoint = endpoint
        elif endpoint and endpoint != (self.moved_to or [self.endpoint])[-1]:
            self.moved_to.append(endpoint)


class Ledger:
    """Sessions of one file under what tells them apart there.

    Parameters
    ----------
    service : str
        The format's name.
    path : str
        The file.
    """

    def __init__(self, service: str, path: str) -> None:
        self.service, self.path = service, path
        self.open: dict[Hashable, Entry] = {}
        self._closed: list[Entry] = []

    def begin(self, key: Hashable, line: Line, *, at_ns: int | None = None) -> Entry:
        """A session begins; one that is open under the same key has ended."""
        self.close(key, line)
        begin_ns = line.ts_ns if at_ns is None else at_ns
        entry = self.open[key] = Entry(line.number, begin_ns, begin_ns, max(begin_ns, line.ts_ns))
        return entry

    def tell(self, key: Hashable, line: Line) -> Entry:
        """More of a session; one that is not open began before the log."""
        entry = self.open.get(key)
        if entry is None:
            entry = self.open[key] = Entry(line.number, None, line.ts_ns, line.ts_ns)
        entry.last_ns = max(entry.last_ns, line.ts_ns)
        return entry

    def close(self, key: Hashable, line: Line, *, at_ns: int | None = None) -> Entry | None:
        """A session ends, if it is open."""
        entry = self.open.pop(key, None)
        if entry is not None:
            entry.end_ns = line.ts_ns if at_ns is None else at_ns
            entry.last_ns = max(entry.last_ns, entry.end_ns)
            self._closed.append(entry)
        return entry

    def close_all(self, line: Line) -> bool:
        """The server ends, and all sessions with it; whether there were any."""
        keys = list(self.open)
        for key in keys:
            self.close(key, line)
        return bool(keys)

    def forget(self, key: Hashable) -> None:
        """What was open was none."""
        self.open.pop(key, None)

    def sessions(self) -> list[Session]:
        """All of them, in the order they are told; those that nothing dates are left out."""
        entries = sorted([*self._closed, *self.open.values()], key=lambda entry: entry.line)
        return [
            Session(
                self.service, e.user, e.endpoint, tuple(e.assigned), e.begin_ns, e.end_ns, e.first_ns,
                e.last_ns, e.received_bytes, e.sent_bytes, self.path, e.line, tuple(e.moved_to),
            )
            for e in entries
            if e.last_ns >= 0
        ]  # fmt: skip
