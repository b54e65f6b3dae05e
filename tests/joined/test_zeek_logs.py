"""Logs of Zeek beside a case: uids and names come to the flows that they are of, and to no other."""

import json
from dataclasses import replace

import pytest

import vpnforensics as vf
from tests.small_case import write_case
from vpnforensics.report.zeek_log import conn_log
from vpnforensics.saved import differences, excerpt_of, found_files, open_case, recomputed

KEYS = ("id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="module")
def sides(folder):
    return vf.read_capture(folder / "ingress.pcap"), vf.read_capture(folder / "egress.pcap")


@pytest.fixture(scope="module")
def case(sides):
    return vf.correlate(*sides)


def row_of(flow, **more):
    (source, sport), (destination, dport) = (end.rsplit(":", 1) for end in (flow["src"], flow["dst"]))
    row = dict(zip(KEYS, (source, int(sport), destination, int(dport)), strict=True))
    return {"ts": flow["first_ns"] / 1e9, "uid": f"C{flow['id']}", "proto": flow["proto"], **row, **more}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def flows_of(case):
    return case.to_dict()["flows"]


@pytest.mark.parametrize("with_ids", [True, False])
def test_every_flow_finds_its_row(sides, case, tmp_path, with_ids):
    keep = [flow for flow in flows_of(case) if flow["proto"] in ("tcp", "udp")]
    ids = [{"community_id": flow["community_id"]} if with_ids else {} for flow in keep]
    rows = [row_of(flow, **more) for flow, more in zip(keep, ids, strict=True)]
    if not with_ids:  # Zeek may have seen the answer first
        rows = [
            {**row, **{a: row[b] for a, b in zip(KEYS, KEYS[2:] + KEYS[:2], strict=True)}} for row in rows
        ]
    joined = vf.correlate(*sides, zeek=[written(tmp_path / "conn.log", rows)])
    found = {flow["id"]: flow["uids"] for flow in flows_of(joined)}
    assert found == {flow["id"]: [f"C{flow['id']}"] if flow in keep else [] for flow in flows_of(case)}
    assert joined.zeek["flows"] == joined.zeek["files"][0]["matched"] == len(keep)
    assert joined.zeek["files"][0]["offset_ns"] == 0
    assert joined.warnings == case.warnings
    assert replace(joined, zeek=None).links.equals(case.links)


def test_our_own_conn_log_joins_and_gives_its_uids_back(sides, case, tmp_path):
    (tmp_path / "conn.log").write_text("".join(conn_log(case)))
    joined = vf.correlate(*sides, zeek=[tmp_path / "conn.log"])
    assert [flow["uids"] for flow in flows_of(joined)] == [[flow["id"]] for flow in flows_of(case)]
    assert [line.split("\t")[1] for line in conn_log(joined) if line[0] != "#"] == [
        flow["id"] for flow in flows_of(case)
    ]


def test_names_of_connections_and_of_lookups(sides, case, tmp_path):
    flows = flows_of(case)
    lookup = next(f for f in flows if f["dst"].endswith(":53"))
    web = next(f for f in flows if f["dst"].endswith(":443") and f["first_ns"] > lookup["last_ns"])
    address = web["dst"].rpartition(":")[0]
    hostile = "EVIL\x1b[2J <b>.example."
    rows = [
        row_of(lookup, query="early.example", answers=[address], TTLs=[60.0]),
        row_of(web, server_name=hostile),
    ]
    joined = vf.correlate(*sides, zeek=[written(tmp_path / "mixed.log", rows)])
    names = {flow["id"]: flow["names"] for flow in flows_of(joined)}
    spelled = "evil\\027[2j\\032\\060b\\062.example"
    assert {"name": spelled, "source": "zeek", "flow": web["id"]} in names[web["id"]]
    assert {"name": "early.example", "source": "zeek_dns", "flow": lookup["id"]} in names[web["id"]]
    assert {"name": "early.example", "source": "zeek", "flow": lookup["id"]} in names[lookup["id"]]
    elsewhere = [
        f for f in flows if f["dst"].rpartition(":")[0] != address or f["first_ns"] < lookup["first_ns"]
    ]
    assert not any("early.example" in str(names[f["id"]]) for f in elsewhere if f is not lookup)


def test_another_clock_is_found_and_another_day_is_not_taken(sides, case, tmp_path):
    flows = [flow for flow in flows_of(case) if flow["proto"] in ("tcp", "udp")]
    late = [{**(row := row_of(flow)), "ts": row["ts"] + 3600.0} for flow in flows]
    joined = vf.correlate(*sides, zeek=[written(tmp_path / "late.log", late)])
    assert joined.zeek["flows"] == len(flows)
    assert joined.zeek["files"][0]["offset_ns"] == pytest.approx(3600e9, abs=1e6)
    assert any("ahead of the egress capture's" in said for said in joined.warnings)
    few = vf.correlate(*sides, zeek=[written(tmp_path / "few.log", late[:3])])
    assert few.zeek["flows"] == 0  # the same ports on another day, for all we know
    assert any("no row is of a flow" in said for said in few.warnings)


def test_what_is_no_log_of_zeek_is_told(sides, tmp_path):
    (tmp_path / "x\x1b.log").write_bytes(b"\x00\xff\x1b[2J\n" * 5)
    joined = vf.correlate(*sides, zeek=[tmp_path / "x\x1b.log"])
    said = [text for text in joined.warnings if "x\\x1b.log" in text]
    assert any("5 lines in no form of Zeek's" in text for text in said)
    assert any("no log of Zeek with connections" in text for text in said)
    with pytest.raises(vf.LogError, match="cannot be read"):
        vf.correlate(*sides, zeek=[tmp_path / "none"])


def test_a_case_with_them_opens_verifies_and_moves(folder, case, tmp_path):
    log = written(tmp_path / "conn.log", [row_of(flow) for flow in flows_of(case)])
    made = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", zeek=[log])
    saved = tmp_path / "case.json"
    saved.write_text(made.to_json())
    assert open_case(saved) == made
    elsewhere = log.rename(tmp_path / "moved.log")
    contract = made.to_dict()
    files = found_files(contract, tmp_path, {"zeek": [str(elsewhere)]})
    assert [file.state for file in files] == ["unchanged"] * 3
    assert list(differences(contract, excerpt_of(recomputed(contract, files), contract))) == []
    elsewhere.write_text("")
    assert "changed" in found_files(contract, tmp_path, {"zeek": [str(elsewhere)]})[-1].state
