"""Captures whose times are far from ordinary: far origins, long pauses, stray frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import vpnforensics as vf
from vpnforensics import samples
from vpnforensics.align import estimate
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.result import CaseResult

CASES = Path(__file__).parent / "cases"
DAY_NS = 86_400_000_000_000


def both(sample: str) -> tuple[PacketTable, PacketTable]:
    ingress, egress = (
        vf.read_capture(samples.FOLDER / sample / f"{side}.pcap") for side in ("ingress", "egress")
    )
    return ingress, egress


def at(table: PacketTable, ts_ns: npt.NDArray[np.int64]) -> PacketTable:
    return replace(table, ts_ns=ts_ns)


def verdicts(result: CaseResult) -> Counter[str]:
    return Counter(result.links["verdict"])


@pytest.mark.parametrize("name", ["crash-index", "crash-first-ahead"])
def test_far_and_stray_times_are_no_error(name: str) -> None:
    result = vf.correlate(CASES / f"{name}-in.pcap", CASES / f"{name}-out.pcap")
    low, high = result.alignment.offset_interval_ns
    assert low <= high
    assert np.isfinite(result.alignment.drift_interval_ppm).all()


@pytest.mark.parametrize("days", [-20_000, -30, 30])
def test_a_stray_first_frame_changes_nothing(days: int) -> None:
    """A box whose clock is set after it came up: the first row is not the earliest, nor the begin."""
    sides = both("openvpn-tcp")
    without = vf.correlate(*sides)
    strayed = []
    for table in sides:
        stranger = int(np.flatnonzero(table.payload_bytes == 0)[0])
        again = table.take(np.r_[stranger, np.arange(len(table))])
        ts_ns = again.ts_ns.copy()
        ts_ns[0] += days * DAY_NS
        strayed.append(at(again, ts_ns))
    found = vf.correlate(*strayed)
    assert verdicts(found)["linked"] >= verdicts(without)["linked"] - 1
    assert abs(found.alignment.offset_ns - without.alignment.offset_ns) < 50_000


@pytest.mark.parametrize("pause_days", [1, 30, 19_000])
def test_a_pause_costs_nothing_and_blurs_nothing(pause_days: int, monkeypatch: pytest.MonkeyPatch) -> None:
    work: list[int] = []
    sharpen, pairs_within = estimate._sharpen, estimate.pairs_within

    def counted(*arguments: object) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        left, right = pairs_within(*arguments)
        work.append(len(left))
        return left, right

    def weighed(egress, *arguments):  # type: ignore[no-untyped-def]
        pile = sharpen(egress, *arguments)
        work[-1] *= estimate._drifts_tried((egress.ts_ns.max() - egress.ts_ns.min()) / 2)
        return pile

    monkeypatch.setattr(estimate, "pairs_within", counted)
    monkeypatch.setattr(estimate, "_sharpen", weighed)
    sides = both("wireguard")
    half_way = int(np.median(sides[0].ts_ns))
    paused = [at(side, side.ts_ns + (side.ts_ns > half_way) * pause_days * DAY_NS) for side in sides]
    without = vf.correlate(*sides)
    works_without = len(work)
    found = vf.correlate(*paused)
    # Pairs times drifts tried: bounded, whatever the span.
    assert max(work[works_without:]) <= 2 * estimate._FINE_WORK
    assert verdicts(found)["no_tunnel"] == 0
    assert verdicts(found)["linked"] >= verdicts(without)["linked"] - 2
    # The two halves hold each other: the pause makes the drift better known, not worse.
    low, high = found.alignment.offset_interval_ns
    assert low <= 0 <= high
    assert high - low < 1_000_000
    slow, fast = found.alignment.drift_interval_ppm
    assert fast - slow < 1.0
