import json
from datetime import datetime

import vpnforensics as vf
from tests.small_case import START_NS, made_up
from vpnforensics.report.timesketch import timesketch


def test_every_event_has_what_timesketch_asks_for(folder):
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    events = [json.loads(line) for line in timesketch(case)]
    assert len(events) == 2 * (len(case.flows) + len(case.tunnels))
    for event in events:
        assert event["message"]
        assert event["timestamp_desc"]
        at = datetime.fromisoformat(event["datetime"])
        assert at.tzinfo is not None
        assert round(at.timestamp() * 1e6) == event["timestamp"]
        assert not any(isinstance(value, dict) for value in event.values())
    times = [event["timestamp"] for event in events]
    assert times == sorted(times)
    linked = [
        e for e in events if e.get("verdict") == "linked" and e["timestamp_desc"] == "Flow First Packet"
    ]
    assert len(linked) == (case.links["verdict"] == "linked").sum()
    assert all(event["client"] in event["message"] for event in linked)


def test_names_users_and_digests_stand_in_events():
    tunnels = made_up().lists.tunnels.assign(user=["alice", None])
    events = [json.loads(line) for line in timesketch(made_up(tunnels=tunnels))]
    first = next(event for event in events if event.get("flow") == "f1")
    assert first["message"] == (
        "udp flow f1 to 192.0.2.53:53 (www.site.example), 2 packets, linked to alice (t1, LLR ≥+3.5)"
    )
    assert first["names"] == ["www.site.example"]
    assert first["capture_sha256"] == "0" * 64
    assert first["timestamp"] == START_NS // 1000
    last = next(event for event in events if event.get("flow") == "f3")
    assert last["message"].endswith("20 packets, no tunnel")


def test_hostile_text_stays_in_its_line():
    tunnels = made_up().lists.tunnels.assign(user=['eve\n{"x": "\u202e\x1b"}', None])
    lines = list(timesketch(made_up(tunnels=tunnels)))
    assert all(line.count("\n") == 1 for line in lines)
    assert not any("\x1b" in line or "\u202e" in line for line in lines)
