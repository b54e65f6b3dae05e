"""First bytes of payloads: what two sides have alike, and what is never the same twice.

A Hello of TLS, a record under the connection's own key and ssh's cookie are made anew each time (RFC 8446,
4.1.2 and 5.2; RFC 4253, 7.1). Equal heads get one number on both sides, so that whatever is asked of them is
asked of numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Columns, Ints
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes, runs
from vpnforensics.tunnels import tls

HEAD_BYTES = 24
"""What a capture snapped at 96 bytes has of a payload behind IPv4, TCP and its timestamps."""
_RANDOM_FROM, _LEAST_DISTINCT, _LEAST_HIGH = 12, 9, 3
"""Where a head has to look random: 12 random bytes have fewer than 9 values, or 3 over 127, in 2 of 100."""
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_KEXINIT = 20
_MOST_ALIKE = 16
"""A payload that more connections have at a time names none."""


@dataclass(frozen=True, eq=False)
class PayloadHeads(Columns):
    """Segments of one side with their first bytes."""

    of: Ints
    """Conversation or flow."""
    ts_ns: Ints
    up: Bools
    size: Ints
    """Bytes of payload."""
    head: npt.NDArray[np.uint8]
    """Shape (n, HEAD_BYTES)."""


def payload_heads(table: FlowTable, wanted: Bools, up: Bools) -> PayloadHeads:
    """The payloads that are long enough, of the conversations ``wanted``.

    Parameters
    ----------
    table : FlowTable
    wanted : ndarray of bool, shape (conversations,)
    up : ndarray of bool, shape (packets,)
    """
    packets = table.packets
    rows = np.flatnonzero(wanted[table.flow] & (packets.payload_bytes >= HEAD_BYTES))
    head = packets.head[rows, :HEAD_BYTES]
    there = head.any(axis=1)  # a snapped capture may have none
    rows = rows[there]
    size = packets.payload_bytes[rows].astype(np.int64)
    return PayloadHeads(table.flow[rows].astype(np.int64), packets.ts_ns[rows], up[rows], size, head[there])


def number_heads(outer: PayloadHeads, inner: PayloadHeads) -> tuple[Ints, Ints, int]:
    """One number for each head and direction, of both sides' payloads, and how many numbers there are."""
    marked = np.concatenate([np.c_[heads.head, heads.up] for heads in (outer, inner)]).astype(np.uint8)
    each = marked.view(np.dtype((np.void, marked.shape[1])))[:, 0]
    different, number = np.unique(each, return_inverse=True)
    return number[: len(outer)], number[len(outer) :], len(different)


def holders(number: Ints, of: Ints, numbers: int) -> Ints:
    """How many conversations have each head."""
    order = np.lexsort((of, number))
    return np.bincount(number[order][changes(number[order], of[order])], minlength=numbers)


def first_places(number: Ints, numbers: int) -> Ints:
    """Where each head stands first, -1 for nowhere."""
    first = np.full(numbers, -1, np.int64)
    first[number[::-1]] = np.arange(len(number))[::-1]
    return first


def never_twice(head: npt.NDArray[np.uint8]) -> Bools:
    """Whether heads have what is made anew each time: Hellos, records under their own keys, ssh's cookie."""
    record = (head[:, 1] == 3) & (head[:, 2] <= 4)  # of TLS
    hello = record & (head[:, 0] == tls.HANDSHAKE) & np.isin(head[:, 5], (_CLIENT_HELLO, _SERVER_HELLO))
    kexinit = (head[:, :2] == 0).all(axis=1) & (head[:, 5] == _KEXINIT)
    end = np.sort(head[:, _RANDOM_FROM:], axis=1)
    distinct = 1 + (np.diff(end, axis=1) != 0).sum(axis=1)
    random = (distinct >= _LEAST_DISTINCT) & ((end > 127).sum(axis=1) >= _LEAST_HIGH)
    return np.asarray((hello | kexinit | (record & (head[:, 0] == tls.APPLICATION_DATA))) & random)


def alike_beside(number: Ints, from_ns: Ints, to_ns: Ints, other: Ints, other_ns: Ints) -> tuple[Ints, Ints]:
    """Payloads of this side and of the other with equal heads, the other's time within bounds.

    Parameters
    ----------
    number, from_ns, to_ns : ndarray of int64, shape (n,)
        Of this side's payloads.
    other, other_ns : ndarray of int64, shape (m,)
        Of the other's: their heads' numbers, and times.

    Returns
    -------
    mine, theirs : ndarray of int64
        Places among either side's, a pair an entry; none of those with more than 16 partners.
    """
    # Times as ranks among all, so that head and time are one ascending number.
    ranked = np.sort(other_ns)
    base = len(ranked) + 1
    key = other * base + np.searchsorted(ranked, other_ns)
    order = np.argsort(key, kind="stable")
    first = np.searchsorted(key[order], number * base + np.searchsorted(ranked, from_ns))
    past = np.searchsorted(key[order], number * base + np.searchsorted(ranked, to_ns, side="right"))
    past = np.where(past - first > _MOST_ALIKE, first, past)
    mine, at = runs(first, past)
    return mine, order[at]
