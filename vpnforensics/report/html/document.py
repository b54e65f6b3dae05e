"""The whole report as one file: what is fixed as HTML, and the rest as data that its script draws from."""

from __future__ import annotations

from collections.abc import Iterator

from vpnforensics.report.escaping import json_text
from vpnforensics.report.html.assets import policy, script, style
from vpnforensics.report.html.data import report_data
from vpnforensics.report.html.markup import Markup, element, page_head
from vpnforensics.report.html.sections import sections
from vpnforensics.report.html.strings import LANGUAGE, PAGE
from vpnforensics.report.provenance import made_by
from vpnforensics.report.result import CaseResult


def html_form(case: CaseResult) -> Iterator[str]:
    """A case as one HTML file that loads nothing, in pieces; the same case gives the same bytes.

    Parameters
    ----------
    case : CaseResult
        One opened from its file reads its captures again; see
        :func:`vpnforensics.report.html.data.report_data`.
    """
    code, looks = script(), style()
    data = json_text(report_data(case), compact=True).replace("<", "\\u003c")
    parts = list(sections(case))
    yield page_head(PAGE["title"], looks, policy(of_style=looks, of_script=code), language=LANGUAGE)
    yield element("a", PAGE["skip"], href="#summary", class_="skip")
    made = element("p", PAGE["made_by"].format(tool=made_by(case.tool)), class_="made")
    yield element("header", element("h1", PAGE["title"]), made) + "\n"
    yield element("noscript", element("p", PAGE["no_script"])) + "\n"
    links = (element("a", PAGE[name], href=f"#{name}") for name, _ in parts)
    yield element("nav", *links, aria_label=PAGE["sections"], id="sections") + "\n"
    shown = (
        element("section", element("h2", PAGE[name], id=f"{name}-title"), inside, id=name)
        for name, inside in parts
    )
    yield element("main", *shown, element("div", id="evidence", hidden="hidden"), id="case") + "\n"
    yield f'<script type="application/json" id="data">{data}</script>\n'
    yield f"<script>{Markup(code)}</script>\n</body>\n</html>\n"
