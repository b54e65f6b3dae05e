"""Numbers as an analyst reads them: times, lengths of time, bytes, clock offsets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_NS = 1_000_000_000


def utc(ts_ns: int) -> str:
    """A time, to the microsecond.

    >>> utc(1_700_000_000_123_456_789)
    '2023-11-14 22:13:20.123456 UTC'
    """
    seconds, rest = divmod(ts_ns, _NS)
    try:
        day = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):  # a capture may claim any time
        return f"{ts_ns} ns"
    return f"{day}.{rest // 1000:06d} UTC"


def iso_utc(ts_ns: int) -> str:
    """A time as ISO 8601, to the microsecond; all that 64 bits of nanoseconds hold has one.

    >>> iso_utc(1_700_000_000_123_456_789), iso_utc(-(2**63))
    ('2023-11-14T22:13:20.123456+00:00', '1677-09-21T00:12:43.145224+00:00')
    """
    since = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=ts_ns // 1000)
    return since.isoformat(timespec="microseconds")


def span(length_ns: float) -> str:
    """A length of time, in the unit that suits it.

    >>> [span(x) for x in (0, 750, 81_200, 4_393_000, 75_400_000_000, 4_393_217_000_000)]
    ['0 s', '750 ns', '81.2 µs', '4.39 ms', '75.4 s', '1 h 13 min 13.2 s']
    """
    size = abs(length_ns)
    sign = "-" if length_ns < 0 else ""
    if size == 0:
        return "0 s"
    for limit, unit, name in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms"), (120e9, 1e9, "s")):
        if size < limit:
            return f"{sign}{size / unit:.3g} {name}"
    minutes, seconds = divmod(size / 1e9, 60)
    hours, minutes = divmod(int(minutes), 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    shown = [f"{value} {name}" for value, name in parts if value]
    return sign + " ".join([*shown, f"{seconds:.1f} s"])


def seconds(length_ns: int) -> str:
    """A length of time in seconds, to the microsecond.

    >>> seconds(4_393_217_000_412)
    '4,393.217000 s'
    """
    return f"{length_ns / 1e9:,.6f} s"


def size(count: float) -> str:
    """Bytes in decimal units.

    >>> [size(x) for x in (316, 24_500, 105_944_101)]
    ['316 B', '24.5 kB', '106 MB']
    """
    for limit, unit, name in ((1e3, 1, "B"), (1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if count < limit * 0.9995:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e12:.3g} TB"


def many(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    >>> many(1, "flow"), many(1412, "flow")
    ('1 flow', '1,412 flows')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def ratio(llr: float, bounded: bool) -> str:
    """A log10 likelihood ratio; one at its bound is at least that."""
    return f"{'≥' if bounded else ''}{llr:+.1f}"
