import numpy as np
import pandas as pd
import pytest

import vpnforensics as vf
from tests.small_case import START_NS, made_up
from vpnforensics.report.questions import GROUPS, SORTS, Question, asked, grouped_by, sorted_by, time_ns


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def flows_of(case, **question):
    return asked(case, Question(**question)).links["flow"].tolist()


def test_an_empty_question_is_the_case_itself(case):
    assert asked(case, Question()) is case


def test_each_filter_keeps_what_a_loop_keeps(case):
    rows = case.beside.merge(case.endpoints[["id", "first_ns", "last_ns"]], left_on="flow", right_on="id")
    client = case.tunnels["client"][0]
    middle = int(rows["first_ns"].median())
    port = rows["dst"].str.rpartition(":")[2].mode()[0]
    expected = {
        ("client", (client,)): rows["client"] == client,
        ("client", (client.rpartition(":")[0],)): rows["client"] == client,
        ("tunnel", ("t2",)): rows["tunnel"] == "t2",
        ("tunnel", ("t1", "t2")): rows["tunnel"].isin(["t1", "t2"]),
        ("dst", (f":{port}",)): rows["dst"].str.endswith(f":{port}"),
        ("dst", (rows["dst"][0],)): rows["dst"] == rows["dst"][0],
        ("since", str(middle)): rows["last_ns"] >= middle,
        ("until", str(middle)): rows["first_ns"] <= middle,
        ("verdict", ("linked",)): rows["verdict"] == "linked",
        ("min_packets", 10): rows["packets"] >= 10,
    }
    for (key, value), kept in expected.items():
        assert 0 < kept.sum() <= len(rows)
        assert flows_of(case, **{key: value}) == rows["flow"][kept].tolist(), key
    both = flows_of(case, client=(client,), min_packets=10)
    assert both == rows["flow"][(rows["client"] == client) & (rows["packets"] >= 10)].tolist()


def test_an_excerpt_says_that_it_is_one_and_keeps_the_contract(case):
    few = asked(case, Question(tunnel=("t1",), min_packets=10))
    assert few.warnings[0].startswith(
        f"an excerpt: {len(few.links)} of {len(case.links)} flows (tunnel t1, at "
    )
    assert few.tool["parameters"]["excerpt"] == "tunnel t1, at least 10 packets"
    contract = few.to_dict()
    ids = {row["id"] for row in contract["flows"]}
    assert {row["flow"] for row in contract["scores"]} == {row["flow"] for row in contract["links"]} == ids
    assert set(few.pairings["flow"]) == ids
    kept = {row["id"]: row for row in case.to_dict()["flows"]}
    assert all(kept[row["id"]] == row for row in contract["flows"])
    errors = few.links["error"][few.links["verdict"] == "linked"]
    assert few.expected_false_links == pytest.approx(errors.sum())
    assert "excerpt" not in case.tool["parameters"]


def test_names_and_users_are_asked_for():
    case = made_up()
    assert flows_of(case, dst=("site.example",)) == ["f1"]
    assert flows_of(case, dst=("www.site.example", ":443")) == ["f1", "f2", "f3"]
    known = made_up(tunnels=case.lists.tunnels.assign(user=["Alice", None]))
    assert flows_of(known, client=("alice",)) == ["f1"]
    assert flows_of(known, client=("bob",)) == []


@pytest.mark.parametrize("key", SORTS)
def test_every_order_has_all_flows(case, key):
    table = sorted_by(case, key)
    assert sorted(table.links["flow"]) == sorted(case.links["flow"])
    assert table.links["flow"].tolist() == table.endpoints["id"].tolist()
    by_id = case.flows.set_index("id")
    pd.testing.assert_frame_equal(table.flows.set_index("id"), by_id.loc[table.flows["id"]])


def test_orders_are_what_they_say(case):
    assert (np.diff(sorted_by(case, "packets").endpoints["packets"]) <= 0).all()
    assert (np.diff(sorted_by(case, "bytes").endpoints["bytes"]) <= 0).all()
    assert (np.diff(sorted_by(case, "time").endpoints["first_ns"]) >= 0).all()
    assert sorted_by(case, "evidence").links["flow"].tolist() == case.summary["flow"].tolist()
    assert sorted_by(case, "client").beside["client"].dropna().is_monotonic_increasing
    assert sorted_by(case, "dst").endpoints["dst"].is_monotonic_increasing
    errors = sorted_by(case, "error").links["error"]
    assert errors.dropna().is_monotonic_increasing
    assert errors.isna().is_monotonic_increasing


@pytest.mark.parametrize("key", GROUPS)
def test_sums_add_up(case, key):
    table = grouped_by(case, key)
    assert table["flows"].sum() == len(case.links)
    assert table["linked"].sum() == (case.links["verdict"] == "linked").sum()
    assert table["packets"].sum() == case.flows["packets"].sum()
    assert table["bytes"].sum() == case.flows["bytes"].sum()
    assert table["first_ns"].min() == case.flows["first_ns"].min()
    assert table["last_ns"].max() == case.flows["last_ns"].max()


def test_a_group_is_its_flows(case):
    table = grouped_by(case, "client")
    client = table["client"][0]
    mine = asked(case, Question(client=(client,)))
    assert table["flows"][0] == len(mine.links)
    assert table["packets"][0] == mine.flows["packets"].sum()


def test_flows_of_nobody_stand_last_and_sites_have_names():
    clients = grouped_by(made_up(), "client")
    assert clients["client"].tolist()[0] == "198.51.100.7"
    assert clients["client"].isna().tolist() == [False, True]
    assert clients["flows"].tolist() == [1, 2]
    sites = grouped_by(made_up(), "site")
    assert set(sites["site"]) == {"www.site.example", "=cmd\\027[2j.example", "192.0.2.80"}


@pytest.mark.parametrize(
    ("question", "saying"),
    [
        ({"tunnel": ("t9",)}, r"no tunnel 't9'; there are t1, t2"),
        ({"verdict": ("maybe",)}, "no verdict 'maybe'"),
        ({"since": "yesterday"}, "'yesterday' is no time: write 2026"),
        ({"until": "25:00"}, "'25:00' is no time"),
        ({"dst": (":99999",)}, "99999 is no port"),
        ({"client": ("",)}, "names no endpoint"),
    ],
)
def test_what_cannot_be_meant_is_told(question, saying):
    with pytest.raises(ValueError, match=saying):
        asked(made_up(), Question(**question))


def test_times_are_of_the_day_of_the_case():
    assert time_ns("22:13:21", START_NS) == START_NS + 10**9
    assert time_ns("2023-11-14T22:13:20.5", 0) == START_NS + 5 * 10**8
    assert time_ns("2023-11-15", 0) == START_NS + (1 * 3600 + 46 * 60 + 40) * 10**9
    assert flows_of(made_up(), since="22:13:22") == []
    assert flows_of(made_up(), until="22:13:20") == ["f1", "f2", "f3"]
