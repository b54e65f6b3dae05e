from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")

import matplotlib.pyplot as plt

import vpnforensics as vf
from tests.small_case import made_up
from vpnforensics.features.ip_id import ip_id_table
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_each_returns_the_axes_it_was_given_and_what_it_drew(case):
    flow = case.links.loc[case.links["verdict"] == "linked", "flow"].iloc[0]
    plot = case.plot
    for draw in (
        plot.alignment,
        plot.delay_law,
        plot.timeline,
        lambda ax: plot.link(flow, ax),
        lambda ax: plot.nulls(flow, ax),
    ):
        _, ax = plt.subplots()
        drawn = draw(ax)
        assert drawn.ax is ax
        assert len(drawn.numbers)
        assert ax.get_title(loc="left")
        ax.figure.canvas.draw()


def test_the_clock_line_is_the_estimate(case):
    ax = case.plot.alignment().ax
    line = next(line for line in ax.lines if "clock line" in line.get_label())
    x, y = line.get_data()
    scale = 1e3 if "µs" in ax.get_ylabel() else 1e6
    assert (y[1] - y[0]) * scale / (x[1] - x[0]) / 1e3 == pytest.approx(case.alignment.drift_ppm, rel=1e-6)


def test_up_lies_above_the_clock_line_and_down_below(case):
    ax = case.plot.alignment().ax
    up, down = (line.get_data() for line in ax.lines[:2])
    x, y = next(line for line in ax.lines if "clock line" in line.get_label()).get_data()
    assert np.mean(up[1] > np.interp(up[0], x, y)) > 0.95
    assert np.mean(down[1] < np.interp(down[0], x, y)) > 0.95


def test_outliers_do_not_set_the_scale(case):
    pairings = case.lists.make_pairings()
    stray = pairings["ingress_ns"].notna() & (np.arange(len(pairings)) % 100 == 0)
    pairings.loc[stray, "ingress_ns"] -= 10**9
    was = case.plot.alignment()
    ax, numbers = replace(case, lists=replace(case.lists, make_pairings=lambda: pairings)).plot.alignment()
    low, high = ax.get_ylim()
    assert (high - low) < 1.5 * np.ptp(was.ax.get_ylim())
    beyond = int(ax.get_title(loc="left").partition("(")[2].split()[0].replace(",", ""))
    assert beyond >= stray.sum()
    assert (numbers["difference_ns"] > 9 * 10**8).sum() == stray.sum()


def test_bars_are_as_high_as_packets_are_long():
    ax, numbers = made_up().plot.link("f1")
    inner = sorted(bar.get_height() for bar in ax.patches if bar.get_height() > 0)
    outer = [-bar.get_height() for bar in ax.patches if bar.get_height() < 0]
    assert inner == sorted(numbers["inner_bytes"]) == [60, 140]
    assert outer == [84]
    assert "1 matched" in ax.get_title(loc="left")


def test_first_limits_the_packets(case):
    longest = case.flows.loc[case.flows["packets"].idxmax(), "id"]
    ax = case.plot.link(longest, first=5).ax
    assert len([bar for bar in ax.patches if bar.get_height() > 0]) == 5
    assert "first 5 of" in ax.get_title(loc="left")


def test_the_delay_law_is_drawn_with_its_medians(case):
    ax, numbers = case.plot.delay_law()
    scale = 1e3 if "µs" in ax.get_xlabel() else 1e6
    drawn = sorted(line.get_xdata()[0] * scale for line in ax.lines if "median" in line.get_label())
    assert drawn == pytest.approx(sorted(case.delay_law["median_ns"]))
    assert numbers["packets"].sum() > 0.9 * case.pairings["ingress_frame"].notna().sum()


def test_of_an_opened_case_the_law_is_known_by_its_medians(case, tmp_path):
    (tmp_path / "case.json").write_text(case.to_json())
    ax = vf.open_case(tmp_path / "case.json").plot.delay_law().ax
    assert sum("median" in line.get_label() for line in ax.lines) == len(ax.lines) == 2


def test_the_timeline_has_every_flow_in_its_lane_and_none_over_another(case):
    ax, numbers = case.plot.timeline()
    assert sorted(numbers["flow"]) == sorted(case.links["flow"])
    lanes = dict(zip(numbers["flow"], numbers["lane"], strict=True))
    linked = case.links[case.links["tunnel"].notna()]
    assert all(lanes[flow] == tunnel for flow, tunnel in zip(linked["flow"], linked["tunnel"], strict=True))
    for _, mine in numbers.groupby(["lane", "row"]):
        ends = mine.sort_values("first_s")
        assert (ends["first_s"].to_numpy()[1:] >= ends["last_s"].to_numpy()[:-1]).all()
    assert (numbers["row"] < numbers["rows"]).all()
    assert len(ax.get_yticklabels()) == numbers["lane"].nunique()
    assert len(ax.patches) == len(numbers)


def test_nulls_are_the_pairs_known_to_be_false(case):
    flow = case.summary["flow"][0]
    ax, numbers = case.plot.nulls(flow)
    link = case.links.set_index("flow")["tunnel"]
    false = numbers[numbers["known"] == "false"]
    assert (false["tunnel"] != false["flow"].map(link)).all()
    assert not (false["flow"] == flow).any()
    mine = numbers[numbers["known"] == ""]
    assert set(mine["flow"]) == {flow}
    assert f"{flow} with {link[flow]}" in " ".join(text.get_text() for text in ax.get_legend().get_texts())
    counts = next(patch for patch in ax.patches).get_data().values
    assert counts.sum() == len(false)


def test_what_cannot_be_drawn_says_why():
    case = made_up()
    with pytest.raises(ValueError, match="f2 is not linked"):
        case.plot.link("f2")
    with pytest.raises(KeyError):
        case.plot.link("f9")
    with pytest.raises(KeyError):
        case.plot.nulls("f9")
    with pytest.raises(ValueError, match="f3 was compared with no tunnel"):
        case.plot.nulls("f3")
    with pytest.raises(ValueError, match="no delay law"):
        case.plot.delay_law()
    with pytest.raises(ValueError, match="no flow is linked"):
        made_up(make_pairings=lambda: case.lists.make_pairings().iloc[:0]).plot.alignment()


def test_ip_ids_are_drawn_packet_by_packet(folder):
    senders = find_senders(assemble_flows(vf.read_capture(folder / "egress.pcap")))
    table = ip_id_table(senders)
    _, ax = plt.subplots()
    drawn = table.plot(ax)
    assert drawn.ax is ax
    longest = max(range(len(table.series)), key=lambda n: len(table.series[n].ts_ns))
    mine = drawn.numbers[
        (drawn.numbers["address"] == table.address[longest]) & (drawn.numbers["kind"] == table.kind[longest])
    ]
    assert mine["ip_id"].tolist() == table.series[longest].ip_id.tolist()
