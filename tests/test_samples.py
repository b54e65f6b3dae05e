"""Regression on the shipped samples: equal to tshark, right by their truth, and as they were."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vpnforensics as vf
from tests.truth import OFFSET_S, carriers, degrade, host, is_right, known_clients, load
from tests.tshark_oracle import assert_equal_to_tshark
from vpnforensics import samples
from vpnforensics.features.clock_table import clock_table
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.report.result import CaseResult

SAMPLES = samples.FOLDER
CASES = sorted(path.parent for path in SAMPLES.glob("*/truth.json"))
CAPTURES = sorted(path for path in SAMPLES.glob("*/*.pcap*"))
SIZE_LIMITS = {"clock-lines": 1_500_000}
"""Bytes, where a sample may be larger than the others: a clock's line needs two minutes."""


def _correlate(case: Path) -> CaseResult:
    sample = samples.load(case.name)
    return vf.correlate(sample.ingress, sample.egress)


def _golden_lines(case: CaseResult) -> list[str]:
    """One line a flow: endpoints, verdict, and the tunnel's client."""
    rows = case.summary.sort_values(["src", "dst", "flow"])
    return [
        f"{row.proto} {row.src} {row.dst} {row.packets} {row.verdict}"
        + (f" {row.client}" if row.verdict == "linked" else "")
        for row in rows.itertuples()
    ]


def test_there_are_samples() -> None:
    assert len(samples.names()) >= 12
    for name in samples.names():
        sample = samples.load(name)
        assert sample.description
        assert sum(path.stat().st_size for path in sample.ingress.parent.iterdir()) < SIZE_LIMITS.get(
            name, 1_000_000
        )


def test_a_sample_that_is_not_there_is_named() -> None:
    with pytest.raises(vf.errors.CaptureError, match=r"there are: .*wireguard"):
        samples.load("no-such")


@pytest.mark.needs("tshark")
@pytest.mark.parametrize("path", CAPTURES, ids=lambda p: f"{p.parent.name}-{p.name}")
def test_every_column_equals_tshark(path: Path) -> None:
    assert assert_equal_to_tshark(path) > 0


@pytest.mark.parametrize("folder", CASES, ids=lambda p: p.name)
def test_no_false_link_and_as_it_was(folder: Path, request: pytest.FixtureRequest) -> None:
    case = _correlate(folder)
    truth = json.loads((folder / "truth.json").read_text())
    clients: dict[tuple[str, str], set[str | None]] = {}
    for flow in truth["flows"]:
        ends = clients.setdefault((flow["src"], flow["dst"]), set())
        ends |= {flow["client"], host(flow["client"])}
    known = known_clients(case)
    linked = case.summary[case.summary["verdict"] == "linked"]
    wrong = [
        (row.src, row.dst, row.client)
        for row in linked.itertuples()
        if not clients.get((row.src, row.dst), set()) & set(known[row.tunnel])
    ]
    assert wrong == []
    golden = folder / "golden.txt"
    if request.config.getoption("--remake-golden"):
        golden.write_text("\n".join(_golden_lines(case)) + "\n")
    assert _golden_lines(case) == golden.read_text().splitlines()


@pytest.mark.parametrize("name", ["wireguard", "openvpn-udp"])
def test_small_samples_link_nearly_everything(name: str) -> None:
    links = _correlate(SAMPLES / name).links["verdict"]
    assert (links == "linked").mean() > 0.95


def test_padding_acquits_no_tunnel() -> None:
    """With lengths hidden, times may still link; but nothing says that a tunnel did not carry a flow."""
    links = _correlate(SAMPLES / "reftunnel-padded").links["verdict"]
    assert (links != "no_tunnel").all()


def test_the_clocks_of_two_hosts_show_what_the_scenario_gave_them() -> None:
    """Kernels of their own, 40 ppm fast and 60 ppm slow; the server's clock is that of the capture."""
    sample = samples.load("clock-lines")
    given = {
        row["client"]: sample.truth["devices"][row["name"]]["clock"]["skew_ppm"]
        for row in sample.truth["tunnels"]
    }
    assert sorted(given.values()) == [-60.0, 40.0]
    table = clock_table(find_senders(assemble_flows(vf.read_capture(sample.ingress)))).to_pandas()
    assert len(table) == 4
    for row in table.itertuples():
        skew_ppm = given.get(row.sender, 0.0)
        assert row.low_ppm < skew_ppm < row.high_ppm
        assert abs(row.skew_ppm - skew_ppm) < 1.0
        assert row.agree


def test_flows_before_the_ingress_capture_began_are_not_denied_a_tunnel() -> None:
    links = _correlate(SAMPLES / "cut-file").links["verdict"]
    assert (links != "no_tunnel").all()
    assert (links == "linked").sum() > 100


def test_a_users_own_tables_stay_whole_and_give_the_same_result():
    """Of captures that it reads itself, the correlator forgets the payloads on the way."""
    sample = samples.load("wireguard")
    ingress, egress = vf.read_capture(sample.ingress), vf.read_capture(sample.egress)
    of_tables, of_files = vf.correlate(ingress, egress), vf.correlate(sample.ingress, sample.egress)
    assert of_tables.to_json() == of_files.to_json()
    assert ingress.head.any(axis=1).mean() > 0.9
    assert egress.head.any()


def test_whole_connections_tell_apart_whose_payloads_are_text() -> None:
    """Of ``GET /o7`` there are many at a time; but one of their connections has just these bytes."""
    recording = degrade(load(SAMPLES / "socks"), jitter_s=0.01)
    case = vf.correlate(recording.ingress, recording.egress)
    known = known_clients(case)
    true = carriers(recording, case, offset_s=OFFSET_S)
    long = (case.endpoints["proto"] == "tcp") & (case.endpoints["packets"] >= 10)
    right = [is_right(known.get(t, ()), c) for t, c in zip(case.links["tunnel"], true, strict=True)]
    assert long.sum() >= 40
    assert all(right[n] for n in long[long].index)
