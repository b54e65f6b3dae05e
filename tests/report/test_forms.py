import csv
import io
import json

import pandas as pd
import pyarrow.parquet as pq

from tests.small_case import made_up
from vpnforensics.report.forms import csv_form, jsonl, link_table, parquet_form


def test_the_link_table_has_one_row_a_flow_with_its_tunnel():
    table = link_table(made_up())
    assert table["flow"].tolist() == ["f1", "f2", "f3"]
    assert table.loc[0, ["tunnel", "client", "protocol", "packets"]].tolist() == [
        "t1", "198.51.100.7:4000", "openvpn", 2,
    ]  # fmt: skip
    assert table.loc[1, ["tunnel", "client"]].isna().all()


def test_a_case_without_tunnels_still_has_a_table():
    case = made_up()
    none = case.lists.links.assign(tunnel=None, verdict="no_tunnel")
    table = link_table(made_up(tunnels=case.lists.tunnels.iloc[:0], links=none))
    assert len(table) == 3
    assert table["client"].isna().all()


def test_csv_is_rfc_4180():
    text = "".join(csv_form(pd.DataFrame({"a": ['x,"y"', None], "n": [1, -2], "up": [True, False]})))
    assert text == 'a,n,up\r\n"x,""y""",1,true\r\n,-2,false\r\n'


def test_csv_of_a_case_reads_back():
    rows = list(csv.DictReader(io.StringIO("".join(csv_form(link_table(made_up()))), newline="")))
    assert [row["verdict"] for row in rows] == ["linked", "undecided", "no_tunnel"]
    assert rows[0]["first_ns"] == "1700000000000000000"
    assert rows[0]["llr"] == "3.5"
    assert rows[2]["llr"] == rows[2]["tunnel"] == ""


def test_hostile_cells_are_disarmed_but_numbers_are_not():
    frame = pd.DataFrame({"src": ["=cmd|' /C calc'!A0"], "delay_ns": [-5]})
    assert "".join(csv_form(frame)).splitlines()[1] == "'=cmd|' /C calc'!A0,-5"


def test_jsonl_holds_the_whole_contract():
    case = made_up()
    rows = [json.loads(line) for line in jsonl(case)]
    contract = case.to_dict()
    assert [r for r in rows if r["type"] == "link"] == [{"type": "link", **r} for r in contract["links"]]
    counts = {kind: sum(r["type"] == kind for r in rows) for kind in {r["type"] for r in rows}}
    assert counts == {
        "tool": 1,
        "input": 2,
        "alignment": 1,
        "tunnel": 2,
        "flow": 3,
        "score": 2,
        "link": 3,
        "case": 1,
    }
    assert rows[-1]["comparisons"] == 6


def test_parquet_reads_back_with_types_and_is_deterministic():
    table = link_table(made_up())
    data = parquet_form(table)
    assert data == parquet_form(link_table(made_up()))
    back = pq.read_table(io.BytesIO(data))
    assert back.schema.field("first_ns").type == "int64"
    assert back.column("llr").to_pylist() == [3.5, 1.0, None]
    assert back.column("device").to_pylist() == [None] * 3
    assert str(back.schema.field("device").type) in ("string", "large_string")
