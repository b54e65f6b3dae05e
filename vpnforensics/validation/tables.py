"""A validation report as tables of text: what the terminal, the HTML and the documentation show alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]

_COSTS, _CONDITIONS, _STATED = (
    "What the likelihood ratios are worth", "By condition", "Stated and observed errors",
)  # fmt: skip
_SESSIONS = 10
"""Shown by name; the others together."""
PICTURES = {_COSTS: "method-", _CONDITIONS: "conditions", _STATED: "stated"}
"""What the names of the pictures begin with that belong below a table, by its caption."""
MISLEADING = "What misleads most, and the packets behind it"
MISLEADING_NOTE = (
    "Beside each packet of the flow, the outer packet of that tunnel nearest in time that has the size it"
    " would have. Frames are numbered as Wireshark does."
)


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table with what has to be known to read it."""

    caption: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


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
            _with_interval(costs[key], intervals.get(key))
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
                _share(each["tpr"], each["tpr_interval"]),
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
            _of(each["false"], row["spoken_false"]),
            _of(each["true"], row["spoken_true"]),
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
            _share(row["linked"] / row["carried"], row["linked_interval"]) if row["carried"] else "",
            f"{row['absent']:,}",
            f"{row['wrong']:,}",
            _number(row["cllr"]),
            _number(row["cllr_min"]),
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
        "A twin is another tunnel's flow of the same sizes so near in time that no method can tell them"
        " apart. Decoys are copies turned in time that compete in the same model.",
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


def baseline_tables(document: Document) -> list[TextTable]:
    """What others do on the same pairs; none where the report was made without."""
    told = document.get("baselines")
    if not told:
        return []
    rows = [
        (
            row["packets"],
            row["method"],
            f"{row['true']:,}",
            *(cell for n in range(len(row["at_rates"])) for cell in _baseline_cells(row, n)),
        )
        for row in told["rows"]
    ]
    rates = [f"{each['rate']:g}" for each in told["rows"][0]["at_rates"]] if rows else []
    hits = TextTable(
        "Baselines to be beaten: true positives at stated false positive rates",
        "Other methods on the same pairs in the same run, with the same tunnels and clocks given to them, by"
        " packets of the flow. Where a method is silent, it has no hit; one that is mostly silent stands once"
        " more with the pairs that it speaks of. Each has its best threshold in hindsight, in each row. Fused"
        " is better by so many points where the 95 % intervals are apart, ahead where they are not; NOT"
        " BEATEN: the baseline has as many hits or more. A rate that the independent false comparisons of the"
        " row cannot support is refused, and what they are worth is told.",
        ("packets", "method", "true pairs", *(t for r in rates for t in (f"hits at {r}", "fused is"))),
        tuple(rows),
    )
    return [hits, _baseline_costs(told["cost"])]


def _baseline_cells(row: Mapping[str, Any], number: int) -> tuple[str, str]:
    each, beaten = row["at_rates"][number], (row["beaten"] or (None, None))[number]
    if each["refused"]:
        return f"refused: worth {each['independent']:,}", ""
    hits = _share(each["tpr"], each["tpr_interval"])
    if beaten is None:
        return hits, ""
    if beaten["by"] <= 0:
        return hits, f"NOT BEATEN ({100 * beaten['by']:+.2f})"
    return hits, f"{'better' if beaten['sure'] else 'ahead'} by {100 * beaten['by']:.2f}"


def _baseline_costs(costs: Sequence[Mapping[str, Any]]) -> TextTable:
    rows = [
        (
            row["method"],
            f"{row['spoken_true']:,} of {row['true']:,}",
            f"{row['spoken_false']:,} of {row['false']:,}",
            _number(row["cllr"]),
            f"{row['pairs'] / row['took_s']:,.0f}" if row["took_s"] else "",
            "" if row["trained_s"] is None else f"{row['trained_s']:.0f}",
        )
        for row in costs
    ]
    return TextTable(
        "Baselines: what they are worth, and cost",
        "Cllr of likelihood ratios fitted on other capture sessions than they are judged on; of fused, as it"
        " is stated. Pairs a second: of a baseline, its scores alone; of fused, all the work from files to"
        " verdicts.",
        ("method", "speaks of true", "of false", "Cllr", "pairs a second", "seconds to train"),
        tuple(rows),
    )


def damage_text(damage: Mapping[str, Any]) -> str:
    """A damage of the document, in words."""
    from vpnforensics.validation.damage import Damage

    return Damage(**damage).text


def misleading_tables(document: Document) -> Iterator[TextTable]:
    """The worst comparisons: what each is, and its packets."""
    kinds = {
        "link": "Wrong link",
        "false": "Speaks for a tunnel that did not carry the flow",
        "true": "Speaks least for the true tunnel",
    }
    for kind, title in kinds.items():
        for each in document["worst"][kind]:
            about = (
                f"{title}: {each['flow']} ({each['flow_ends']}) with {each['tunnel']} ({each['client']}) in"
                f" {each['session']}, damage {each['damage']}; log10 LR {each['llr']:+.2f},"
                f" stated error {each['error']:.2g}; {each['packets']}"
                f" packets, {each['verdict']}{_of_the_true(each)}"
            )
            rows = [
                (
                    f"{p['egress_frame']}",
                    p["at"],
                    "up" if p["up"] else "down",
                    f"{p['inner_bytes']}",
                    "none" if p["ingress_frame"] is None else f"{p['ingress_frame']}",
                    "" if p["outer_bytes"] is None else f"{p['outer_bytes']}",
                    "" if p["delay_ms"] is None else f"{p['delay_ms']:.3f}",
                )
                for p in each["frames"]
            ]
            headings = (
                "egress frame",
                "time",
                "",
                "inner bytes",
                "ingress frame",
                "outer bytes",
                "delay, ms",
            )
            yield TextTable(about, f"{each['ingress']} {each['egress']}", headings, tuple(rows))


def _of_the_true(each: Mapping[str, Any]) -> str:
    """What was said of the tunnel that a wrong link should have named."""
    if each["kind"] != "link":
        return ""
    if each["true_tunnel"] is None:
        return "; its own tunnel is not in the ingress capture"
    said = "nothing" if each["true_llr"] is None else f"log10 LR {each['true_llr']:+.2f}"
    return f"; of its own tunnel, {each['true_tunnel']}: {said}"


def _spoken(document: Document) -> Iterator[tuple[str, Mapping[str, Any]]]:
    return ((name, row) for name, row in document["methods"].items() if "silent" not in row)


def _of(part: float, whole: float) -> str:
    return f"{part:,.0f} of {whole:,} ({part / max(whole, 1):.2g})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _with_interval(value: float | None, interval: Sequence[float | None] | None) -> str:
    if value is None:
        return "not defined"
    if interval is None or None in interval:
        return _number(value)
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"


def _share(value: float, interval: Sequence[float]) -> str:
    return f"{value:.2%} [{interval[0]:.2%}, {interval[1]:.2%}]"
