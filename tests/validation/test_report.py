from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vpnforensics import samples
from vpnforensics.cli.main import main
from vpnforensics.options import Options
from vpnforensics.validation.binomial import poisson_tail
from vpnforensics.validation.conditions import conditions
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.html import html_form
from vpnforensics.validation.labels import label, unattributed
from vpnforensics.validation.misleading import misleading_tables
from vpnforensics.validation.outcomes import Outcomes
from vpnforensics.validation.report import Material, gather, report
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.stated import allowances, stated
from vpnforensics.validation.tables import tables
from vpnforensics.validation.trials import Failed, Trial, every, try_session

SAMPLES = ("wireguard", "openvpn-udp", "nebula", "reftunnel-padded", "open-set")


@pytest.fixture(scope="module")
def material() -> Material:
    sessions = open_sessions([samples.FOLDER / name for name in SAMPLES])
    damages = [Damage(), Damage(jitter_ms=2.0, loss=0.01, offset_s=4393.217, drift_ppm=40.0)]
    return gather(every(sessions, damages), Options(), lambda step, share: None)


@pytest.fixture(scope="module")
def document(material: Material) -> dict:
    return report(material, Options(), ["vpnf", "validate"])


def test_counts_are_those_of_the_cases(document: dict) -> None:
    counts, cases = document["counts"], document["cases"]
    assert counts["sessions"] == len(SAMPLES)
    assert counts["scripts"] == 1  # the samples were all made with one seed
    assert any("follow 1 script" in text for text in document["warnings"])
    assert counts["cases"] == len(cases) == 2 * len(SAMPLES)
    assert counts["true"] + counts["false"] == sum(case["comparisons"] for case in cases)
    assert counts["distinct_flows"] < counts["flows"]  # damaged copies are no more flows
    assert counts["absent_flows"] > 100  # open-set
    assert not any(case["wrong"] for case in cases if not case["damage"]["loss"])
    assert document["methods"]["fused"]["cost"]["cllr"] < 0.1


def test_the_document_is_json_and_the_same_again(material: Material, document: dict) -> None:
    again = report(material, Options(), ["vpnf", "validate"])
    for each in (document, again):
        each["tool"]["date"] = ""
    assert json.dumps(again, allow_nan=False) == json.dumps(document, allow_nan=False)


def test_every_picture_is_in_the_page_and_nothing_else_is_loaded(document: dict) -> None:
    page = "".join(html_form(document))
    assert page == "".join(html_form(document))
    assert page.count("data:image/svg+xml;base64,") >= 4
    assert not re.search(r"https?://(?!www\.w3\.org)|<script", page)
    assert "default-src" in page


def test_hostile_names_stay_text(document: dict) -> None:
    hostile = json.loads(json.dumps(document))
    for row in (*hostile["sessions"], *hostile["cases"]):
        row["name"] = "<script>alert(1)</script>\x1b[2J"
    page = "".join(html_form(hostile))
    assert "<script" not in page
    assert "\x1b" not in page


def test_tables_have_a_cell_for_each_heading(document: dict) -> None:
    made = [*tables(document), *misleading_tables(document)]
    assert len(made) > 12
    for table in made:
        assert {len(row) for row in table.rows} == {len(table.headings)}, table.caption


def test_the_worst_have_frames_of_their_flow(document: dict, material: Material) -> None:
    from vpnforensics.packets.read import read_capture

    each = document["worst"]["false"][0]
    session = next(s for s in material.sessions if s.name == each["session"])
    egress = read_capture(session.egress)
    ends = set(each["flow_ends"].split())
    for packet in each["frames"]:
        row = int(np.flatnonzero(egress.frame == packet["egress_frame"])[0])
        found = {
            egress.addresses.endpoint(int(a[row]), int(p[row]))
            for a, p in ((egress.src, egress.sport), (egress.dst, egress.dport))
        }
        assert found == ends


def rows(error: list[float], wrong: list[bool], trial: list[int] | None = None) -> Outcomes:
    n = len(error)
    yes = np.ones(n, np.bool_)
    of = np.array(trial or [0] * n, np.int32)
    packets = np.full(n, 7, np.int32)
    return Outcomes(
        of, of, np.arange(n), packets, yes, yes, ~yes, np.array(wrong), np.array(error), 0.0 * np.array(error)
    )


def test_stated_errors_are_held_against_observed_ones() -> None:
    found = {
        (row.low, row.high): row
        for row in stated(rows([0.02] * 100 + [1e-7] * 50, [True] * 9 + [False] * 141))
    }
    some = found[0.01, 0.1]
    assert (some.flows, some.observed) == (100, 9)
    assert some.stated == pytest.approx(2.0)
    assert some.chance == pytest.approx(poisson_tail(9, 2.0))
    assert some.chance < 0.001
    assert found[0.0, 1e-5].observed == 0


def test_allowances_are_of_each_case() -> None:
    of = rows([0.006, 0.006, 0.09, 0.006], [False, True, True, False], [0, 0, 0, 1])
    assert [(row["links"], row["wrong"]) for row in allowances(of)] == [(2, 0), (3, 1), (4, 2)]


def test_conditions_part_flows_by_their_packets(material: Material) -> None:
    found = conditions(material.flows, material.table, material.facts)
    by_packets = [row for row in found if row.condition == "packets"]
    assert sum(row.carried for row in by_packets) == int(material.flows.there.sum())
    assert [row.value for row in by_packets][:3] == ["1", "2-4", "5-9"]
    for condition in {row.condition for row in found}:  # each parts the whole cost
        assert sum(row.cost_share for row in found if row.condition == condition) == pytest.approx(1.0)
    protocols = {row.value for row in found if row.condition == "protocol"}
    assert protocols == {"wireguard", "openvpn", "nebula"}
    assert {row.value for row in found if row.condition == "jitter"} == {"0 ms", "2 ms"}
    carried = {row.value for row in found if row.condition == "carried in"}
    assert carried == {"datagrams", "datagrams, padded (mtu)"}


def test_the_cost_is_parted_between_the_sessions(document: dict) -> None:
    told = document["cost_by_session"]
    assert {row["session"] for row in told} == set(SAMPLES)
    assert sum(row["cost_share"] for row in told) == pytest.approx(1.0)
    assert [row["cost_share"] for row in told] == sorted((row["cost_share"] for row in told), reverse=True)
    assert all(row["of_true"] <= row["cost_share"] for row in told)
    fused = document["methods"]["fused"]
    assert sum(row["true"] for row in told) == fused["spoken_true"]


def test_the_command_writes_all_forms_and_over_nothing(tmp_path: Path, capsys) -> None:
    folder = tmp_path / "out"
    command = ["validate", str(samples.FOLDER / "wireguard"), "-o", str(folder), "-q"]
    assert main(command) == 0
    names = {path.name for path in folder.iterdir()}
    assert {"report.json", "report.html", "report.txt", "method-fused.svg", "conditions.svg"} <= names
    assert "1 capture session" in (folder / "report.txt").read_text()
    assert main(command) == 2
    assert "no empty folder" in capsys.readouterr().err
    target = tmp_path / "report.json"
    assert main(["validate", str(samples.FOLDER / "wireguard"), "-f", "json", "-o", str(target), "-q"]) == 0
    assert json.loads(target.read_text())["schema"] == "vpnforensics validation 1"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys) -> None:
    assert main(["validate", str(tmp_path)]) == 3
    assert "no truth.json" in capsys.readouterr().err
    assert main(["validate", str(samples.FOLDER / "shadowsocks")]) in (0, 3)


def test_wrong_links_are_among_what_misleads_most(material: Material, document: dict) -> None:
    """Tunnels padded to the MTU, 2 ms of jitter: what the model takes for sure is shown where it is wrong."""
    wrong = int((material.flows.linked & material.flows.wrong & material.flows.there).sum())
    told = document["worst"]["link"]
    assert len(told) >= min(wrong, 1)
    for each in told:
        assert each["verdict"].startswith("linked to")
        assert each["frames"]
        assert 0 < each["error"] < 0.01
        assert each["true_tunnel"] != each["tunnel"]
        assert (each["true_tunnel"] is None) == (each["true_llr"] is None)


def test_what_no_case_is_made_of_is_counted_with_its_reason(material: Material) -> None:
    """Two small relays, one client of them missing at ingress: too little to prove what they are."""
    (session,) = open_sessions([samples.FOLDER / "ssh-socks"])
    failed = try_session(session, Damage(without="198.51.100.13:46398"), Options(), lambda step, share: None)
    assert isinstance(failed, Failed)
    assert "of 2 that may be a relay's (ssh) none was proved" in failed.reason
    made = gather([(session, failed.damage), (material.sessions[0], Damage())], Options(), lambda s, x: None)
    told = report(made, Options(), [])
    assert told["counts"]["failed_flows"] == len(session.truth["flows"])
    assert any(f"1 case(s), with {len(session.truth['flows'])} flows" in text for text in told["warnings"])


def test_flows_that_the_truth_gives_to_nobody_are_counted_with_its_reason() -> None:
    (session,) = open_sessions([samples.FOLDER / "wireguard"])
    whole = try_session(session, Damage(), Options(), lambda step, share: None)
    assert isinstance(whole, Trial)
    flows = session.truth["flows"]
    nobody = [{key: row[key] for key in ("src", "dst")} | {"reason": "why"} for row in flows[:3]]
    truth = session.truth | {"flows": flows[3:], "unattributed": nobody}
    labels = label(whole.case, truth)
    assert int((~labels.known).sum()) == 3
    assert unattributed(whole.case, labels, truth) == {"why": 3}


def test_the_client_left_out_had_packets() -> None:
    session = open_sessions([samples.FOLDER / "open-set"])[0]
    left_out = {d.without for _, d in every([session], [Damage(without="*", seed=n) for n in range(5)])}
    captured = {row["client"] for row in session.truth["tunnels"] if row["captured"]}
    assert left_out == captured
