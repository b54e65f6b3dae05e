"""What loggers put around a message: a time in one of many forms, a host, a program.

Forms, with their sources: RFC 3164, 4.1 (BSD syslog) and RFC 5424, 6; ISO 8601 as rsyslog, systemd's
``journalctl -o short-iso`` and OpenVPN write it; ``asctime`` (FreeRADIUS, OpenVPN until 2.4, ``dmesg -T``);
seconds since the epoch (``conntrack -o timestamp``) and since boot (``dmesg``); the JSON of
``journalctl -o json``.
"""

from __future__ import annotations

import json
import re
from typing import Literal, NamedTuple

Zone = int | None
"""Seconds east of UTC; ``None`` where the line does not say."""

_ISO = re.compile(
    r"(?:[A-Z][a-z]{2} )?(\d{4})-(\d\d)-(\d\d)([T ])(\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?"
    r" ?(Z\b|UTC\b|[+-]\d\d:?\d\d\b)?:? *"
)
_BSD = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? ")
_ASCTIME = re.compile(
    r"\[?[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([ \d]?\d) (\d\d):(\d\d):(\d\d) (?:([A-Z]{3,4}) )?(\d{4})\]?"
    r"(?: us=(\d{1,6}))?(?: : | ?)"
)
_SECONDS = re.compile(r"\[ *(\d{1,10})\.(\d{1,9})\]\s*|(\d{10})(?:\.(\d{1,9}))?(?:\s+|$)")
_PRIORITY = re.compile(r"<\d{1,3}>(1 )?")
_HEADER = re.compile(r"(?:[\w.-]+ )?([\w./@()+-]+)(?:\[(\d+)\])?: ?")
_TAG = re.compile(r"([\w./@()+-]+)\[(\d+)\]: ?")
_5424 = re.compile(r"\S+ (\S+) \S+ \S+ (?:-|(?:\[(?:[^\]\\]|\\.)*\])+) ?\ufeff?")
_MONTHS = {"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * n : 3 * n + 3]: n + 1 for n in range(12)}
_OLDEST_EPOCH_S = 1_000_000_000


class Stamp(NamedTuple):  # made for each line, and so is Framed: a dataclass takes four times as long
    """A time as it stands in a line; ``year`` is 0 where it does not say, ``kind`` how it is to be read."""

    kind: Literal["local", "epoch", "boot"]
    year: int
    month: int
    day: int
    second: int
    """Of the day; of ``epoch`` and ``boot``, since then."""
    ns: int
    zone: Zone = None


class Framed(NamedTuple):
    """A line taken apart."""

    stamp: Stamp | None
    program: str
    """As the logger names it; empty where there is no header."""
    text: str


def unframe(line: str) -> Framed:
    """A line's time, program and message; all of the line is the message where there is no frame."""
    if line.startswith("{"):
        return _journal_json(line) or Framed(None, "", line)
    priority = _PRIORITY.match(line) if line.startswith("<") else None
    at = priority.end() if priority else 0
    if line.startswith("[", at):
        found = _seconds(line, at) or _asctime(line, at)
    else:
        found = _iso(line, at) or _bsd(line, at) or _asctime(line, at) or _seconds(line, at)
    if found is None:
        return Framed(None, "", line)
    stamp, at, header = found
    if priority is not None and priority[1]:
        tail = _5424.match(line, at)
        return Framed(stamp, tail[1], line[tail.end() :]) if tail else Framed(stamp, "", line[at:])
    tag = (header or _TAG).match(line, at)
    program, text = (tag[1], line[tag.end() :]) if tag else ("", line[at:])
    if text[4:5] == "-" or text[3:4] == " ":  # the program wrote a time, too: the logger's is the surer one
        inner = _iso(text, 0) or _asctime(text, 0)
        text = text[inner[1] :] if inner else text
    return Framed(stamp, program, text)


_Found = tuple[Stamp, int, "re.Pattern[str] | None"]


def _iso(line: str, at: int) -> _Found | None:
    found = _ISO.match(line, at)
    if found is None:
        return None
    year, month, day, between, hour, minute, second, part, zone = found.groups()
    stamp = Stamp(
        "local", int(year), int(month), int(day), _of_day(hour, minute, second), _ns(part), _zone(zone)
    )
    # With a blank between date and time no logger, but the program itself wrote it: no host stands there.
    return stamp, found.end(), _HEADER if between == "T" or line[at : at + 1].isalpha() else None


def _bsd(line: str, at: int) -> _Found | None:
    found = _BSD.match(line, at)
    if found is None or found[1] not in _MONTHS:
        return None
    month, day, hour, minute, second, part = found.groups()
    stamp = Stamp("local", 0, _MONTHS[month], int(day), _of_day(hour, minute, second), _ns(part))
    return stamp, found.end(), _HEADER


def _asctime(line: str, at: int) -> _Found | None:
    found = _ASCTIME.match(line, at)
    if found is None or found[1] not in _MONTHS:
        return None
    month, day, hour, minute, second, zone, year, part = found.groups()
    second_of_day = _of_day(hour, minute, second)
    utc = 0 if zone in ("UTC", "GMT") else None
    ns = _ns(part.zfill(6)) if part else 0
    return Stamp("local", int(year), _MONTHS[month], int(day), second_of_day, ns, utc), found.end(), None


def _seconds(line: str, at: int) -> _Found | None:
    found = _SECONDS.match(line, at)
    if found is None:
        return None
    whole, part = (found[1], found[2]) if found[1] else (found[3], found[4])
    kind: Literal["epoch", "boot"] = "epoch" if int(whole) >= _OLDEST_EPOCH_S else "boot"
    return Stamp(kind, 0, 0, 0, int(whole), _ns(part), 0), found.end(), None


def _journal_json(line: str) -> Framed | None:
    try:
        fields = json.loads(line)
        micros = int(fields["__REALTIME_TIMESTAMP"][:17])
        message = fields["MESSAGE"]
        text = message if isinstance(message, str) else bytes(message).decode(errors="replace")
        program = str(fields.get("SYSLOG_IDENTIFIER") or fields.get("_COMM") or "")
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Framed(Stamp("epoch", 0, 0, 0, micros // 1_000_000, micros % 1_000_000 * 1000, 0), program, text)


def _of_day(hour: str, minute: str, second: str) -> int:
    return int(hour) * 3600 + int(minute) * 60 + int(second)


def _ns(part: str | None) -> int:
    return int(part.ljust(9, "0")) if part else 0


def _zone(text: str | None) -> Zone:
    if text is None:
        return None
    if text in ("Z", "UTC"):
        return 0
    sign = -1 if text[0] == "-" else 1
    return sign * (int(text[1:3]) * 3600 + int(text[-2:]) * 60)
