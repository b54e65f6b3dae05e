"""Loops over the pieces of streams that carry cells."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel


@kernel
def count_cells(stream, ts_ns, size, sizes, pause_ns, count):  # type: ignore[no-untyped-def]
    """Cells that each piece completes; ``count`` is filled.

    What stands between two pauses begins with a record, unless the pause was within one. ``sizes`` are the
    bytes of a cell, of a record beside its cells, and of cells in a record at most.
    """
    cell, own, room = sizes
    have = done = np.int64(0)
    for k in range(size.size):
        if k == 0 or stream[k] != stream[k - 1]:
            have = done = np.int64(0)
        elif ts_ns[k] - ts_ns[k - 1] > pause_ns:
            rest = have - own * -(-have // (room + own)) - cell * done
            # More records than were taken off leave their own bytes; more than these is part of a cell.
            have = rest + own if rest > own * done else np.int64(0)
            done = np.int64(0)
        have += size[k]
        now = max(have - own * -(-have // (room + own)), 0) // cell
        count[k] = now - done
        done = now
