"""Records sent at other times, others beside them: with counters and IP IDs as their senders would count.

A clear counter counts what is sent, in the order of sending. It is found by its value in the captured heads
(8 or 4 bytes, either order). A datagram that fills a constant rate looks like the others of its tunnel and
direction: what those have in common stays, the rest is random.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Ints
from vpnforensics.audit.copies._kernels import DROPPED
from vpnforensics.audit.copies.belonging import Belonging
from vpnforensics.audit.copies.cover import Filling
from vpnforensics.packets.table import HEAD_BYTES, PacketTable

U8 = npt.NDArray[np.uint8]

_COMPARED = 64
"""Records of a sender by which its counter and its constant bytes are found."""
_NEW_KEY_STEP = 64
"""A counter that falls by more is a new key's: nothing is reordered so far."""


@dataclass(frozen=True, slots=True)
class CounterPlace:
    """Where a clear counter stands in the payload."""

    at: int
    width: int
    little: bool

    def read(self, head: U8) -> Ints:
        """The counters of some heads."""
        dtype = f"{'<' if self.little else '>'}u{self.width}"
        part = np.ascontiguousarray(head[:, self.at : self.at + self.width])
        return part.view(dtype)[:, 0].astype(np.int64)

    def write(self, head: U8, rows: Ints, counter: Ints) -> None:
        """Set the counters of some rows, in place."""
        dtype = f"{'<' if self.little else '>'}u{self.width}"
        written = counter.astype(dtype).view(np.uint8).reshape(-1, self.width)
        head[rows, self.at : self.at + self.width] = written


def counter_place(head: U8, counter: Ints) -> CounterPlace | None:
    """Where counters stand in heads; None where they do not."""
    if len(counter) < 2 or (counter < 0).any():
        return None
    for width in (8, 4):
        for at in range(0, HEAD_BYTES - width + 1):
            for little in (True, False):
                place = CounterPlace(at, width, little)
                if (place.read(head) == counter).all():
                    return place
    return None


def sent_again(
    known: Belonging, ingress: PacketTable, record_ns: Ints, filling: Filling, rng: np.random.Generator
) -> PacketTable:
    """The ingress side with its records at other times.

    Parameters
    ----------
    known : Belonging
    ingress : PacketTable
        Rows as in ``known.ingress``.
    record_ns : ndarray of int64, shape (records,)
        When each is seen; ``DROPPED`` for those that are not sent.
    filling : Filling
        Datagrams to be sent beside them.
    rng : numpy.random.Generator

    Returns
    -------
    PacketTable
        In no order.
    """
    records = known.records
    sent = np.flatnonzero(record_ns != DROPPED)
    sender = np.r_[
        2 * records.tunnel[sent].astype(np.int64) + records.up[sent], 2 * filling.tunnel + filling.up
    ]
    template = _templates(known)[sender[len(sent) :]]
    rows = np.r_[records.row[sent].astype(np.int64), template]
    ts_ns = np.r_[record_ns[sent], filling.ts_ns]
    fills = np.arange(len(rows)) >= len(sent)
    order = np.lexsort((fills, ts_ns, sender))
    outer = ingress.take(rows)
    # In order of sending, each sender's together.
    head, ip_id = outer.head[order].copy(), outer.ip_id[order].astype(np.int64)
    who, empty = sender[order], fills[order]
    session = _sessions(known, sent, who, empty, order)
    _blank(known, head, who, empty, rng)
    _renumber(known, sent, head, who, session, empty, order)
    before = np.cumsum(empty)
    before = (
        before
        - before[np.searchsorted(who, who, side="left")]
        + empty[np.searchsorted(who, who, side="left")]
    )
    ids = np.where(ip_id > 0, (ip_id + before) & 0xFFFF, ip_id).astype(np.int32)
    changed = replace(outer.take(order), ts_ns=ts_ns[order], head=head, ip_id=ids)
    others = np.ones(len(ingress), np.bool_)
    others[records.row] = False
    return _joined(ingress.take(others), changed)


def _templates(known: Belonging) -> Ints:
    """A record's ingress row of each sender, that all its empty datagrams are made like."""
    records = known.records
    template = np.zeros(2 * len(known.tunnels), np.int64)
    template[2 * records.tunnel[::-1] + records.up[::-1]] = records.row[::-1]
    return template


def _sessions(known: Belonging, sent: Ints, who: Ints, empty: Bools, order: Ints) -> Ints:
    """Number of the key in use at each datagram, rising within a sender; in order of sending."""
    records = known.records
    sender = 2 * records.tunnel.astype(np.int64) + records.up
    by_sender = np.argsort(sender, kind="stable")
    counter = records.counter[by_sender]
    falls = np.diff(counter, prepend=counter[:1]) < -_NEW_KEY_STEP
    changes = np.diff(sender[by_sender], prepend=sender[by_sender][:1]) != 0
    session = np.empty(len(records), np.int64)
    session[by_sender] = np.cumsum(falls | changes)
    first = np.full(2 * len(known.tunnels), np.iinfo(np.int64).max)
    np.minimum.at(first, sender, session)
    stated = np.r_[session[sent], np.zeros(len(order) - len(sent), np.int64)][order]
    return np.maximum.accumulate(np.where(empty, first[who], stated))


def _blank(known: Belonging, head: U8, who: Ints, empty: Bools, rng: np.random.Generator) -> None:
    """Random bytes in empty datagrams, but for those that all records of their sender have in common."""
    if not empty.any():
        return
    records = known.records
    sender = 2 * records.tunnel.astype(np.int64) + records.up
    order = np.argsort(sender, kind="stable")
    begin = np.searchsorted(sender[order], np.arange(2 * len(known.tunnels) + 1))
    common = np.ones((2 * len(known.tunnels), HEAD_BYTES), np.bool_)
    for s in np.flatnonzero(np.diff(begin)).tolist():
        some = known.ingress.head[records.row[order[begin[s] : begin[s + 1]][:_COMPARED]]]
        common[s] = (some == some[0]).all(axis=0)
    mine = np.flatnonzero(empty)
    noise = rng.integers(0, 256, (len(mine), HEAD_BYTES), np.uint8)
    head[mine] = np.where(common[who[mine]], head[mine], noise)


def _renumber(
    known: Belonging,
    sent: Ints,
    head: U8,
    who: Ints,
    session: Ints,
    empty: Bools,
    order: Ints,
) -> None:
    """Counters in the order of sending: those that were there, or one after the other with empty ones."""
    records = known.records
    counter = np.r_[records.counter[sent], np.full(len(order) - len(sent), -1)][order]
    group = np.unique(np.stack([who, session]), axis=1, return_inverse=True)[1].ravel()
    stated = counter >= 0
    if empty.any():
        first = np.full(int(group.max(initial=-1)) + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, group[stated], counter[stated])
        start = np.searchsorted(group, np.arange(len(first)))
        counted = np.where(first[group] < np.iinfo(np.int64).max, first[group], 0)
        anew = counted + np.arange(len(group)) - start[group]
    else:
        anew = counter[np.lexsort((counter, group))]
    edges = np.searchsorted(who, np.arange(2 * len(known.tunnels) + 1))
    for s in np.flatnonzero(np.diff(edges)).tolist():
        mine = np.arange(edges[s], edges[s + 1])
        shown = mine[stated[mine] & ~empty[mine]][:_COMPARED]
        place = counter_place(head[shown], counter[shown])
        if place is not None:
            place.write(head, mine, anew[mine])


def _joined(first: PacketTable, second: PacketTable) -> PacketTable:
    """The packets of two tables over the same addresses."""
    columns: dict[str, Any] = {
        spec.name: np.concatenate([array, getattr(second, spec.name)]) for spec, array in first.columns()
    }
    return PacketTable(**columns, addresses=first.addresses)
