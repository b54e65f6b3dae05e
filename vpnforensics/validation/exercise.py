"""Blind exercises: what is asked of an analyst, the truth sealed beside it, and the marks of the answers.

The truth is committed to before anyone answers: its SHA-256 stands in what participants get, and a nonce in
it keeps anyone from guessing it by trying. Whoever marks shows the file that has this digest; nobody can
change anything afterwards.

Answers are CSV, a row a question: ``client`` is the tunnel's client endpoint (``addr:port``; of a relay's
client, of any of its connections), ``none`` (no tunnel in the ingress capture carried the flow) or empty
(undecided); ``llr`` is optional: the decimal logarithm of the likelihood ratio for that client.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpnforensics.errors import CaseError
from vpnforensics.evidence.calibration import LEAST_KNOWN
from vpnforensics.validation.binomial import interval
from vpnforensics.validation.metrics import cost
from vpnforensics.validation.sessions import endpoints, sent_by_the_server
from vpnforensics.validation.tally import tally

SCHEMA = "vpnforensics exercise 1"
NONE = "none"
COLUMNS = ("case", "question", "proto", "src", "dst", "first_ns", "last_ns", "packets", "client", "llr")
_ANSWER = ("client", "llr")
_MOST_BYTES = 64 << 20
"""Of a file with answers or truth: exercises are small, and files may be hostile."""


@dataclass(frozen=True, slots=True)
class Question:
    """One flow of one case; the answer is a client or :data:`NONE`."""

    case: str
    question: int
    proto: str
    src: str
    dst: str
    first_ns: int
    last_ns: int
    packets: int
    client: str
    also: tuple[str, ...] = ()
    """Ends of the client's other conversations: where a relay has several, each names the tunnel."""

    @property
    def key(self) -> tuple[str, int]:
        """What it is known by."""
        return self.case, self.question


def questions(case: str, truth: Mapping[str, Any], most: int, rng: np.random.Generator) -> list[Question]:
    """Flows of a case to ask for, drawn at random, in order of time.

    Parameters
    ----------
    case : str
    truth : mapping
        ``truth.json``; clients whose tunnel is not ``captured`` are :data:`NONE`.
    most : int
        Questions, at most.
    rng : numpy.random.Generator
    """
    captured = {row["client"]: endpoints(row) for row in truth["tunnels"] if row.get("captured", True)}
    flows = [*truth["flows"], *sent_by_the_server(truth)]
    chosen = np.sort(rng.choice(len(flows), min(most, len(flows)), replace=False)).tolist()
    ordered = sorted((flows[n] for n in chosen), key=lambda f: (f["first_ns"], f["src"], f["dst"]))
    clients = [captured.get(flow.get("client"), [NONE]) for flow in ordered]
    return [
        Question(
            case, number, flow.get("proto", ""), flow["src"], flow["dst"], flow["first_ns"], flow["last_ns"],
            flow["packets"], client, tuple(also),
        )
        for number, (flow, (client, *also)) in enumerate(zip(ordered, clients, strict=True), 1)
    ]  # fmt: skip


def answer_sheet(asked: Iterable[Question]) -> str:
    """The CSV that participants fill in: all but the answers."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in asked:
        row = asdict(each)
        writer.writerow([*(row[name] for name in COLUMNS[: -len(_ANSWER)]), "", ""])
    return target.getvalue()


def sealed(asked: Sequence[Question], seed: int, nonce: str, captures: Mapping[str, str]) -> bytes:
    """The truth as it is sealed: the same bytes for the same arguments."""
    document = {
        "schema": SCHEMA,
        "seed": seed,
        "nonce": nonce,
        "captures": dict(captures),
        "answers": [asdict(each) for each in asked],
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def unseal(path: Path, digest: str | None) -> list[Question]:
    """The truth again.

    Parameters
    ----------
    path : Path
    digest : str or None
        Its SHA-256, as participants were given it.

    Raises
    ------
    CaseError
        It is another file, or none of an exercise.
    """
    text = _read(path)
    found = hashlib.sha256(text).hexdigest()
    if digest is not None and found != digest.strip().lower():
        raise CaseError(
            f"{path}: its SHA-256 is {found}, not {digest.strip()}: this is not the truth that was sealed"
        )
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise CaseError(f"{path}: is no sealed truth of this version: {document['schema']!r}")
        return [Question(**row) for row in document["answers"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CaseError(f"{path}: is no sealed truth of an exercise: {error}") from error


@dataclass(frozen=True, slots=True)
class Answer:
    """What a participant says of one question."""

    client: str
    """Empty where undecided."""
    llr: float | None


def read_answers(path: Path) -> dict[tuple[str, int], Answer]:
    """A filled-in sheet.

    Raises
    ------
    CaseError
        It is no such sheet, a row cannot be read, or a question is answered twice.
    """
    rows = csv.DictReader(io.StringIO(_read(path).decode("utf-8-sig", "replace"), newline=""))
    missing = {"case", "question", "client"} - set(rows.fieldnames or ())
    if missing:
        raise CaseError(f"{path}: has no column {min(missing)!r}; is it the answer sheet of an exercise?")
    found: dict[tuple[str, int], Answer] = {}
    try:
        for row in rows:
            key = (row["case"] or "").strip(), int(row["question"] or "")
            if key in found:
                raise CaseError(
                    f"{path}: line {rows.line_num}: case {key[0]}, question {key[1]} is there twice"
                )
            llr = (row.get("llr") or "").strip()
            found[key] = Answer((row["client"] or "").strip(), float(llr) if llr else None)
    except (ValueError, csv.Error) as error:
        raise CaseError(f"{path}: line {rows.line_num}: {error}") from error
    return found


def mark(asked: Sequence[Question], given: Mapping[tuple[str, int], Answer]) -> dict[str, Any]:
    """The marks: by case and in all.

    Raises
    ------
    CaseError
        An answer is to a question that was not asked.
    """
    stray = sorted(set(given) - {each.key for each in asked})
    if stray:
        raise CaseError(f"answers to what was not asked: case {stray[0][0]}, question {stray[0][1]}")
    rows = [_row(each, given.get(each.key, Answer("", None))) for each in asked]
    cases = {each.case: [row for row in rows if row["case"] == each.case] for each in asked}
    return {
        "schema": SCHEMA,
        "all": _marks(rows),
        "cases": [{"case": case, **_marks(of)} for case, of in cases.items()],
        "wrong": [row for row in rows if row["mark"] in ("wrong", "wrongly none")],
    }


def _row(asked: Question, answer: Answer) -> dict[str, Any]:
    if not answer.client:
        told = "undecided"
    elif answer.client.lower() == NONE:
        told = "rightly none" if asked.client == NONE else "wrongly none"
    else:
        told = "right" if answer.client in (asked.client, *asked.also) else "wrong"
    return asdict(asked) | {"answer": answer.client, "llr": answer.llr, "mark": told}


def _marks(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    count = {name: sum(row["mark"] == name for row in rows) for name in
             ("right", "wrong", "undecided", "rightly none", "wrongly none")}  # fmt: skip
    carried = [row for row in rows if row["client"] != NONE]
    named = count["right"] + count["wrong"]
    told = [row for row in rows if row["llr"] is not None and row["mark"] in ("right", "wrong")]
    true = np.array([row["mark"] == "right" for row in told], np.bool_)
    llr = np.array([row["llr"] for row in told], np.float64)
    enough = min(int(true.sum()), int((~true).sum())) >= LEAST_KNOWN
    return {
        "questions": len(rows),
        "carried": len(carried),
        **{name.replace(" ", "_"): n for name, n in count.items()},
        "right_share": count["right"] / len(carried) if carried else None,
        "right_interval": interval(count["right"], len(carried)),
        "wrong_share": count["wrong"] / named if named else None,
        "wrong_interval": interval(count["wrong"], named),
        "with_llr": len(told),
        "misleading": int((~true & (llr > 0)).sum()),
        "cllr": cost(tally(llr, true)).cllr if enough else None,
    }


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_MOST_BYTES + 1)
    if len(text) > _MOST_BYTES:
        raise CaseError(f"{path}: larger than {_MOST_BYTES >> 20} MiB, so it is no file of an exercise")
    return text
