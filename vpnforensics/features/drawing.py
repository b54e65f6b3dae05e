"""What all pictures share: axes that are made where none are given, colours, and the numbers that are drawn.

Needs the ``plot`` extra; matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

UP, DOWN, MISSING, INK = "#2166ac", "#d6604d", "#9a9a9a", "#333333"
"""Blue and red that stay apart for colour-blind readers, and in grey print by their lightness."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Marks that tell series apart without any colour."""


class Drawn(NamedTuple):
    """A picture and what it shows."""

    ax: Axes
    numbers: pd.DataFrame
    """The numbers drawn, one row a mark, bar or line."""


def axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes, or new ones of this size in inches, in the one style of all pictures."""
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=(width, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8.5)
    ax.xaxis.label.set_fontsize(9)
    ax.yaxis.label.set_fontsize(9)
    return ax


def legend(ax: Axes, ncols: int) -> None:
    """A legend above the picture, where it hides nothing."""
    made = ax.legend(
        frameon=False, fontsize=8, ncols=ncols, loc="lower right", bbox_to_anchor=(1.0, 1.0), markerscale=2,
        borderaxespad=0.2,
    )  # fmt: skip
    for handle, text in zip(made.legend_handles, made.get_texts(), strict=True):
        if handle is not None:
            handle.set_alpha(0.25 if "interval" in text.get_text() else 0.9)
