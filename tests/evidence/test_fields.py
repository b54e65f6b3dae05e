"""Header fields in a decision: what they add, and what they must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpnforensics as vf
from benchmarks.fusion import judge
from tests.truth import load, tally
from vpnforensics import samples
from vpnforensics.evidence import fields
from vpnforensics.groundtruth.simulate.field_cases import legacy_tcp_tunnels
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.report.result import CaseResult

RELAYS = {"http-proxy-squid", "shadowsocks", "socks", "ssh-socks", "ssh-tun", "tor", "trojan", "v2ray"}
"""Their connections' header fields are the relay's own: none of these engines is asked."""


def _engines(case: CaseResult) -> list[dict[str, dict[str, Any]]]:
    return [score["engines"] for score in case.to_dict()["scores"]]


@pytest.mark.parametrize("name", sorted(set(samples.names()) - RELAYS))
def test_all_engines_are_never_worse_than_packets_alone(name: str) -> None:
    """Links, false links and Cllr, with the truth of each sample."""
    sample = samples.load(name)
    alone = vf.correlate(sample.ingress, sample.egress, engines=("packets",))
    every = vf.correlate(sample.ingress, sample.egress)
    one, all_ = judge(sample, alone), judge(sample, every)
    assert all_.wrong == one.wrong == 0
    assert all_.linked >= one.linked
    assert all_.cllr <= 1.001 * one.cllr  # an engine that is right on average may be unlucky with one pair


def test_every_listed_pair_says_what_each_engine_said() -> None:
    """Each engine has an entry: a ratio within its bounds, or silence with a reason."""
    sample = samples.load("windows-global-ip-id")
    case = vf.correlate(sample.ingress, sample.egress)
    names = ("packets", "lookups", *(engine.name for engine in fields.FIELDS))
    heard = dict.fromkeys(names, 0)
    for llr, engines in zip(case.scores["llr"], _engines(case), strict=True):
        assert tuple(engines) == names
        spoken = [e["llr"] for e in engines.values() if e["llr"] is not None]
        assert all(e["note"] for e in engines.values())
        assert all(e["score"] is None for e in engines.values() if e["n"] == 0)
        assert (llr == llr) == bool(spoken)
        for name, e in engines.items():
            heard[name] += e["llr"] is not None
    assert heard["ip_id"] > 100  # one global counter behind each tunnel
    assert heard["timestamps"] == 0
    silent = {e["timestamps"]["note"] for e in _engines(case)}
    assert silent == {"tunnel not over TCP: its outer packets carry no timestamps"}


def test_clients_of_one_clock_are_not_told_apart_by_it() -> None:
    sample = samples.load("legacy-clocks")
    case = vf.correlate(sample.ingress, sample.egress, engines=("timestamps",))
    several = case.scores.groupby("flow")["tunnel"].transform("nunique") > 1
    assert not (case.scores["llr"][several] > 1.0).any()


def test_an_engine_may_be_left_out() -> None:
    sample = samples.load("wireguard")
    case = vf.correlate(sample.ingress, sample.egress, engines=("packets", "headers"))
    assert {name for engines in _engines(case) for name in engines} == {"packets", "headers"}
    assert case.flows["clock_hz"].isna().all()
    assert set(case.tool["parameters"]["engines"]) == {"packets", "headers"}


def test_clients_alike_in_clock_are_not_told_apart_by_it() -> None:
    """Clients on one host share a clock line: heard of every tunnel, it must link nothing."""
    sample = samples.load("legacy-clocks")
    case = vf.correlate(sample.ingress, sample.egress, engines=("timestamps",))
    assert (case.links["verdict"] != "linked").all()


def test_results_are_the_same_bytes_twice_and_fit_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    sample = samples.load("two-devices")
    first, second = (vf.correlate(sample.ingress, sample.egress).to_json() for _ in range(2))
    assert first == second
    schema = Path(vf.__file__).parent / "report" / "result.schema.json"
    jsonschema.validate(json.loads(first), json.loads(schema.read_text()))
    flows = vf.correlate(sample.ingress, sample.egress).flows
    assert flows["ip_id_class"].notna().sum() > 50
    assert flows["clock_hz"].notna().sum() > 50


def test_what_is_heard_of_no_carried_flow_is_chance() -> None:
    """IP IDs that run with a tunnel's counter now and then, though never with that of a linked flow."""
    sample = samples.load("nebula")
    case = vf.correlate(sample.ingress, sample.egress)
    assert all(e["ip_id"]["llr"] is None for e in _engines(case))
    assert np.isfinite(case.scores["llr"]).all()


def test_one_clock_behind_outer_and_inner_timestamps_links_on_its_own(tmp_path: Path) -> None:
    """Legacy clients over TCP: all flows of ten packets and more, none wrongly, without ``packets``."""
    simulate(legacy_tcp_tunnels(clients=12, flows=12, duration_s=60.0), tmp_path, 3)
    case = vf.correlate(tmp_path / "ingress.pcap", tmp_path / "egress.pcap", engines=("timestamps",))
    recording = load(tmp_path)
    found = tally(recording, case)
    assert found.long > 50
    assert found.long_linked >= 0.99 * found.long
    assert found.wrong == 0
    assert case.expected_false_links <= 0.01
