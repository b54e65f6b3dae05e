"""What a usage log says, whatever wrote it: sessions, and translations of connections."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class Session:
    """One client's time at a server.

    Times are nanoseconds since the epoch by the log's clock. A session that began before the log does, or was
    still up when it ended, has ``None`` there; ``first_ns`` and ``last_ns`` say between which times the log
    knows of it.
    """

    service: str
    user: str
    """Account, certificate name, node name or public key; empty where the log has none."""
    endpoint: str
    """``addr:port`` of the client, ``addr`` where the log has no port; empty without either."""
    assigned: tuple[str, ...]
    """Addresses inside the tunnel."""
    begin_ns: int | None
    end_ns: int | None
    first_ns: int
    last_ns: int
    received_bytes: int | None
    """From the client, as the server counts."""
    sent_bytes: int | None
    path: str
    line: int
    """Of the file, from 1: where the session begins to be told."""
    moved_to: tuple[str, ...] = ()
    """Further endpoints of the client, in order."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A connection as the NAT translated it: exact evidence of who opened it."""

    proto: str
    inner: str
    """``addr:port`` inside the tunnel; of ICMP, the identifier is the port."""
    outer: str
    far: str
    begin_ns: int | None
    end_ns: int | None
    path: str
    line: int


@dataclass(frozen=True, slots=True)
class LogFile:
    """What became of the lines of one file."""

    path: str
    sha256: str
    bytes: int
    formats: tuple[str, ...]
    lines: int
    used: int
    """Lines that say something of a session or translation."""
    unknown: int
    """Lines in no format that is known; the rest is known, and says nothing of sessions."""
    clock: str
    """``stated`` in the lines, ``given`` by the user, ``assumed`` to be UTC, or ``boot``: from its start."""
    first_ns: int | None
    last_ns: int | None
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class LogBook:
    """All that was read."""

    files: tuple[LogFile, ...]
    sessions: tuple[Session, ...]
    """In order of time."""
    translations: tuple[Translation, ...]
    zone: str = ""
    year: int = 0
    """As given for lines that state none."""

    def to_dict(self) -> dict[str, Any]:
        """Files, sessions and translations as plain values."""
        return {
            name: [asdict(row) for row in getattr(self, name)]
            for name in ("files", "sessions", "translations")
        }

    def to_pandas(self) -> pd.DataFrame:
        """The sessions, one a row; addresses and endpoints of one session are parted by spaces."""
        import pandas as pd

        frame = pd.DataFrame([asdict(s) for s in self.sessions], columns=[f.name for f in fields(Session)])
        for name in ("assigned", "moved_to"):
            frame[name] = [" ".join(values) for values in frame[name]]
        counts = [f.name for f in fields(Session) if f.name.endswith(("_ns", "_bytes"))]
        return frame.astype(dict.fromkeys(counts, "Int64"))

    def __repr__(self) -> str:
        return f"LogBook({len(self.sessions):,} sessions, {len(self.translations):,} translations)"


_NS = 1_000_000_000
_MOST = 1 << 62
"""Beyond this, a number in a log is damage, and none that a table of 64 bits has room for."""


def count(text: str) -> int | None:
    """A number of bytes or the like; ``None`` for what is none, or cannot be.

    >>> count("1500"), count("-"), count("9" * 40)
    (1500, None, None)
    """
    return as_count(int(text)) if text.isdecimal() and len(text) < 20 else None


def as_count(value: object) -> int | None:
    """The same of a value of JSON."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _MOST else None  # type: ignore[return-value, operator]


def seconds_ns(text: str) -> int | None:
    """Seconds, as nanoseconds."""
    found = count(text)
    return found * _NS if found is not None and found <= _MOST // _NS else None


@lru_cache(1 << 16)
def address(text: str) -> str:
    """An IP address as it is written everywhere here; empty for what is none.

    >>> address("::ffff:192.0.2.1"), address("2001:DB8:0::1%eth0"), address("host")
    ('192.0.2.1', '2001:db8::1', '')
    """
    try:
        socket.inet_pton(socket.AF_INET, text)  # most are, and this takes a tenth of the time
        return text
    except (OSError, ValueError):
        pass
    try:
        found = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


@lru_cache(1 << 16)
def endpoint(host: str, port: str | int = "") -> str:
    """``addr:port``, ``[addr]:port``, or the address alone; empty where it is none.

    >>> endpoint("192.0.2.1", 1194), endpoint("2001:db8::1", "7"), endpoint("192.0.2.1"), endpoint("host", 1)
    ('192.0.2.1:1194', '[2001:db8::1]:7', '192.0.2.1', '')
    """
    found = address(host)
    if not found or port == "":
        return found
    if len(str(port)) > 5 or int(port) >= 1 << 16:
        return ""
    return f"[{found}]:{int(port)}" if ":" in found else f"{found}:{int(port)}"


@lru_cache(1 << 16)
def split_endpoint(text: str) -> str:
    """An endpoint that is written in one piece, the port last.

    >>> split_endpoint("192.0.2.1:7"), split_endpoint("[2001:db8::1]:7"), split_endpoint("2001:db8::1:7")
    ('192.0.2.1:7', '[2001:db8::1]:7', '[2001:db8::1]:7')
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or len(port) > 5:
        return address(text)
    return endpoint(host, port) or address(text)


@lru_cache(1 << 16)
def host_route(text: str) -> str:
    """The address of a network that is one host; empty for a larger one.

    >>> host_route("10.8.0.2/32"), host_route("fd00::2/128"), host_route("10.8.0.2"), host_route("0.0.0.0/0")
    ('10.8.0.2', 'fd00::2', '10.8.0.2', '')
    """
    host, slash, bits = text.strip().partition("/")
    return address(host) if not slash or bits in ("32", "128") else ""


def host_of(text: str) -> str:
    """The address of an endpoint.

    >>> host_of("192.0.2.1:7"), host_of("[2001:db8::1]:7"), host_of("2001:db8::1")
    ('192.0.2.1', '2001:db8::1', '2001:db8::1')
    """
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
