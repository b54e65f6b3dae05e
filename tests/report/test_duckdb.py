"""All tables of a case as Parquet, opened by DuckDB and pandas."""

import pandas as pd
import pytest

import vpnforensics as vf
from vpnforensics.report.forms import parquet_form, table_of

TABLES = ("links", "tunnels", "flows", "scores", "packets")


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


@pytest.fixture(scope="module")
def files(case, tmp_path_factory):
    place = tmp_path_factory.mktemp("parquet")
    for name in TABLES:
        (place / f"{name}.parquet").write_bytes(parquet_form(table_of(case, name), case))
    return place


def test_duckdb_joins_the_tables(case, files):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as base:
        for name in TABLES:
            base.execute(f"CREATE VIEW {name} AS SELECT * FROM '{files / name}.parquet'")
            (count,) = base.execute(f"SELECT count(*) FROM {name}").fetchone()
            assert count == len(table_of(case, name))
        rows = base.execute(
            "SELECT t.client, count(DISTINCT l.flow), count(p.ingress_frame), min(f.first_ns)"
            " FROM links l JOIN tunnels t ON l.tunnel = t.id JOIN flows f ON f.id = l.flow"
            " JOIN packets p ON p.flow = l.flow JOIN scores s ON s.flow = l.flow AND s.tunnel = t.id"
            " WHERE s.packets_llr = l.llr OR s.llr = l.llr GROUP BY t.client ORDER BY t.client"
        ).fetchall()
    linked = case.beside[case.beside["verdict"] == "linked"]
    expected = linked.groupby("client")["flow"].nunique()
    assert {client: flows for client, flows, _, _ in rows} == expected.to_dict()
    found = case.pairings.assign(client=case.pairings["flow"].astype(str).map(
        linked.set_index("flow")["client"]
    ))  # fmt: skip
    assert {client: n for client, _, n, _ in rows} == found.groupby("client")[
        "ingress_frame"
    ].count().to_dict()


@pytest.mark.parametrize("name", TABLES)
def test_pandas_reads_the_same_table(case, files, name):
    table, back = table_of(case, name), pd.read_parquet(files / f"{name}.parquet")
    assert list(back.columns) == list(table.columns)
    whole = table.convert_dtypes().astype(object).where(table.notna(), None)
    again = back.convert_dtypes().astype(object).where(back.notna(), None)
    pd.testing.assert_frame_equal(again, whole, check_dtype=False, check_index_type=False)
