"""The TCP timestamp clocks of a whole capture, one a sender."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.features.senders import Senders
from vpnforensics.features.tcp_clock import SenderClock, sender_clock
from vpnforensics.packets.table import TCP_SYN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.features.drawing import Drawn

_COLUMNS = (
    "sender", "peer", "packets", "seconds", "hz", "skew_ppm", "low_ppm", "high_ppm", "hull_ppm",
    "theil_sen_ppm", "agree", "zero_ns", "phase_ticks", "breaks", "set_aside", "reason",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class ClockTable:
    """Clocks of the senders of one capture that send timestamps."""

    senders: Senders
    sender: npt.NDArray[np.int64]
    """Sender of each clock."""
    clocks: tuple[SenderClock, ...]
    syn_only: int = 0
    """Senders with timestamps on their SYN and nowhere else."""
    silence: dict[str, int] = field(default_factory=dict)

    def to_pandas(self) -> pd.DataFrame:
        """One row a sender with a tick rate or a reason."""
        rows = []
        for s, clock in zip(self.sender.tolist(), self.clocks, strict=True):
            low, high = clock.skew_interval_ppm or (np.nan, np.nan)
            rows.append(
                {
                    "sender": self.senders.endpoint(s),
                    "peer": self.senders.peer(s),
                    "packets": clock.packets,
                    "seconds": clock.duration_ns * 1e-9,
                    "hz": clock.hz,
                    "skew_ppm": clock.skew_ppm,
                    "low_ppm": low,
                    "high_ppm": high,
                    "hull_ppm": None if clock.fit is None else clock.fit.hull * 1e6,
                    "theil_sen_ppm": None if clock.fit is None else clock.fit.theil_sen * 1e6,
                    "agree": None if clock.fit is None else clock.fit.agree,
                    "zero_ns": clock.zero_ns,
                    "phase_ticks": clock.phase_ticks,
                    "breaks": "; ".join(f"{b.kind} {b.step_ns * 1e-9:+.3f} s" for b in clock.breaks),
                    "set_aside": clock.set_aside,
                    "reason": clock.reason,
                }
            )
        return pd.DataFrame(rows, columns=list(_COLUMNS))

    def plot(self, ax: Axes | None = None) -> Drawn:
        """The clocks that have a line (needs the ``plot`` extra)."""
        from vpnforensics.features.plots import plot_clocks

        return plot_clocks(self, ax)


def clock_table(senders: Senders, only: Iterable[int] | None = None) -> ClockTable:
    """Clocks of all senders, or of some, that have at least three packets with timestamps.

    Parameters
    ----------
    senders : Senders
    only : iterable of int, optional
        Sender numbers.
    """
    packets = senders.flows.packets
    numbers, clocks = [], []
    silence: dict[str, int] = {}
    syn_only = 0
    for s in senders.with_timestamps if only is None else only:
        rows = senders.rows_of(int(s))
        stamped = rows[packets.has_ts[rows] == 1]
        on_syn = bool(np.all(packets.tcp_flags[stamped] & TCP_SYN))
        syn_only += int(0 < len(stamped) <= 2 and len(rows) > 4 and on_syn)
        if len(stamped) < 3:
            continue
        clock = sender_clock(packets.ts_ns[stamped], packets.tsval[stamped])
        if clock.reason:
            silence[clock.reason] = silence.get(clock.reason, 0) + 1
        numbers.append(int(s))
        clocks.append(clock)
    if syn_only:
        silence["timestamps on the SYN only"] = syn_only
    return ClockTable(senders, np.array(numbers, np.int64), tuple(clocks), syn_only, silence)
