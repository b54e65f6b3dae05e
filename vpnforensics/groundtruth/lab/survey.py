"""Record every driver for a few seconds, correlate, and compare with the truth: one table of what works.

Run as root: ``python -m vpnforensics.groundtruth.lab.survey [--seconds S] [--keep DIR] [KIND ...]``. The
correlator is run as the program that users run, on the captures alone; only this judge sees the truth.
The exit status is 1 if a recording took over 20 s longer than its traffic.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.doctor import doctor
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.groundtruth.lab.record import usual
from vpnforensics.groundtruth.lab.run import run

_CORRELATE_TIMEOUT_S = 300
_MOST_OVER_S = 20.0
"""What building, joining, taking down and deriving the truth may take beside the traffic."""


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Flows by what the correlator said of them.

    Parameters
    ----------
    right, wrong : int
        Linked to their client's tunnel, or to another's.
    undecided : int
        Neither linked nor excluded.
    excluded : int
        Said to have come through no tunnel of the capture. All did, so each of them is an error.
    """

    right: int = 0
    wrong: int = 0
    undecided: int = 0
    excluded: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One driver's line of the table.

    ``over_s`` is what the recording took beyond its traffic and what joining takes by design; ``refusal`` is
    why the correlator said nothing at all.
    """

    kind: str
    flows: int
    packets: int
    coverage: float
    verdicts: Verdicts
    over_s: float
    refusal: str = ""


def judge(result: Mapping[str, Any], truth: Mapping[str, Any]) -> Verdicts:
    """Compare a result with the truth.

    A flow of the result is the truth's flow on the same five-tuple that overlaps it most in time; ICMP errors
    are of the conversation that they are about. Any of a client's conversations with the server counts as its
    tunnel. Packets that the truth leaves unattributed are not judged.
    """
    clients = {t["client"]: t["client"].partition(":")[0] for t in truth["tunnels"]}
    tunnels = {t["id"]: t["client"].partition(":")[0] for t in result["tunnels"]}
    known: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in truth["flows"]:
        known.setdefault((row["proto"], row["src"], row["dst"]), []).append(row)
    flows = {f["id"]: f for f in result["flows"]}
    counts: Counter[str] = Counter()
    for link in result["links"]:
        flow = flows[link["flow"]]
        own, *about = (known.get((proto, flow["src"], flow["dst"]), []) for proto in _protos(flow))
        if not own and any(_holds(apart, flow) for apart in truth["unattributed"]):
            continue
        if link["verdict"] != "linked":
            counts["undecided" if link["verdict"] == "undecided" else "excluded"] += 1
            continue
        rows = own or [row for of_proto in about for row in of_proto]
        best = max(rows, key=lambda row: _overlap_ns(row, flow), default=None)
        same = best is not None and clients[best["client"]] == tunnels[link["tunnel"]]
        counts["right" if same else "wrong"] += 1
    return Verdicts(**counts)


def _protos(flow: Mapping[str, Any]) -> tuple[str, ...]:
    """Under which protocols the truth may have a flow."""
    return (flow["proto"], "udp", "tcp") if flow["proto"].startswith("icmp") else (flow["proto"],)


def _holds(row: Mapping[str, Any], flow: Mapping[str, Any]) -> bool:
    return bool(row["first_ns"] <= flow["first_ns"] and flow["last_ns"] <= row["last_ns"])


def _overlap_ns(row: Mapping[str, Any], flow: Mapping[str, Any]) -> int:
    return int(min(row["last_ns"], flow["last_ns"]) - max(row["first_ns"], flow["first_ns"]))


def survey(kind: str, seconds: float, folder: Path, *, seed: int = 1, same_clock: bool = False) -> Row:
    """Record one driver, correlate (by default without saying that one clock stamped both sides), judge."""
    started = time.monotonic()
    recording = run(usual(kind, 3, seconds, seed), folder)
    over_s = time.monotonic() - started - seconds - DRIVERS[kind].join_s
    truth = json.loads((folder / "truth.json").read_text())
    argv = [sys.executable, "-m", "vpnforensics.cli.main", "correlate"]
    argv += [str(folder / "ingress.pcap"), str(folder / "egress.pcap"), "-q", "-f", "json"]
    argv += ["--same-clock"] if same_clock else []
    done = subprocess.run(argv, capture_output=True, timeout=_CORRELATE_TIMEOUT_S, check=False)
    coverage = recording.coverage
    base = (kind, coverage.flows, coverage.egress_packets, coverage.share)
    if done.returncode:
        said = done.stderr.decode(errors="replace").replace(f"{folder}/", "").strip().splitlines()
        refusal = said[-1].partition("error: ")[2] if said else f"exit status {done.returncode}"
        return Row(*base, Verdicts(), over_s, refusal)
    return Row(*base, judge(json.loads(done.stdout), truth), over_s)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown, and below them what was refused and why."""
    lines = [
        "| VPN | flows | packets | truth coverage | linked right | wrong | undecided | `no_tunnel` |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    refused: dict[str, list[str]] = {}
    for row in rows:
        v = row.verdicts
        said = f"{v.right} | {v.wrong} | {v.undecided} | {v.excluded}" if not row.refusal else "refused | | |"
        lines.append(f"| {row.kind} | {row.flows} | {row.packets} | {row.coverage:.2%} | {said} |")
        if row.refusal:
            refused.setdefault(row.refusal, []).append(row.kind)
    lines += [f"\nRefused ({', '.join(kinds)}): {why}" for why, kinds in refused.items()]
    return "\n".join(lines) + "\n"


def times(rows: Sequence[Row], seconds: float) -> str:
    """What the recordings took, in all and at most, and which of them took too long."""
    took_s = sum(row.over_s + seconds for row in rows)
    slowest = max(rows, key=lambda row: row.over_s)
    lines = [
        f"{len(rows)} recordings of {seconds:g} s took {took_s:.0f} s,"
        f" at most {slowest.over_s:.1f} s over ({slowest.kind})"
    ]
    lines += [f"{r.kind}: {r.over_s:.1f} s over is too long" for r in rows if r.over_s > _MOST_OVER_S]
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Command line of the survey."""
    parser = argparse.ArgumentParser(prog="survey", description="Record every VPN, correlate, compare.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(DRIVERS)}; default: all")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--same-clock", action="store_true", help="tell the correlator of the one clock")
    parser.add_argument("--keep", type=Path, help="keep the recordings here")
    options = parser.parse_args(argv)
    able = {f.what for f in doctor() if f.well}
    rows = []
    with tempfile.TemporaryDirectory(prefix="vpnforensics-survey-") as scratch:
        for kind in options.kinds or DRIVERS:
            if kind not in able:
                sys.stderr.write(f"{kind}: not installed; see `vpnf lab doctor`\n")
                continue
            folder = (options.keep or Path(scratch)) / kind
            try:
                rows.append(survey(kind, options.seconds, folder, same_clock=options.same_clock))
                sys.stderr.write(
                    f"{kind}: recorded in {options.seconds:g} s and {rows[-1].over_s:.1f} s over\n"
                )
            except ScenarioError as error:
                sys.stderr.write(f"{kind}: {error}\n")
                return 2
    if not rows:
        return 2
    sys.stdout.write(table(rows))
    sys.stderr.write(times(rows, options.seconds))
    return int(any(row.over_s > _MOST_OVER_S for row in rows))


if __name__ == "__main__":
    sys.exit(main())
