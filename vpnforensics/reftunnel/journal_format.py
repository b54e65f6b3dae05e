"""Columns of the journal, decoded from raw packet heads, and the two forms they are written in."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import TunnelError

HEAD_BYTES = 120
"""An IPv4 header of 60 bytes and a TCP header of 60."""

DIRECTIONS = ("out", "in")
KINDS = ("data", "cover", "keepalive", "handshake", "refused")

Ints = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts that repeat: one number a row into a list of different ones."""

    codes: Ints
    values: list[str]

    def to_list(self) -> list[str]:
        """The texts themselves."""
        return [self.values[code] for code in self.codes.tolist()]


@dataclass(slots=True)
class Block:
    """Rows as the traffic leaves them: arrays of one length, and the raw head of each packet."""

    direction: Ints
    kind: Ints
    inner_ns: Ints
    outer_ns: Ints
    peer: Ints
    endpoint: Ints
    counter: Ints
    outer_bytes: Ints
    inner_bytes: Ints
    head: Ints
    peer_names: dict[int, str] = field(default_factory=dict)
    endpoint_names: list[str] = field(default_factory=list)

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Room for `rows` rows."""
        return cls(
            direction=np.zeros(rows, np.uint8),
            kind=np.zeros(rows, np.uint8),
            inner_ns=np.zeros(rows, np.int64),
            outer_ns=np.zeros(rows, np.int64),
            peer=np.zeros(rows, np.int32),
            endpoint=np.zeros(rows, np.int32),
            counter=np.zeros(rows, np.uint64),
            outer_bytes=np.zeros(rows, np.uint16),
            inner_bytes=np.zeros(rows, np.uint16),
            head=np.zeros((rows, HEAD_BYTES), np.uint8),
        )

    def first(self, rows: int) -> Self:
        """The first rows only."""
        return replace(self, **{name: getattr(self, name)[:rows] for name in _ARRAYS})

    def send(self, stream: IO[bytes]) -> None:
        """Write the block to a pipe: a line of JSON, then the bytes of each array."""
        peers = list(self.peer_names.items())
        line = {"rows": len(self.kind), "peers": peers, "endpoints": self.endpoint_names}
        stream.write(json.dumps(line).encode() + b"\n")
        for name in _ARRAYS:
            stream.write(np.ascontiguousarray(getattr(self, name)).data)
        stream.flush()

    @classmethod
    def receive(cls, stream: IO[bytes]) -> Self | None:
        """Read a block that `send` wrote; None at the end."""
        line = stream.readline()
        if not line:
            return None
        header = json.loads(line)
        block = cls.empty(header["rows"])
        for name in _ARRAYS:
            array = getattr(block, name)
            array[...] = np.frombuffer(stream.read(array.nbytes), array.dtype).reshape(array.shape)
        block.peer_names = dict(header["peers"])
        block.endpoint_names = header["endpoints"]
        return block


_ARRAYS = tuple(column.name for column in fields(Block) if not column.name.endswith("_names"))


def _gather(head: Ints, rows: Ints, offsets: Ints, width: int) -> Ints:
    """Big-endian integers of `width` bytes at an offset of each row."""
    value = np.zeros(len(rows), np.int64)
    # Few different offsets occur in a block (20 and 40, and options): a slice for each, not an index for all.
    for offset in np.flatnonzero(np.bincount(offsets)).tolist():
        same = np.flatnonzero(offsets == offset)
        start = min(offset, HEAD_BYTES - width)
        raw = np.ascontiguousarray(head[rows[same], start : start + width])
        value[same] = raw.view(f">u{width}")[:, 0]
    return value


def _timestamps(head: Ints, rows: Ints, tcp: Ints) -> tuple[Ints, Ints, Ints]:
    """Whether there is a timestamp option, TSval and TSecr (RFC 7323, section 3.2)."""
    at = tcp + 20
    end = np.minimum(tcp + 4 * (head[rows, tcp + 12] >> 4).astype(np.int64), HEAD_BYTES)
    found = np.full(len(rows), -1, np.int64)
    # Options are walked in all packets at once; ten steps pass any header of 40 bytes that Linux makes.
    for _ in range(40):
        alive = (found < 0) & (at + 1 < end)
        if not alive.any():
            break
        here = np.minimum(at, HEAD_BYTES - 2)
        kind, length = head[rows, here], head[rows, here + 1].astype(np.int64)
        hit = alive & (kind == 8) & (length == 10) & (at + 10 <= end)
        found[hit] = at[hit] + 2
        step = np.where(kind == 1, 1, length)
        # End of options, or an option that claims no length: nothing more to be found.
        step = np.where((kind == 0) | (step < 1) | ((kind != 1) & (length < 2)), HEAD_BYTES, step)
        at = np.where(alive & ~hit, at + step, at)
    has = found >= 0
    where = np.maximum(found, 0)
    return has, _gather(head, rows, where, 4) * has, _gather(head, rows, where + 4, 4) * has


def _addresses(head: Ints, v4: Ints, v6: Ints, size: int, at_v4: int, at_v6: int) -> Texts:
    """Addresses of all rows; rows that are not IP have an empty text."""
    codes, values = np.zeros(size, np.int32), [""]
    for rows, offset, width in ((v4, at_v4, 4), (v6, at_v6, 16)):
        if not len(rows):
            continue
        packed = np.ascontiguousarray(head[rows, offset : offset + width]).view(f"V{width}")[:, 0]
        different, inverse = np.unique(packed, return_inverse=True)
        codes[rows] = inverse + len(values)
        values += [str(ipaddress.ip_address(raw)) for raw in different.tolist()]
    return Texts(codes, values)


def decode(block: Block) -> dict[str, Any]:
    """Named columns of a block.

    Fields that a row has no meaning for are -1 (or an empty text, or false).

    Returns
    -------
    dict of str to ndarray or Texts
        ``direction, kind, inner_ns, outer_ns, peer, endpoint, counter, outer_bytes, inner_bytes,
        ip_version, src, dst, proto, tos, ttl, df, ip_id, sport, dport, tcp_flags, seq, ack, window,
        has_ts, tsval, tsecr``.
    """
    head, size = block.head, len(block.kind)
    version = np.where(block.inner_bytes > 0, head[:, 0] >> 4, 0) if size else np.zeros(0, np.uint8)
    v4, v6 = np.flatnonzero(version == 4), np.flatnonzero(version == 6)
    numeric = ("proto", "tos", "ttl", "ip_id", "sport", "dport", "tcp_flags", "seq", "ack", "window")
    columns: dict[str, Any] = {name: np.full(size, -1, np.int64) for name in numeric}
    columns["df"] = np.zeros(size, bool)
    l4 = np.zeros(size, np.int64)
    has_ports = np.zeros(size, bool)
    if len(v4):
        columns["proto"][v4], columns["tos"][v4], columns["ttl"][v4] = head[v4, 9], head[v4, 1], head[v4, 8]
        columns["ip_id"][v4] = _gather(head, v4, np.full(len(v4), 4), 2)
        columns["df"][v4] = head[v4, 6] & 0x40 != 0
        l4[v4] = 4 * (head[v4, 0] & 15).astype(np.int64)
        has_ports[v4] = _gather(head, v4, np.full(len(v4), 6), 2) & 0x1FFF == 0
    if len(v6):
        columns["proto"][v6], columns["ttl"][v6] = head[v6, 6], head[v6, 7]
        columns["tos"][v6] = (head[v6, 0] & 15) << 4 | head[v6, 1] >> 4
        l4[v6] = 40
        has_ports[v6] = True
    ported = np.flatnonzero(has_ports & np.isin(columns["proto"], (6, 17)))
    columns["sport"][ported] = _gather(head, ported, l4[ported], 2)
    columns["dport"][ported] = _gather(head, ported, l4[ported] + 2, 2)
    tcp = np.flatnonzero(has_ports & (columns["proto"] == 6))
    start = l4[tcp]
    columns["seq"][tcp] = _gather(head, tcp, start + 4, 4)
    columns["ack"][tcp] = _gather(head, tcp, start + 8, 4)
    columns["tcp_flags"][tcp] = head[tcp, start + 13]
    columns["window"][tcp] = _gather(head, tcp, start + 14, 2)
    for name, values in zip(("has_ts", "tsval", "tsecr"), _timestamps(head, tcp, start), strict=True):
        columns[name] = np.full(
            size, False if name == "has_ts" else -1, bool if name == "has_ts" else np.int64
        )
        columns[name][tcp] = values
    peers = max(block.peer_names, default=-1) + 1
    return {
        "direction": Texts(block.direction, list(DIRECTIONS)),
        "kind": Texts(block.kind, list(KINDS)),
        "inner_ns": block.inner_ns,
        "outer_ns": block.outer_ns,
        # A handshake message that came does not say whose it is: its peer is -1, the empty text.
        "peer": Texts(block.peer + 1, ["", *(block.peer_names.get(number, "") for number in range(peers))]),
        "endpoint": Texts(block.endpoint, block.endpoint_names),
        "counter": block.counter,
        "outer_bytes": block.outer_bytes,
        "inner_bytes": block.inner_bytes,
        "ip_version": version,
        "src": _addresses(head, v4, v6, size, 12, 8),
        "dst": _addresses(head, v4, v6, size, 16, 24),
        **columns,
    }


class Writer(Protocol):
    """One of the two forms."""

    def write(self, block: Block) -> None:
        """Append a block."""

    def close(self) -> None:
        """Finish the file."""


class JsonLinesWriter:
    """A JSON object a line; flushed block by block."""

    def __init__(self, path: Path) -> None:
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, block: Block) -> None:
        """Append a block."""
        columns = decode(block)
        lists = [
            value.to_list() if isinstance(value, Texts) else value.tolist() for value in columns.values()
        ]
        for row in zip(*lists, strict=True):
            self._file.write(json.dumps(dict(zip(columns, row, strict=True)), separators=(",", ":")) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class ParquetWriter:
    """Parquet, one row group a block; texts as dictionaries."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            import pyarrow.parquet as pq
        except ImportError:
            raise TunnelError("a Parquet journal needs pyarrow (pip install vpnforensics[tunnel])") from None
        self._pa, self._pq, self._path = pa, pq, path
        self._file: Any = None
        path.open("wb").close()  # fail now, and not when the first block is full

    def write(self, block: Block) -> None:
        """Append a block."""
        table = self._pa.table({name: self._column(value) for name, value in decode(block).items()})
        if self._file is None:
            self._file = self._pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._file.write_table(table)

    def _column(self, value: Ints | Texts) -> Any:
        if not isinstance(value, Texts):
            return self._pa.array(value)
        return self._pa.DictionaryArray.from_arrays(value.codes.astype(np.int32), value.values)

    def close(self) -> None:
        """Finish the file."""
        if self._file is not None:
            self._file.close()


def open_writer(path: Path) -> Writer:
    """Writer for a path, by its suffix: here the user names the format, there is nothing to sniff yet."""
    try:
        return ParquetWriter(path) if path.suffix == ".parquet" else JsonLinesWriter(path)
    except OSError as error:
        raise TunnelError(f"cannot write the journal {path}: {error.strerror}") from None
