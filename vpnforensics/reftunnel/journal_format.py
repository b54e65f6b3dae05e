"""Columns of the journal, decoded from raw packet heads, and the two forms they are written in."""

from __future__ import annotations

import ipaddress
import json
import os
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

    def send(self, pipe: int) -> None:
        """Write the block to a pipe: a line of JSON, then the bytes of each array."""
        peers = list(self.peer_names.items())
        line = {"rows": len(self.kind), "peers": peers, "endpoints": self.endpoint_names}
        parts = [memoryview(json.dumps(line).encode() + b"\n")]
        parts += [memoryview(getattr(self, name)).cast("B") for name in _ARRAYS if len(self.kind)]
        while parts:
            # One call for everything: between calls this thread would contend with the traffic.
            written = os.writev(pipe, parts)
            while parts and written >= len(parts[0]):
                written -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][written:]

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
            raw = stream.read(array.nbytes)
            if len(raw) < array.nbytes:
                return None  # the tunnel was killed while it wrote: this block is lost, the others are whole
            setattr(block, name, np.frombuffer(raw, array.dtype).reshape(array.shape))
        block.peer_names = dict(header["peers"])
        block.endpoint_names = header["endpoints"]
        return block


_ARRAYS = tuple(column.name for column in fields(Block) if not column.name.endswith("_names"))


def _field(heads: Ints, offset: int, width: int) -> Ints:
    """Big-endian integers at one offset of all packets of a group."""
    return np.ascontiguousarray(heads[:, offset : offset + width]).view(f">u{width}")[:, 0]


def _timestamps(heads: Ints, tcp: int) -> tuple[Ints, Ints, Ints]:
    """Whether there is a timestamp option, TSval and TSecr (RFC 7323, section 3.2)."""
    count = len(heads)
    everyone = np.arange(count)
    at = np.full(count, tcp + 20)
    end = np.minimum(tcp + 4 * (heads[:, tcp + 12] >> 4).astype(np.int64), HEAD_BYTES)
    found = np.zeros(count, np.int64)
    # The options of all packets are walked at once; a header of 60 bytes has at most 40 of them.
    for _ in range(40):
        alive = (found == 0) & (at + 1 < end)
        if not alive.any():
            break
        here = np.minimum(at, HEAD_BYTES - 2)
        kind, length = heads[everyone, here], heads[everyone, here + 1].astype(np.int64)
        hit = alive & (kind == 8) & (length == 10) & (at + 10 <= end)
        found[hit] = at[hit] + 2
        step = np.where(kind == 1, 1, length)
        # End of options, or an option that claims no length: nothing more to be found.
        step[(kind == 0) | ((kind != 1) & (length < 2))] = HEAD_BYTES
        at = np.where(alive & ~hit, at + step, at)
    has = found > 0
    value, echo = np.zeros(count, np.int64), np.zeros(count, np.int64)
    for offset in np.flatnonzero(np.bincount(found))[0 if has.all() else 1 :].tolist():
        same = found == offset
        value[same], echo[same] = _field(heads[same], offset, 4), _field(heads[same], offset + 4, 4)
    return has, value, echo


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


_NUMERIC = {
    **dict.fromkeys(("proto", "tos", "ttl"), np.int16),
    **dict.fromkeys(("ip_id", "sport", "dport"), np.int32),
    "tcp_flags": np.int16,
    **dict.fromkeys(("seq", "ack", "tsval", "tsecr"), np.int64),
    "window": np.int32,
}


def _decode_group(columns: dict[str, Any], rows: Ints, heads: Ints, first_byte: int) -> None:
    """Fill in the columns for packets that begin with the same byte."""
    if first_byte >> 4 == 4:
        l4 = 4 * (first_byte & 15)
        columns["proto"][rows], columns["tos"][rows] = heads[:, 9], heads[:, 1]
        columns["ttl"][rows], columns["df"][rows] = heads[:, 8], heads[:, 6] & 0x40 != 0
        columns["ip_id"][rows] = _field(heads, 4, 2)
        whole = _field(heads, 6, 2) & 0x1FFF == 0
    else:
        l4 = 40
        columns["proto"][rows], columns["ttl"][rows] = heads[:, 6], heads[:, 7]
        columns["tos"][rows] = (heads[:, 0] & 15) << 4 | heads[:, 1] >> 4
        whole = np.ones(len(rows), bool)
    proto = columns["proto"][rows]
    ported = whole & np.isin(proto, (6, 17))
    columns["sport"][rows[ported]] = _field(heads[ported], l4, 2)
    columns["dport"][rows[ported]] = _field(heads[ported], l4 + 2, 2)
    is_tcp = whole & (proto == 6)
    if not is_tcp.any():
        return
    tcp, heads = rows[is_tcp], heads[is_tcp]
    columns["seq"][tcp], columns["ack"][tcp] = _field(heads, l4 + 4, 4), _field(heads, l4 + 8, 4)
    columns["tcp_flags"][tcp], columns["window"][tcp] = heads[:, l4 + 13], _field(heads, l4 + 14, 2)
    columns["has_ts"][tcp], columns["tsval"][tcp], columns["tsecr"][tcp] = _timestamps(heads, l4)


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
    columns: dict[str, Any] = {name: np.full(size, -1, dtype) for name, dtype in _NUMERIC.items()}
    columns["df"], columns["has_ts"] = np.zeros(size, bool), np.zeros(size, bool)
    # Packets whose headers are laid out alike are decoded together: there are one or two such groups.
    layout = np.where(version == 4, head[:, 0], np.where(version == 6, 0x60, 0)) if size else version
    for group in np.flatnonzero(np.bincount(layout)).tolist() if size else []:
        if group:
            rows = np.flatnonzero(layout == group)
            _decode_group(columns, rows, head[rows], group)
    v4, v6 = np.flatnonzero(version == 4), np.flatnonzero(version == 6)
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
    """Parquet, one row group a block; only texts as dictionaries."""

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
        columns = decode(block)
        table = self._pa.table({name: self._column(value) for name, value in columns.items()})
        if self._file is None:
            # Looking for repetition where there is none, and zstd, would cost as much as everything else.
            texts = [name for name, value in columns.items() if isinstance(value, Texts)]
            self._file = self._pq.ParquetWriter(
                self._path, table.schema, compression="lz4", use_dictionary=texts, write_statistics=False
            )
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
