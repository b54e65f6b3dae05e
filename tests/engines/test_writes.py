"""Cases of relays through the whole road: what is linked, denied and told."""

from __future__ import annotations

import numpy as np
import pytest

import vpnforensics as vf
from tests.align.test_relays import relayed
from tests.truth import load, tally
from vpnforensics import samples
from vpnforensics.tunnels.write_law import OPENING


def correlated(*sides):
    return vf.correlate(*(side.packets for side in sides))


def test_writes_link_flows_to_their_clients():
    case = correlated(*relayed(11, frame=34, clients=4))
    hosts = dict(zip(case.tunnels["id"], case.tunnels["client"].str.rpartition(":")[0], strict=True))
    linked = case.links["verdict"] == "linked"
    assert linked.mean() > 0.9
    for flow, tunnel in zip(case.endpoints["src"][linked], case.links["tunnel"][linked], strict=True):
        client = (int(flow.rpartition(":")[2]) - 41000) // 12
        assert hosts[tunnel] == f"10.0.1.{client + 2}"
    assert set(case.tunnels["transport"]) == {"stream"}
    assert set(case.tunnels["connections"]) == {12}
    assert set(case.tunnels["write_law_formula"]) == {"n + 34 k"}
    assert case.tunnels["length_map_formula"].isna().all()
    assert case.scores["writes_note"].str.fullmatch(r"\d+ of 7 writes found").all()


def test_nothing_is_denied_and_a_client_that_is_missing_links_nothing():
    outer, flows = relayed(12, frame=34, clients=4)
    packets = outer.packets
    gone = packets.addresses.texts.index("10.0.1.3")
    case = vf.correlate(packets.take((packets.src != gone) & (packets.dst != gone)), flows.packets)
    verdicts = dict(zip(case.endpoints["src"], case.links["verdict"], strict=True))
    assert "no_tunnel" not in verdicts.values()
    of_the_missing = [verdicts[f"203.0.113.1:{41012 + f}"] for f in range(12)]
    assert set(of_the_missing) == {"undecided"}
    assert sum(v == "linked" for v in verdicts.values()) >= 30


def test_other_engines_alone_leave_relays_undecided():
    outer, flows = relayed(13, frame=34)
    case = vf.correlate(outer.packets, flows.packets, engines=["packets", "timestamps", "ip_id"])
    assert set(case.links["verdict"]) == {"undecided"}


@pytest.mark.parametrize("name", ["shadowsocks", "socks", "ssh-tun"])
def test_rows_tell_true_sizes_and_clocks_of_clients_are_not_made_up(name):
    """A relay's connections have its own clock and IP IDs; marks of openings are no bytes."""
    sample = samples.load(name)
    case = vf.correlate(sample.ingress, sample.egress)
    found = case.pairings
    assert found["inner_bytes"].max() < OPENING
    assert case.flows["clock_hz"].isna().all()
    assert case.flows["ip_id_class"].isna().all()
    assert (case.decoys["linked"]) == 0
    assert np.isfinite(case.expected_false_links)


def cut(packets, rows):
    return packets.take(np.asarray(rows))


@pytest.mark.parametrize("name", ["shadowsocks", "ssh-tun", "trojan"])
@pytest.mark.parametrize("damage", ["second half", "lost", "doubled", "gap"])
def test_damaged_captures_link_nothing_wrong(name, damage):
    """Streams joined in their middle, holes, retransmissions: fewer links, no wrong one, no denial."""
    recording = load(samples.FOLDER / name)
    ingress, rng = recording.ingress, np.random.default_rng(1)
    n = len(ingress)
    rows = {
        "second half": np.arange(n // 2, n),
        "lost": np.flatnonzero(rng.random(n) > 0.05),
        "doubled": np.sort(np.r_[np.arange(n), rng.integers(0, n, n // 20)]),
        "gap": np.r_[: n // 3, n // 2 : n],
    }[damage]
    case = vf.correlate(cut(ingress, rows), recording.egress)
    found = tally(recording, case)
    assert found.wrong == 0
    assert found.long_linked + found.short_linked >= 5
    assert "no_tunnel" not in set(case.links["verdict"])


@pytest.mark.parametrize("up", [True, False])
def test_one_direction_of_a_relay_is_refused(up):
    recording = load(samples.FOLDER / "shadowsocks")
    server = recording.ingress.addresses.texts.index("198.51.100.1")
    side = recording.ingress.dst if up else recording.ingress.src
    with pytest.raises(vf.errors.CaseError, match="no VPN tunnel recognised"):
        vf.correlate(cut(recording.ingress, np.flatnonzero(side == server)), recording.egress)
