"""Cases small enough to enumerate: flows, tunnels and records by hand."""

from __future__ import annotations

import numpy as np

from vpnforensics.align.classes import SIZE_BITS, SizeClasses
from vpnforensics.engines._hole_kernels import UNCOUNTED
from vpnforensics.engines._kernels import rarest_packets
from vpnforensics.engines.case import EgressRows
from vpnforensics.engines.circle import Circle
from vpnforensics.engines.containment import PROBES, Containment, in_order
from vpnforensics.engines.delay_law import DelayLaw
from vpnforensics.engines.holes import Holes

MS = 1_000_000
Packet = tuple[float, int, bool]
"""Time in ms, size, whether it goes up."""
Record = tuple[float, int, bool, int]
"""Time in ms, size, whether it goes up, tunnel."""


def normal_law(sd_ms: float, *, step_bits: int = 17, reach_sd: float = 5.0) -> DelayLaw:
    """Normal delays of mean 0, either direction."""
    step = 1 << step_bits
    bins = 2 * int(np.ceil(reach_sd * sd_ms * MS / step))
    low = -(bins // 2) * step
    center = low + (np.arange(bins) + 0.5) * step
    density = np.exp(-0.5 * (center / (sd_ms * MS)) ** 2)
    density /= density.sum() * step
    return DelayLaw(low, step_bits, density, density, (0.0, 0.0), (0.0, 0.0), (0, 0))


def made_holes(tunnels: int, holes: list[tuple[int, bool, float, float]] | None) -> Holes:
    """Counters with these holes, or none."""
    sides = sorted((2 * k + up, round(a * MS), round(b * MS)) for k, up, a, b in holes or ())
    side, first, last = np.array(sides, np.int64).reshape(-1, 3).T
    start = np.searchsorted(side, np.arange(2 * tunnels + 1)).astype(np.int64)
    return Holes(np.full(2 * tunnels, holes is not None), start, first, last, np.ones(len(side), np.int64))


def made(
    flows: list[list[Packet]],
    records: list[Record],
    *,
    tunnels: int,
    sd_ms: float = 1.0,
    miss: float = 0.02,
    holes: list[tuple[int, bool, float, float]] | None = None,
) -> Containment:
    """The case of these flows and records.

    ``holes`` of counters, (tunnel, up, from ms, to ms); without, the tunnels have no counters.
    """
    packets = [(f, round(t * MS), size, up) for f, of in enumerate(flows) for t, size, up in of]
    rows = sorted((int(up) << SIZE_BITS | size, round(t * MS), k) for t, size, up, k in records)
    key, start = np.unique([r[0] for r in rows], return_index=True)
    classes = SizeClasses(
        (),
        key.astype(np.int64),
        np.r_[start, len(rows)].astype(np.int64),
        np.array([r[1] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.int32),
        np.arange(len(rows), dtype=np.int32),
    )
    egress = EgressRows(
        np.r_[0, np.cumsum([len(of) for of in flows])].astype(np.int64),
        np.arange(len(packets), dtype=np.int32),
        np.array([p[1] for p in packets], np.int64),
        np.array([p[2] for p in packets], np.int32),
        np.array([p[3] for p in packets], np.bool_),
    )
    number = {int(k): c for c, k in enumerate(key)}
    of_packet = np.array([number.get(int(p[3]) << SIZE_BITS | p[2], -1) for p in packets], np.int32)
    fresh = np.ones(len(packets), np.uint8)
    law = normal_law(sd_ms)
    probes = rarest_packets(egress.start, of_packet, fresh, classes.counts, PROBES)
    period = int(classes.ts_ns.max() - classes.ts_ns.min()) + 1
    circle = Circle(int(classes.ts_ns.min()), period, np.array([0.0, period]), np.array([0.0, 1.0]))
    return Containment(
        classes, egress, (of_packet,), fresh, (probes,), in_order(classes, law.width_ns, tunnels), law,
        made_holes(tunnels, holes), np.repeat(np.r_[miss, np.full(UNCOUNTED - 1, 0.5), miss], 2), tunnels,
        np.zeros(tunnels, np.int64), circle,
    )  # fmt: skip
