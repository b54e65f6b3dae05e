"""Pictures of senders: what is left of their timestamps when the line is taken off, and their IP IDs.

Each takes axes, or makes some, and returns them with the numbers drawn; needs the ``plot`` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vpnforensics.features.drawing import MARKS, Drawn, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.features.clock_table import ClockTable
    from vpnforensics.features.ip_id import IpIdTable

_MOST = len(MARKS)
_MOST_POINTS = 5_000


def plot_clocks(table: ClockTable, ax: Axes | None = None) -> Drawn:
    """Offsets of the clocks with a line: TSval/Hz - t of each block's least delayed packet, from its start.

    The slope is the skew; points below the upper edge are delayed. The clocks with most packets are drawn.

    Returns
    -------
    Drawn
        Numbers: ``sender``, ``at_s``, ``offset_ms`` of each block.

    Raises
    ------
    ValueError
        No sender has a line.
    """
    fitted = [(s, c) for s, c in zip(table.sender.tolist(), table.clocks, strict=True) if c.fit is not None]
    if not fitted:
        raise ValueError("no sender shows a clock for a minute; there is nothing to draw")
    fitted.sort(key=lambda item: -item[1].packets)
    ax = axes(ax, 9.0, 3.8)
    numbers = []
    begin = min(c.first_ns for _, c in fitted)
    for (s, clock), mark in zip(fitted, MARKS, strict=False):
        assert clock.fit is not None
        at_s = clock.fit.block_s + (clock.first_ns - begin) * 1e-9
        line_s = clock.fit.slope * (clock.fit.block_s - clock.fit.block_s[0])
        offset_ms = (line_s + clock.fit.residual_s) * 1e3
        (drawn,) = ax.plot(at_s, offset_ms, mark, markersize=2.5, markeredgewidth=0)
        sender = table.senders.endpoint(s)
        numbers.append(pd.DataFrame({"sender": sender, "at_s": at_s, "offset_ms": offset_ms}))
        label = f"{sender}  {clock.fit.slope * 1e6:+.2f} ppm, {clock.hz:g} Hz"
        ax.plot(
            at_s, line_s * 1e3, marker=mark, markevery=[-1], color=drawn.get_color(), linewidth=1, label=label
        )
    ends = [c.fit.slope * float(np.ptp(c.fit.block_s)) for _, c in fitted[:_MOST] if c.fit is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    # Queues can be seconds deep; the lines are what is looked at.
    room = max(high - low, 1e-3)
    ax.set_ylim((low - 0.5 * room) * 1e3, (high + 0.2 * room) * 1e3)
    ax.set_xlabel("seconds")
    ax.set_ylabel("sender's clock minus capture's, ms")
    ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return Drawn(ax, pd.concat(numbers, ignore_index=True))


def plot_ip_ids(table: IpIdTable, ax: Axes | None = None) -> Drawn:
    """IP IDs over time: a counter is a saw, random ones fill the plane, zero ones its edge.

    The address and kind of packet with most packets are drawn.

    Returns
    -------
    Drawn
        Numbers: ``address``, ``kind``, ``at_s``, ``ip_id`` of each packet drawn.

    Raises
    ------
    ValueError
        No packet has an IP ID.
    """
    rows = [
        row
        for row in zip(table.address, table.kind, table.profiles, table.series, strict=True)
        if len(row[3].ts_ns)
    ]
    if not rows:
        raise ValueError("no packet has an IP ID; there is nothing to draw")
    rows.sort(key=lambda row: -len(row[3].ts_ns))
    ax = axes(ax, 9.0, 3.8)
    begin = min(int(series.ts_ns.min()) for *_, series in rows[:_MOST])
    numbers = []
    for (address, kind, profile, series), mark in zip(rows, MARKS, strict=False):
        step = -(-len(series.ts_ns) // _MOST_POINTS)
        at_s = (series.ts_ns[::step] - begin) / 1e9
        scope = f" by {profile.scope}" if profile.scope else ""
        label = f"{address} {kind}: {profile.ip_id_class}{scope}"
        ax.plot(at_s, series.ip_id[::step], mark, markersize=2.5, markeredgewidth=0, alpha=0.7, label=label)
        numbers.append(
            pd.DataFrame({"address": address, "kind": kind, "at_s": at_s, "ip_id": series.ip_id[::step]})
        )
    ax.set_ylim(-1500, 67_000)
    ax.set_xlabel("seconds")
    ax.set_ylabel("IP ID")
    ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), markerscale=2.5)
    return Drawn(ax, pd.concat(numbers, ignore_index=True))
