import copy
import json
import pickle
from dataclasses import replace
from importlib import resources

import jsonschema
import numpy as np
import pandas as pd
import pytest

import vpnforensics as vf
from tests.small_case import made_up
from vpnforensics.align.alignment import Alignment
from vpnforensics.report import dataframes, result

SCHEMA = json.loads(resources.files("vpnforensics.report").joinpath("result.schema.json").read_text())

TEXTS = [path.replace(".", "_") for path, kind in dataframes.TUNNELS if kind == "text"]


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
        (("inputs", 0, "files", 0, "first_frame"), 0),
        (("links", 1, "why"), None),
        (("links", 0, "error"), None),
        (("flows", 0, "names"), None),
        (("limit", "twins"), -1),
        (("tool", "date"), "yesterday"),
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
    turned = case.lists.links.assign(
        verdict=["no_tunnel", "linked", "linked"], tunnel=[None, "t1", "t2"], llr=[9.0, 1.0, 2.0]
    )
    assert made_up(links=turned).summary["flow"].tolist() == ["f3", "f2", "f1"]


def test_an_unknown_flow_is_a_key_error():
    with pytest.raises(KeyError):
        made_up().explain("f9")
    assert made_up().explain("f2").empty


def test_it_shows_itself_in_a_notebook_without_running_markup():
    tunnels = made_up().lists.tunnels.assign(client="<script>alert(1)</script>")
    assert "<script>" not in made_up(tunnels=tunnels)._repr_html_()
    assert "1 linked, 1 undecided, 1 no_tunnel" in made_up()._repr_html_()


def test_tables_have_dates_and_no_objects_in_cells():
    case = made_up()
    for table in (case.tunnels, case.flows, case.links, case.scores, case.scores_long()):
        cells = [cell for name in table for cell in table[name]]
        assert not any(isinstance(cell, dict | list) for cell in cells)
    assert str(case.flows["first"].dtype) == "datetime64[ns, UTC]"
    assert case.flows["first"].astype("int64").tolist() == case.flows["first_ns"].tolist()
    assert case.tunnels["length_map_overhead"].tolist()[0] == 24
    assert case.scores["packets_note"].tolist() == ["1 of 2 packets found", "9 of 30 packets found"]
    assert case.scores_long()[["flow", "engine", "llr"]].to_numpy().tolist() == [
        ["f1", "packets", 3.5], ["f2", "packets", 1.0],
    ]  # fmt: skip


def test_tables_without_rows_have_the_same_columns_and_types():
    case = made_up()
    empty = made_up(
        tunnels=case.lists.tunnels.iloc[:0], make_scores=lambda: case.lists.make_scores().iloc[:0]
    )
    assert empty.tunnels.dtypes.drop(TEXTS, errors="ignore").equals(
        case.tunnels.dtypes.drop(TEXTS, errors="ignore")
    )
    assert list(empty.tunnels) == list(case.tunnels)
    assert list(empty.scores) == ["flow", "tunnel", "llr", "llr_bounded", "null_comparisons"]


def test_a_result_pickles_with_all_it_knows(folder):
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    again = pickle.loads(pickle.dumps(case))
    assert again == case
    assert again.to_json() == case.to_json()
    for name in ("tunnels", "flows", "links", "scores", "pairings", "summary"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(case, name))
    assert again.alignment.to_dict() == case.alignment.to_dict()
    assert again != made_up()
    assert case != "a string"
    np.testing.assert_array_equal(again.delay_law["up"], case.delay_law["up"])


def test_frames_are_numbered_within_their_file():
    case = made_up()
    second = {**case.inputs[0]["files"][0], "path": "b.pcap", "first_frame": 7}
    files = [{**second, "path": "a.pcap", "first_frame": 1}, second]
    inputs = [{**case.inputs[0], "files": files}, case.inputs[1]]
    pairings = made_up(inputs=inputs).pairings
    assert pairings["ingress_file"].tolist()[0] == "b.pcap"
    assert pairings["ingress_frame"].tolist()[0] == 1
    assert pairings["ingress_file"].isna().tolist() == [False, True]
    assert pairings["egress_frame"].tolist() == [1, 2]
    assert (
        made_up(inputs=[{**case.inputs[0], "files": []}, case.inputs[1]])
        .pairings["ingress_file"]
        .isna()
        .all()
    )


@pytest.mark.parametrize("rows", [1, 2_000])
def test_json_in_pieces_is_json(folder, rows, monkeypatch):
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", engines="packets")
    monkeypatch.setattr(result, "_ROWS_OF_A_PIECE", rows)
    for each in (case, made_up()):
        empty = replace(each, lists=replace(each.lists, links=each.lists.links[:0]))
        assert "".join(each.json_pieces()) == each.to_json()
        assert "".join(empty.json_pieces()) == empty.to_json()
