"""Pictures of clocks: what is left of each sender's timestamps when its line is taken off.

Takes and returns matplotlib axes; needs the ``plot`` extra, which is imported when a picture is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vpnforensics.features.clock_table import ClockTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_CLOCKS = 8


def plot_clocks(table: ClockTable, ax: Axes | None = None) -> Axes:
    """Offsets of the clocks with a line: TSval/Hz - t of each block's least delayed packet, from its start.

    The slope is the skew; points below the upper edge are delayed. The clocks with most packets are drawn.

    Raises
    ------
    ValueError
        No sender has a line.
    """
    fitted = [(s, c) for s, c in zip(table.sender.tolist(), table.clocks, strict=True) if c.fit is not None]
    if not fitted:
        raise ValueError("no sender shows a clock for a minute; there is nothing to draw")
    fitted.sort(key=lambda item: -item[1].packets)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.subplots(figsize=(9.0, 3.8), layout="constrained")[1]
    begin = min(c.first_ns for _, c in fitted)
    for s, clock in fitted[:_MOST_CLOCKS]:
        assert clock.fit is not None
        at_s = clock.fit.block_s + (clock.first_ns - begin) * 1e-9
        line_s = clock.fit.slope * (clock.fit.block_s - clock.fit.block_s[0])
        (drawn,) = ax.plot(at_s, (line_s + clock.fit.residual_s) * 1e3, ".", markersize=3)
        label = f"{table.senders.endpoint(s)}  {clock.fit.slope * 1e6:+.2f} ppm, {clock.hz:g} Hz"
        ax.plot(at_s, line_s * 1e3, color=drawn.get_color(), linewidth=1, label=label)
    ends = [c.fit.slope * float(np.ptp(c.fit.block_s)) for _, c in fitted[:_MOST_CLOCKS] if c.fit is not None]
    low, high = min(0.0, *ends), max(0.0, *ends)
    # Queues can be seconds deep; the lines are what is looked at.
    room = max(high - low, 1e-3)
    ax.set_ylim((low - 0.5 * room) * 1e3, (high + 0.2 * room) * 1e3)
    ax.set_xlabel("seconds")
    ax.set_ylabel("sender's clock minus capture's, ms")
    ax.legend(fontsize="small", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax
