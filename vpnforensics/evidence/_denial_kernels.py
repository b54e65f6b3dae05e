"""Loops over packets: what of a flow can be missing at once."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel


@kernel
def count_bouts(flow_start, egress_ns, counts, bout_ns):  # type: ignore[no-untyped-def]
    """Bouts of each flow: runs of its packets, those that count, in one ``bout_ns`` from its first on.

    Returns
    -------
    ndarray of int64, shape (flows,)
    """
    bouts = np.zeros(flow_start.size - 1, np.int64)
    for f in range(bouts.size):
        last, none = 0, True
        for j in range(flow_start[f], flow_start[f + 1]):
            if not counts[j]:
                continue
            bout = (egress_ns[j] - egress_ns[flow_start[f]]) // bout_ns
            if none or bout != last:
                bouts[f] += 1
            last, none = bout, False
    return bouts
