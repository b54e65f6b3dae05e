"""A validation report as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.report.html.assets import policy, style
from vpnforensics.report.html.markup import Markup, element, escaped, listed, page_head, plain_table
from vpnforensics.report.provenance import made_by
from vpnforensics.validation.misleading import MISLEADING, MISLEADING_NOTE, misleading_tables
from vpnforensics.validation.plots import pictures
from vpnforensics.validation.tables import PICTURES, tables

_TITLE = "Validation report"
_HYPOTHESES = (
    "H1: this tunnel carried this flow. H2: it did not; another tunnel, or none in the capture, did."
    " Likelihood ratios are judged on captures whose truth is known from elsewhere than the program."
)


def html_form(document: Mapping[str, Any]) -> Iterator[str]:
    """The report, in pieces; the same document gives the same bytes. Needs the ``plot`` extra."""
    looks, drawn = style(), pictures(document)
    yield page_head(_TITLE, looks, policy(of_style=looks, of_script="") + "; img-src data:")
    tool = document["tool"]
    yield element("h1", _TITLE) + element("p", made_by(tool), class_="made")
    yield element("p", element("code", " ".join(tool["argv"]))) + element("p", _HYPOTHESES)
    if document["warnings"]:
        yield element("h2", "Before you read on") + listed(document["warnings"])
    for table in tables(document):
        yield element("h2", table.caption) + element("p", table.note)
        yield plain_table(table.caption, table.headings, table.rows)
        kind = PICTURES.get(table.caption)
        yield from (_picture(name, drawn[name]) for name in drawn if kind and name.startswith(kind))
    yield element("h2", MISLEADING) + element("p", MISLEADING_NOTE)
    for table in misleading_tables(document):
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
