"""HTML from text: whatever is not made here is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from vpnforensics.report.escaping import visible


class Markup(str):
    """Text that is HTML already; made by :func:`element` alone."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Markup:
    """An element with its content.

    Parameters
    ----------
    name : str
    *content : object
        Markup stays; all else is escaped, what deceives the eye spelled out.
    **attributes : object
        ``_`` at an end is dropped (``class_``), within a name it is a hyphen (``aria_label``); None leaves
        the attribute out.

    >>> element("a", "<script>", href="#x")
    '<a href="#x">&lt;script&gt;</a>'
    """
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    inside = "".join(part if isinstance(part, Markup) else escaped(part) for part in content)
    return Markup(f"<{name}{given}>{inside}</{name}>")


def escaped(value: object) -> str:
    """Text that is safe within an element or an attribute."""
    return html.escape(visible(value))


def page_head(title: str, looks: str, policy: str, *, language: str = "en") -> str:
    """Begin of a page that sends nothing: to its ``body``.

    Parameters
    ----------
    title : str
    looks : str
        Style sheet.
    policy : str
        Content Security Policy.
    language : str
    """
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escaped(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"{element('title', title)}\n<style>{looks}</style>\n</head>\n<body>\n"
    )


def listed(items: Iterable[object]) -> Markup:
    """An unordered list."""
    return element("ul", *(element("li", item) for item in items))


def facts(rows: Iterable[tuple[object, object]]) -> Markup:
    """Pairs of a term and what it is."""
    return element(
        "dl",
        *(part for term, told in rows for part in (element("dt", term), element("dd", told))),
    )


def plain_table(caption: str, headings: Iterable[str], rows: Iterable[Sequence[object]]) -> Markup:
    """A table with a caption; the first cell of a row names it."""
    head = element("tr", *(element("th", text, scope="col") for text in headings))
    body = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    table = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label=caption)
