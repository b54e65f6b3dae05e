"""Loops over packets: the records of all conversations in one order."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel


@kernel
def in_order_of_file(  # type: ignore[no-untyped-def]
    conversation, start, tunnel_of, carries, up, counter, ts_ns, payload_bytes
):
    """The columns of a RecordTable, from what is known conversation by conversation.

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
    """
    records = 0
    for packet_carries in carries:
        records += packet_carries
    record_ns, record_counter = np.empty(records, np.int64), np.empty(records, np.int64)
    tunnel, row = np.empty(records, np.int32), np.empty(records, np.int32)
    size, record_up = np.empty(records, payload_bytes.dtype), np.empty(records, np.bool_)
    place = start[:-1].copy()
    n = 0
    for i in range(conversation.size):
        c = conversation[i]
        at = place[c]
        place[c] += 1
        if carries[at]:
            record_ns[n], tunnel[n], record_up[n] = ts_ns[i], tunnel_of[c], up[at]
            size[n], record_counter[n], row[n] = payload_bytes[i], counter[at], i
            n += 1
    return record_ns, tunnel, record_up, size, record_counter, row
