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
one, so that more have no partner than packets have no record (``miss``); what is missing denies no tunnel.

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

from vpnforensics.arrays import Bools
from vpnforensics.engines import packets
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.engines.case import Case
from vpnforensics.engines.containment import Containment

NAME = "writes"

_MISS = 0.3
"""Share of writes of one segment without a partner: of real relays 0.5 % up and half of those down."""


def prepare(case: Case, seen: Bools) -> Containment | None:
    """As :func:`vpnforensics.engines.packets.prepare`, of a case whose tunnels are carriers."""
    containment = packets.prepare(case, seen)
    return None if containment is None else replace(containment, miss=np.full(KINDS, _MISS))
