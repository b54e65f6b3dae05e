"""Connections: one outer connection for each egress connection, by when and how much each carried.

Theory of operation
-------------------
Where a relay opens one connection for each that its client opens (Shadowsocks, trojan, SOCKS in TLS), the
two begin and end together, go on at the same moments, and carry the same bytes but for what the relay adds to
each chunk. So far as a flow asks once and is answered in bulk, this is all there is to go by: its writes have
no single partners (:mod:`vpnforensics.engines.writes`). What is noted of a pair of connections:

- *start*: the egress SYN follows the outer connection's first write, and its last until then, the request;
- *end*: the last packets of both;
- *onsets*: where the flow goes on after a silence, so does the other;
- *amount*: at each pause of the flow, and at its end, bytes passed outside less those inside. By the relay's
  write law that is a constant (salt, address, handshake) and ``frame`` bytes for each of k chunks, no more
  of them than there were segments; and up, the address's length itself.
- *residue*: the same amount modulo ``frame``: at the end, and whether it was that already at the pauses. Of
  429 linked connections of a real Shadowsocks 426 had inner + 32 + 34 k bytes down; chance has 3 %.

All of it is put into classes, and nothing is assumed of a class: how often pairs that are known have it,
against how often others have it, is counted in the case (:mod:`vpnforensics.evidence.connections`). So one
form serves every relay, delay and jitter. Classes of one pair depend on each other; what their sum is worth
is therefore measured on copies turned in time.

A pair is compared if the outer connection opened within a second and a half before the flow, and carried at
least its bytes: a relay cannot send what it has not got. So the work is by connections opened in that time.

Assumptions: aligned clocks; a known write law; a connection carries one flow, which known pairs show.

Silent for datagrams, flows without payload, relays that put many connections into one stream (ssh, Tor,
multiplexed TLS), and where fewer than 20 pairs are known.

Known weaknesses: a relay that opens connections beforehand, or uses them again; random padding, which leaves
the amounts but not the residues.

Zhang & Paxson 2000 (USENIX Security): onsets of stepping stones; counting bytes: Serjantov & Sewell 2003.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vpnforensics.arrays import Bools, Columns, Floats, Int32s, Ints
from vpnforensics.engines.case import Case
from vpnforensics.engines.streams import Streams
from vpnforensics.flows.grouping import runs
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import client_is_source
from vpnforensics.tunnels.writes import find_writes

NAME = "connections"

_MS = 1_000_000
_EARLY_NS, _LATE_NS = 50 * _MS, 1_500 * _MS
"""How long before an outer connection's first write (jitter), and after it (lookups of names, handshakes:
0.43 s were seen), its flow may begin."""
_SILENCE_NS = 30 * _MS
"""After so long a write is an onset, before so long one ends in a pause: more than a relay's delay, less than
round trips of wide areas."""
_SOON_NS = 40 * _MS
"""So long after a write the relay has passed it on; or half the pause."""
_COUNTED = 2
"""Onsets and pauses of a stream that count, its first: with 8, polls at a regular pace looked alike."""
_LEAST_CARRIED = 0.98
"""Share of the flow's bytes down that the outer connection must have: of captures that lack a little."""
_START_NS = np.array([-20, -10, -5, -2, -1, -0.5, 0, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]) * _MS
_ONSET_NS = np.array([-50, -20, -10, -5, -2, -1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50]) * _MS
_END_NS = np.array([-1e4, -1e3, -100, -20, -5, -1, 0, 1, 5, 20, 100, 1e3, 1e4]) * _MS
_SHORT_BYTES = 300
"""By so much an amount may fall short of the least that was seen of known pairs, of a longer address."""
_CHUNKS = np.array([-_SHORT_BYTES, 0, 0.1, 0.25, 0.5, 1, 2, 4, 16])
"""Chunks for each segment (and two more); below 0 bytes that are missing."""
_MOST_CHUNKS = 4
"""For each segment: with more the amount is of more than this flow, and its residual says nothing."""
_LEAST_QUANTILE = 0.02
"""Of what known pairs have more outside: the least would be that of a pair whose capture lacks bytes."""
_ADDRESS_BYTES, _ADDRESS_SHIFT = 512, 64
"""Lengths of addresses beyond that least that are told apart: names have up to 255 bytes; some fewer."""
_FIRST, _LATER, _LAST = range(3)


@dataclass(frozen=True, eq=False)
class ConnectionPairs(Columns):
    """Pairs of an egress flow and an outer connection of a relay."""

    flow: Int32s
    connection: Int32s
    """Its number in the flow table of the ingress side."""


@dataclass(frozen=True, eq=False)
class Observed:
    """What is noted of pairs: classes, several a pair."""

    pair: Int32s
    """Row of the pair."""
    seen: Int32s
    """Class, below ``Connections.classes``."""

    def counts(self, classes: int, of: Bools | None = None) -> Floats:
        """How often each class was seen, in the pairs ``of`` them."""
        seen = self.seen if of is None else self.seen[of[self.pair]]
        return np.bincount(seen, minlength=classes).astype(np.float64)

    def sums(self, worth: Floats, pairs: int) -> Floats:
        """What the classes of each pair are worth together."""
        return np.asarray(np.bincount(self.pair, worth[self.seen], pairs))


@dataclass(frozen=True, eq=False)
class Connections:
    """Both sides of a case as streams, to compare connection by connection."""

    inner: Streams
    outer: Streams
    tunnel_of: Ints
    """Tunnel of each ingress conversation, -1 for none."""
    frame: int
    """Bytes that the relay adds to a chunk; 1 where it adds none."""

    @property
    def features(self) -> list[int]:
        """Classes of each feature, in the order in which they are noted."""
        amounts = [len(_CHUNKS) + 1] * 3 + [self.frame] + [2] * 2
        start = len(_START_NS) + 1
        onsets = [len(_ONSET_NS) + 1] * 2
        return [2 * start, start, len(_END_NS) + 1, *onsets, *amounts, _ADDRESS_BYTES, *amounts]

    @property
    def classes(self) -> int:
        """Of all features together."""
        return sum(self.features)

    def candidates(self, shift_ns: Ints, of: Bools) -> ConnectionPairs:
        """Pairs worth a look of the flows ``of`` them, with each flow moved by a time."""
        inner, outer = self.inner, self.outer
        connection = np.flatnonzero((self.tunnel_of >= 0) & outer.has[::2])
        opened = outer.first_ns[outer.start[2 * connection]]
        order = np.argsort(opened, kind="stable")
        connection, opened = connection[order], opened[order]
        flow = np.flatnonzero(inner.has.reshape(-1, 2).any(axis=1) & of)
        begin = inner.begin_ns[flow] + shift_ns[flow]
        nth, at = runs(np.searchsorted(opened, begin - _LATE_NS), np.searchsorted(opened, begin + _EARLY_NS))
        flow, connection = flow[nth], connection[at]
        had, needed = (side.total_bytes.reshape(-1, 2) for side in (outer, inner))
        enough = (had[connection] >= needed[flow] * (1.0, _LEAST_CARRIED)).all(axis=1)
        return ConnectionPairs(flow[enough].astype(np.int32), connection[enough].astype(np.int32))

    def least_amounts(self, known: ConnectionPairs) -> tuple[int, int]:
        """Bytes that known pairs have more outside than inside, at least; up and down."""
        more = (
            self.outer.total_bytes.reshape(-1, 2)[known.connection]
            - self.inner.total_bytes.reshape(-1, 2)[known.flow]
        )
        up, down = np.quantile(np.maximum(more, 0), _LEAST_QUANTILE, axis=0) if len(more) else (0, 0)
        return int(up), int(down)

    def observe(self, pairs: ConnectionPairs, shift_ns: Ints, least: tuple[int, int]) -> Observed:
        """Every class of every pair.

        Parameters
        ----------
        pairs : ConnectionPairs
        shift_ns : ndarray of int64, shape (flows,)
            Time by which each flow is moved.
        least : tuple of int
            :meth:`least_amounts`.
        """
        noted = _Notes(self.features)
        self._ends(noted, pairs, shift_ns)
        for down in (0, 1):
            self._onsets(noted, pairs, shift_ns, down)
        for down in (0, 1):
            self._amounts(noted, pairs, shift_ns, down, least[down])
        return noted.all()

    def _ends(self, noted: _Notes, pairs: ConnectionPairs, shift_ns: Ints) -> None:
        inner, outer = self.inner, self.outer
        flow, connection = pairs.flow.astype(np.int64), pairs.connection.astype(np.int64)
        begin = inner.begin_ns[flow] + shift_ns[flow]
        opening = outer.start[2 * connection]
        request = outer.begun(2 * connection, begin + _EARLY_NS // 2)
        every = np.arange(len(flow))
        early = np.searchsorted(_START_NS, begin - outer.first_ns[opening])
        noted.add(every, 2 * early + (request == opening))
        later = np.flatnonzero(request != opening)
        since = begin - outer.last_ns[np.maximum(request, opening)]
        noted.add(later, np.searchsorted(_START_NS, since[later]))
        noted.add(
            every, np.searchsorted(_END_NS, outer.end_ns[connection] - inner.end_ns[flow] - shift_ns[flow])
        )

    def _onsets(self, noted: _Notes, pairs: ConnectionPairs, shift_ns: Ints, down: int) -> None:
        row, start = self._onset_rows
        pair, row = _rows_of(row, start, 2 * pairs.flow.astype(np.int64) + down)
        at_ns = self.inner.first_ns[row] + shift_ns[pairs.flow[pair]]
        apart = self.outer.onset_apart(2 * pairs.connection[pair].astype(np.int64) + down, at_ns)
        noted.add(pair, np.searchsorted(_ONSET_NS, apart))

    def _amounts(self, noted: _Notes, pairs: ConnectionPairs, shift_ns: Ints, down: int, least: int) -> None:
        inner, outer = self.inner, self.outer
        row, start, kind = self._pause_rows
        pair, place = _rows_of(np.arange(len(row)), start, 2 * pairs.flow.astype(np.int64) + down)
        row, kind = row[place], kind[place]
        flow = pairs.flow[pair].astype(np.int64)
        stream = 2 * pairs.connection[pair].astype(np.int64) + down
        at_ns = inner.last_ns[row] + shift_ns[flow] + np.minimum(inner.pause_behind_ns[row] // 2, _SOON_NS)
        whole = outer.total_bytes[stream] - inner.total_bytes[2 * flow + down]
        more = np.where(kind == _LAST, whole, outer.passed(stream, at_ns) - inner.end[row])
        beyond = more - least
        chunks = np.where(beyond < 0, beyond, beyond / (self.frame * (inner.segments[row] + 2)))
        size = np.searchsorted(_CHUNKS, chunks, side="right")
        for which in (_FIRST, _LATER, _LAST):
            its = kind == which
            noted.add(pair[its], size[its])
        possible = (chunks >= -_SHORT_BYTES) & (chunks < _MOST_CHUNKS)
        its = possible & (kind == _LAST)
        noted.add(pair[its], more[its] % self.frame)
        for which in (_FIRST, _LATER):
            then = possible & (kind == which)
            noted.add(pair[then], (more - whole)[then] % self.frame == 0)
        if not down:
            noted.add(pair[its], np.clip(beyond[its] + _ADDRESS_SHIFT, 0, _ADDRESS_BYTES - 1))

    @cached_property
    def _onset_rows(self) -> tuple[Ints, Ints]:
        """Writes of the flows that follow a silence, those that count; and where each stream's begin."""
        inner = self.inner
        onset = inner.pause_before_ns >= _SILENCE_NS
        row = np.flatnonzero(onset & (_rank(onset, inner) < _COUNTED))
        return row, np.searchsorted(inner.stream[row], np.arange(len(inner.start)))

    @cached_property
    def _pause_rows(self) -> tuple[Ints, Ints, Ints]:
        """Writes before a pause, likewise, and which of the stream's it is."""
        inner = self.inner
        pause = inner.pause_behind_ns >= _SILENCE_NS
        rank = _rank(pause, inner)
        last = np.zeros(len(rank), np.bool_)
        last[inner.start[1:][inner.has] - 1] = True
        row = np.flatnonzero(pause & (last | (rank < _COUNTED)))
        kind = np.where(last[row], _LAST, np.where(rank[row] == 0, _FIRST, _LATER))
        return row, np.searchsorted(inner.stream[row], np.arange(len(inner.start))), kind


def prepare(case: Case, tunnels: Bools, frame: int) -> Connections:
    """The case's connections.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers.
    tunnels : ndarray of bool
        Which of them may have carried a flow a connection.
    frame : int
        By their write law.
    """
    flows = case.captured or case.flows
    tunnel_of = np.full(len(case.conversations), -1, np.int64)
    for n in np.flatnonzero(tunnels).tolist():
        tunnel = case.tunnels.tunnels[n]
        tunnel_of[[tunnel.conversation, *tunnel.beside]] = n
    outer = find_writes(case.conversations)
    forward = client_is_source(case.conversations, outer)
    outer = outer.take(tunnel_of[outer.connection] >= 0)
    inner = find_writes(flows, np.flatnonzero(flows.proto == PROTO_TCP))
    as_it_is = np.ones(len(flows), np.bool_)
    return Connections(
        Streams.of(flows, inner, as_it_is, case.alignment),
        Streams.of(case.conversations, outer, forward, None),
        tunnel_of,
        max(frame, 1),
    )


class _Notes:
    """Classes as they are noted, feature by feature."""

    def __init__(self, features: list[int]) -> None:
        self._base = np.r_[0, np.cumsum(features)].tolist()
        self._noted: list[tuple[Int32s, Int32s]] = []

    def add(self, pair: Ints, value: Ints | Bools) -> None:
        """The next feature's values of some pairs."""
        seen = value + np.int32(self._base[len(self._noted)])
        self._noted.append((pair.astype(np.int32), seen.astype(np.int32)))

    def all(self) -> Observed:
        """Of all features."""
        return Observed(*(np.concatenate(column) for column in zip(*self._noted, strict=True)))


def _rank(which: Bools, streams: Streams) -> Ints:
    """How many of a stream's writes before each are ``which``."""
    before = np.r_[0, np.cumsum(which)]
    return np.asarray(before[:-1] - before[streams.start[streams.stream]])


def _rows_of(row: Ints, start: Ints, stream: Ints) -> tuple[Ints, Ints]:
    """Rows of each of the streams: which of these it is, and the row."""
    of, at = runs(start[stream], start[stream + 1])
    return of, row[at]
