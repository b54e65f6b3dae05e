import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import vpnforensics as vf
from tests.small_case import made_up
from vpnforensics.report.html import packets
from vpnforensics.report.html.packets import even_share, packet_lists


def undone(listed):
    """What the script makes of the columns, by the slow way."""
    egress, times, rest = np.cumsum(listed["e"]), int(listed["at"]) + np.cumsum(listed["t"]), []
    ingress = counter = 0
    for n, step in enumerate(listed["i"]):
        if step is None:
            rest.append((None, None, None, None))
            continue
        ingress += step
        if "n" in listed:
            counter += listed["n"][n]
        rest.append((ingress, listed["o"][n], counter if "n" in listed else -1, listed["d"][n]))
    sizes = [(abs(size), size > 0) for size in listed["l"]]
    return [
        (time, frame, *size, *each)
        for time, frame, size, each in zip(times.tolist(), egress.tolist(), sizes, rest, strict=True)
    ]


def frames_named(runs):
    named = []
    for _, *steps in runs:
        at = 0
        for gap, more in zip(steps[::2], steps[1::2], strict=True):
            named += range(at + gap, at + gap + more + 1)
            at += gap + more
    return named


def wanted(case, flow):
    table = case.explain(flow)
    names = ("ingress_frame", "outer_bytes", "counter", "delay_ns")
    outer = [
        [
            None if value != value else int(value)
            for value in table[name].astype(object).where(table[name].notna(), float("nan"))
        ]
        for name in names
    ]
    own = [table[name].tolist() for name in ("egress_ns", "egress_frame", "inner_bytes", "up")]
    return list(zip(*own, *outer, strict=True))


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def test_the_columns_are_the_pairings(case):
    flows = case.endpoints["id"].tolist()
    made = packet_lists(case.pairings, flows)
    linked = case.links.loc[case.links["verdict"] == "linked", "flow"]
    assert {flows[int(key)] for key in made} == set(linked)
    for key, listed in made.items():
        assert undone(listed) == wanted(case, flows[int(key)])
        assert "runs" not in listed
        assert listed["all"] == len(listed["l"])


def test_a_packet_without_its_outer_one():
    case = made_up()
    (listed,) = packet_lists(case.pairings, ["f1", "f2", "f3"]).values()
    assert undone(listed) == wanted(case, "f1")
    assert (listed["all"], listed["found"]) == (2, 1)


def test_longer_flows_give_way_and_all_frames_are_named(case, monkeypatch):
    flows = case.endpoints["id"].tolist()
    whole = packet_lists(case.pairings, flows)
    monkeypatch.setattr(packets, "LISTED_PACKETS", 4 * len(whole))
    made = packet_lists(case.pairings, flows)
    assert sum(len(listed["l"]) for listed in made.values()) <= 4 * len(whole)
    longer = [key for key in made if "runs" in made[key]]
    assert longer
    for key in longer:
        assert undone(made[key]) == undone(whole[key])[: len(made[key]["l"])]
        for role, name in (("e", "egress_frame"), ("i", "ingress_frame")):
            frames = case.explain(flows[int(key)])[name].dropna().tolist()
            named = frames_named(made[key]["runs"][role])
            assert named == sorted(set(frames))
        assert not made[key]["cut"]


def test_runs_that_are_too_many_are_cut_and_it_is_said(case, monkeypatch):
    monkeypatch.setattr(packets, "LISTED_PACKETS", 1)
    monkeypatch.setattr(packets, "LISTED_RUNS", 10)
    made = packet_lists(case.pairings, case.endpoints["id"].tolist())
    assert any(listed.get("cut") for listed in made.values())


@given(st.lists(st.integers(1, 1000), max_size=20), st.integers(1, 5000))
def test_a_share_keeps_within_the_budget_and_is_the_most(sizes, budget):
    share = even_share(np.array(sizes, np.int64), budget)

    def taken(most):
        return sum(min(size, most) for size in sizes)

    if share > 1:
        assert taken(share) <= budget
    assert taken(share + 1) > budget or share >= max(sizes, default=0)


def test_header_fields_are_those_of_packets_going_up(case):
    flows = case.endpoints["id"].tolist()
    made = packet_lists(case.pairings, flows, [packets.FIELDS] * len(flows))
    listed = 0
    for key, each in made.items():
        table = case.explain(flows[int(key)])
        for name, values in each.get("fields", {}).items():
            assert values == table.loc[table["up"], name].fillna(-1).tolist()
            listed += 1
    assert listed
    assert not any("fields" in each for each in packet_lists(case.pairings, flows).values())
