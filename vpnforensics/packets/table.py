"""The packet table: one row an IP packet, columns of plain numpy arrays.

One declared schema serves the decoder, the tests against tshark and dpkt, the Parquet writer and
the documentation. About 100 bytes a packet. Times are integer nanoseconds, lengths come from header
fields (never from how much the capture kept), and rows stand in the order of the file.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vpnforensics.scratch import Scratch, beside

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from vpnforensics.capture.source import CaptureSource

HEAD_BYTES = 32

PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_GRE = 47
PROTO_ESP = 50
PROTO_AH = 51
PROTO_ICMPV6 = 58

TCP_FIN = 0x01
TCP_SYN = 0x02
TCP_RST = 0x04
TCP_PSH = 0x08
TCP_ACK = 0x10

FRAG_WHOLE = 0
FRAG_FIRST = 1
FRAG_LATER = 2


def _column(dtype: str, unit: str, meaning: str, width: int = 1) -> Any:
    return field(metadata={"dtype": np.dtype(dtype), "unit": unit, "meaning": meaning, "width": width})


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """Name, dtype, unit and meaning of one column of the packet table."""

    name: str
    dtype: np.dtype[Any]
    unit: str
    meaning: str
    width: int


@dataclass(frozen=True)
class AddressTable:
    """The distinct IP addresses of a capture; packets hold indexes into it.

    Parameters
    ----------
    packed : ndarray of uint8, shape (n, 16)
        Network byte order; an IPv4 address stands in the last four bytes.
    version : ndarray of uint8, shape (n,)
        4 or 6.
    """

    packed: npt.NDArray[np.uint8]
    version: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.version)

    @cached_property
    def texts(self) -> list[str]:
        """Presentation form (RFC 5952 for IPv6) of every address, by id."""
        return [
            str(
                ipaddress.IPv4Address(row[12:].tobytes())
                if version == 4
                else ipaddress.IPv6Address(row.tobytes())
            )
            for row, version in zip(self.packed, self.version, strict=True)
        ]

    def since(self, start: int) -> AddressTable:
        """Those from a number on."""
        return AddressTable(self.packed[start:], self.version[start:])

    def endpoint(self, address_id: int, port: int) -> str:
        """``addr:port``, with brackets around an IPv6 address."""
        text = self.texts[address_id]
        return f"[{text}]:{port}" if self.version[address_id] == 6 else f"{text}:{port}"


@dataclass(frozen=True, eq=False)
class PacketTable:
    """IP packets of one capture, as columns of equal length.

    Each field's metadata is its :class:`ColumnSpec`; see :meth:`schema`.
    """

    ts_ns: npt.NDArray[np.int64] = _column("i8", "ns", "capture time since the epoch")
    frame: npt.NDArray[np.uint32] = _column("u4", "", "number of the frame in its capture, from 1")
    iface: npt.NDArray[np.uint16] = _column("u2", "", "capture interface (pcapng, SLL2), else 0")
    ip_version: npt.NDArray[np.uint8] = _column("u1", "", "4 or 6")
    src: npt.NDArray[np.int32] = _column("i4", "", "source, index into the address table")
    dst: npt.NDArray[np.int32] = _column("i4", "", "destination, index into the address table")
    proto: npt.NDArray[np.uint8] = _column("u1", "", "transport protocol, after IPv6 extension headers")
    sport: npt.NDArray[np.uint16] = _column("u2", "", "source port; ICMP type; 0 without ports")
    dport: npt.NDArray[np.uint16] = _column("u2", "", "destination port; ICMP code; 0 without ports")
    ip_len_bytes: npt.NDArray[np.int32] = _column("i4", "bytes", "length of the IP packet, by its header")
    payload_bytes: npt.NDArray[np.int32] = _column(
        "i4", "bytes", "length of the transport payload, by the headers"
    )
    ip_id: npt.NDArray[np.int32] = _column("i4", "", "IPv4 identification; -1 without one")
    df: npt.NDArray[np.uint8] = _column("u1", "", "IPv4 don't-fragment bit; 1 for IPv6")
    ttl: npt.NDArray[np.uint8] = _column("u1", "hops", "TTL or hop limit")
    tos: npt.NDArray[np.uint8] = _column("u1", "", "TOS or traffic class: DSCP and ECN")
    frag: npt.NDArray[np.uint8] = _column("u1", "", "0 whole, 1 first fragment, 2 later fragment")
    tcp_flags: npt.NDArray[np.uint16] = _column("u2", "", "TCP flags, 12 bits; 0 for others")
    seq: npt.NDArray[np.uint32] = _column(
        "u4", "", "TCP sequence number; of ICMP errors, the ports they quote"
    )
    ack: npt.NDArray[np.uint32] = _column("u4", "", "TCP acknowledgement number")
    window: npt.NDArray[np.uint16] = _column("u2", "", "TCP window, unscaled")
    tsval: npt.NDArray[np.uint32] = _column("u4", "ticks", "TCP timestamp value (RFC 7323); 0 without")
    tsecr: npt.NDArray[np.uint32] = _column("u4", "ticks", "TCP timestamp echo reply; 0 without")
    has_ts: npt.NDArray[np.uint8] = _column("u1", "", "1 where the timestamp option is present")
    mss: npt.NDArray[np.uint16] = _column("u2", "bytes", "TCP maximum segment size option; 0 without")
    head: npt.NDArray[np.uint8] = _column("u1", "", "first captured payload bytes, zero-filled", HEAD_BYTES)
    addresses: AddressTable = field(kw_only=True)
    source: CaptureSource | None = field(default=None, kw_only=True)

    @staticmethod
    def schema() -> tuple[ColumnSpec, ...]:
        """The columns, in order."""
        return tuple(
            ColumnSpec(
                f.name, f.metadata["dtype"], f.metadata["unit"], f.metadata["meaning"], f.metadata["width"]
            )
            for f in dataclasses.fields(PacketTable)
            if f.metadata
        )

    def __len__(self) -> int:
        return len(self.ts_ns)

    def columns(self) -> Iterator[tuple[ColumnSpec, npt.NDArray[Any]]]:
        """Each column's specification with its array."""
        for spec in self.schema():
            yield spec, getattr(self, spec.name)

    def take(self, index: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | slice) -> PacketTable:
        """The rows at ``index``, as a new table over the same addresses."""
        if isinstance(index, slice):
            picked = {spec.name: array[index] for spec, array in self.columns()}
        else:
            picked = {spec.name: beside(array).taken(array, index) for spec, array in self.columns()}
        return PacketTable(**picked, addresses=self.addresses, source=self.source)

    def copied(self, scratch: Scratch) -> PacketTable:
        """The same packets, their columns in a scratch."""
        copies = {spec.name: scratch.copy(array) for spec, array in self.columns()}
        return PacketTable(**copies, addresses=self.addresses, source=self.source)

    def forget_heads(self) -> None:
        """Give back the memory of ``head``, a third of the table's: it reads as zeros from now on."""
        object.__setattr__(self, "head", np.broadcast_to(np.zeros(HEAD_BYTES, np.uint8), self.head.shape))

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame; ``src`` and ``dst`` as categorical text, ``head`` as bytes."""
        import pandas as pd

        texts = self.addresses.texts
        frame: dict[str, Any] = {}
        for spec, array in self.columns():
            if spec.name in ("src", "dst"):
                frame[spec.name] = pd.Categorical.from_codes(array, categories=pd.Index(texts))
            elif spec.name == "head":
                frame[spec.name] = [row.tobytes() for row in array]
            else:
                frame[spec.name] = array
        return pd.DataFrame(frame)

    def to_parquet(self, path: str | Path) -> None:
        """Write :meth:`to_pandas` as Parquet; needs the ``parquet`` extra."""
        self.to_pandas().to_parquet(path, index=False)

    def __repr__(self) -> str:
        return f"PacketTable({len(self):,} packets, {len(self.addresses):,} addresses)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.take(slice(0, 20)).to_pandas().drop(columns="head").to_html(
            index=False
        )
