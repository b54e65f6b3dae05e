import copy
import json
from importlib import resources

import jsonschema
import pytest

import vpnforensics as vf
from tests.small_case import made_up
from vpnforensics.align.alignment import Alignment

SCHEMA = json.loads(resources.files("vpnforensics.report").joinpath("result.schema.json").read_text())


@pytest.fixture(scope="module")
def check():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    return jsonschema.Draft202012Validator(SCHEMA)


def test_a_real_case_keeps_the_contract(folder, check):
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    assert (case.links["verdict"] == "linked").any()
    check.validate(json.loads(case.to_json()))


def test_a_case_of_packet_tables_keeps_the_contract(folder, check):
    from dataclasses import replace

    tables = [
        replace(vf.read_capture(folder / f"{side}.pcap"), source=None) for side in ("ingress", "egress")
    ]
    check.validate(json.loads(vf.correlate(*tables).to_json()))


def test_a_case_that_cannot_be_aligned_keeps_the_contract(check):
    lost = Alignment("not_identifiable", reason="too few packets")
    check.validate(json.loads(made_up(alignment=lost).to_json()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("links", 0, "verdict"), "probably"),
        (("links", 0, "tunnel"), None),
        (("links", 1, "tunnel"), "t1"),
        (("flows", 0, "first_ns"), 0.5),
        (("flows", 0, "src"), "203.0.113.1"),
        (("tunnels", 0, "explained_share"), 1.2),
        (("alignment", "offset_ns"), None),
        (("scores", 0, "posterior"), 0.99),
        (("inputs", 0, "sha256"), "00"),
    ],
)
def test_the_schema_refuses(check, path, value):
    contract = copy.deepcopy(made_up().to_dict())
    check.validate(contract)
    place = contract
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert not check.is_valid(contract)


def test_json_is_the_same_every_time_and_has_no_nan():
    assert made_up().to_json() == made_up().to_json()
    assert "NaN" not in made_up().to_json()


def test_the_summary_puts_the_strongest_evidence_first():
    case = made_up()
    assert case.summary["flow"].tolist() == ["f1", "f2", "f3"]
    turned = case.links.assign(
        verdict=["no_tunnel", "linked", "linked"], tunnel=[None, "t1", "t2"], llr=[9.0, 1.0, 2.0]
    )
    assert made_up(links=turned).summary["flow"].tolist() == ["f3", "f2", "f1"]


def test_an_unknown_flow_is_a_key_error():
    with pytest.raises(KeyError):
        made_up().explain("f9")
    assert made_up().explain("f2").empty


def test_it_shows_itself_in_a_notebook_without_running_markup():
    tunnels = made_up().tunnels.assign(client="<script>alert(1)</script>")
    assert "<script>" not in made_up(tunnels=tunnels)._repr_html_()
    assert "1 linked, 1 undecided, 1 no_tunnel" in made_up()._repr_html_()
