"""The delay law where no size is rare: learned from flows that only one tunnel can have carried.

Of tunnels padded to one size, hardly a packet is without a rival among all tunnels' records. Within one
tunnel many are: after a pause, a flow's packet and the tunnel's record stand alone. So flows are scored under
a law that assumes little, and those that are plain even so say which tunnel's records to look at. What they
teach makes others plain, and those who were so by chance alone, doubtful: hence a second time.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Int32s
from vpnforensics.engines.containment import Containment
from vpnforensics.engines.delay_law import DelayLaw, Rarities, estimate_delay_law, observed_delays
from vpnforensics.flows.grouping import places

FAR_NS = 40e6
"""Delays are within this, to begin with: four times the jitter that is reckoned with."""
TIMES = 2
"""How often a law is learned: of simulated padded clients a third time changed nothing."""
_PLAIN = 12.0
"""Decimal logarithms by which a flow's score exceeds 0 and that in any other tunnel: as to be placed."""
_LEAST_PACKETS, _MOST_FLOWS = 20, 1_000
"""Of a flow: fewer are hardly ever plain. And flows: more only cost time, with as many tunnels each."""


def law_of_plain_flows(containment: Containment) -> DelayLaw:
    """Delay law of packets and records that stand alone, of plain flows in their tunnels."""
    tunnel = _plain(containment)
    classes, tunnels = containment.classes, containment.tunnels
    of_packet = np.repeat(tunnel, np.diff(containment.egress.start))
    size_class = np.repeat(np.arange(len(classes)), classes.counts)
    order = np.lexsort((classes.ts_ns, classes.tunnel, size_class))
    key, first = np.unique((size_class * tunnels + classes.tunnel)[order], return_index=True)
    of_tunnel = Rarities(np.r_[first, len(order)], classes.ts_ns[order])

    def within_its_tunnel(per_map: Int32s) -> Int32s:
        wanted = per_map.astype(np.int64) * tunnels + of_packet
        known = (per_map >= 0) & (of_packet >= 0)
        return places(key, np.where(known, wanted, -1)).astype(np.int32)

    egress_class = tuple(within_its_tunnel(per_map) for per_map in containment.egress_class)
    return estimate_delay_law(*observed_delays(of_tunnel, containment.egress, egress_class))


def _plain(containment: Containment) -> Int32s:
    """Tunnel of each plain flow, -1 of all others."""
    sizes = np.diff(containment.egress.start)
    long = np.flatnonzero(sizes >= _LEAST_PACKETS).astype(np.int32)
    asked = long[:: len(long) // _MOST_FLOWS + 1]
    pairs = containment.score(asked, floor_log10=0.0)
    row, lead = pairs.best(len(sizes))
    plain = lead >= _PLAIN
    tunnel = np.full(len(sizes), -1, np.int32)
    tunnel[plain] = pairs.tunnel[row[plain]]
    return tunnel
