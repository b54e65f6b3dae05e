from __future__ import annotations

from vpnforensics.groundtruth.lab.survey import Row, Verdicts, judge, table, times

ENDS = {"proto": "udp", "src": "p:1", "dst": "f:53"}
TRUTH = {
    "tunnels": [{"client": "198.51.100.11:1000"}, {"client": "198.51.100.13:2000"}],
    "flows": [
        ENDS | {"first_ns": 0, "last_ns": 9, "client": "198.51.100.11:1000"},
        ENDS | {"first_ns": 50, "last_ns": 90, "client": "198.51.100.13:2000"},
    ],
    "unattributed": [{"packets": 2, "first_ns": 100, "last_ns": 110, "reason": "ICMP type 3 code 3"}],
}


def result(*links: tuple[int, int, str | None]) -> dict:
    """Flows from first to last, linked to a tunnel or not."""
    return {
        "tunnels": [{"id": "t1", "client": "198.51.100.11:7"}, {"id": "t2", "client": "198.51.100.13:2000"}],
        "flows": [
            ENDS | {"id": str(i), "first_ns": first, "last_ns": last}
            for i, (first, last, _) in enumerate(links)
        ],
        "links": [
            {"flow": str(i), "tunnel": tunnel, "verdict": "linked" if tunnel else "undecided"}
            for i, (_, _, tunnel) in enumerate(links)
        ],
    }


def test_a_port_used_twice_is_judged_by_time():
    assert judge(result((0, 9, "t1"), (50, 90, "t2")), TRUTH) == Verdicts(right=2)
    assert judge(result((0, 9, "t2"), (52, 90, "t1")), TRUTH) == Verdicts(wrong=2)


def test_no_verdict_is_neither_right_nor_wrong():
    answer = result((0, 9, None), (50, 90, None))
    assert judge(answer, TRUTH) == Verdicts(undecided=2)
    answer["links"][0]["verdict"] = "no_tunnel"
    assert judge(answer, TRUTH) == Verdicts(undecided=1, excluded=1)


def test_a_link_of_what_the_truth_does_not_know_is_wrong():
    answer = result((0, 9, "t1"))
    answer["flows"][0]["dst"] = "elsewhere:1"
    assert judge(answer, TRUTH) == Verdicts(wrong=1)


def test_what_the_truth_leaves_open_is_not_judged():
    answer = result((100, 110, "t1"), (100, 111, "t1"))
    for flow in answer["flows"]:
        flow["proto"] = "icmp"
    assert judge(answer, TRUTH) == Verdicts(wrong=1)


def test_an_icmp_error_is_of_the_conversation_that_it_is_about():
    answer = result((4, 5, "t1"), (60, 61, "t1"))
    for flow in answer["flows"]:
        flow["proto"] = "icmp"
    assert judge(answer, TRUTH) == Verdicts(right=1, wrong=1)


def test_the_table_is_markdown():
    some = Row("tinc", 10, 100, 0.9996, Verdicts(8, 0, 1, 1), 4.4)
    none = [
        Row(kind, 9, 90, 1.0, Verdicts(), 12.0, "nothing to compare") for kind in ("ssh-tun", "ssh-socks")
    ]
    lines = table([some, *none]).splitlines()
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert lines[2] == "| tinc | 10 | 100 | 99.96% | 8 | 0 | 1 | 1 |"
    assert lines[3].startswith("| ssh-tun | 9 | 90 | 100.00% | refused |")
    assert lines[-1] == "Refused (ssh-tun, ssh-socks): nothing to compare"


def test_a_recording_that_took_too_long_is_named():
    some = [Row(kind, 10, 100, 1.0, Verdicts(), over_s) for kind, over_s in (("tinc", 4.4), ("nebula", 6.0))]
    assert times(some, 10.0) == "2 recordings of 10 s took 30 s, at most 6.0 s over (nebula)\n"
    late = Row("ssh-tun", 10, 100, 1.0, Verdicts(), 20.2)
    assert times([*some, late], 60.0).splitlines()[1:] == ["ssh-tun: 20.2 s over is too long"]
