import numpy as np
import pytest

from tests.features import models
from tests.tables import table, tcp
from vpnforensics.features.clock_table import clock_table
from vpnforensics.features.senders import find_senders
from vpnforensics.features.tcp_clock import sender_clock, tick_rate
from vpnforensics.flows.assemble import assemble_flows

START = 1_790_000_000_000_000_000


def steady(seconds=120, hz=1000, skew_ppm=0.0, first=5_000_000, every_s=0.1, delay_s=0.02):
    """A clock seen through a path of constant delay."""
    sent = np.arange(0, seconds, every_s)
    sent += np.arange(len(sent)) * 0.618034 % 1.0 * every_s / 2  # at every phase of the tick
    ticks = np.floor(sent * (1 + skew_ppm * 1e-6) * hz + 1e-6).astype(np.int64) + first
    return START + np.rint((sent + delay_s) * 1e9).astype(np.int64), (ticks % 2**32).astype(np.uint32)


@pytest.mark.parametrize(("seconds", "most_ppm"), [(120, 2.0), (600, 0.3)])
def test_skew_under_bursty_queueing(seconds, most_ppm):
    rng = np.random.default_rng(seconds)
    errors, covered = [], []
    for _ in range(120):
        skew = float(rng.normal(0, 50))
        clock = sender_clock(*models.clock_packets(seconds, skew, rng))
        low, high = clock.skew_interval_ppm
        errors.append(abs(clock.skew_ppm - skew))
        covered.append(low <= skew <= high)
    assert np.median(errors) <= most_ppm
    assert 0.91 <= np.mean(covered) <= 0.99  # 95 % within two standard errors of 120 trials


@pytest.mark.parametrize("hz", [10, 100, 128, 200, 250, 256, 300, 512, 1000, 1_000_000])
def test_known_rates_are_told_apart(hz):
    clock = sender_clock(*steady(hz=hz, skew_ppm=30.0))
    assert clock.hz == hz
    assert clock.skew_ppm == pytest.approx(30.0, abs=max(0.2, 400 / hz))


def test_packets_in_step_with_the_ticks_hide_the_rate():
    sent = np.arange(0, 120, 0.1)
    tsval = np.floor(sent * (1 + 30e-6) * 100 + 1e-6).astype(np.uint32) + 10**6
    low, high = sender_clock(START + np.rint(sent * 1e9).astype(np.int64), tsval).skew_interval_ppm
    assert low <= 30 <= high
    assert high - low >= 150


def test_slow_ticks_need_more_time():
    assert sender_clock(*steady(hz=1, seconds=30)).reason == "fewer than 40 ticks"
    assert sender_clock(*steady(hz=1, seconds=300)).hz == 1


def test_a_wrap_is_no_break():
    clock = sender_clock(*steady(first=2**32 - 60_000))
    assert clock.breaks == ()
    assert abs(clock.skew_ppm) < 0.1


def test_old_macos_is_read_as_slow_not_as_another_rate():
    clock = sender_clock(*steady(skew_ppm=-42_000))
    assert clock.hz == 1000
    assert clock.skew_ppm == pytest.approx(-42_000, rel=1e-3)


def test_zero_of_a_global_clock_is_the_boot():
    ts, tsval = steady(first=7_200_000, delay_s=0.0)
    clock = sender_clock(ts, tsval)
    assert clock.zero_ns == pytest.approx(START - 7_200 * 10**9, abs=2_000_000)
    assert clock.uptime_s("global") == pytest.approx(7_260, abs=1)
    assert clock.uptime_s("per_connection") is None


def test_phase_is_the_part_of_a_tick_that_has_passed():
    sent = np.arange(0, 120, 0.0137)
    for phase in (0.1, 0.6):
        ticks = np.floor(sent * 1000 + phase).astype(np.int64) + 10**6
        clock = sender_clock(START + np.rint(sent * 1e9).astype(np.int64), ticks.astype(np.uint32))
        since = (clock.reference_ns - START) * 1e-6
        assert (clock.phase_ticks - since - phase + 0.5) % 1 - 0.5 == pytest.approx(0, abs=0.02)


def test_breaks_are_named():
    ts, tsval = steady(seconds=400, first=10**8)
    for kind, values in {
        "step": tsval + np.where(np.arange(len(ts)) >= 1000, 3_000, 0).astype(np.uint32),
        "reboot": np.where(np.arange(len(ts)) >= 1000, tsval - tsval[1000] + 40_000, tsval),
    }.items():
        later = ts + np.where(np.arange(len(ts)) >= 1000, 60 * 10**9, 0) if kind == "reboot" else ts
        clock = sender_clock(later, values)
        assert [b.kind for b in clock.breaks] == [kind]
        assert clock.breaks[0].at_ns == later[1000]
        assert abs(clock.skew_ppm) < 0.1, "the longest segment is fitted"
    asleep = ts + np.where(np.arange(len(ts)) >= 1000, 90 * 10**9, 0)
    (found,) = sender_clock(asleep, tsval).breaks
    assert found.kind == "suspend"
    assert found.step_ns == pytest.approx(-90 * 10**9, abs=10**7)


def test_disturbances_do_not_lift_the_edge():
    ts, tsval = steady(skew_ppm=20.0)
    late, broken = tsval.copy(), tsval.copy()
    late[50::40] -= 200  # copies of older packets
    broken[33] += 50_000_000  # one field that is not the sender's
    broken[77] = 0
    for values, aside in ((late, 20), (broken, 2)):
        clock = sender_clock(ts, values)
        assert clock.skew_ppm == pytest.approx(20.0, abs=0.2)
        assert clock.set_aside >= aside
        assert clock.breaks == ()


def test_order_of_packets_does_not_matter():
    ts, tsval = models.clock_packets(120, 10.0, np.random.default_rng(0))
    shuffled = np.random.default_rng(1).permutation(len(ts))
    assert sender_clock(ts[shuffled], tsval[shuffled]).skew_ppm == sender_clock(ts, tsval).skew_ppm


@pytest.mark.parametrize(
    ("ts", "tsval", "reason"),
    [
        (np.zeros(0, np.int64), np.zeros(0, np.uint32), "fewer than 3"),
        (np.arange(9) * 10**9, np.zeros(9, np.uint32), "every timestamp is 0"),
        (np.arange(2) * 10**9, np.ones(2, np.uint32), "fewer than 3"),
        (np.arange(100) * 10**9, np.full(100, 7, np.uint32), "never changes"),
        (np.zeros(9, np.int64), np.arange(1, 10, dtype=np.uint32), "all packets at one time"),
        (np.arange(100) * 10**9, np.arange(1, 101, dtype=np.uint32) * 47, "no known tick rate"),
        (np.arange(50) * 10**9, np.arange(1, 51, dtype=np.uint32) * 1000, "under 60 s"),
        (np.arange(15) * 10**10, np.arange(1, 16, dtype=np.uint32) * 10_000, "fewer than 20 packets"),
        (np.r_[np.arange(30), 10**5] * 10**7, np.r_[np.arange(1, 31), 10**5] * 10, "blocks of 5 s"),
    ],
)
def test_silence_has_a_reason(ts, tsval, reason):
    clock = sender_clock(ts.astype(np.int64), tsval.astype(np.uint32))
    assert reason in clock.reason
    assert clock.fit is None
    assert clock.skew_ppm is None
    assert clock.skew_interval_ppm is None
    assert clock.drift is None


def test_random_values_are_no_clock():
    rng = np.random.default_rng(2)
    for _ in range(50):
        n = int(rng.integers(20, 200))
        clock = sender_clock(
            START + np.sort(rng.integers(0, 300 * 10**9, n)), rng.integers(1, 2**32, n).astype(np.uint32)
        )
        assert clock.fit is None or clock.breaks
        assert clock.hz is None or clock.reason or clock.breaks


def test_times_before_1970_and_far_ahead():
    ts, tsval = steady(skew_ppm=5.0)
    for start in (-(10**18), 4 * 10**18):
        assert sender_clock(ts - START + start, tsval).skew_ppm == pytest.approx(5.0, abs=0.1)


def test_contract():
    found = sender_clock(*steady(skew_ppm=5.0)).to_dict("global")
    assert set(found) == {"hz", "skew_ppm", "skew_interval_ppm", "offset_s", "phase_ticks", "scope"}
    assert sender_clock(*steady(seconds=30)).to_dict()["skew_ppm"] is None
    assert sender_clock(np.zeros(0, np.int64), np.zeros(0, np.uint32)).to_dict() is None


def flows_of(*clocks, syn_only=False):
    rows = []
    for port, (ts, tsval) in enumerate(clocks, 40_000):
        for i, (t, v) in enumerate(zip(ts.tolist(), tsval.tolist(), strict=True)):
            stamped = not syn_only or i == 0
            rows.append(
                tcp(t / 1e9, "10.0.0.1", port, "10.0.0.2", 443, 0x02 if i == 0 else 0x10)
                | {"ts_ns": t, "tsval": v if stamped else 0, "has_ts": int(stamped)}
            )
    return assemble_flows(table(sorted(rows, key=lambda r: r["ts_ns"])))


def test_table_of_a_capture():
    found = clock_table(find_senders(flows_of(steady(skew_ppm=9.0), steady(seconds=30))))
    frame = found.to_pandas()
    assert frame["sender"].tolist() == ["10.0.0.1:40000", "10.0.0.1:40001"]
    assert frame["skew_ppm"][0] == pytest.approx(9.0, abs=0.1)
    assert found.silence == {"under 60 s of timestamps": 1}
    at_ns, residual_s = found.clocks[0].drift
    assert len(at_ns) == len(residual_s)
    assert np.abs(residual_s).max() < 0.002


def test_timestamps_on_the_syn_only():
    found = clock_table(find_senders(flows_of(steady(), syn_only=True)))
    assert found.silence == {"timestamps on the SYN only": 1}
    assert found.clocks == ()


def test_the_picture_shows_the_line_of_each_clock():
    pytest.importorskip("matplotlib").use("Agg")
    found = clock_table(find_senders(flows_of(steady(skew_ppm=9.0))))
    ax, numbers = found.plot()
    assert numbers["sender"].nunique() == 1
    assert "+9.0" in ax.get_legend().get_texts()[0].get_text()
    with pytest.raises(ValueError, match="nothing to draw"):
        clock_table(find_senders(flows_of(steady(seconds=20)))).plot()


def test_tick_rate_survives_a_break():
    ts, tsval = steady()
    ticks = tsval.astype(np.int64) + np.where(np.arange(len(ts)) > 900, 10**9, 0)
    assert tick_rate(ts - ts[0], ticks)[0] == 1000
