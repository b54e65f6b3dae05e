"""A validation report as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.report.html.assets import policy, style
from vpnforensics.report.html.markup import Markup, element, escaped, listed, plain_table
from vpnforensics.report.provenance import made_by
from vpnforensics.validation.plots import pictures
from vpnforensics.validation.tables import misleading_tables, tables

_TITLE = "Validation report"
_HYPOTHESES = (
    "H1: this tunnel carried this flow. H2: it did not; another tunnel, or none in the capture, did."
    " Likelihood ratios are judged on captures whose truth is known from elsewhere than the program."
)


def html_form(document: Mapping[str, Any]) -> Iterator[str]:
    """The report, in pieces; the same document gives the same bytes. Needs the ``plot`` extra."""
    looks, drawn = style(), pictures(document)
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
    content = policy(of_style=looks, of_script="") + "; img-src data:"
    yield f'<meta http-equiv="Content-Security-Policy" content="{escaped(content)}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
    yield element("title", _TITLE) + "\n"
    yield f"<style>{looks}</style>\n</head>\n<body>\n"
    tool = document["tool"]
    yield element("h1", _TITLE) + element("p", f"{made_by(tool)}", class_="made")
    yield element("p", element("code", " ".join(tool["argv"]))) + element("p", _HYPOTHESES)
    if document["warnings"]:
        yield element("h2", "Before you read on") + listed(document["warnings"])
    for table in tables(document):
        yield element("h2", table.caption) + element("p", table.note)
        yield plain_table(table.caption, table.headings, table.rows)
        if table.caption == "What the likelihood ratios are worth":
            yield from (_picture(name, drawn[name]) for name in drawn if name.startswith("method-"))
        if table.caption == "By condition":
            yield _picture("conditions", drawn["conditions"])
        if table.caption == "Stated and observed errors":
            yield _picture("stated", drawn["stated"])
    yield element("h2", "What misleads most, and the packets behind it")
    yield element(
        "p",
        "Beside each packet of the flow, the outer packet of that tunnel nearest in time that has the size it"
        " would have. Frames are numbered as Wireshark does.",
    )
    for _, table in misleading_tables(document):
        yield plain_table(table.caption, table.headings, table.rows) + element(
            "p", element("code", table.note)
        )
    yield element("h2", "Sessions") + plain_table(
        "Captures and truth, by SHA-256",
        ("session", "name", "ingress", "egress", "truth"),
        [
            (row["session"], row["name"], *(_code(row[side]["sha256"]) for side in ("ingress", "egress")),
             _code(row["truth_sha256"]))
            for row in document["sessions"]
        ],
    )  # fmt: skip
    yield "</body>\n</html>\n"


def _code(text: str) -> Markup:
    return element("code", text)


def _picture(name: str, drawn: str) -> Markup:
    """As an image: the style sheet's policy allows no styles inside of it."""
    source = "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode()
    told = f"{escaped(name)}, drawn; its numbers are in the JSON form"
    image = Markup(f'<img src="{source}" alt="{told}" width="100%">')
    return element("figure", image, element("figcaption", name.replace("method-", "")))
