"""Tunnels and their records: what recognition hands to alignment and engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.arrays import Columns
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.scratch import ascending, beside
from vpnforensics.tunnels.framing import StreamHealth
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import SURE, Handshake

_COLUMNS = (
    "client", "server", "transport", "protocol", "variant", "confidence",
    "first_ns", "last_ns", "packets_up", "packets_down",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One client endpoint's outer association with a VPN server."""

    client: str
    server: str
    transport: str
    protocol: str
    variant: str
    confidence: float
    first_ns: int
    last_ns: int
    packets_up: int
    packets_down: int
    """All outer packets of the direction: records, handshakes and keep-alives."""
    length_maps: tuple[LengthMap, ...]
    """Maps the protocol may have, likeliest first; empty where one has to be learned."""
    conversation: int
    """Its number in the ingress FlowTable."""
    stream: StreamHealth | None = None
    """What became of the bytes of a tunnel over TCP; ``None`` for datagrams, and without frames."""
    twin: int = -1
    """Ingress conversation over TCP, unread, that carries packets while this one cannot; -1 without."""
    number: int = -1
    """Its place among all tunnels and candidates of its capture, from 0; -1 for its place here."""
    beside: tuple[int, ...] = ()
    """Its other halves: conversations that set it up or stand in for it, and are no flows."""
    handshake: Handshake = field(default_factory=Handshake)
    """Among its first datagrams; empty of a tunnel over TCP."""
    copies_ecn: bool = False
    """Whether its outer packets show the ECN field of the inner ones."""

    @property
    def sure(self) -> bool:
        """True for a recognised tunnel, False for a candidate."""
        return self.confidence >= SURE


@dataclass(frozen=True, eq=False)
class RecordTable(Columns):
    """Records (outer packets or frames that carry one inner packet each) of all tunnels, in order of time.

    Several frames may end in one segment; they share its time and row, and stand in the order of the stream.
    """

    ts_ns: npt.NDArray[np.int64]
    tunnel: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]
    size: npt.NDArray[np.int32]
    """Outer payload bytes, the length map's range; of a frame, what its length field says."""
    counter: npt.NDArray[np.int64]
    """Clear tunnel counter, or -1."""
    row: npt.NDArray[np.int32]
    """Row in the ingress PacketTable of the outer packet, or of the segment that completed the frame."""


@dataclass(frozen=True, eq=False)
class TunnelSet:
    """The tunnels and candidates of an ingress capture, with their records."""

    tunnels: tuple[Tunnel, ...]
    records: RecordTable
    plain: npt.NDArray[np.int64]
    """Conversations that are neither tunnel nor candidate, by number in the FlowTable."""
    unheard: tuple[str, ...] = ()
    """Protocols of other packages that do not work, as they were found: a sentence each."""

    def __len__(self) -> int:
        return len(self.tunnels)

    @cached_property
    def ids(self) -> list[str]:
        """Name of every tunnel, the same whatever candidates are dropped."""
        return [f"t{(n if t.number < 0 else t.number) + 1}" for n, t in enumerate(self.tunnels)]

    @cached_property
    def first_ns(self) -> npt.NDArray[np.int64]:
        """First packet of each tunnel."""
        return np.array([t.first_ns for t in self.tunnels], np.int64)

    @cached_property
    def last_ns(self) -> npt.NDArray[np.int64]:
        """Last packet of each tunnel."""
        return np.array([t.last_ns for t in self.tunnels], np.int64)

    @property
    def lost_share(self) -> float:
        """Share of the bytes of all tunnels over TCP that could not be told apart into frames."""
        streams = [t.stream for t in self.tunnels if t.stream is not None]
        total = sum(s.total_bytes for s in streams)
        return sum(s.total_bytes * s.lost_share for s in streams) / total if total else 0.0

    def select(self, keep: npt.NDArray[np.bool_]) -> TunnelSet:
        """The tunnels where ``keep`` is true, renumbered, with their records."""
        if keep.all():
            return self
        number = np.cumsum(keep) - 1
        records = self.records.take(keep[self.records.tunnel])
        records = replace(
            records, tunnel=beside(records.tunnel).taken(number.astype(np.int32), records.tunnel)
        )
        dropped = [t.conversation for t, kept in zip(self.tunnels, keep, strict=True) if not kept]
        return TunnelSet(
            tuple(t for t, kept in zip(self.tunnels, keep, strict=True) if kept),
            records,
            np.sort(np.concatenate([self.plain, np.array(dropped, np.int64)])),
            self.unheard,
        )

    def at_times(self, conversations: FlowTable) -> TunnelSet:
        """The same tunnels and records of the same packets at other times."""
        records = self.records
        ts_ns = beside(records.row).taken(conversations.packets.ts_ns, records.row)
        order = np.lexsort((np.arange(len(records)), records.row, ts_ns))
        tunnels = (
            replace(
                t,
                first_ns=int(conversations.first_ns[t.conversation]),
                last_ns=int(conversations.last_ns[t.conversation]),
            )
            for t in self.tunnels
        )
        return TunnelSet(tuple(tunnels), replace(records, ts_ns=ts_ns).take(order), self.plain, self.unheard)

    def to_pandas(self) -> pd.DataFrame:
        """One row a tunnel or candidate."""
        frame = pd.DataFrame([[getattr(t, c) for c in _COLUMNS] for t in self.tunnels], columns=_COLUMNS)
        frame["length_map"] = [
            str(t.length_maps[0]) if t.length_maps else "to be learned" for t in self.tunnels
        ]
        frame["stream"] = ["" if t.stream is None else str(t.stream) for t in self.tunnels]
        frame.insert(0, "id", self.ids)
        return frame

    def __repr__(self) -> str:
        sure = sum(t.sure for t in self.tunnels)
        return f"TunnelSet({sure} tunnels, {len(self) - sure} candidates, {len(self.records):,} records)"

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>{self.to_pandas().to_html(index=False)}"


def no_records() -> RecordTable:
    """A table without a row."""
    none = np.zeros(0, np.int64)
    small = none.astype(np.int32)
    return RecordTable(none, small, none.astype(np.bool_), small, none, small)


def merge_records(parts: Sequence[RecordTable]) -> RecordTable:
    """Records of several tables in order of time (ties: order of the file, then of the table)."""
    parts = [part for part in parts if len(part)]
    if not parts:
        return no_records()
    if len(parts) > 1:
        merged = RecordTable.joined(parts)
    else:
        merged = parts[0]
        if ascending(merged.ts_ns) and ascending(merged.row):
            return merged  # the usual case
    return merged.take(np.lexsort((merged.row, merged.ts_ns)))
