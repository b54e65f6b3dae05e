"""A validation report as tables of text: what the terminal, the HTML and the documentation show alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vpnforensics.validation.baselines.tables import baseline_tables
from vpnforensics.validation.cells import (
    Document,
    TextTable,
    damage_text,
    number,
    part_of,
    share,
    with_interval,
)

_COSTS, _CONDITIONS, _STATED = (
    "What the likelihood ratios are worth", "By condition", "Stated and observed errors",
)  # fmt: skip
_SESSIONS = 10
"""Shown by name; the others together."""
PICTURES = {_COSTS: "method-", _CONDITIONS: "conditions", _STATED: "stated"}
"""What the names of the pictures begin with that belong below a table, by its caption."""


def tables(document: Document) -> list[TextTable]:
    """All tables of a report, in order of reading; those without rows are left out."""
    made = (
        _compared(document), _criteria(document), _costs(document), _rates(document), _misleading(document),
        _conditions(document), _cost_by_session(document), _stated(document), _allowances(document),
        _coherence(document), _limit(document), *baseline_tables(document), _cases(document),
    )  # fmt: skip
    return [table for table in made if table.rows]


def _compared(document: Document) -> TextTable:
    counts = document["counts"]
    rows = (
        ("capture sessions", counts["sessions"]),
        ("scripts that they follow (makers and seeds)", counts["scripts"]),
        ("cases (a session may be worked on damaged in several ways)", counts["cases"]),
        ("cases that could not be made", counts["failed"]),
        ("flows that the truth has in those, each case's counted", counts["failed_flows"]),
        ("flows with known truth, in all cases", counts["flows"]),
        ("distinct flows of a session", counts["distinct_flows"]),
        ("flows whose tunnel is not in the ingress capture", counts["absent_flows"]),
        ("comparisons that are true (H1)", counts["true"]),
        ("comparisons that are false (H2)", counts["false"]),
        ("distinct ones of them", counts["distinct_false"]),
        ("links", counts["links"]),
        ("wrong links", counts["wrong_links"]),
        ("of them, of flows whose tunnel is not in the ingress capture", counts["wrong_links_absent"]),
    )
    return TextTable(
        "What was compared",
        "A comparison is a flow with a tunnel that was there at its time.",
        ("", "number"),
        tuple((name, f"{number:,}") for name, number in rows),
    )


def _criteria(document: Document) -> TextTable:
    verdict = {True: "yes", False: "NO", None: ""}
    return TextTable(
        "What is asked, and whether it is met",
        "A validation matrix after Meuwly, Ramos & Haraksim (2017), of fused. Robustness, coherence and"
        " generalisation have no criterion: the rows of the conditions show them (jitter, loss; packets of a"
        " flow; who made the session).",
        ("characteristic", "figure", "asked", "observed", "met"),
        tuple(
            (row["characteristic"], row["figure"], row["asked"], row["observed"], verdict[row["met"]])
            for row in document["criteria"]
        ),
    )


def _costs(document: Document) -> TextTable:
    rows = []
    for name, row in document["methods"].items():
        spoken = f"{row['spoken_true']:,} of {row['true']:,}", f"{row['spoken_false']:,} of {row['false']:,}"
        if "silent" in row:
            rows.append((name, *spoken, *[""] * 5, row["silent"]))
            continue
        costs, intervals = row["cost"], row["cost_intervals"] or {}
        told = (
            with_interval(costs[key], intervals.get(key))
            for key in ("cllr", "cllr_min", "cllr_cal", "devpav")
        )
        low, high = row["elub"]
        rows.append((name, *spoken, *told, f"{low:+.2f} to {high:+.2f}", ""))
    return TextTable(
        _COSTS,
        "Methods speak of different pairs: two are comparable only where these columns agree."
        " Cllr in bits: 0 perfect, 1 worthless; Cllr_min is what the best calibration in hindsight leaves,"
        " Cllr_cal the rest. devPAV in decades. Brackets: 95 %, over whole sessions. Engines that go by"
        " header fields are asked of listed pairs only, which are mostly true ones: their figures are of"
        " those, not of all.",
        ("method", "speaks of true", "of false", "Cllr", "Cllr_min", "Cllr_cal", "devPAV", "ELUB, log10", ""),
        tuple(rows),
    )


def _rates(document: Document) -> TextTable:
    rows = []
    for name, row in _spoken(document):
        stated = [each for each in row["at_rates"] if not each["refused"]]
        refused = [each for each in row["at_rates"] if each["refused"]]
        rows += [
            (
                name,
                f"{each['rate']:g}",
                f"{each['hits']:,} of {each['true']:,}",
                share(each["tpr"], each["tpr_interval"]),
                f"{each['false_hits']:,} of {each['false']:,}",
                f"at most {each['fpr_interval'][1]:.2g}",
            )
            for each in stated
        ]
        if refused:
            less = " and less" if len(refused) > 1 else ""
            rows.append((name, f"{refused[0]['rate']:g}{less}", refused[0]["refused"], "", "", ""))
    return TextTable(
        "True positives at stated false positive rates",
        "Exact binomial 95 % intervals at what dependent comparisons are worth (design effect of flows). A"
        " rate that the independent false comparisons cannot support is refused.",
        ("method", "rate", "hits", "true positive rate", "false hits", "false positive rate"),
        tuple(rows),
    )


def _misleading(document: Document) -> TextTable:
    rows = [
        (
            name,
            f"{each['llr']:g} and more" if each["llr"] else "any",
            part_of(each["false"], row["spoken_false"]),
            part_of(each["true"], row["spoken_true"]),
        )
        for name, row in _spoken(document)
        for each in row["misleading"]
    ]
    return TextTable(
        "Misleading evidence",
        "Comparisons whose likelihood ratio speaks the wrong way by so many decimal logarithms.",
        ("method", "log10 LR", "false ones that it speaks for", "true ones that it speaks against"),
        tuple(rows),
    )


def _conditions(document: Document) -> TextTable:
    rows = [
        (
            row["condition"],
            row["value"],
            f"{row['sessions']:,}",
            f"{row['linked']:,} of {row['carried']:,}",
            share(row["linked"] / row["carried"], row["linked_interval"]) if row["carried"] else "",
            f"{row['absent']:,}",
            f"{row['wrong']:,}",
            number(row["cllr"]),
            number(row["cllr_min"]),
            f"{row['cost_share']:.1%}",
        )
        for row in document["conditions"]
    ]
    return TextTable(
        _CONDITIONS,
        "Flows that a tunnel of their case carried, and how many of them were linked to it; wrong links of"
        " all flows. Conditions differ in more than one thing at a time: sessions of one protocol are"
        " sessions of their own. Last, what part of the fused Cllr over all comparisons is theirs.",
        (
            "condition", "", "sessions", "linked", "share, 95 %", "absent", "wrong", "Cllr", "Cllr_min",
            "of all Cllr",
        ),
        tuple(rows),
    )  # fmt: skip


def _cost_by_session(document: Document) -> TextTable:
    told = document["cost_by_session"]
    rows = [
        (
            row["session"],
            f"{row['true']:,}",
            f"{row['false']:,}",
            f"{row['cost_share']:.1%}",
            f"{row['of_true']:.1%}",
        )
        for row in told[:_SESSIONS]
    ]
    rest = told[_SESSIONS:]
    if rest:
        sums = {key: sum(row[key] for row in rest) for key in ("true", "false", "cost_share", "of_true")}
        rows.append((
            f"the other {len(rest)}", f"{sums['true']:,}", f"{sums['false']:,}", f"{sums['cost_share']:.1%}",
            f"{sums['of_true']:.1%}",
        ))  # fmt: skip
    return TextTable(
        "Where the cost comes from",
        "Capture sessions by what they make of the fused Cllr, over all comparisons and all damage; of that,"
        " what their true comparisons make: evidence against what is so, or too little for it.",
        ("session", "true", "false", "of all Cllr", "of it by true ones"),
        tuple(rows),
    )


def _stated(document: Document) -> TextTable:
    rows = [
        (
            f"{row['low']:g} to {row['high']:g}",
            f"{row['flows']:,}",
            f"{row['stated']:.3g}",
            f"{row['observed']:,}",
            f"{row['at_most']:.2g}",
            f"{row['chance']:.2g}",
        )
        for row in document["stated"]
    ]
    return TextTable(
        _STATED,
        "Of all flows, linked or not, the stated error of their likeliest tunnel. P: of so many wrong ones or"
        " more if what is stated were right; below 0.05 the errors are stated too small.",
        ("stated error", "flows", "wrong, stated", "wrong, observed", "share, at most (95 %)", "P"),
        tuple(rows),
    )


def _allowances(document: Document) -> TextTable:
    return TextTable(
        "Links, had so many false ones been allowed in each case",
        "",
        ("allowed a case", "cases", "links", "wrong"),
        tuple(
            (f"{row['allowed']:g}", f"{row['cases']:,}", f"{row['links']:,}", f"{row['wrong']:,}")
            for row in document["allowances"]
        ),
    )


def _coherence(document: Document) -> TextTable:
    told = document["coherence"]
    return TextTable(
        "Errors beside likelihood ratios",
        "Of links whose ratio is not at its bound: those whose stated error is less than a tenth of what the"
        " ratio comes to where each tunnel at the time, and none, are equally likely before. Ratios are held"
        " to what the case's false comparisons allow, errors are the joint model's own: where they differ,"
        " what is observed tells which is nearer.",
        ("", "number"),
        (
            ("links whose likelihood ratio is not at its bound", f"{told['links']:,}"),
            ("of them, with an error stated far smaller", f"{told['apart']:,}"),
            ("wrong ones of those", f"{told['apart_wrong']:,}"),
            ("wrong ones of those that their errors come to", f"{told['apart_stated']:.2g}"),
            ("that their likelihood ratios come to", f"{told['apart_implied']:.2g}"),
        ),
    )


def _limit(document: Document) -> TextTable:
    limit = document["limit"]
    share = "" if limit["share"] is None else f"{limit['share']:.2%}"
    decoys = [row["decoys"] for row in document["cases"] if "decoys" in row]
    tried, linked = (sum(each[key] for each in decoys) for key in ("tried", "linked"))
    return TextTable(
        "The limit, and decoys",
        "A twin is another tunnel's flow of the same sizes so near in time that lengths and times do not"
        " tell them apart. Decoys are copies turned in time that compete in the same model.",
        ("", "number", "of"),
        (
            ("flows with a twin", f"{limit['twins']:,} ({share or 'none known'})", f"{limit['flows']:,}"),
            ("decoys that would have been linked", f"{linked:,}", f"{tried:,}"),
        ),
    )


def _cases(document: Document) -> TextTable:
    rows = []
    for row in document["cases"]:
        damage = damage_text(row["damage"])
        if "failed" in row:
            rows.append((str(row["session"]), row["name"], damage, *[""] * 6, row["failed"]))
            continue
        error = row["alignment_error_ms"]
        rows.append((
            str(row["session"]),
            row["name"],
            damage,
            row["protocol"],
            f"{row['clients']:,}",
            f"{row['linked']:,} of {row['carried']:,}",
            f"{row['wrong']:,}",
            "" if error is None else f"{error:.3f}",
            f"{row['comparisons']:,}",
            "" if row["alignment"] != "not_identifiable" else "alignment not identifiable",
        ))  # fmt: skip
    return TextTable(
        "Cases",
        "Folders of one session number are copies of one recording.",
        (
            "session", "name", "damage", "protocol", "clients", "linked", "wrong", "alignment error, ms",
            "comparisons", "",
        ),
        tuple(rows),
    )  # fmt: skip


def _spoken(document: Document) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, row) for name, row in document["methods"].items() if "silent" not in row)
