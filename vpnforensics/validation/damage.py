"""What a capture can suffer, done to a recording whose truth is known.

Damage makes more cases of a recording, never more sessions: its copies tell of the same packets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vpnforensics.arrays import Ints
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.endpoints import parted


@dataclass(frozen=True, slots=True)
class Damage:
    """Another clock at egress, packets missing from either side, normal jitter on egress times."""

    jitter_ms: float = 0.0
    """Standard deviation."""
    loss: float = 0.0
    """Share of the packets of either side that is missing."""
    offset_s: float = 0.0
    drift_ppm: float = 0.0
    without: str = ""
    """``addr:port`` of the client whose packets are not in the ingress capture."""
    seed: int = 1
    window_s: tuple[float, float] | None = None
    """Only what was captured between these times, from the first packet of either side on: a small case."""

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return self.of_one_side or bool(self.without or self.window_s)

    @property
    def of_one_side(self) -> bool:
        """Whether it sets one side's clock, times or losses apart from the other's."""
        return bool(self.jitter_ms or self.loss or self.offset_s or self.drift_ppm)

    @property
    def text(self) -> str:
        """In words."""
        parts = [f"jitter sd {self.jitter_ms:g} ms"] * bool(self.jitter_ms)
        parts += [f"{self.loss:.3g} lost"] * bool(self.loss)
        parts += ["other clock"] * bool(self.offset_s or self.drift_ppm)
        parts += [f"{self.window_s[0]:g} to {self.window_s[1]:g} s"] if self.window_s else []
        parts += [f"without {self.without}"] * bool(self.without)
        return ", ".join(parts) or "none"

    def shown(self, ts_ns: Ints, first_ns: int) -> Ints:
        """What the other clock shows at times of the recording's egress clock; the drift counts from
        ``first_ns``.
        """
        return np.asarray(
            ts_ns
            + round(self.offset_s * 1e9)
            + np.rint((ts_ns - first_ns) * self.drift_ppm * 1e-6).astype(np.int64)
        )


class Damaged(NamedTuple):
    """Both sides, and from where on the clock drifts."""

    ingress: PacketTable
    egress: PacketTable
    first_ns: int


def degrade(ingress: PacketTable, egress: PacketTable, damage: Damage) -> Damaged:
    """A recording as a worse tap would have it.

    Raises
    ------
    ValueError
        The client to leave out has no packet in the ingress capture.
    """
    if not damage.any:
        return Damaged(ingress, egress, int(egress.ts_ns[0]) if len(egress) else 0)
    if damage.window_s:
        begin_ns = int(min(ingress.ts_ns.min(), egress.ts_ns.min()))
        low, high = (begin_ns + round(at * 1e9) for at in damage.window_s)
        ingress, egress = (side.take((side.ts_ns >= low) & (side.ts_ns < high)) for side in (ingress, egress))
    rng = np.random.default_rng(damage.seed)
    ingress = ingress.take(rng.random(len(ingress)) >= damage.loss)
    egress = egress.take(rng.random(len(egress)) >= damage.loss)
    ts_ns = egress.ts_ns + np.rint(rng.normal(0, damage.jitter_ms * 1e6, len(egress))).astype(np.int64)
    first_ns = int(ts_ns[0]) if len(ts_ns) else 0
    ts_ns = damage.shown(ts_ns, first_ns)
    order = np.argsort(ts_ns, kind="stable")
    if damage.without:
        ingress = _without(ingress, damage.without)
    return Damaged(ingress, replace(egress, ts_ns=ts_ns).take(order), first_ns)


def _without(ingress: PacketTable, client: str) -> PacketTable:
    """Without one client's packets."""
    host, _ = parted(client)
    if host not in ingress.addresses.texts:
        raise ValueError(f"no packet of {client} in the ingress capture")
    address = ingress.addresses.texts.index(host)
    return ingress.take((ingress.src != address) & (ingress.dst != address))
