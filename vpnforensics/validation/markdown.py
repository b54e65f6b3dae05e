"""A validation report as a page of the documentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.validation.cells import TextTable
from vpnforensics.validation.misleading import MISLEADING, MISLEADING_NOTE, misleading_tables
from vpnforensics.validation.tables import PICTURES, tables

_HEAD = """# Validation

Made by `make validate`; what stands here is overwritten by the next run. What it means, the hypotheses, the
formulas and the limits are in [method.md](method.md); what other methods make of such comparisons, in
[baselines.md](baselines.md); flows whose tunnel is not in the capture, a hundred thousand of them, in
[open-set.md](open-set.md).
"""
_AGAIN = """
Every cell can be made again: the samples and recordings are in the repository, and
`python benchmarks/validation.py --only DIR` simulates the other sessions, byte for byte, into `DIR`. One
case: `vpnf validate samples/wireguard --jitter 2 --missing`. Its packets: `vpnf correlate INGRESS EGRESS
--explain FLOW`, or the frames below in Wireshark.
"""
DRAWN = ("method-fused", "conditions", "stated")
"""The pictures in it, of those of the report."""


def document_text(document: Mapping[str, Any]) -> str:
    """The page."""
    return "\n".join(_parts(document)) + "\n"


def _parts(document: Mapping[str, Any]) -> Iterator[str]:
    tool = document["tool"]
    yield _HEAD
    yield (
        f"vpnforensics {tool['version']}, commit {str(tool['commit'])[:12]}, {tool['date']},"
        f" seed {tool['seed']}, Python {tool['parameters']['python']}, numpy {tool['parameters']['numpy']};"
        f" `{' '.join(tool['argv'])}`"
    )
    yield _AGAIN
    yield from (f"- **Note:** {warning}" for warning in document["warnings"])
    for table in tables(document):
        yield f"\n## {table.caption}\n"
        yield table.note + "\n"
        yield table_text(table)
        kind = PICTURES.get(table.caption)
        yield from (
            f"\n![{table.caption}](images/validation-{name}.svg)"
            for name in DRAWN
            if kind and name.startswith(kind)
        )
    yield f"\n## {MISLEADING}\n"
    yield MISLEADING_NOTE + "\n"
    for table in misleading_tables(document):
        yield f"{table.caption}, `{table.note}`:\n"
        yield table_text(table) + "\n"
    yield "## Sessions\n"
    yield "SHA-256 of the captures and their truth.\n"
    rows = tuple(
        (str(row["session"]), row["folder"], *map(_digest, (row["ingress"], row["egress"])),
         f"`{row['truth_sha256'][:16]}…`")
        for row in document["sessions"]
    )  # fmt: skip
    yield table_text(TextTable("", "", ("session", "folder", "ingress", "egress", "truth"), rows))


def _digest(file: Mapping[str, str]) -> str:
    return f"`{file['sha256'][:16]}…`"


def table_text(table: TextTable) -> str:
    """A table, without its caption and note."""
    lines = [table.headings, tuple("---" for _ in table.headings), *table.rows]
    return "\n".join("| " + " | ".join(map(_cell, row)) + " |" for row in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
