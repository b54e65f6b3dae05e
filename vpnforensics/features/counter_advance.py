"""How far tunnels' clear packet counters came: the packets that each sent, seen or not.

WireGuard, OpenVPN with an AEAD cipher, ESP, DTLS, nebula and TLS 1.2 with GCM number their packets in clear.
The counter's advance over a stretch of time is the number of packets that the tunnel carried in it, also of
those that the ingress capture lost.

RFC 4303, 2.2 (ESP); https://www.wireguard.com/protocol/; RFC 5288, 3 (the explicit nonce of GCM).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.features._counter_kernels import counter_totals
from vpnforensics.flows.grouping import group_rows
from vpnforensics.scratch import beside
from vpnforensics.tunnels.table import TunnelSet

Ints = npt.NDArray[np.int64]

_REORDERED = 64
"""A step back by more is no re-ordering but a new key, with a counter of its own."""
_JUMP = 1 << 20
"""A leap ahead by more is no loss: a capture with such a hole says nothing of what was in it."""
_LEAST_COUNTED = 8
"""Records of a direction without which its counter is not known to count."""


@dataclass(frozen=True, eq=False)
class Advances:
    """Of all tunnels: ``start[2 * t + up]`` is where the records of tunnel t's direction begin."""

    start: Ints
    ts_ns: Ints
    """Of the records, ascending within a direction."""
    total: Ints
    """Packets sent up to and with each record, from the direction's first on."""

    def of(self, tunnel: int, up: bool) -> tuple[Ints, Ints]:
        """Times and totals of one direction; empty without a clear counter."""
        mine = slice(int(self.start[2 * tunnel + up]), int(self.start[2 * tunnel + up + 1]))
        return self.ts_ns[mine], self.total[mine]

    def between(self, group: Ints, first_ns: Ints, last_ns: Ints) -> Ints:
        """Packets sent by each direction in [first, last); -1 where it was not there all that time.

        Parameters
        ----------
        group : ndarray of int64, shape (n,)
            ``2 * t + up``.
        first_ns, last_ns : ndarray of int64, shape (n,)
        """
        sent = np.full(len(group), -1, np.int64)
        for g in np.unique(group).tolist():
            ts_ns, total = self.of(g // 2, bool(g % 2))
            asked = np.flatnonzero(group == g)
            if len(ts_ns):
                asked = asked[(first_ns[asked] >= ts_ns[0]) & (last_ns[asked] <= ts_ns[-1])]
                reached = np.r_[0, total]
                begin, end = (np.searchsorted(ts_ns, at[asked]) for at in (first_ns, last_ns))
                sent[asked] = reached[end] - reached[begin]
        return sent


def advances(tunnels: TunnelSet) -> Advances:
    """The advance of every tunnel and direction that has a clear counter.

    It may be re-ordered, have gaps, and start anew with a new key, which counts its first packet only.
    """
    records, groups = tunnels.records, 2 * len(tunnels)
    scratch, counter, tunnel, up = beside(records.counter), records.counter, records.tunnel, records.up
    group = scratch.filled(
        len(records), np.int32, lambda rows: np.where(counter[rows] >= 0, 2 * tunnel[rows] + up[rows], -1)
    )
    row, start = group_rows(group, groups)
    enough = np.diff(start) >= _LEAST_COUNTED
    if not enough.all():
        row = scratch.taken(row, np.repeat(enough, np.diff(start)))
        start = np.r_[0, np.cumsum(np.where(enough, np.diff(start), 0))]
    total = scratch.empty(len(row), np.int64)
    counter_totals(scratch.taken(counter, row), start, _REORDERED, _JUMP, total)
    return Advances(start, scratch.taken(records.ts_ns, row), total)
