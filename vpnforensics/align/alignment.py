"""The relation of two capture clocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.scratch import beside

MOST_DRIFT_PPM = 240.0
"""No two clocks differ by more; an interval this wide says nothing of the drift."""
Status = Literal["aligned", "same_clock", "not_identifiable"]
Role = Literal["ingress", "egress"]


@dataclass(frozen=True, slots=True)
class ClockStep:
    """A capture's clock that was set while it ran."""

    role: Role
    row: int
    """First packet after it, row of its capture's packet table."""
    size_ns: int
    """By how much it was set: forward is positive."""
    egress_row: int
    """First egress packet after it: of a step at egress, ``row``."""
    placed: bool = True
    """False where the packets' times do not show the place, so that some around it are on the other side."""
    at_ns: int = 0
    """When that packet came, as captured: on the clock as it was set."""

    @property
    def change_ns(self) -> int:
        """By how much egress minus ingress changes."""
        return self.size_ns if self.role == "egress" else -self.size_ns


@dataclass(frozen=True, slots=True)
class ClockPart:
    """A stretch of the egress capture in which neither clock was set; times as captured."""

    first_ns: int
    last_ns: int
    offset_ns: int
    """Egress clock minus ingress clock, at ``first_ns``."""
    offset_interval_ns: tuple[int, int]
    packets: int
    """Egress packets in it."""


@dataclass(frozen=True, slots=True)
class Break:
    """Where the egress packets leave one line for another: a step of either clock, not yet placed."""

    size_ns: int
    """By how much egress minus ingress changes."""
    egress_rows: tuple[int, int]
    """The first packet after it is between these rows of the egress packet table."""
    records: tuple[int, int]
    """And its record between these of the RecordTable, in order of the file; not so if the first is later."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Egress clock minus ingress clock: ``offset + drift * (t - reference)``, t on the egress clock.

    Intervals are 95 %. Of an alignment that is not identifiable only ``status`` and ``reason`` mean anything.

    Where a clock was set during its capture, ``steps`` says when and by how much. The packets' times are then
    put straight before anything looks at them (:mod:`vpnforensics.align.straight`), and the line here is for
    those; ``parts`` has the offsets of the times as captured.
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
    breaks: tuple[Break, ...] = ()
    """Of the times that it was estimated from; none once they have been put straight."""
    astray: tuple[tuple[int, int], ...] = ()
    """First and last egress rows of stretches, at an end or beside a step, in which packets do not find their
    records: nothing says that the line holds there."""
    steps: tuple[ClockStep, ...] = ()
    """In order of time."""
    parts: tuple[ClockPart, ...] = ()
    """One more than steps, in order of the file; empty without steps."""

    @property
    def usable(self) -> bool:
        """True where egress times can be put on the ingress clock."""
        return self.status != "not_identifiable"

    @property
    def drift_known(self) -> bool:
        """False where the drift's interval holds all that clocks may do: too short a time, or few packets."""
        slow, fast = self.drift_interval_ppm
        return self.usable and fast - slow < 2 * MOST_DRIFT_PPM

    def to_ingress(self, egress_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Egress times (of a clock that was set: put straight) on the ingress clock, to the nanosecond."""
        return beside(egress_ns).filled(len(egress_ns), np.int64, lambda rows: self._moved(egress_ns[rows]))

    def _moved(self, egress_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
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
            "reference_ns": self.reference_ns if self.usable else None,
            "offset_ns": self.offset_ns if self.usable else None,
            "offset_interval_ns": list(self.offset_interval_ns) if self.usable else None,
            "drift_ppm": round(self.drift_ppm, 4) if self.drift_known else None,
            "drift_interval_ppm": [round(x, 4) for x in self.drift_interval_ppm]
            if self.drift_known
            else None,
            "parts": [
                {
                    "first_ns": part.first_ns,
                    "last_ns": part.last_ns,
                    "offset_ns": part.offset_ns,
                    "offset_interval_ns": list(part.offset_interval_ns),
                    "packets": part.packets,
                }
                for part in self.parts
            ],
            "steps": [
                {"at_ns": step.at_ns, "size_ns": step.size_ns, "role": step.role} for step in self.steps
            ],
            "pairs": self.pairs,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Alignment:
        """The alignment that :meth:`to_dict` told of, to its digits and without rows of the captures."""
        known = saved["offset_ns"] is not None
        slow, fast = saved["drift_interval_ppm"] or (-MOST_DRIFT_PPM, MOST_DRIFT_PPM)
        return cls(
            saved["status"],
            saved["offset_ns"] if known else 0,
            tuple(saved["offset_interval_ns"]) if known else (0, 0),
            saved["drift_ppm"] or 0.0,
            (slow, fast),
            saved["reference_ns"] or 0,
            saved["pairs"],
            saved["reason"],
            steps=tuple(
                ClockStep(step["role"], -1, step["size_ns"], -1, at_ns=step["at_ns"])
                for step in saved["steps"]
            ),
            parts=tuple(
                ClockPart(**{**part, "offset_interval_ns": tuple(part["offset_interval_ns"])})
                for part in saved["parts"]
            ),
        )


def same_clock(reason: str) -> Alignment:
    """Both sides were stamped by one clock, known beforehand."""
    return Alignment("same_clock", reason=reason)
