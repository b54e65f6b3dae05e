"""Small cases for tests of the command line and the reports: one simulated, one made up by hand."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pandas as pd

from vpnforensics.align.alignment import Alignment
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture
from vpnforensics.report.result import CaseResult, Lists

HOSTILE = "in\x1b[2J[red]\u202e.pcap"
START_NS = 1_700_000_000_000_000_000
HEALTH = {
    "cut_tail_bytes": 0, "damaged_records": 0, "snapped": 0, "out_of_order": 0, "time_jumps": 0,
    "duplicates": 0, "non_ip": 0, "malformed": 0, "super_frames": 0, "fragments": 0, "unknown_blocks": 0,
    "unsupported_linktype": 0, "untimed": 0, "skipped_files": 0, "copied_files": 0,
    "first_damage_offset": -1,
}  # fmt: skip


def write_case(folder: Path) -> Path:
    """Three WireGuard clients for half a minute; the egress clock is 12.5 s ahead and 20 ppm fast."""
    spec = mixed_case(
        tunnels=3, flows=8, duration_s=30.0, scale=0.1, egress=Capture(offset_s=12.5, drift_ppm=20.0)
    )
    simulate(spec, folder, 1)
    return folder


def made_up(**changes: object) -> CaseResult:
    """Two tunnels; f1 linked by two packets of which one was found, f2 undecided, f3 in no tunnel."""
    length_map = {
        "kind": "constant", "formula": "P = L + 24", "overhead": 24, "block": 1, "extra": 0, "cap": 65535,
        "origin": "formula",
    }  # fmt: skip
    parts: dict[str, object] = {
        "tool": {
            "name": "vpnforensics",
            "version": "0",
            "commit": None,
            "date": "2023-11-14T22:13:20Z",
            "host": "here",
            "argv": [],
            "parameters": {},
            "policy": {},
            "seed": 0,
        },
        "inputs": [
            {
                "role": role, "path": HOSTILE, "sha256": "0" * 64, "bytes": 1000, "format": "pcap",
                "linktypes": ["ETHERNET"], "packets": 10, "first_ns": START_NS, "last_ns": START_NS + 10**9,
                "health": dict(HEALTH), "files": [
                    {
                        "path": HOSTILE, "sha256": "0" * 64, "bytes": 1000, "packets": 10, "first_frame": 1,
                        "first_ns": START_NS, "last_ns": START_NS + 10**9,
                    }
                ],
            }
            for role in ("ingress", "egress")
        ],
        "alignment": Alignment(
            "aligned", 12_500_000_000, (12_499_900_000, 12_500_100_000), 20.0, (18.0, 22.0), START_NS, 9
        ),
        "tunnels": pd.DataFrame(
            {
                "id": ["t1", "t2"],
                "client": ["198.51.100.7:4000", "[2001:db8::7]:4001"],
                "server": ["192.0.2.1:1194"] * 2,
                "transport": "udp",
                "protocol": "openvpn",
                "variant": None,
                "first_ns": START_NS,
                "last_ns": START_NS + 10**9,
                "packets_up": [5, 5],
                "packets_down": [5, 5],
                "length_map": [length_map, None],
                "connections": 1,
                "clock": None,
                "ip_id": None,
                "user": ["alice", None],
                "explained_share": [0.5, None],
            }
        ),
        "endpoints": pd.DataFrame(
            {
                "id": ["f1", "f2", "f3"],
                "proto": ["udp", "tcp", "tcp"],
                "src": ["203.0.113.1:1000", "203.0.113.1:2000", "203.0.113.1:2000"],
                "dst": ["192.0.2.53:53", "192.0.2.80:443", "192.0.2.80:443"],
                "names": [
                    [{"name": "www.site.example", "source": "query", "flow": "f1"}],
                    [{"name": "=cmd\\027[2j.example", "source": "sni", "flow": "f2"}],
                    [],
                ],
                "community_id": ["1:aaaa=", "1:bbbb=", "1:bbbb="],
                "uids": [["CAbc1"], [], []],
                "packets": [2, 30, 20],
                "bytes": [200, 30_000, 20_000],
                "first_ns": START_NS,
                "last_ns": START_NS + 10**9,
            }
        ),
        "make_stacks": lambda: {name: [None] * 3 for name in ("device", "clock", "ip_id")},
        "make_pools": lambda: [[], []],
        "make_scores": lambda: pd.DataFrame(
            {
                "flow": ["f1", "f2"],
                "tunnel": ["t1", "t2"],
                "llr": [3.5, 1.0],
                "llr_bounded": [True, False],
                "null_comparisons": 3200,
                "engines": [
                    {"packets": {"score": 4.0, "llr": 3.5, "n": 2, "note": "1 of 2 packets found"}},
                    {"packets": {"score": 1.2, "llr": 1.0, "n": 30, "note": "9 of 30 packets found"}},
                ],
            }
        ),
        "links": pd.DataFrame(
            {
                "flow": ["f1", "f2", "f3"],
                "tunnel": ["t1", None, None],
                "connection": None,
                "verdict": ["linked", "undecided", "no_tunnel"],
                "llr": [3.5, 1.0, None],
                "llr_bounded": [True, False, False],
                "error": [0.004, None, None],
                "verbal": ["strong support for H1", "weak support for H1", None],
                "unlisted_llr": [-1.0, -1.0, None],
                "why": [None, "a link would be wrong with probability 0.1", "too little of it was found"],
            }
        ),
        "comparisons": 6,
        "null_comparisons": 3200,
        "expected_false_links": 0.004,
        "allowed_false_links": 0.01,
        "decoys": {"tried": 40, "linked": 0},
        "limit": {"twins": 0},
        "warnings": [],
        "make_pairings": lambda: pd.DataFrame(
            {
                "flow": pd.Categorical(["f1", "f1"], categories=["f1", "f2", "f3"]),
                "egress_frame": [1, 2],
                "egress_ns": [START_NS, START_NS + 2_000_000],
                "up": [True, False],
                "inner_bytes": [60, 140],
                "ingress_frame": pd.array([7, None], dtype="Int64"),
                "ingress_ns": pd.array([START_NS - 12_500_100_000, None], dtype="Int64"),
                "outer_bytes": pd.array([84, None], dtype="Int64"),
                "counter": pd.array([3, None], dtype="Int64"),
                "delay_ns": pd.array([100_000, None], dtype="Int64"),
            }
        ),
    }  # fmt: skip
    parts |= changes
    lists = Lists(**{each.name: parts.pop(each.name) for each in fields(Lists)})  # type: ignore[arg-type]
    return CaseResult(lists=lists, **parts)  # type: ignore[arg-type]
