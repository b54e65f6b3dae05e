"""Loops over packets: two sequences that are one, but for what either lacks."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel

FOLLOW = 0.1
"""How much the delay may drift, as a share of the time passed: a queue fills and drains."""


@kernel
def align_blocks(  # type: ignore[no-untyped-def]
    packet_ns, record_ns, packet_start, record_start, slack, usual_ns, absent, matched
):
    """Pair packets with records, block by block, in order (Needleman & Wunsch 1970).

    A pair costs what its delay differs from the last pair's, in the block's first pair from none at all:
    ``log(1 + z^2)``, z in units of ``usual_ns`` and what the time passed allows. A packet without a record,
    or a record without a packet, costs ``absent``.

    Parameters
    ----------
    packet_ns, record_ns : ndarray of int64
        Ascending within a block.
    packet_start, record_start : ndarray of int64, shape (blocks + 1,)
        ``packet_start[b]:packet_start[b + 1]`` are block b's packets.
    slack : ndarray of int64, shape (blocks,)
        How far the pairs may leave the band between the first two and the last two.
    usual_ns, absent : float
    matched : ndarray of int64
        Updated: record of each packet, -1 without.
    """
    for b in range(slack.size):
        first, origin = packet_start[b], record_start[b]
        n, m = packet_start[b + 1] - first, record_start[b + 1] - origin
        low = min(0, m - n) - slack[b]
        width = abs(m - n) + 2 * slack[b] + 1
        # Cell d of row i: i packets and i + low + d records are done with. Delay and packet of the last pair.
        cost, delay, last = np.full(width, np.inf), np.zeros(width), np.full(width, -1, np.int64)
        step = np.zeros((n + 1, width), np.uint8)
        for i in range(n + 1):
            for d in range(width):
                j = i + low + d
                if j < 0 or j > m:
                    cost[d] = np.inf
                    continue
                if i == 0 and j == 0:
                    cost[d] = 0.0
                    continue
                # cost[d] is still the row before: this packet and this record
                best, how, here, pair = np.inf, 0, 0.0, np.int64(-1)
                if i > 0 and j > 0 and cost[d] < np.inf:
                    t = packet_ns[first + i - 1]
                    here, pair = float(t - record_ns[origin + j - 1]), first + i - 1
                    z = here / usual_ns
                    if last[d] >= 0:
                        z = (here - delay[d]) / (usual_ns + FOLLOW * (t - packet_ns[last[d]]))
                    best, how = cost[d] + np.log1p(z * z), 1
                if i > 0 and d + 1 < width and cost[d + 1] + absent < best:
                    best, how, here, pair = cost[d + 1] + absent, 2, delay[d + 1], last[d + 1]
                if j > 0 and d > 0 and cost[d - 1] + absent < best:
                    best, how, here, pair = cost[d - 1] + absent, 3, delay[d - 1], last[d - 1]
                cost[d], delay[d], last[d], step[i, d] = best, here, pair, how
        i, d = n, m - n - low
        while i > 0 or i + low + d > 0:
            if step[i, d] == 1:
                i -= 1
                matched[first + i] = origin + i + low + d
            elif step[i, d] == 2:
                i, d = i - 1, d + 1
            else:
                d -= 1
