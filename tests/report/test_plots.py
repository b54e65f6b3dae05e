import matplotlib as mpl
import numpy as np
import pytest

mpl.use("agg")

import matplotlib.pyplot as plt

import vpnforensics as vf
from tests.small_case import made_up


@pytest.fixture(scope="module")
def case(folder):
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_each_returns_the_axes_it_was_given(case):
    flow = case.links.loc[case.links["verdict"] == "linked", "flow"].iloc[0]
    for draw in (case.plot.alignment, case.plot.delay_law, lambda ax: case.plot.pairs(flow, ax)):
        _, ax = plt.subplots()
        assert draw(ax) is ax
        assert ax.get_title(loc="left")
        ax.figure.canvas.draw()


def test_the_clock_line_is_the_estimate(case):
    ax = case.plot.alignment()
    line = next(line for line in ax.lines if "clock line" in line.get_label())
    x, y = line.get_data()
    scale = 1e3 if "µs" in ax.get_ylabel() else 1e6
    assert (y[1] - y[0]) * scale / (x[1] - x[0]) / 1e3 == pytest.approx(case.alignment.drift_ppm, rel=1e-6)


def test_up_lies_above_the_clock_line_and_down_below(case):
    ax = case.plot.alignment()
    up, down = (line.get_data() for line in ax.lines[:2])
    x, y = next(line for line in ax.lines if "clock line" in line.get_label()).get_data()
    assert np.mean(up[1] > np.interp(up[0], x, y)) > 0.95
    assert np.mean(down[1] < np.interp(down[0], x, y)) > 0.95


def test_bars_are_as_high_as_packets_are_long():
    ax = made_up().plot.pairs("f1")
    inner = sorted(bar.get_height() for bar in ax.patches if bar.get_height() > 0)
    outer = [-bar.get_height() for bar in ax.patches if bar.get_height() < 0]
    assert inner == [60, 140]
    assert outer == [84]
    assert "1 matched" in ax.get_title(loc="left")


def test_first_limits_the_packets(case):
    longest = case.flows.loc[case.flows["packets"].idxmax(), "id"]
    ax = case.plot.pairs(longest, first=5)
    assert len([bar for bar in ax.patches if bar.get_height() > 0]) == 5
    assert "first 5 of" in ax.get_title(loc="left")


def test_the_delay_law_is_drawn_with_its_medians(case):
    ax = case.plot.delay_law()
    scale = 1e3 if "µs" in ax.get_xlabel() else 1e6
    drawn = sorted(line.get_xdata()[0] * scale for line in ax.lines if "median" in line.get_label())
    assert drawn == pytest.approx(sorted(case.delay_law["median_ns"]))


def test_what_cannot_be_drawn_says_why():
    case = made_up()
    with pytest.raises(ValueError, match="f2 is not linked"):
        case.plot.pairs("f2")
    with pytest.raises(KeyError):
        case.plot.pairs("f9")
    with pytest.raises(ValueError, match="no delay law"):
        case.plot.delay_law()
    with pytest.raises(ValueError, match="no flow is linked"):
        made_up(make_pairings=lambda: case.lists.make_pairings().iloc[:0]).plot.alignment()
