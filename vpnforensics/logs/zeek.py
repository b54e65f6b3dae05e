r"""Logs that Zeek made of the decrypted side: connections, and the names that it read in them.

``conn.log``, ``ssl.log``, ``dns.log``, ``http.log`` and ``quic.log``, as tab-separated values or JSON Lines,
plain or compressed; what another log has in the same columns is read, too. In the first form a head names the
columns, and ``\xHH`` stands for a byte that could be mistaken.

https://docs.zeek.org/en/master/log-formats.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from vpnforensics.logs.files import StoredLog

_NAMES = ("server_name", "host", "query")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|(\\))")
_UID = re.compile(r"[A-Za-z0-9]{1,40}")
_COMMUNITY_ID = re.compile(r"1:[A-Za-z0-9+/]{27}=")
_MOST_NS = 1 << 63
_MOST_TTL_S = 1 << 31


@dataclass(frozen=True, slots=True)
class ZeekRow:
    """What a row says of one connection; what it leaves out is empty."""

    kind: str
    """``conn``, ``ssl`` and so on."""
    ts_ns: int
    uid: str
    proto: str
    originator: str
    """``addr:port``, as in the result contract."""
    responder: str
    community_id: str
    names: tuple[bytes, ...]
    """Names of the far side, or what a lookup asked for, as the client wrote them."""
    answers: tuple[tuple[bytes, int], ...]
    """Addresses that a lookup was answered with, in network order, and for how many seconds."""


class ZeekLog:
    """A log of Zeek; reading it counts what is in no known form.

    Parameters
    ----------
    path : str or Path
        ``-`` for standard input.

    Raises
    ------
    LogError
        It cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.stored = StoredLog(str(path))
        self.rows = 0
        self.unknown = 0
        self.kinds: set[str] = set()

    def __iter__(self) -> Iterator[ZeekRow]:
        """The rows that say something of a connection, in order of the file."""
        head = _Head()
        for line in self.stored.lines():
            if line.startswith("#"):
                head.take(line)
                continue
            if not line.strip():
                continue
            cells = _of_json(line) if line.lstrip().startswith("{") else head.cells(line)
            row = None if cells is None else _row(cells, head.kind)
            if row is None:
                self.unknown += 1
                continue
            self.rows += 1
            self.kinds.add(row.kind)
            yield row


class _Head:
    """What the lines with ``#`` say of those after them; rotated logs that were joined have several heads."""

    def __init__(self) -> None:
        self.kind = ""
        self._separator, self._of_set, self._empty, self._unset = "\t", ",", "(empty)", "-"
        self._fields: list[str] = []

    def take(self, line: str) -> None:
        """One of those lines."""
        if line.startswith("#separator "):
            self._separator = _plain(line.partition(" ")[2]).decode("latin-1") or "\t"
            return
        key, _, value = line[1:].partition(self._separator)
        if key == "fields":
            self._fields = value.split(self._separator)
        elif key == "path":
            self.kind = value
        elif key == "set_separator":
            self._of_set = value or ","
        elif key == "empty_field":
            self._empty = value
        elif key == "unset_field":
            self._unset = value

    def cells(self, line: str) -> dict[str, Any] | None:
        """The cells of a row by their names, texts as bytes; None if it is none."""
        cells = line.split(self._separator)
        if len(cells) != len(self._fields):
            return None
        known = {
            k: v for k, v in zip(self._fields, cells, strict=True) if v not in (self._unset, self._empty)
        }
        lists = {"answers", "TTLs"}
        return {
            name: [_plain(part) for part in value.split(self._of_set)] if name in lists else _plain(value)
            for name, value in known.items()
        }


def _plain(text: str) -> bytes:
    return _ESCAPE.sub(lambda m: bytes([int(m[1], 16)]) if m[1] else b"\\", text.encode("utf-8", "replace"))


def _of_json(line: str) -> dict[str, Any] | None:
    """The cells of a JSON object; numbers keep their digits."""
    try:
        found = json.loads(line, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    cells: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, str):
            cells[name] = value.encode("utf-8", "replace")
        elif isinstance(value, list):
            cells[name] = [each.encode("utf-8", "replace") for each in value if isinstance(each, str)]
    return cells


def _row(cells: Mapping[str, Any], kind: str) -> ZeekRow | None:
    ends = [_endpoint(cells, side) for side in ("orig", "resp")]
    ts_ns = _ns(_text(cells, "ts"))
    if ts_ns is None or not all(ends):
        return None
    uid, community_id = _text(cells, "uid"), _text(cells, "community_id")
    answers = cells.get("answers", [])
    ttls = cells.get("TTLs", [])
    found = []
    for number, answer in enumerate(answers if isinstance(answers, list) else []):
        try:
            address = ip_address(answer.decode("ascii")).packed
        except ValueError:  # the name of an alias
            continue
        known = isinstance(ttls, list) and len(ttls) == len(answers)
        ttl_ns = _ns(ttls[number].decode("ascii", "replace")) if known else 0
        found.append((address, min(max((ttl_ns or 0) // 1_000_000_000, 0), _MOST_TTL_S)))
    return ZeekRow(
        kind or _text(cells, "_path") or _kind_of(cells),
        ts_ns,
        uid if _UID.fullmatch(uid) else "",
        _text(cells, "proto").lower() or ("tcp" if "host" in cells else ""),
        ends[0],
        ends[1],
        community_id if _COMMUNITY_ID.fullmatch(community_id) else "",
        tuple(cells[name] for name in _NAMES if isinstance(cells.get(name), bytes) and cells[name]),
        tuple(found),
    )


def _kind_of(cells: Mapping[str, Any]) -> str:
    """The log that has such columns, where a line of JSON does not say."""
    marks = {"query": "dns", "qtype": "dns", "server_name": "ssl", "cipher": "ssl", "host": "http"}
    return next((kind for mark, kind in marks.items() if mark in cells), "conn")


def _text(cells: Mapping[str, Any], name: str) -> str:
    value = cells.get(name, b"")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _endpoint(cells: Mapping[str, Any], side: str) -> str:
    """``addr:port``, or nothing."""
    host, port = _text(cells, f"id.{side}_h"), _text(cells, f"id.{side}_p") or "0"
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if not (port.isascii() and port.isdecimal() and len(port) <= 5):
        return ""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _ns(text: str) -> int | None:
    """Nanoseconds of a number of seconds, or of a date; None if it is neither.

    >>> _ns("1700000000.123456"), _ns("2023-11-14T22:13:20.000001Z"), _ns("1e400"), _ns("soon")
    (1700000000123456000, 1700000000000001000, None, None)
    """
    try:
        if "T" in text:
            since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
            return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
        seconds = Decimal(text)
        if not seconds.is_finite() or seconds.adjusted() > 10:
            return None
        found = int(seconds * 1_000_000_000)
    except (InvalidOperation, ValueError, TypeError, OverflowError):
        return None
    return found if abs(found) < _MOST_NS else None
