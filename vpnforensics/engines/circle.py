"""Where copies of flows are put in time: on a circle of the times at which the case's flows begin.

A copy that lands where no tunnel has records, at night or in a pause, cannot score. Counted with the others
it would make chance look rarer than it is, by as much as the captures are idle, one is longer than the other,
or one time stamp is wrong. So only time around beginnings of flows, beside records, counts in full.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.scratch import ascending

_BESIDE_NS = 2_000_000_000
"""A flow begins beside the records if one of any tunnel is so near; the time so near to it counts."""
_IDLE_SHARE = 0.1
"""Part of the circle that all time shares evenly: flows that begin all at once have nowhere else to go."""
_AWAY_NS = 5_000_000_000
"""Nearer to its true place a copy is no copy; or an eighth of a short circle."""


@dataclass(frozen=True, eq=False)
class Circle:
    """Times, and the share of the circle that lies before each."""

    origin_ns: int
    period_ns: int
    at_ns: Floats
    """Since ``origin_ns``, ascending from 0 to ``period_ns``: a difference, so a float is exact enough."""
    share: Floats
    """Ascending from 0 to 1."""

    def turned(self, begin_ns: Ints, turn: Floats | float) -> tuple[Ints, Bools]:
        """By how much flows move that are turned, and whether that is away from their true place.

        Parameters
        ----------
        begin_ns : ndarray of int64, shape (n,)
            Where each begins.
        turn : ndarray of float64, shape (n,), or float
            Shares of the circle, from 0 to 1.

        Returns
        -------
        shift_ns : ndarray of int64, shape (n,)
        away : ndarray of bool, shape (n,)
        """
        here_ns = begin_ns - self.origin_ns
        share = np.interp(here_ns, self.at_ns, self.share)
        there_ns = np.interp((share + turn) % 1.0, self.share, self.at_ns)
        shift_ns = there_ns.astype(np.int64) - here_ns
        least_ns = min(_AWAY_NS, self.period_ns // 8)
        far_ns = np.abs(shift_ns)
        return shift_ns, (far_ns >= least_ns) & (far_ns <= self.period_ns - least_ns)


def circle_of(begin_ns: Ints, records_ns: Ints) -> Circle:
    """The circle of a case.

    Parameters
    ----------
    begin_ns : ndarray of int64, shape (flows,)
        Where each flow begins.
    records_ns : ndarray of int64, shape (records,)
        Of all tunnels, at least one.
    """
    if not ascending(records_ns):
        records_ns = np.sort(records_ns, kind="stable")  # nearly in order
    origin_ns, period_ns = int(records_ns[0]), max(int(records_ns[-1] - records_ns[0]), 1)
    begin_ns = begin_ns[(begin_ns > origin_ns) & (begin_ns < origin_ns + period_ns)]
    after = np.searchsorted(records_ns, begin_ns)
    beside = np.minimum(records_ns[after] - begin_ns, begin_ns - records_ns[after - 1]) < _BESIDE_NS
    begin_ns = np.sort(begin_ns[beside]) - origin_ns
    apart = np.diff(begin_ns) > 2 * _BESIDE_NS
    opens = begin_ns[np.r_[True, apart][: len(begin_ns)]] - _BESIDE_NS
    closes = begin_ns[np.r_[apart, True][: len(begin_ns)]] + _BESIDE_NS
    at_ns = np.clip(np.ravel([opens, closes], order="F"), 0, period_ns)
    busy = np.r_[0, np.cumsum(np.diff(at_ns, prepend=0) * (np.arange(len(at_ns)) % 2))]
    at_ns, busy = np.r_[0, at_ns, period_ns], np.r_[busy, busy[-1]]
    even = at_ns / period_ns
    share = _IDLE_SHARE * even + (1 - _IDLE_SHARE) * busy / busy[-1] if busy[-1] else even
    return Circle(origin_ns, period_ns, at_ns.astype(np.float64), share)
