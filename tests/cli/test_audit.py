"""``vpnf audit`` at the command line."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(scope="module")
def sides(folder):
    return folder / "ingress.pcap", folder / "egress.pcap"


def test_json_and_refusals_of_options(run, sides):
    for bad in (("--allowed", "0"), ("--allowed", "nan"), ("--batch", "-1"), ("--pad-block", "3")):
        run("audit", *sides, *bad, code=2)
    run("audit", code=2)


def test_missing_and_swapped_captures(run, sides, tmp_path):
    _, err = run("audit", tmp_path / "none.pcap", sides[1], code=3)
    assert "none.pcap" in err
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(b"not a capture at all")
    run("audit", empty, sides[1], code=3)
    _, err = run("audit", sides[1], sides[0], code=3)
    assert "Traceback" not in err


def test_an_input_is_not_written_over(run, sides):
    before = sides[0].read_bytes()
    run("audit", *sides, "-o", sides[0], code=2)
    assert sides[0].read_bytes() == before


def test_forms(run, sides, tmp_path):
    out, err = run("audit", "-q", *sides, "--cover", "20", "-f", "json")
    found = json.loads(out)
    assert found["schema_version"] == 1
    assert {"now", "leaks", "measures", "ranked"} <= found.keys()
    assert not found["clients"]
    assert err == ""
    page = tmp_path / "audit.html"
    run("audit", "-q", *sides, "--cover", "20", "-f", "html", "-o", page)
    assert "Linkability audit" in page.read_text()
    table, _ = run("audit", "-q", *sides, "--cover", "20", "--by-client")
    assert "What lowers it" in table
    assert "100.64." in table


def test_countermeasures_refuse_what_makes_no_sense(run, sides, tmp_path):
    for bad in (
        (*sides, "--countermeasures"),
        ("--countermeasures", "-f", "html"),
        ("--countermeasures", "--measure", "prayer"),
        ("--countermeasures", "--seeds", "one"),
        (*sides, "--measure", "batch"),
        ("--countermeasures", "--scenario", tmp_path / "none.yaml"),
    ):
        run("audit", *bad, code=2)


def test_countermeasures_need_the_reference_tunnel(run, tmp_path):
    scenario = tmp_path / "other.yaml"
    scenario.write_text("vpn: {kind: openvpn-udp}\nclients: [{traffic: [dns]}]\n")
    _, err = run("audit", "-q", "--countermeasures", "--scenario", scenario, code=2)
    assert "only reftunnel has the switches" in err
