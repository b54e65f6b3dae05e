"""From the times in a log to nanoseconds since the epoch: unstated zones, and years left out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from vpnforensics.errors import LogError
from vpnforensics.logs.framing import Stamp

_NS = 1_000_000_000
_DAY_S = 86_400
_MOST_S = 7_258_118_400
_YEARS = (1970, 2200)
"""Outside of these, a date is damage, and none that 64 bits of nanoseconds hold."""


def zone_named(name: str) -> tzinfo:
    """A zone by its name (``Europe/Vienna``), or by its distance from UTC (``+02:00``).

    Raises
    ------
    LogError
        There is none of that name.
    """
    if name[:1] in ("+", "-") and name[1:].replace(":", "").isdecimal() and len(name.replace(":", "")) == 5:
        digits = name[1:].replace(":", "")
        east = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
        if east < timedelta(hours=24):
            return timezone(east if name[0] == "+" else -east)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise LogError(
            f"no time zone is named {name!r}: write it as +02:00, or as Europe/Vienna where zones are known"
        ) from None


def roll_overs(stamps: Iterable[Stamp]) -> int:
    """How often the year changes between the stamps of a file that leave it out."""
    count, before = 0, 0
    for stamp in stamps:
        if stamp.year == 0 and stamp.kind == "local":
            count += _is_new_year(before, stamp.month)
            before = stamp.month
    return count


class LogClock:
    """Turns the stamps of one file, in its order, into times.

    Parameters
    ----------
    zone : tzinfo or None
        Of stamps that do not state one; UTC by default.
    year : int
        Of the file's first stamp, where stamps leave it out.
    """

    def __init__(self, zone: tzinfo | None, year: int) -> None:
        self._zone: tzinfo = zone or UTC
        self._year = year
        self._month = 0
        self._days: dict[tuple[int, int, int, int | None], int] = {}
        self.stated = self.unstated = self.since_boot = 0
        """Stamps by whether they state their zone."""

    def ns(self, stamp: Stamp) -> int | None:
        """Nanoseconds since the epoch; ``None`` for a date that does not exist."""
        if stamp.kind != "local":
            self.stated += stamp.kind == "epoch"
            self.since_boot += stamp.kind == "boot"
            return stamp.second * _NS + stamp.ns if stamp.second < _MOST_S else None
        year = stamp.year
        if not year:
            self._year += _is_new_year(self._month, stamp.month)
            self._month, year = stamp.month, self._year
        if stamp.zone is None:
            self.unstated += 1
        else:
            self.stated += 1
        hour = stamp.second // 3600  # a zone keeps its distance for an hour, but for one moment a year
        key = (year, stamp.month, stamp.day, stamp.zone if stamp.zone is not None else -hour - _DAY_S)
        begin_s = self._days.get(key)
        if begin_s is None:
            begin = self._midnight(year, stamp, hour)
            if begin is None:
                return None
            begin_s = self._days[key] = begin
        return (begin_s + stamp.second) * _NS + stamp.ns

    def _midnight(self, year: int, stamp: Stamp, hour: int) -> int | None:
        """Seconds since the epoch at the start of the stamp's day, by the zone as it is at that hour."""
        if not _YEARS[0] <= year <= _YEARS[1]:
            return None
        try:
            if stamp.zone is not None:
                return int(datetime(year, stamp.month, stamp.day, tzinfo=UTC).timestamp()) - stamp.zone
            local = datetime(year, stamp.month, stamp.day, min(hour, 23), tzinfo=self._zone)
        except (ValueError, OverflowError):
            return None
        return int(local.timestamp()) - min(hour, 23) * 3600


def first_year(last: tuple[int, int], first: tuple[int, int], overs: int, near: date, *, exact: bool) -> int:
    """The year of a file's first stamp.

    Parameters
    ----------
    last, first : (month, day)
        Of the file's last and first stamp.
    overs : int
        How often the year changes between them.
    near : date
        A day that the log should cover (a capture's), or before which it was written (its file's).
    exact : bool
        Whether the log should cover it.
    """
    if not exact:
        ahead = last > ((near + timedelta(days=1)).month, (near + timedelta(days=1)).day)
        return near.year - ahead - overs
    candidates = [near.year + step - overs for step in (0, -1, 1)]
    return min(candidates, key=lambda year: _distance(year, first, year + overs, last, near))


def _distance(year: int, first: tuple[int, int], last_year: int, last: tuple[int, int], near: date) -> int:
    """Days between a span and a day; none inside of it."""
    begin = date(year, first[0], min(first[1], 28))
    end = date(last_year, last[0], min(last[1], 28)) + timedelta(days=3)
    return max((begin - near).days, (near - end).days, 0)


def _is_new_year(before: int, month: int) -> bool:
    """Lines may be a little out of order, but none goes back by half a year."""
    return before - month > 6
