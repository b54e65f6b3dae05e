"""A saved case that was cut, edited or is something else: said in a sentence, never believed."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.small_case import made_up
from vpnforensics.errors import SavedCaseError
from vpnforensics.report.contract import contract_of

TEXT = made_up().to_json()


def edited(change):
    contract = json.loads(TEXT)
    change(contract)
    return json.dumps(contract)


def test_what_was_written_is_read():
    assert contract_of(TEXT, "case.json") == made_up().to_dict()


@pytest.mark.parametrize(
    ("text", "saying"),
    [
        ("", "there is nothing in it"),
        (" \n", "there is nothing in it"),
        (TEXT[: len(TEXT) // 2], r"line \d+: it ends in the middle \(an unfinished copy\?\)"),
        (TEXT[:-20], "it ends in the middle"),
        ("flow,verdict\nf1,linked\n", "no JSON"),
        ("{}", "no result of vpnforensics"),
        ("[1, 2]", "no result of vpnforensics"),
        ('{"schema_version": 2}', "no result of vpnforensics"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_none(text, saying):
    with pytest.raises(SavedCaseError, match=saying) as raised:
        contract_of(text, "case.json")
    assert str(raised.value).startswith("case.json: ")


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        (lambda c: c.update(schema_version=1), r"of schema_version 1, where this program reads 2.*\(0\)"),
        (lambda c: c.update(schema_version=3), "of schema_version 3"),
        (lambda c: c["links"][0].update(verdict="surely"), r"links.verdict: 'surely' is not one of"),
        (lambda c: c["links"][0].update(tunnel=None), "links"),
        (lambda c: c["links"][1].pop("why"), "links: 'why' is a required property"),
        (lambda c: c["flows"][0].update(packets=-3), "flows"),
        (lambda c: c["flows"][2].update(packets="many"), "flows"),
        (lambda c: c["scores"][1].update(posterior=0.99), "scores"),
        (lambda c: c.pop("inputs"), "'inputs' is a required property"),
        (lambda c: c["links"][0].update(tunnel="t7"), "there is no tunnel t7"),
        (lambda c: c["links"].pop(), "its links are not those of its flows"),
        (lambda c: c["links"].reverse(), "its links are not those of its flows"),
        (lambda c: c["scores"][0].update(flow="f9"), "scores of flows that it has not"),
        (lambda c: c["flows"].append(c["flows"][0]), "an id stands twice"),
        (lambda c: c["links"][0].update(error=0.3), r"sum up to 0.3, where it states 0.004"),
        (lambda c: c.update(expected_false_links=0.00001), "sum up to 0.004, where it states 1e-05"),
    ],
)
def test_what_was_edited(change, saying):
    with pytest.raises(SavedCaseError, match=saying):
        contract_of(edited(change), "case.json")


def test_a_fault_in_a_late_row_of_many_is_found():
    contract = json.loads(TEXT)
    row = contract["scores"][0]
    contract["scores"] = [copy.deepcopy(row) for _ in range(5_000)]
    contract["scores"][4_321]["llr"] = "large"
    with pytest.raises(SavedCaseError, match="scores"):
        contract_of(json.dumps(contract), "case.json")


@settings(max_examples=60)
@given(st.integers(0, len(TEXT) - 1), st.sampled_from(["", "9", "x", "null", "}", "\x1b"]))
def test_any_damage_is_told_in_a_line_or_harmless(at, piece):
    told = ""
    try:
        contract_of(TEXT[:at] + piece + TEXT[at + 1 :], "case.json")
    except SavedCaseError as error:
        told = str(error)
    assert "\n" not in told
