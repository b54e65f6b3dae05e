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
from vpnforensics.align import estimate, sharpen
from vpnforensics.align.line import align_pairs
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
    sharpened, pairs_within = sharpen.sharpen, sharpen.pairs_within

    def counted(*arguments: object) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        left, right = pairs_within(*arguments)
        work.append(len(left))
        return left, right

    def weighed(egress, *arguments):  # type: ignore[no-untyped-def]
        pile = sharpened(egress, *arguments)
        work[-1] *= sharpen.drifts_tried((egress.ts_ns.max() - egress.ts_ns.min()) / 2)
        return pile

    monkeypatch.setattr(sharpen, "pairs_within", counted)
    monkeypatch.setattr(estimate, "sharpen", weighed)
    sides = both("wireguard")
    half_way = int(np.median(sides[0].ts_ns))
    paused = [at(side, side.ts_ns + (side.ts_ns > half_way) * pause_days * DAY_NS) for side in sides]
    without = vf.correlate(*sides)
    works_without = len(work)
    found = vf.correlate(*paused)
    # Pairs times drifts tried: bounded, whatever the span.
    assert max(work[works_without:]) <= 2 * sharpen._FINE_WORK
    assert verdicts(found)["no_tunnel"] == 0
    assert verdicts(found)["linked"] >= verdicts(without)["linked"] - 2
    # The two halves hold each other: the pause makes the drift better known, not worse.
    low, high = found.alignment.offset_interval_ns
    assert low <= 0 <= high
    assert high - low < 1_000_000
    slow, fast = found.alignment.drift_interval_ppm
    assert fast - slow < 1.0


@pytest.mark.parametrize("sample", ["wireguard", "openvpn-udp"])
@pytest.mark.parametrize("role", ["ingress", "egress"])
@pytest.mark.parametrize(("size_s", "place"), [(-5.0, 0.7), (-1.5, 0.5), (2.0, 0.35), (86_400.0, 0.5)])
def test_a_clock_that_is_set_costs_no_link_and_denies_no_flow(
    sample: str, role: str, size_s: float, place: float
) -> None:
    sides = dict(zip(("ingress", "egress"), both(sample), strict=True))
    without = verdicts(vf.correlate(sides["ingress"], sides["egress"]))
    table, size_ns = sides[role], round(size_s * 1e9)
    row = round(place * len(table))
    sides[role] = at(table, table.ts_ns + size_ns * (np.arange(len(table)) >= row))
    found = vf.correlate(sides["ingress"], sides["egress"])
    assert verdicts(found)["no_tunnel"] == 0
    assert verdicts(found)["linked"] >= 0.97 * without["linked"]
    (step,) = found.alignment.steps
    assert step.role == role
    assert abs(step.row - row) <= 1
    assert step.at_ns == sides[role].ts_ns[step.row]
    assert abs(step.size_ns - size_ns) < 1_000_000
    assert any(f"the {role} capture's clock was set by" in warning for warning in found.warnings)
    told = found.to_dict()["alignment"]
    assert told["steps"] == [{"at_ns": step.at_ns, "size_ns": step.size_ns, "role": role}]
    assert [part["packets"] for part in told["parts"]] == np.diff(
        [0, step.egress_row, len(sides["egress"])]
    ).tolist()
    change_ns = told["parts"][1]["offset_ns"] - told["parts"][0]["offset_ns"]
    assert abs(change_ns - (size_ns if role == "egress" else -size_ns)) < 1_000_000
    for part in told["parts"]:
        low, high = part["offset_interval_ns"]
        assert low <= part["offset_ns"] <= high


def test_a_clock_set_there_and_back_has_three_parts() -> None:
    ingress, egress = both("wireguard")
    place = np.arange(len(egress)) / len(egress)
    away = (place >= 0.4) & (place < 0.75)
    found = vf.correlate(ingress, at(egress, egress.ts_ns - 5_000_000_000 * away))
    assert verdicts(found)["no_tunnel"] == 0
    assert len(found.alignment.parts) == 3
    assert sum(step.change_ns for step in found.alignment.steps) == pytest.approx(0, abs=1_000_000)


def test_a_clock_set_in_one_capture_of_both_sides_changes_nothing() -> None:
    together = vf.read_capture(samples.FOLDER / "sll2" / "capture.pcap")
    without = verdicts(vf.correlate(together))
    half = np.arange(len(together)) >= len(together) // 2
    for size_ns in (-1_500_000_000, 2_000_000_000):
        found = verdicts(vf.correlate(at(together, together.ts_ns + size_ns * half)))
        assert found["no_tunnel"] == without["no_tunnel"]
        assert found["linked"] >= without["linked"] - 3


def test_a_file_sorted_after_its_clock_was_set_back_denies_nothing() -> None:
    ingress, egress = both("openvpn-udp")
    half = np.arange(len(egress)) >= len(egress) // 2
    stepped = at(egress, egress.ts_ns - 1_500_000_000 * half)
    found = vf.correlate(ingress, stepped.take(np.argsort(stepped.ts_ns, kind="stable")))
    assert verdicts(found)["no_tunnel"] == 0


def test_a_folder_whose_captures_lie_far_apart_says_what_to_type(tmp_path: Path) -> None:
    for side in ("ingress", "egress"):
        (tmp_path / f"{side}.pcap").write_bytes((samples.FOLDER / "two-clocks" / f"{side}.pcap").read_bytes())
    told = [warning for warning in vf.correlate(tmp_path).warnings if "apart" in warning]
    assert len(told) == 1
    assert f"vpnf correlate {tmp_path / 'ingress.pcap'} {tmp_path / 'egress.pcap'}" in told[0]


def test_a_folder_of_captures_that_follow_each_other_is_one_clock(tmp_path: Path) -> None:
    for side in ("ingress", "egress"):
        (tmp_path / f"{side}.pcap").write_bytes((samples.FOLDER / "wireguard" / f"{side}.pcap").read_bytes())
    assert not [warning for warning in vf.correlate(tmp_path).warnings if "apart" in warning]


def test_a_second_ingress_capture_in_place_of_egress_is_said() -> None:
    ingress = samples.FOLDER / "wireguard" / "ingress.pcap"
    found = vf.correlate(ingress, samples.FOLDER / "openvpn-udp" / "ingress.pcap")
    assert any("tunnels of its own (openvpn" in warning for warning in found.warnings)


def test_a_drift_as_wide_as_no_clock_is_unknown() -> None:
    ns = 1_790_000_000_000_000_000 + np.arange(40) * 500_000
    up = np.arange(40) % 2 == 0
    rng = np.random.default_rng(1)
    jitter = rng.normal(0, 300_000, 40).astype(np.int64)
    line = align_pairs(ns + 5_000_000 + np.where(up, 400_000, -400_000) + jitter, ns, up, rng)
    assert line.usable
    assert not line.drift_known
    assert "drift cannot be told" in line.reason
    assert line.to_dict()["drift_ppm"] is None


@pytest.mark.parametrize("sides", [("openvpn-udp", "wireguard"), ("nebula", "strongswan")])
def test_recordings_of_one_program_are_not_warped_onto_each_other(sides: tuple[str, str]) -> None:
    """The same pages at nearly the same moments: many small steps would make them fit."""
    ingress, egress = both(sides[0])[0], both(sides[1])[1]
    assert vf.correlate(ingress, egress).alignment.steps == ()
