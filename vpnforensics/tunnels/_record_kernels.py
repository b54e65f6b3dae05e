"""Loops over packets: the records of all conversations in one order."""

from __future__ import annotations

from typing import NamedTuple

from vpnforensics.arrays import Bools, Int32s, Ints
from vpnforensics.kernels import kernel


class Records(NamedTuple):
    """The columns of a RecordTable."""

    ts_ns: Ints
    tunnel: Int32s
    up: Bools
    size: Int32s
    counter: Ints
    row: Int32s


@kernel
def in_order_of_file(  # type: ignore[no-untyped-def]
    conversation, start, tunnel_of, carries, up, counter, ts_ns, payload_bytes, records
):
    """Write the columns of a RecordTable, from what is known conversation by conversation.

    Parameters
    ----------
    conversation : ndarray of int32, shape (packets,)
    start : ndarray of int64, shape (conversations + 1,)
        ``carries``, ``up`` and ``counter`` hold conversation c's packets, in the file's order, at
        ``start[c]:start[c + 1]``.
    tunnel_of : ndarray of int32, shape (conversations,)
        -1 for what is no tunnel.
    ts_ns, payload_bytes : ndarray, shape (packets,)
        In the file's order.
    records : Records
        With room for as many as there are in ``carries``.
    """
    place = start[:-1].copy()
    n = 0
    for i in range(conversation.size):
        c = conversation[i]
        at = place[c]
        place[c] += 1
        if carries[at]:
            records.ts_ns[n], records.tunnel[n], records.up[n] = ts_ns[i], tunnel_of[c], up[at]
            records.size[n], records.counter[n], records.row[n] = payload_bytes[i], counter[at], i
            n += 1
