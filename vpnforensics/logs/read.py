"""Usage logs, of whatever kind and mixed, to sessions.

A line is taken out of its frame and shown to the formats that its program may be. Lines that nobody knows are
counted, and never stop a reading: logs are cut, rotated, joined and edited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path

from vpnforensics.logs import (
    conntrack,
    freeradius,
    ocserv,
    openvpn,
    openvpn_status,
    reftunnel,
    sshd,
    strongswan,
    tinc,
    wireguard_dump,
    wireguard_kernel,
)
from vpnforensics.logs.clock import LogClock, first_year, roll_overs, zone_named
from vpnforensics.logs.files import StoredLog
from vpnforensics.logs.framing import Stamp, unframe
from vpnforensics.logs.ledger import Format, Line
from vpnforensics.logs.session import LogBook, LogFile, Session, Translation

FORMATS: tuple[Callable[[str], Format], ...] = (
    openvpn.OpenVpn,
    openvpn_status.OpenVpnStatus,
    wireguard_dump.WireGuardDump,
    wireguard_kernel.WireGuardKernel,
    strongswan.StrongSwan,
    ocserv.Ocserv,
    tinc.Tinc,
    freeradius.FreeRadius,
    sshd.Sshd,
    conntrack.Conntrack,
    reftunnel.RefTunnel,
)
_LONGEST_TEXT = 2048
"""No line about a session is longer; matching takes the square of it at worst."""
_NOTICES = ("NOTICE: ", "conntrack v")
"""What ``conntrack -E`` says beside its events."""


def read_logs(
    paths: Sequence[str | Path], *, zone: str = "", year: int = 0, near_ns: int | None = None
) -> LogBook:
    """Read usage logs.

    Parameters
    ----------
    paths : sequence of str or Path
        Files, plain, gzip or zstd; ``-`` for standard input. Rotated parts of one log are read apart.
    zone : str
        Of times that do not state theirs: a name or ``+02:00``; UTC if empty.
    year : int
        Of a file's last line, where lines leave it out; 0 to take it from ``near_ns`` or the file's own date.
    near_ns : int, optional
        A time that the logs should cover: a capture's.

    Raises
    ------
    LogError
        A file cannot be opened or is compressed and broken, or there is no such zone.
    """
    told = zone_named(zone) if zone else None
    readings = [_Reading(str(path), told, year, near_ns) for path in paths]
    files, sessions, translations = [], [], []
    for reading in readings:
        reading.read()
        files.append(reading.file())
        sessions += reading.sessions
        translations += reading.translations
    sessions.sort(key=lambda s: (s.first_ns, s.path, s.line))
    return LogBook(tuple(files), tuple(sessions), tuple(translations), zone, year)


class _Reading:
    """One file read once, and before that for its years where lines leave them out."""

    def __init__(self, path: str, zone: tzinfo | None, year: int, near_ns: int | None) -> None:
        self.log = StoredLog(path)
        self.zone, self.year, self.near_ns = zone, year, near_ns
        self.sessions: list[Session] = []
        self.translations: list[Translation] = []
        self.formats = [kind(path) for kind in FORMATS]
        self.used_by: dict[str, int] = {}
        self.lines = self.used = self.unknown = self.undated = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.notes: list[str] = []
        self._last_ns = -1
        self._order = list(self.formats)
        self._by_program: dict[str, tuple[Format, ...]] = {}

    def read(self) -> None:
        """Take all lines."""
        self.clock = LogClock(self.zone, self._first_year())
        for number, text in enumerate(self.log.lines(), 1):
            self.lines += 1
            if text.strip():
                self._take(number, text)
        if self.log.fault:
            self.notes.append(f"it cannot be read after line {self.lines:,}: {self.log.fault}")
        for each in self.formats:
            sessions, translations = each.end()
            self.sessions += sessions
            self.translations += translations

    def file(self) -> LogFile:
        """What became of the lines."""
        clock = "stated"
        if self.clock.unstated:
            clock = "given" if self.zone is not None else "assumed"
        elif self.clock.since_boot and not self.clock.stated:
            clock = "boot"
        notes = list(self.notes)
        if clock == "assumed":
            notes.append("its times state no zone, and are taken as UTC")
        if clock == "boot":
            notes.append("its times count from the machine's start")
        if self.undated:
            notes.append(f"{self.undated:,} lines about sessions have no time, and none before them has")
        if self.first_ns is None and self.sessions:  # formats that tell times of their own
            self.first_ns = min(s.first_ns for s in self.sessions)
            self.last_ns = max(s.last_ns for s in self.sessions)
        formats = tuple(sorted(self.used_by, key=lambda name: -self.used_by[name]))
        return LogFile(
            self.log.path, self.log.sha256, self.log.bytes, formats, self.lines, self.used, self.unknown,
            clock, self.first_ns, self.last_ns, tuple(notes),
        )  # fmt: skip

    def _take(self, number: int, text: str) -> None:
        framed = unframe(text)
        at_ns = self.clock.ns(framed.stamp) if framed.stamp is not None else None
        if at_ns is not None:
            self._last_ns = at_ns
            self.first_ns = at_ns if self.first_ns is None else min(self.first_ns, at_ns)
            self.last_ns = at_ns if self.last_ns is None else max(self.last_ns, at_ns)
        raw = framed.text if framed.program else text
        if len(raw) > _LONGEST_TEXT:
            self.unknown += at_ns is None
            return
        line = Line(number, self._last_ns, framed.text, raw, self._ns_of)
        for each in self._readers(framed.program):
            if each.feed(line):
                if each is not self._order[0] and not framed.program:
                    self._order = [each, *(other for other in self._order if other is not each)]
                self.used += 1
                self.undated += self._last_ns < 0 and each.dated
                self.used_by[each.name] = self.used_by.get(each.name, 0) + 1
                return
        if at_ns is None and not text.startswith(_NOTICES):
            self.unknown += 1

    def _readers(self, program: str) -> Sequence[Format]:
        """The formats that a line may be of, the likeliest first."""
        return self._of_program(program) if program else self._order

    def _of_program(self, program: str) -> tuple[Format, ...]:
        known = self._by_program.get(program)
        if known is None:
            name = program.rpartition("/")[2].lower()
            known = tuple(f for f in self.formats if any(_is_named(name, each) for each in f.programs))
            self._by_program[program] = known
        return known

    def _ns_of(self, text: str) -> int | None:
        stamp = unframe(text + " ").stamp
        return self.clock.ns(stamp) if stamp is not None else None

    def _first_year(self) -> int:
        """The year of the first line that leaves it out; 0 where none does."""
        first = last = None
        stamps = self._yearless()
        overs = 0
        for stamp in stamps:
            first = first or stamp
            overs += last is not None and roll_overs((last, stamp))
            last = stamp
        if first is None or last is None:
            return 0
        if self.year:
            return self.year - overs
        near = self._near()
        found = first_year(
            (last.month, last.day), (first.month, first.day), overs, near, exact=self.near_ns is not None
        )
        source = "the capture's" if self.near_ns is not None else "the file's date"
        self.notes.append(f"its lines leave out the year: {found + overs} at its end, by {source}")
        return found

    def _yearless(self) -> Iterator[Stamp]:
        """The stamps without a year; nothing more is read where the first dated lines have one."""
        dated = 0
        for text in self.log.lines():
            if not text[:1].isalpha() and not text.startswith("<"):
                if text[:4].isdecimal() or text[:1] in "[{":
                    dated += 1
                    if dated > 100:
                        return
                continue
            stamp = unframe(text).stamp
            if stamp is not None and stamp.kind == "local" and not stamp.year:
                yield stamp

    def _near(self) -> date:
        if self.near_ns is None:
            return self.log.written()
        return datetime.fromtimestamp(self.near_ns // 1_000_000_000, UTC).date()


def _is_named(program: str, name: str) -> bool:
    """Whether a logger's name for a program is that of one, or of one of its instances (``ovpn-home``)."""
    return program == name or (program.startswith(name) and not program[len(name)].isalnum())
