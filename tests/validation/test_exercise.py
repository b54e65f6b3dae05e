from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

import vpnforensics as vf
from vpnforensics import samples
from vpnforensics.cli.main import main
from vpnforensics.errors import CaseError
from vpnforensics.validation.exercise import NONE, Answer, Question, mark, questions, read_answers, unseal


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exercise") / "set"
    assert main(["exercise", str(folder), "--cases", "2", "--questions", "30", "--seed", "7", "-q"]) == 0
    return folder


def test_participants_get_no_truth(made: Path) -> None:
    given = made / "participants"
    files = {str(path.relative_to(given)) for path in given.rglob("*") if path.is_file()}
    captures = {f"case-0{n}/{side}.pcap" for n in (1, 2) for side in ("ingress", "egress")}
    assert files == captures | {"answers.csv", "README.txt", "SHA256SUMS"}
    digest = hashlib.sha256((made / "sealed-truth.json").read_bytes()).hexdigest()
    assert digest in (given / "README.txt").read_text()
    rows = list(csv.DictReader((given / "answers.csv").read_text().splitlines()))
    assert len(rows) == 60
    assert {row["client"] for row in rows} == {""}
    for line in (given / "SHA256SUMS").read_text().splitlines():
        value, name = line.split("  ")
        assert hashlib.sha256((given / name).read_bytes()).hexdigest() == value


def test_the_same_seed_makes_the_same_exercise_and_none_overwrites(
    made: Path, tmp_path: Path, capsys
) -> None:
    again = tmp_path / "again"
    assert main(["exercise", str(again), "--cases", "2", "--questions", "30", "--seed", "7", "-q"]) == 0
    assert (again / "sealed-truth.json").read_bytes() == (made / "sealed-truth.json").read_bytes()
    assert main(["exercise", str(made), "--seed", "8"]) == 2
    assert "no empty folder" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again"]  # nothing half made is left


def test_without_a_seed_no_two_are_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        wireguard = str(samples.FOLDER / "wireguard")
        assert main(["exercise", str(tmp_path / name), "--from", wireguard, "--questions", "5", "-q"]) == 0
    a, b = ((tmp_path / name / "sealed-truth.json").read_bytes() for name in ("a", "b"))
    assert a != b


def test_the_program_takes_its_own_exercise(made: Path, tmp_path: Path, capsys) -> None:
    sheet = tmp_path / "answers.csv"
    results = {
        name: vf.correlate(*(made / "participants" / name / f"{side}.pcap" for side in ("ingress", "egress")))
        for name in ("case-01", "case-02")
    }
    rows = list(csv.DictReader((made / "participants" / "answers.csv").read_text().splitlines()))
    for row in rows:
        case = results[row["case"]].beside
        mine = case[(case["src"] == row["src"]) & (case["dst"] == row["dst"])]
        if len(mine) and mine["verdict"].iloc[0] == "linked":
            row |= {"client": mine["client"].iloc[0], "llr": str(mine["llr"].iloc[0])}
        elif len(mine) and mine["verdict"].iloc[0] == "no_tunnel":
            row["client"] = "none"
    with sheet.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert main(["exercise", "mark", str(made / "sealed-truth.json"), str(sheet), "-f", "json"]) == 0
    marks = json.loads(capsys.readouterr().out)
    assert marks["all"]["wrong"] == marks["all"]["wrongly_none"] == 0
    assert marks["all"]["right"] > 0.9 * marks["all"]["carried"]
    assert marks["all"]["questions"] == 60
    assert main(["exercise", "mark", str(made / "sealed-truth.json"), str(sheet)]) == 0
    assert "case-02" in capsys.readouterr().out


def asked(client: str, number: int = 1) -> Question:
    return Question("case-01", number, "udp", "a:1", "b:2", 0, 1, 4, client)


@pytest.mark.parametrize(
    ("client", "answer", "told"),
    [
        ("c:1", "c:1", "right"),
        ("c:1", "c:2", "wrong"),
        ("c:1", "", "undecided"),
        ("c:1", "none", "wrongly none"),
        (NONE, "None", "rightly none"),
        (NONE, "c:1", "wrong"),
    ],
)
def test_marks(client: str, answer: str, told: str) -> None:
    marks = mark([asked(client)], {("case-01", 1): Answer(answer, 2.0)})["all"]
    assert marks[told.replace(" ", "_")] == 1
    assert marks["misleading"] == (told == "wrong")
    assert marks["with_llr"] == (told in ("right", "wrong"))


def test_what_was_not_answered_is_undecided_and_strays_are_refused() -> None:
    assert mark([asked("c:1")], {})["all"]["undecided"] == 1
    with pytest.raises(CaseError, match="not asked"):
        mark([asked("c:1")], {("case-01", 2): Answer("c:1", None)})


def test_ratios_are_marked_by_their_cost() -> None:
    some = [asked("c:1", n) for n in range(100)]
    right = {("case-01", n): Answer("c:1" if n < 60 else "c:2", 2.0 if n < 60 else -2.0) for n in range(100)}
    assert mark(some, right)["all"]["cllr"] < 0.05
    assert (
        mark(some[:70], {k: v for k, v in right.items() if k[1] < 70})["all"]["cllr"] is None
    )  # too few wrong


def test_absent_clients_have_no_tunnel() -> None:
    truth = json.loads((samples.FOLDER / "open-set" / "truth.json").read_text())
    found = questions("c", truth, 10_000, np.random.default_rng(0))
    absent = {t["client"] for t in truth["tunnels"] if not t["captured"]}
    assert absent
    assert sum(q.client == NONE for q in found) == sum(f["client"] in absent for f in truth["flows"])
    assert len(questions("c", truth, 7, np.random.default_rng(0))) == 7


def test_each_of_a_relays_connections_names_its_client() -> None:
    truth = json.loads((samples.FOLDER / "socks" / "truth.json").read_text())
    found = questions("c", truth, 10_000, np.random.default_rng(0))
    several = [each for each in found if each.also]
    assert len({each.client for each in several}) == 2  # the third client opened one connection only
    marks = mark(several, {each.key: Answer(each.also[-1], None) for each in several})["all"]
    assert marks["right"] == len(several)
    other = {each.client: each.also[0] for each in several}
    clients = sorted(other)
    swapped = dict(zip(clients, (other[client] for client in reversed(clients)), strict=True))
    marks = mark(several, {each.key: Answer(swapped[each.client], None) for each in several})["all"]
    assert marks["wrong"] == len(several)


def test_another_truth_or_damaged_answers_are_refused(made: Path, tmp_path: Path, capsys) -> None:
    truth = made / "sealed-truth.json"
    with pytest.raises(CaseError, match="not the truth that was sealed"):
        unseal(truth, "0" * 64)
    for text, why in (("{", "no sealed truth"), ('{"schema": "x"}', "version"), ("[]", "no sealed truth")):
        (tmp_path / "truth.json").write_text(text)
        with pytest.raises(CaseError, match=why):
            unseal(tmp_path / "truth.json", None)
    for text, why in (
        ("a,b\n", "no column"),
        ("case,question,client\nc,x,\n", "line 2"),
        ("case,question,client\nc,1,\nc,1,\n", "twice"),
        ("case,question,client,llr\nc,1,,much\n", "line 2"),
    ):
        (tmp_path / "answers.csv").write_text(text)
        with pytest.raises(CaseError, match=why):
            read_answers(tmp_path / "answers.csv")
    assert main(["exercise", "mark", str(truth), str(tmp_path / "answers.csv")]) == 3
    assert "line 2" in capsys.readouterr().err
    assert main(["exercise", "mark", str(truth), str(truth), "-o", str(truth)]) == 2  # would destroy it
