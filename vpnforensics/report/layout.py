"""Tables that break between words and never inside one: half a port or a number is another one.

Where there is too little room even so, a table is wider than the terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from vpnforensics.report.escaping import visible

_ANY_WIDTH = 1 << 20


@dataclass(frozen=True, slots=True)
class Endpoint:
    """``address:port``, on one line if there is room, and on two, parted before the port, if not.

    Parameters
    ----------
    text : str
        As in the tables: IPv6 in brackets; the port, or the address, may be missing.
    """

    text: str

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Columns that the longer part needs, and that all needs."""
        address, port = self._parts()
        return Measurement(max(cell_len(address), cell_len(port)), cell_len(address + port))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The text, in one line or two."""
        address, port = self._parts()
        fits = cell_len(address + port) <= options.max_width or not address
        yield Text(address + port if fits else f"{address}\n{port}")

    def _parts(self) -> tuple[str, str]:
        address, colon, port = visible(self.text).rpartition(":")
        return (address, colon + port) if port.isdecimal() else (address + colon + port, "")


class WholeTable(Table):
    """A table that is never narrower than its longest words, and whose `no_wrap` columns are never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render, wide enough."""
        if not self.columns:
            return super().__rich_console__(console, options)
        wide = options.update(width=_ANY_WIDTH)
        needed = [self._needed(console, wide, column) for column in self.columns]
        fixed = self._with_widths(low for low, _ in needed)
        # What borders and gaps take is what the whole needs beyond its columns.
        frame = Measurement.get(console, wide, fixed).maximum - sum(low for low, _ in needed)
        widths = _widths(needed, options.max_width - frame)
        whole = options.update(width=sum(widths) + frame)
        return Table.__rich_console__(self._with_widths(widths), console, whole)

    def _needed(self, console: Console, wide: ConsoleOptions, column: Column) -> tuple[int, int]:
        """Columns without which something would break, and those with which all stands on one line."""
        shown = ([column.header] if self.show_header else []) + list(column.cells)
        measured = [Measurement.get(console, wide, cell) for cell in shown]
        most = max((m.maximum for m in measured), default=0)
        least = most if column.no_wrap else max((m.minimum for m in measured), default=0)
        return max(least, 1), max(most, 1)

    def _with_widths(self, widths: Iterable[int]) -> Table:
        table = copy(self)
        table.columns = [replace(c, width=width) for c, width in zip(self.columns, widths, strict=True)]
        return table


def _widths(needed: Sequence[tuple[int, int]], room: int) -> list[int]:
    """Widths of columns that need at least and at most so much: the widest gives way first.

    >>> _widths([(3, 3), (5, 30), (5, 9)], 24)
    [3, 12, 9]
    """
    widths = [most for _, most in needed]
    for _ in range(max(0, sum(widths) - room)):
        yielding = [i for i, (least, _) in enumerate(needed) if widths[i] > least]
        if not yielding:
            break
        widths[max(yielding, key=lambda i: widths[i])] -= 1
    return widths


def plain_table(*, title: str | Text = "") -> WholeTable:
    """An empty table in the one style of all reports."""
    return WholeTable(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold",
        header_style="dim",
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )


def plain_grid() -> Table:
    """An empty grid of names and what there is to say of each."""
    return WholeTable.grid(padding=(0, 2))


def whole_line(text: Text) -> Table:
    """Text beside the tables whose words are not broken either."""
    grid = plain_grid()
    grid.add_column()
    grid.add_row(text)
    return grid


def more_line(count: int, everything: str = "-f csv") -> list[Text]:
    """What stands under a table that `--top` has cut.

    Parameters
    ----------
    count : int
        Rows that are not shown; with none there is no line.
    everything : str
        The options with which the command gives all of this table's rows.
    """
    if count <= 0:
        return []
    return [Text(f"… and {count:,} more (--top N shows more, {everything} all)", style="dim")]
