"""Writes: each write of an egress connection has its outer write, of the size that the relay's law says.

Theory of operation
-------------------
A relay reads what has come and writes it at once. What packets are to a VPN, writes are to it: one in gives
one out, larger by what the relay's write law says (:mod:`vpnforensics.tunnels.write_law`), within the relay's
delay. So everything here is the engine ``packets``, on the writes of either side in the place of packets, and
goes the same road of joint attribution, decoys and calibration. Of a tun device behind a stream (``ssh -w``)
the egress side has packets, each of which was a write.

Three things differ. Only writes of one segment are looked for: larger ones are read in pieces, and have no
single partner (of 444 bulk writes through a real Shadowsocks, 19 had). A first write whose address is as long
as its destination's name is not looked for either. And writes that follow one another closely are read as
one, so that more have no partner than packets have no record: how many is measured, by direction, and asked
of a flow accordingly. What is missing denies no tunnel.

Assumptions: the write law is known; aligned clocks.

Silent where no write of a flow is of one segment (a datagram, a mere bulk transfer), and of relays that are
not proved to be some (:mod:`vpnforensics.align.relays`).

Known weaknesses: relays that mix or pad (obfs4, Shadowsocks-2022's first writes); streams that carry many
connections and write what several sent as one (most downstream writes of ``ssh -D``); keystrokes, all of one
size.

That relays pass traffic on as it comes is what stepping-stone detection builds on: Zhang & Paxson 2000
(USENIX Security); Donoho et al. 2002 (RAID).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Bools
from vpnforensics.engines import packets
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.engines.case import Case
from vpnforensics.engines.containment import Containment

NAME = "writes"

_NEAR_NS, _WIDTHS = 5_000_000, 2
"""A write's partner is looked for within this, or so many widths of the delay law."""
_NULL_SHIFTS_NS = (3_100_000_000, -4_700_000_000, 7_300_000_000)
"""Moved by these no write is near its partner: what is then found is chance. No multiples of one another."""
_MISS_RANGE = (0.03, 0.95)
"""Share of writes of one segment without a partner: of real relays 6 to 27 % up, 43 to 89 % down."""


def prepare(case: Case, seen: Bools) -> Containment | None:
    """As :func:`vpnforensics.engines.packets.prepare`, of a case whose tunnels are carriers."""
    containment = packets.prepare(case, seen)
    if containment is None:
        return None
    miss = np.array([_missed(containment, up) for up in (False, True)])
    return replace(containment, miss=np.tile(miss, KINDS // 2), of_writes=True, of_packets=case.of_packets)


def _missed(containment: Containment, up: bool) -> float:
    """Share of a direction's writes that have no partner within the delay law, chance taken off."""
    egress, classes = containment.egress, containment.classes
    size_class = np.max(containment.egress_class, axis=0)
    asked = np.flatnonzero((size_class != IN_PIECES) & (egress.up == up))
    if not len(asked):
        return _MISS_RANGE[1]
    # One ascending number a record: its class, then its time in microseconds.
    begin = min(int(egress.ts_ns.min()), int(classes.ts_ns.min()))
    span = (max(int(egress.ts_ns.max()), int(classes.ts_ns.max())) - begin) // 1000 + 20_000_000
    record = np.repeat(np.arange(len(classes)), classes.counts) * span + (classes.ts_ns - begin) // 1000
    near = max(_NEAR_NS, round(_WIDTHS * containment.law.width_ns)) // 1000
    of_class = size_class[asked].astype(np.int64)

    def found(shift_ns: int) -> float:
        at = of_class * span + (egress.ts_ns[asked] - begin + shift_ns) // 1000
        between = np.searchsorted(record, at + near, side="right") - np.searchsorted(record, at - near)
        return float(np.mean((between > 0) & (of_class >= 0)))

    chance = float(np.mean([found(shift) for shift in _NULL_SHIFTS_NS]))
    return float(np.clip(1.0 - (found(0) - chance) / max(1.0 - chance, 1e-9), *_MISS_RANGE))
