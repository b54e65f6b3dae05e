"""Times as users write them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time

_SECOND_NS = 1_000_000_000


def time_ns(text: str, day_ns: int | None = None) -> int:
    """A time that a user wrote: ISO 8601 (UTC where no zone is given), a time of the case's day, or ns.

    Parameters
    ----------
    text : str
    day_ns : int, optional
        A time of the day that is meant where none is given; without it, a day has to be.

    Raises
    ------
    ValueError
        It is none.

    >>> time_ns("22:13:20", 1_700_000_000_000_000_000), time_ns("2023-11-14T23:13:20+01:00", 0)
    (1700000000000000000, 1700000000000000000)
    """
    text = text.strip()
    if text.isascii() and text.isdecimal() and len(text) > 10:
        return int(text)
    try:
        if ":" in text[:3] and day_ns is not None:
            day = datetime.fromtimestamp(day_ns // _SECOND_NS, UTC).date()
            when = datetime.combine(day, time.fromisoformat(text))
        else:
            when = datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"{text!r} is no time: write 2026-11-22T11:02:33 (UTC, or with a zone),"
            + (" 11:02 of the case's day," if day_ns is not None else "")
            + " or nanoseconds since the epoch"
        ) from error
    since = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.combine(
        date(1970, 1, 1), time(), UTC
    )
    return (since.days * 86_400 + since.seconds) * _SECOND_NS + since.microseconds * 1_000
