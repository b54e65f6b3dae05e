"""The relation of two capture clocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Status = Literal["aligned", "same_clock", "not_identifiable"]


@dataclass(frozen=True, slots=True)
class Alignment:
    """Egress clock minus ingress clock: ``offset + drift * (t - reference)``, t on the egress clock.

    Intervals are 95 %. Of an alignment that is not identifiable only ``status`` and ``reason`` mean anything.
    """

    status: Status
    offset_ns: int = 0
    offset_interval_ns: tuple[int, int] = (0, 0)
    drift_ppm: float = 0.0
    drift_interval_ppm: tuple[float, float] = (0.0, 0.0)
    reference_ns: int = 0
    """Egress time at which the offset holds: its first packet."""
    pairs: int = 0
    """Packet pairs behind the estimate."""
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True where egress times can be put on the ingress clock."""
        return self.status != "not_identifiable"

    def to_ingress(self, egress_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Egress times on the ingress clock, to the nanosecond."""
        since = egress_ns - self.reference_ns
        drift = since * (self.drift_ppm * 1e-6)
        np.rint(drift, out=drift)
        np.subtract(egress_ns, self.offset_ns, out=since)
        since -= drift.astype(np.int64)
        return since

    def to_dict(self) -> dict[str, Any]:
        """The result contract's ``alignment``."""
        return {
            "status": self.status,
            "offset_ns": self.offset_ns if self.usable else None,
            "offset_interval_ns": list(self.offset_interval_ns) if self.usable else None,
            "drift_ppm": round(self.drift_ppm, 4) if self.usable else None,
            "drift_interval_ppm": [round(x, 4) for x in self.drift_interval_ppm] if self.usable else None,
            "pairs": self.pairs,
            "reason": self.reason,
        }


def same_clock(reason: str) -> Alignment:
    """Both sides were stamped by one clock, known beforehand."""
    return Alignment("same_clock", reason=reason)
