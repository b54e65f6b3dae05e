"""Loops over packets of the header-field engines: counters."""

from __future__ import annotations

import numpy as np

from vpnforensics.kernels import kernel

_AROUND = 5
"""Packets around a count, by whose median a stray one is known."""


@kernel
def counter_totals(counter, start, reordered, jump, total):  # type: ignore[no-untyped-def]
    """Packets sent up to each record, by clear counters that may be re-ordered, have gaps, and start anew.

    Parameters
    ----------
    counter : ndarray of int64, shape (n,)
    start : ndarray of int64, shape (groups + 1,)
        ``counter[start[g]:start[g + 1]]`` count together, in order of time.
    reordered, jump : int
        A step back by more than ``reordered``, or ahead by more than ``jump``, is a new key's, with a counter
        of its own. A count so far off those around it is of the old key while the new one is in use: it
        counts as they do.
    total : ndarray of int64, shape (n,)
        Is written.
    """
    window = np.empty(_AROUND, np.int64)
    for g in range(start.size - 1):
        first, stop = start[g], start[g + 1]
        earlier_keys, begun, highest, reached, last = 0, 0, 0, 0, 0
        for i in range(first, stop):
            value = counter[i]
            if stop - first >= _AROUND:
                for k in range(_AROUND):  # sorted as they come; at the ends the last one repeats
                    j = min(max(i + k - _AROUND // 2, first), stop - 1)
                    place = k
                    while place and window[place - 1] > counter[j]:
                        window[place] = window[place - 1]
                        place -= 1
                    window[place] = counter[j]
                if abs(value - window[_AROUND // 2]) > reordered:
                    value = window[_AROUND // 2]
            if i == first or value - last < -reordered or value - last > jump:
                earlier_keys += highest
                begun, highest = value, 0
            last = value
            highest = max(highest, value - begun + 1)
            reached = max(reached, earlier_keys + value - begun + 1)
            total[i] = reached
