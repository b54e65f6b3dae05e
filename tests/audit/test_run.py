"""A whole audit of a small recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpnforensics.audit.measures import Strength, measures, pairs, usual
from vpnforensics.audit.page import audit_page
from vpnforensics.audit.result import AuditResult
from vpnforensics.audit.run import audit

NAMES = ("pad-mtu", "scrub-ip-id", "batch")


def _audit(folder: Path, **options: object) -> AuditResult:
    chosen = [m for m in measures(Strength()) if m.name in NAMES]
    return audit(folder / "ingress.pcap", folder / "egress.pcap", measures=chosen, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def result(folder: Path) -> AuditResult:
    return _audit(folder)


def test_what_an_audit_says(result: AuditResult) -> None:
    assert result.now.tunnels == 3
    assert result.now.share() > 0.95
    assert result.now.linked == tuple(sorted(result.now.linked))  # laxer levels link no fewer
    classes = result.now.by_packets
    assert sum(c.flows for c in classes) == result.now.flows
    assert all(sum(c.linked[i] for c in classes) == result.now.linked[i] for i in range(3))
    assert {e.measure.name for e in result.effects} == set(NAMES)
    rows = {row.name: row for row in result.ranked}
    assert rows["pad-mtu"].more_bytes > 0.05
    assert rows["scrub-ip-id"].more_bytes == 0.0
    assert rows["batch"].delay_ns is not None
    assert rows["batch"].delay_ns > 10e6
    assert rows["batch"].tied == pytest.approx(result.now.tied_share, abs=0.01)  # no field is rewritten
    assert [r.change_points for r in result.ranked] == sorted(r.change_points for r in result.ranked)


def test_nobody_is_named_unless_asked(folder: Path, result: AuditResult) -> None:
    client = "100.64.1.1"
    assert client not in result.to_json()
    assert not any(client in part for part in audit_page(result))
    named = _audit(folder, by_client=True)
    assert client in named.to_json()
    assert sum(c.linked for c in named.clients) == named.now.linked[0]


def test_the_same_audit_gives_the_same_bytes(folder: Path, result: AuditResult) -> None:
    first, second = (json.loads(r.to_json()) for r in (result, _audit(folder)))
    for each in (first, second):
        del each["tool"]["date"]
    assert first == second


def test_pairs_exclude_what_is_one_thing() -> None:
    single = measures(Strength())
    names = {m.name for m in pairs(single)}
    assert "pad-mtu+batch" in names
    assert not names & {"pad-block+pad-mtu", "pad-mtu+cover"}
    assert len({m.name for m in usual(Strength())}) == len(usual(Strength()))


def test_every_measure_says_how_it_is_set() -> None:
    assert all(m.settings and all(s.where and s.line for s in m.settings) for m in measures(Strength()))


def test_of_a_relay_no_copy_is_made() -> None:
    found = _audit(Path(__file__).parents[2] / "samples" / "shadowsocks")
    assert found.now == found.now_uninformed
    assert all(e.informed is None and "relay" in e.why_not for e in found.effects)
    assert not found.ranked
