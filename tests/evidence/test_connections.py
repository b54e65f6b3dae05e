"""Flows linked by their connections: right, never to another where their client is missing, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

import vpnforensics as vf
from tests.truth import degrade, known_clients, load, tally, without_client
from vpnforensics import samples
from vpnforensics.engines.registry import ENGINES

WITHOUT = [name for name in ENGINES if name != "connections"]


def recording(name):
    return load(samples.FOLDER / name)


@pytest.mark.parametrize(("name", "least"), [("shadowsocks", 0.95), ("trojan", 0.95)])
def test_flows_that_ask_once_are_linked(name, least):
    sample = recording(name)
    case = vf.correlate(sample.ingress, sample.egress)
    found = tally(sample, case)
    assert found.wrong == 0
    asked_tcp = (case.endpoints["proto"] == "tcp") & (case.endpoints["bytes"] >= 2000)
    assert (case.links["verdict"] == "linked")[asked_tcp].mean() >= least
    before = vf.correlate(sample.ingress, sample.egress, engines=WITHOUT)
    assert (before.links["verdict"] == "linked").sum() < (case.links["verdict"] == "linked").sum()
    assert case.expected_false_links <= case.allowed_false_links
    assert "no_tunnel" not in set(case.links["verdict"])
    notes = case.scores["connections_note"].dropna()
    assert notes.str.contains("its likeliest connection opened at").any()


@pytest.mark.parametrize("name", ["shadowsocks", "trojan"])
@pytest.mark.parametrize("jitter_ms", [0, 10])
def test_no_flow_of_a_client_that_is_missing_is_linked(name, jitter_ms):
    sample = degrade(recording(name), jitter_s=jitter_ms / 1e3, offset_s=3.0, seed=2)
    for client in sorted({flow["client"] for flow in sample.truth["flows"] if flow["client"]}):
        gone = without_client(sample, client)
        try:
            case = vf.correlate(gone.ingress, gone.egress)
        except vf.errors.CaseError:  # too little is left to prove the relay
            continue
        assert tally(gone, case, offset_s=3.0).wrong == 0
        assert client.rpartition(":")[0] not in {
            host for hosts in known_clients(case).values() for host in hosts
        }


@pytest.mark.parametrize("name", ["ssh-tun", "tor"])
def test_streams_that_carry_many_connections_are_left_to_others(name):
    sample = recording(name)
    case = vf.correlate(sample.ingress, sample.egress)
    assert "connections_llr" not in case.scores or case.scores["connections_llr"].isna().all()


def test_the_same_twice():
    sample = recording("trojan")
    first, second = (vf.correlate(sample.ingress, sample.egress, seed=5) for _ in range(2))
    assert first.links.equals(second.links)
    assert np.array_equal(first.scores["llr"], second.scores["llr"], equal_nan=True)
