from __future__ import annotations

import io
import re

import pytest
from rich.console import Console
from rich.text import Text

from tests.small_case import made_up
from vpnforensics.report.explanation import explanation_view
from vpnforensics.report.layout import Endpoint, more_line, plain_grid, plain_table, whole_line
from vpnforensics.report.table import case_view

WIDTHS = [*range(1, 60, 7), 72, 80, 99, 100, 140, 200]
ENDS = ["198.51.100.11:49647", "[2001:db8:1234:5678:9abc:def0:1234:5678]:51820", "[::1]:53", "192.0.2.1:0"]


def shown(view, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, height=9, markup=False, highlight=False)
    console.print(view, crop=False)
    return console.file.getvalue()


def parts(text: str) -> set[str]:
    """Words, and endpoints by address and port."""
    found = set()
    for word in text.replace("─", " ").split():
        address, colon, port = word.rpartition(":")
        found |= {address, colon + port} - {""} if port.isdecimal() else {word}
    return found


def table():
    made = plain_table(title="two tables")
    for name in ("flow", "from", "to"):
        made.add_column(name, no_wrap=name == "flow")
    made.add_column("95 %", justify="right", no_wrap=True)
    made.add_column("remarks")
    for i, end in enumerate(ENDS):
        said = Text("1,234,567 packets of 12.500000 s stood 1 of 4,294,967,295 apart")
        made.add_row(f"f{i}", Endpoint(end), Endpoint(ENDS[-1 - i]), "-75.06 … +100.00", said)
    return made


def test_no_address_port_or_number_is_broken_at_any_width():
    whole = parts(shown(table(), 400))
    assert {"198.51.100.11", ":49647", "[2001:db8:1234:5678:9abc:def0:1234:5678]", "4,294,967,295"} <= whole
    for width in WIDTHS:
        text = shown(table(), width)
        assert parts(text) == whole, width
        assert text.count("-75.06 … +100.00") == len(ENDS), "a cell that must not wrap did"


def test_it_is_as_narrow_as_asked_where_that_breaks_nothing():
    least = max(map(len, shown(table(), 1).splitlines()))
    assert least < 125
    for width in range(least, 200, 5):
        assert max(len(line.rstrip()) for line in shown(table(), width).splitlines()) <= width
    assert ENDS[1] in shown(table(), 200), "there was room for the port beside the address"


@pytest.mark.parametrize("width", [w for w in WIDTHS if w >= 40])
def test_the_report_of_a_case_keeps_its_words(width):
    for view in (case_view(made_up(), width=width), explanation_view(made_up(), "f1")):
        assert parts(shown(view, width)) == parts(shown(view, 500))


def test_a_grid_keeps_a_digest_whole():
    grid = plain_grid()
    grid.add_column(no_wrap=True)
    grid.add_column()
    grid.add_row("sha256", "0123456789abcdef" * 4)
    assert "0123456789abcdef" * 4 in shown(grid, 20)


@pytest.mark.parametrize(
    "text", ["", ":0", ":", "198.51.100.1", "[::1]", "a:b", "\x1b[2J:1", "–", "[2001:db8::1]", "1:2:3"]
)
def test_whatever_stands_in_place_of_an_endpoint_is_shown(text):
    lone = plain_table()
    lone.add_column("x")
    lone.add_row(Endpoint(text))
    for width in (1, 80):
        body = "".join(shown(lone, width).split("\n")[2:])
        assert body.replace(" ", "") == text.replace("\x1b", r"\x1b").replace(" ", "")


def test_a_line_keeps_its_longest_word():
    assert shown(whole_line(Text(f"tcp {ENDS[1]} →")), 20).split() == ["tcp", ENDS[1], "→"]


def test_an_empty_table_is_no_error():
    assert shown(plain_table(), 80).strip() == ""


def test_the_line_under_a_cut_table_says_what_has_the_rest():
    assert more_line(0) == []
    assert more_line(2, "-f json")[0].plain == "… and 2 more (--top N shows more, -f json all)"
    text = shown(case_view(made_up(), width=100, top=1), 100)
    assert re.search(r"more \(.*-f csv --table tunnels all\)", text)
