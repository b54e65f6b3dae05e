"""An audit as one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator

from vpnforensics.audit import strings, view
from vpnforensics.audit.result import AuditResult
from vpnforensics.report.html.assets import policy, style
from vpnforensics.report.html.markup import element, facts, listed, page_head, plain_table
from vpnforensics.report.provenance import made_by


def audit_page(result: AuditResult) -> Iterator[str]:
    """The report, in pieces; the same audit gives the same bytes."""
    looks = style()
    yield page_head(strings.PAGE["title"], looks, policy(of_style=looks, of_script=""))
    made = element("p", strings.PAGE["made_by"].format(tool=made_by(result.tool)), class_="made")
    yield element("header", element("h1", strings.PAGE["title"]), made) + "\n<main>\n"
    yield element("h2", strings.PAGE["summary"]) + facts(view.summary(result)) + "\n"
    for name, make in view.TABLES:
        headings, rows = make(result)
        if rows:
            yield element("h2", strings.PAGE[name]) + plain_table(strings.PAGE[name], headings, rows) + "\n"
    yield listed(
        [*view.wrong_links(result), *view.reasons(result), *view.not_copied(result), *strings.MEANING]
    )
    yield "\n</main>\n</body>\n</html>\n"
