from __future__ import annotations

from vpnforensics.groundtruth.lab.survey import Row, judge, table

ENDS = {"proto": "udp", "src": "p:1", "dst": "f:53"}
TRUTH = {
    "tunnels": [{"client": "198.51.100.11:1000"}, {"client": "198.51.100.13:2000"}],
    "flows": [
        ENDS | {"first_ns": 0, "last_ns": 9, "client": "198.51.100.11:1000"},
        ENDS | {"first_ns": 50, "last_ns": 90, "client": "198.51.100.13:2000"},
    ],
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
    assert judge(result((0, 9, "t1"), (50, 90, "t2")), TRUTH) == (2, 0, 0)
    assert judge(result((0, 9, "t2"), (52, 90, "t1")), TRUTH) == (0, 2, 0)


def test_no_verdict_is_neither_right_nor_wrong():
    assert judge(result((0, 9, None)), TRUTH) == (0, 0, 1)


def test_a_link_of_what_the_truth_does_not_know_is_wrong():
    answer = result((0, 9, "t1"))
    answer["flows"][0]["dst"] = "elsewhere:1"
    assert judge(answer, TRUTH) == (0, 1, 0)


def test_the_table_is_markdown():
    text = table([Row("tinc", 10, 100, 0.9996, 9, 0, 1, 12.4)])
    assert text.splitlines()[2] == "| tinc | 10 | 100 | 99.96% | 9 | 0 | 1 | 12 s |"
