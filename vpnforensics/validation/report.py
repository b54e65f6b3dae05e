"""The validation report as one document of plain values; table, HTML and pictures are made from it.

``schema``: ``vpnforensics validation 1``. The same captures, options and seed give the same document, but for
``tool.date`` and ``tool.host``. What cannot be stated is null, with its reason beside it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.errors import CaseError
from vpnforensics.evidence.calibration import LEAST_KNOWN
from vpnforensics.options import Options
from vpnforensics.report.limit import twins
from vpnforensics.report.provenance import tool_row
from vpnforensics.validation.baselines.table import Timed, section
from vpnforensics.validation.comparisons import FUSED, Comparisons, Scorer, compare, joined
from vpnforensics.validation.conditions import by_session, conditions
from vpnforensics.validation.criteria import criteria
from vpnforensics.validation.curves import at_rates
from vpnforensics.validation.facts import Facts
from vpnforensics.validation.labels import unattributed
from vpnforensics.validation.metrics import cost, ece, elub, misleading, nbe, thresholds
from vpnforensics.validation.outcomes import Outcomes, outcomes
from vpnforensics.validation.sessions import Session
from vpnforensics.validation.splits import over_sessions
from vpnforensics.validation.stated import allowances, coherence, stated
from vpnforensics.validation.tally import Tally, pav, tally
from vpnforensics.validation.trials import Failed, Plan, trials
from vpnforensics.validation.worst import Misleading, most_misleading, worst

Document = dict[str, Any]

SCHEMA = "vpnforensics validation 1"
LOG_ODDS = np.linspace(-6.0, 3.0, 91)
"""Prior odds that cross-entropy is shown at: from one tunnel among a million to an informed suspicion."""
_MOST_POINTS = 400
"""Of a curve in the document: no eye sees more."""


@dataclass(frozen=True, eq=False)
class Material:
    """All cases put together: what figures are made from."""

    sessions: Sequence[Session]
    cases: list[Document]
    facts: list[Facts]
    """By number of the case; of those that failed there are none."""
    table: Comparisons
    flows: Outcomes
    misleading: list[Misleading]


def gather(
    plan: Plan,
    options: Options,
    tell: Callable[[str, float], None],
    scorers: Mapping[str, Scorer] | None = None,
) -> Material:
    """Work on all cases of a plan, and keep what figures need: one case is in memory at a time.

    Raises
    ------
    CaseError
        No session makes a case, or none has flows whose truth is known.
    """
    cases: list[Document] = []
    facts: list[Facts] = []
    tables, flows, found = [], [], []
    sessions = list({id(session): session for session, _ in plan}.values())
    for trial in trials(plan, options, tell):
        session, damage = trial.session, trial.damage
        row: Document = {"session": session.session, "name": session.name, "damage": asdict(damage)}
        if isinstance(trial, Failed):
            cases.append(row | {"failed": trial.reason, "flows": len(session.truth["flows"])})
            continue
        number = len(facts)
        table = compare(trial, number, scorers)
        of_flows = outcomes(trial, number)
        facts.append(trial.facts)
        tables.append(table)
        flows.append(of_flows)
        found += worst(trial, table)
        cases.append(row | _case_row(number, trial.facts, of_flows, table) | {
            "decoys": {"tried": trial.decision.decoys.tried, "linked": trial.decision.decoys.linked},
            "twins": twins(trial.case, trial.decision),
            "unknown": int((~trial.labels.known).sum()),
            "unattributed": unattributed(trial.case, trial.labels, session.truth),
            "expected_false_links": trial.decision.expected_false_links,
        })  # fmt: skip
    if not tables:
        raise CaseError("no session makes a case: " + "; ".join(dict.fromkeys(c["failed"] for c in cases)))
    table = joined(tables)
    if not len(table):
        raise CaseError(
            "no flow of the captures is in their truth: are captures and truth.json of one recording?"
        )
    return Material(sessions, cases, facts, table, Outcomes.joined(flows), found)


def report(
    material: Material,
    options: Options,
    argv: Sequence[str],
    baselines: Mapping[str, Timed] | None = None,
    case_s: float | None = None,
) -> Document:
    """The document.

    Parameters
    ----------
    material : Material
    options : Options
    argv : sequence of str
        The command line, for the record.
    baselines : mapping of str to Timed, optional
        Those that the material was gathered with. The seconds they took differ from run to run.
    case_s : float, optional
        Seconds that gathering took without them.
    """
    table, flows = material.table, material.flows
    rng = np.random.default_rng(options.seed)
    methods = {name: _method(table, name, rng) for name in table.values if name not in (baselines or {})}
    document = {
        "schema": SCHEMA,
        "tool": tool_row(options.parameters(), options.policy.to_dict(), options.seed, argv),
        "sessions": [_session_row(each) for each in material.sessions],
        "cases": material.cases,
        "counts": _counts(material),
        "methods": methods,
        "criteria": criteria(methods[FUSED], stated(flows), allowances(flows)),
        "conditions": conditions(flows, table, material.facts),
        "cost_by_session": by_session(table, {each.session: each.name for each in material.sessions}),
        "stated": stated(flows),
        "allowances": allowances(flows),
        "coherence": coherence(flows),
        "limit": _limit(material.cases),
        "worst": most_misleading(material.misleading),
    }
    if baselines:
        document["baselines"] = section(table, baselines, case_s)
    document["warnings"] = list(_warnings(document))
    return _plain(document)  # type: ignore[no-any-return]


def _method(table: Comparisons, name: str, rng: np.random.Generator) -> Document:
    """All figures and curves of one method."""
    value = table.values[name]
    counted = tally(value, table.h1)
    true, false = int(table.h1.sum()), int((~table.h1).sum())
    row: Document = {
        "true": true,
        "false": false,
        "spoken_true": int(counted.true),
        "spoken_false": int(counted.false),
    }
    if min(counted.true, counted.false) < LEAST_KNOWN:
        return row | {"silent": f"too few of either kind: {LEAST_KNOWN} at least"}
    costs = asdict(cost(counted))
    interval = over_sessions(table, name, lambda each: np.array(list(asdict(cost(each)).values())), rng)
    at = thresholds(counted)
    given, calibrated, none = ece(counted, LOG_ODDS)
    lower, upper = elub(counted)
    return row | {
        "cost": costs,
        "cost_intervals": None if interval is None else dict(zip(costs, interval.T.tolist(), strict=True)),
        "misleading": [{"llr": x, "true": t, "false": f} for x, t, f in misleading(counted)],
        "elub": [lower, upper],
        "largest": float(counted.llr[-1]),
        "least": float(counted.llr[0]),
        "at_rates": at_rates(table, name),
        "tippett": _tippett(counted),
        "reliability": _reliability(counted),
        "ece": {"log_odds": LOG_ODDS, "given": given, "calibrated": calibrated, "none": none},
        "nbe": _thinned({"at": at, "decades": nbe(counted, at)}),
    }


def _tippett(counted: Tally) -> Document:
    """Shares of both kinds that reach each value: Tippett plot, and DET by the two columns."""
    true, false = counted.at_least()
    rates = np.logspace(-7, 0, _MOST_POINTS // 4)
    last = len(true) - 1
    telling = [np.searchsorted(-false, -rates), np.searchsorted(1 - true, rates)]  # where either is small
    telling.append(np.linspace(0, last, _MOST_POINTS // 2).round().astype(np.int64))
    kept = np.unique(np.minimum(np.concatenate(telling), last))
    return {"llr": counted.llr[kept], "true": true[kept], "false": false[kept]}


def _reliability(counted: Tally) -> Document:
    """Where the best calibration would put each value: both ends of each pool; infinite ones are null."""
    best = pav(counted)
    rises = best[1:] > best[:-1]
    ends = np.flatnonzero(np.r_[True, rises] | np.r_[rises, True])
    pool = np.cumsum(np.r_[0, rises])
    of_true, of_false = (np.bincount(pool, counts)[pool[ends]] for counts in (counted.h1, counted.h2))
    return _thinned({"llr": counted.llr[ends], "pav": best[ends], "true": of_true, "false": of_false})


def _thinned(columns: dict[str, Floats]) -> Document:
    """At most so many points, the ends among them."""
    length = len(next(iter(columns.values())))
    kept = np.unique(np.linspace(0, length - 1, min(length, _MOST_POINTS)).round().astype(np.int64))
    return {name: values[kept] for name, values in columns.items()}


def _case_row(number: int, facts: Facts, flows: Outcomes, table: Comparisons) -> Document:
    return {
        "case": number,
        **asdict(facts),
        "flows": len(flows),
        "carried": int(flows.there.sum()),
        "linked": int(flows.right.sum()),
        "wrong": int((flows.linked & flows.wrong).sum()),
        "denied_carried": int((flows.denied & flows.there).sum()),
        "comparisons": len(table),
    }


def _session_row(session: Session) -> Document:
    return {
        "session": session.session,
        "name": session.name,
        "folder": str(session.folder),
        "ingress": _file_row(session.ingress),
        "egress": _file_row(session.egress),
        "truth_sha256": session.truth_sha256,
        "made_by": session.manifest.get("made_by"),
        "seed": session.manifest.get("seed"),
    }


def _file_row(path: Path) -> Document:
    with path.open("rb") as file:
        return {"path": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _counts(material: Material) -> Document:
    table, flows = material.table, material.flows
    false = ~table.h1
    pair = np.stack([table.identity[false], table.tunnel[false]])
    return {
        "sessions": len(np.unique(table.session)),
        "scripts": _scripts(material.sessions),
        "cases": len(material.facts),
        "failed": sum("failed" in row for row in material.cases),
        "failed_flows": sum(row["flows"] for row in material.cases if "failed" in row),
        "flows": len(flows),
        "distinct_flows": len(np.unique(flows.identity)),
        "true": int(table.h1.sum()),
        "false": int(false.sum()),
        "distinct_false": int(np.unique(pair, axis=1).shape[1]),
        "absent_flows": int((~flows.there).sum()),
        "links": int(flows.linked.sum()),
        "wrong_links": int((flows.linked & flows.wrong).sum()),
        "wrong_links_absent": int((flows.linked & ~flows.there).sum()),
    }


def _scripts(sessions: Sequence[Session]) -> int:
    """Different makers and seeds; what notes none counts as one of its own."""
    noted = ((each.manifest.get("made_by"), each.manifest.get("seed")) for each in sessions)
    return len({(by, seed, n if seed is None else -1) for n, (by, seed) in enumerate(noted)})


def _limit(cases: Sequence[Document]) -> Document:
    known = [row for row in cases if row.get("twins") is not None]
    flows = sum(row["flows"] for row in known)
    twin = sum(row["twins"] for row in known)
    return {"flows": flows, "twins": twin, "share": twin / flows if flows else None}


def _warnings(document: Document) -> Iterable[str]:
    counts = document["counts"]
    if counts["sessions"] < 5:
        yield (
            f"{counts['sessions']} capture session(s): no interval over sessions is stated, and nothing here"
            " says how another server, day or population would do"
        )
    elif counts["scripts"] < counts["sessions"]:
        yield (
            f"the {counts['sessions']} capture sessions follow {counts['scripts']} script(s), by maker and"
            " seed: those of one script do the same through different VPNs, and intervals over sessions take"
            " them for independent"
        )
    if counts["failed"]:
        yield (
            f"{counts['failed']} case(s), with {counts['failed_flows']:,} flows, could not be made and are in"
            " no figure; the table of cases says why"
        )
    unknown = sum(row.get("unknown", 0) for row in document["cases"])
    if unknown:
        reasons = Counter[str]()
        for row in document["cases"]:
            reasons.update(row.get("unattributed", {}))
        told = "".join(f"; {count:,}, the truth says: {reason}" for reason, count in sorted(reasons.items()))
        yield f"{unknown:,} flows are given to nobody by the truth, and are in no figure{told}"
    if not document["methods"].get(FUSED, {}).get("cost"):
        yield "too few comparisons of either kind: no cost is stated"


def _plain(value: Any) -> Any:
    """Of JSON: no dataclasses, no arrays, no NaN, no infinity."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.8g}") if np.isfinite(value) else None
    return value
