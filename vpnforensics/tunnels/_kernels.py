"""Loops over the segments of TCP connections: what is new in each, and where its bytes are.

The work a segment is bounded, whatever its sequence numbers say.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.kernels import kernel
from vpnforensics.packets._layers import ip_packet
from vpnforensics.packets.table import TCP_ACK, TCP_SYN

HELD_SEGMENTS = 1024
"""Out-of-order segments a direction that may wait for a hole to be filled."""
_PATIENCE_NS = 20_000_000
"""A hole that the receiver acknowledged this long ago is one in the capture only."""
_FAR = 1 << 30


@kernel
def reassemble(ts_ns: Any, up: Any, seq: Any, ack: Any, flags: Any, length: Any) -> Any:
    """Bytes of both streams of a TCP connection in the order in which the receiver gets them.

    Parameters
    ----------
    ts_ns, up, seq, ack, flags, length : ndarray, shape (n,)
        Segments of one connection, in the order of the capture.

    Returns
    -------
    side, pos, size, skip, row, done, ready, begun : ndarray
        Pieces: direction (1 up), position in the stream, bytes, bytes of the segment's payload before them,
        the segment, the segment that delivered them, the segment at which that was known (ascending);
        and, for each direction (down, up), whether the capture has its first byte. Pieces of a direction
        ascend in position and do not overlap.
    """
    n = len(ts_ns)
    side = np.empty(n, np.uint8)
    pos = np.empty(n, np.int64)
    size = np.empty(n, np.int64)
    skip = np.empty(n, np.int64)
    row = np.empty(n, np.int64)
    done = np.empty(n, np.int64)
    ready = np.empty(n, np.int64)
    count = 0
    begun = np.zeros(2, np.uint8)
    known = np.zeros(2, np.uint8)
    base = np.zeros(2, np.int64)  # sequence number of stream position 0
    reached = np.zeros(2, np.int64)
    held_pos = np.empty((2, HELD_SEGMENTS), np.int64)
    held_row = np.empty((2, HELD_SEGMENTS), np.int64)
    held = np.zeros(2, np.int64)
    acked = np.zeros(2, np.int64)  # up to where the hole's receiver acknowledged
    acked_ns = np.zeros(2, np.int64)  # since when that is so, of this hole
    for i in range(n):
        s = 1 if up[i] else 0
        o = 1 - s
        if flags[i] & TCP_ACK and known[o] and held[o]:
            mark = (np.int64(ack[i]) - base[o] - reached[o] + 0x80000000) % 0x100000000 - 0x80000000
            mark += reached[o]
            if mark > reached[o] and mark - reached[o] < _FAR:
                if acked[o] <= reached[o]:
                    acked_ns[o] = ts_ns[i]
                acked[o] = max(acked[o], mark)
        start = np.int64(seq[i])
        if flags[i] & TCP_SYN:
            start = (start + 1) % 0x100000000
            if not known[s]:
                begun[s] = 1
        if not known[s] and (length[i] > 0 or flags[i] & TCP_SYN):
            known[s] = 1
            base[s] = start
        if length[i] > 0:
            at = (start - base[s] - reached[s] + 0x80000000) % 0x100000000 - 0x80000000 + reached[s]
            end = at + length[i]
            if end > reached[s] and end - reached[s] < _FAR:
                if at <= reached[s]:
                    side[count], pos[count], size[count] = s, reached[s], end - reached[s]
                    skip[count], row[count], done[count], ready[count] = reached[s] - at, i, i, i
                    count += 1
                    reached[s], acked_ns[s] = end, ts_ns[i]
                elif held[s] < HELD_SEGMENTS:
                    k = held[s]
                    while k > 0 and held_pos[s, k - 1] > at:
                        held_pos[s, k] = held_pos[s, k - 1]
                        held_row[s, k] = held_row[s, k - 1]
                        k -= 1
                    held_pos[s, k] = at
                    held_row[s, k] = i
                    held[s] += 1
        for d in range(2):
            if not held[d]:
                continue
            lost = held[d] == HELD_SEGMENTS or (
                acked[d] > reached[d] and abs(ts_ns[i] - acked_ns[d]) >= _PATIENCE_NS
            )
            if not lost and held_pos[d, 0] > reached[d]:
                continue
            # What stood behind a hole of the capture was delivered when it came.
            k, acked_ns[d] = 0, ts_ns[i]
            if held_pos[d, 0] > reached[d]:
                reached[d] = held_pos[d, 0]
            while k < held[d] and (held_pos[d, k] <= reached[d]):
                j = held_row[d, k]
                end = held_pos[d, k] + length[j]
                if end > reached[d]:
                    side[count], pos[count], size[count] = d, reached[d], end - reached[d]
                    skip[count], row[count] = reached[d] - held_pos[d, k], j
                    done[count] = j if lost else i
                    ready[count] = i
                    count += 1
                    reached[d] = end
                k += 1
            for m in range(held[d] - k):
                held_pos[d, m] = held_pos[d, m + k]
                held_row[d, m] = held_row[d, m + k]
            held[d] -= k
    for d in range(2):  # what still waits behind a hole when the capture ends
        for k in range(held[d]):
            j = held_row[d, k]
            end = held_pos[d, k] + length[j]
            start = max(reached[d], held_pos[d, k])
            if end > start:
                side[count], pos[count], size[count] = d, start, end - start
                skip[count], row[count], done[count], ready[count] = start - held_pos[d, k], j, j, n - 1
                count += 1
                reached[d] = end
    return (
        side[:count], pos[:count], size[:count], skip[:count], row[:count], done[:count], ready[:count], begun
    )  # fmt: skip


@kernel
def locate_payloads(
    buf: Any, at: Any, captured: Any, link: Any, decap: Any, header_bytes: Any, start: Any, got: Any
) -> Any:
    """Where the transport payload of each frame begins, and how much of it was captured.

    ``header_bytes`` are those of network and transport header together, by the packet table; ``decap`` is the
    encapsulation that it was read out of.
    """
    for i in range(len(at)):
        end = at[i] + captured[i]
        l3 = ip_packet(buf, at[i], end, link[i], decap)
        start[i], got[i] = at[i], 0
        if l3 >= 0 and l3 + header_bytes[i] < end:
            start[i] = l3 + header_bytes[i]
            got[i] = end - start[i]


@kernel
def copy_payloads(buf: Any, start: Any, size: Any, out: Any, out_at: Any) -> Any:
    """Copy runs of bytes of ``buf`` into ``out``."""
    for i in range(len(start)):
        for k in range(size[i]):
            out[out_at[i] + k] = buf[start[i] + k]
