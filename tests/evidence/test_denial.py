"""What is held against a flow of which the tunnels lack packets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import vpnforensics as vf
from tests.truth import Recording, load, tally, without_client
from vpnforensics import samples
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.find import find_tunnels

TOO_LONG_BYTES = 1600
S = 1_000_000_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    folder: Path = tmp_path_factory.mktemp("case")
    simulate(mixed_case(tunnels=4, flows=25, protocol="openvpn-udp", duration_s=60.0, scale=0.05), folder, 7)
    return load(folder)


@pytest.fixture(scope="module")
def cut(recording: Recording) -> Recording:
    """The largest packets of the egress side reach it longer than any tunnel carries."""
    length = recording.egress.ip_len_bytes
    longest = np.where(length >= 1300, np.int32(TOO_LONG_BYTES), length).astype(length.dtype)
    assert 0.1 < np.mean(longest == TOO_LONG_BYTES) < 0.9
    return replace(recording, egress=replace(recording.egress, ip_len_bytes=longest))


def test_packets_too_long_for_any_tunnel_exclude_none(cut: Recording) -> None:
    case = vf.correlate(cut.ingress, cut.egress)
    found = tally(cut, case)
    assert found.wrong == 0
    assert found.long_share > 0.95
    assert (case.links["verdict"] != "no_tunnel").all()


def test_the_others_still_exclude(cut: Recording) -> None:
    client = cut.truth["flows"][0]["client"]
    rest = without_client(cut, client)
    case = vf.correlate(rest.ingress, rest.egress)
    own = {(flow["src"], flow["dst"]) for flow in cut.truth["flows"] if flow["client"] == client}
    gone = [(flow.src, flow.dst) in own for flow in case.flows.itertuples()]
    excluded = (case.links["verdict"] == "no_tunnel").to_numpy()
    long = (case.flows["packets"] >= 10).to_numpy()
    assert not excluded[~np.array(gone)].any()
    assert excluded[long & gone].mean() > 0.5
    assert tally(cut, case, only_client=client).wrong == 0


@pytest.fixture(scope="module")
def holed(recording: Recording) -> tuple[Recording, int, int]:
    """A third of the ingress capture is missing, as a rotated file may be; from when until when."""
    ts_ns = recording.ingress.ts_ns
    start, end = int(ts_ns.min()) + 20 * S, int(ts_ns.min()) + 40 * S
    return replace(recording, ingress=recording.ingress.take((ts_ns < start) | (ts_ns >= end))), start, end


def test_what_fell_into_a_hole_of_the_ingress_capture_is_not_denied(
    holed: tuple[Recording, int, int],
) -> None:
    recording, _, _ = holed
    case = vf.correlate(recording.ingress, recording.egress)
    assert tally(recording, case).wrong == 0
    assert (case.links["verdict"] == "linked").mean() > 0.4
    assert not (case.links["verdict"] == "no_tunnel").any()


def test_beside_a_hole_flows_are_denied_as_ever(holed: tuple[Recording, int, int]) -> None:
    recording, start, end = holed
    client = recording.truth["flows"][0]["client"]
    rest = without_client(recording, client)
    case = vf.correlate(rest.ingress, rest.egress)
    own = {(flow["src"], flow["dst"]) for flow in recording.truth["flows"] if flow["client"] == client}
    gone = np.array([(flow.src, flow.dst) in own for flow in case.flows.itertuples()])
    first_ns, last_ns = (case.alignment.to_ingress(case.flows[c].to_numpy()) for c in ("first_ns", "last_ns"))
    beside = (last_ns < start) | (first_ns > end)
    long = (case.flows["packets"] >= 10).to_numpy()
    excluded = (case.links["verdict"] == "no_tunnel").to_numpy()
    assert not excluded[~gone].any()
    assert excluded[gone & beside & long].mean() > 0.5


def test_what_a_tcp_twin_may_have_carried_is_not_denied() -> None:
    """From a moment on all datagrams go through the meta connection of the same tinc tunnel instead."""
    sample = samples.load("tinc")
    ingress = vf.read_capture(sample.ingress)
    outer = assemble_flows(ingress, idle_tcp_s=np.inf, idle_other_s=np.inf)
    tunnel = max(find_tunnels(outer).tunnels, key=lambda t: t.packets_up)
    assert outer.proto[tunnel.twin] == PROTO_TCP
    assert tunnel.client.split(":")[0] in (outer.source(tunnel.twin) + outer.destination(tunnel.twin))
    since_s = (ingress.ts_ns - ingress.ts_ns[0]) / 1e9
    moved = (outer.flow == tunnel.conversation) & (since_s > 4.0)
    assert moved.sum() > 100
    like = outer.rows_of(tunnel.twin)
    same_way = {int(ingress.src[row]): row for row in like.tolist()}
    columns = {name: getattr(ingress, name).copy() for name in ("proto", "sport", "dport", "tcp_flags")}
    for row in np.flatnonzero(moved).tolist():
        for name, column in columns.items():
            column[row] = getattr(ingress, name)[same_way[int(ingress.src[row])]]
    case = vf.correlate(replace(ingress, **columns), sample.egress)
    whole = vf.correlate(sample.ingress, sample.egress)
    assert (whole.links["verdict"] == "linked").sum() - (case.links["verdict"] == "linked").sum() > 5
    assert not (case.links["verdict"] == "no_tunnel").any()


def test_packets_lost_in_a_burst_do_not_speak_against_a_link(recording: Recording) -> None:
    """Forty packets at once, of a link with some hundreds: bad luck once, and not forty times."""
    plain = vf.correlate(recording.ingress, recording.egress, same_clock=True, engines=["packets"])
    packets, linked = plain.flows["packets"], (plain.links["verdict"] == "linked").to_numpy()
    flow = int(np.flatnonzero(linked & (packets > 150) & (packets < 800))[0])
    times = np.sort(recording.egress.ts_ns[assemble_flows(recording.egress).rows_of(flow)])
    ingress = recording.ingress
    lost = np.flatnonzero(ingress.ts_ns >= times[60] - S // 50)[:60]
    rest = ingress.take(np.setdiff1d(np.arange(len(ingress)), lost))
    case = vf.correlate(rest, recording.egress, same_clock=True, engines=["packets"])
    assert (case.links["llr"][case.links["verdict"] == "linked"] > 0).all()
    entry = case.scores[case.scores["flow"] == case.flows["id"][flow]].iloc[0]
    assert not entry["packets_note"].startswith(f"{packets[flow]} of")
