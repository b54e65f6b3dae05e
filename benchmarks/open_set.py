"""False links of flows whose tunnel is not in the ingress capture, over simulated sessions: docs/open-set.md.

python benchmarks/open_set.py                    all sessions; writes docs/open-set.md
python benchmarks/open_set.py --sessions 4       only the first ones; nothing is written
python benchmarks/open_set.py --only 17 DIR      simulates session 17 into DIR, to look at its packets

Each session is captured twice at ingress: once without the odd clients and once without the even ones, so
that each of its flows is once one whose tunnel is absent. No flow is counted twice.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.truth import OFFSET_S
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures, SimulationSpec
from vpnforensics.options import Options
from vpnforensics.report.provenance import tool_row
from vpnforensics.validation.binomial import poisson_interval
from vpnforensics.validation.cells import TextTable
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.markdown import table_text
from vpnforensics.validation.outcomes import Outcomes, outcomes
from vpnforensics.validation.sessions import open_sessions
from vpnforensics.validation.trials import Failed, Trial, try_session

PAGE = Path(__file__).parent.parent / "docs" / "open-set.md"
CLIENTS, FLOWS_OF_A_CLIENT, DURATION_S = 24, 60, 60.0
KINDS: dict[str, tuple[str, Countermeasures | None]] = {
    name: (name, None)
    for name in (
        "wireguard",
        "openvpn-udp",
        "strongswan",
        "nebula",
        "ocserv-dtls",
        "tinc",
        "openvpn-tcp",
        "shadowsocks",
    )
} | {"wireguard, padded to 128": ("wireguard", Countermeasures(pad_block=128))}
JITTERS_MS = (0.0, 0.2, 2.0, 10.0)
SEEDS = (1, 2)
HEAD = """# Flows whose tunnel is absent

Made by `make validate-open-set`; what stands here is overwritten by the next run.

The dearest mistake is to name a tunnel for a flow that none of the captured ones carried: its client was not
captured. Here half of the clients of simulated sessions are missing at ingress, then the other half, so that
each flow is once one whose tunnel is absent. Jitter is added at egress, with one packet in a hundred missing
on either side and another clock (but where the jitter is 0: there the captures are as they are). 0.01 false
links are allowed in each case, as by default. *Stated* is the sum of the errors that the links of these cases
state, of all flows; *observed* counts wrong links, of flows whose tunnel is absent and of others.

Sessions share the simulator's assumptions, and flows of a session are not independent of each other: the
intervals take wrong links as they would come by chance, one at a time.
"""


@dataclass(frozen=True)
class Made:
    """One simulated session; ``number`` is its place among all."""

    number: int
    kind: str
    jitter_ms: float
    seed: int

    def spec(self, absent: int) -> SimulationSpec:
        """The session with every other client missing at ingress, from this one on; all there for -1."""
        protocol, against = KINDS[self.kind]
        side = Capture(snaplen=96)
        whole = mixed_case(
            CLIENTS, FLOWS_OF_A_CLIENT, protocol, DURATION_S, scale=0.1, ingress=side, egress=side,
            countermeasures=against, seed=1000 + self.number,
        )  # fmt: skip
        missing = () if absent < 0 else tuple(client.name for client in whole.clients[absent::2])
        return replace(whole, ingress=replace(side, without=missing))

    @property
    def damage(self) -> Damage:
        """What the captures suffer."""
        if not self.jitter_ms:
            return Damage()
        return Damage(self.jitter_ms, 0.01, OFFSET_S, 40.0, seed=1000 + self.number)


SESSIONS = [
    Made(number, kind, jitter_ms, seed)
    for number, (seed, jitter_ms, kind) in enumerate(product(SEEDS, JITTERS_MS, KINDS))
]


@dataclass(frozen=True)
class Row:
    """One case, judged."""

    made: Made
    absent: int
    flows: Outcomes | None
    why: str
    wrong: tuple[str, ...]
    """The wrong links, in words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sessions", type=int, default=len(SESSIONS), metavar="N")
    parser.add_argument("--only", nargs=2, metavar=("SESSION", "DIR"))
    options = parser.parse_args()
    if options.only:
        made, folder = SESSIONS[int(options.only[0])], Path(options.only[1])
        for absent in (0, 1):
            simulate(made.spec(absent), folder / f"without-{absent}", made.number)
        print(f"{made.kind}, seed {made.number}; afterwards: {made.damage.text}")
        return
    began = time.monotonic()
    rows = []
    for made in SESSIONS[: options.sessions]:
        for row in judged(made):
            rows.append(row)
            found = row.flows
            text = row.why or f"{int((~found.there).sum())} absent, {int(found.linked.sum())} links"
            print(f"{made.number:3} {made.kind}, {made.jitter_ms:g} ms: {text}", *row.wrong, flush=True)
    page = "\n".join(document(rows)) + "\n"
    print(page)
    print(f"{time.monotonic() - began:.0f} s")
    if options.sessions >= len(SESSIONS):
        PAGE.write_text(page, encoding="utf-8")


def judged(made: Made) -> Iterator[Row]:
    """Both cases of a session."""
    for absent in (0, 1):
        with tempfile.TemporaryDirectory() as folder:
            simulate(made.spec(absent), Path(folder), made.number)
            (session,) = open_sessions([Path(folder)])
            trial = try_session(session, made.damage, Options(), lambda step, share: None)
        if isinstance(trial, Failed):
            yield Row(made, absent, None, trial.reason.removeprefix(f"{folder}: "), ())
            continue
        of_flows = outcomes(trial, 2 * made.number + absent)
        yield Row(made, absent, of_flows, "", tuple(in_words(trial, of_flows)))


def in_words(trial: Trial, of_flows: Outcomes) -> Iterator[str]:
    """The wrong links of a case."""
    case, labels = trial.case, trial.labels
    for n in np.flatnonzero(of_flows.linked & of_flows.wrong).tolist():
        flow = int(np.flatnonzero(labels.known)[n])
        tunnel = case.tunnels.tunnels[int(trial.decision.tunnel[flow])]
        whose = "another's" if of_flows.there[n] else "absent"
        yield (
            f"{case.flows.source(flow)} {case.flows.destination(flow)} ({int(of_flows.packets[n])} packets,"
            f" {whose}) to {tunnel.client}, stated error {of_flows.error[n]:.2g}"
        )


def document(rows: Sequence[Row]) -> Iterator[str]:
    """The page."""
    tool = tool_row(Options().parameters(), {}, 0, ["python", "benchmarks/open_set.py"])
    yield HEAD
    yield f"vpnforensics {tool['version']}, commit {str(tool['commit'])[:12]}, {tool['date']}\n"
    yield "## By protocol, and by jitter\n"
    headings = (
        "", "cases", "flows, tunnel absent", "flows, tunnel there", "linked of these", "stated",
        "observed: absent", "observed: others",
    )  # fmt: skip
    parts = [(kind, [r for r in rows if r.made.kind == kind]) for kind in KINDS]
    parts += [(f"jitter {j:g} ms", [r for r in rows if r.made.jitter_ms == j]) for j in JITTERS_MS]
    parts += [("all", list(rows))]
    yield table_text(TextTable("", "", headings, tuple(cells(name, of) for name, of in parts if of)))
    every = [row.flows for row in rows if row.flows is not None]
    absent = sum(int((~each.there).sum()) for each in every)
    wrong = sum(int((each.linked & ~each.there).sum()) for each in every)
    low, high = poisson_interval(wrong)
    yield (
        f"\n**False links of flows whose tunnel is absent: {wrong} of {absent:,}** (95 % Poisson interval"
        f" {low:.2g} to {high:.2g}, which is {low / absent:.2g} to {high / absent:.2g} a flow)."
    )
    failed = [row for row in rows if row.flows is None]
    if failed:
        yield f"\nCases that could not be made: {len(failed)}\n"
        yield from (f"* session {r.made.number}, {r.made.kind}: {r.why}" for r in failed)
    found = [(row, text) for row in rows for text in row.wrong]
    if found:
        yield "\n## The wrong links\n"
        yield "`python benchmarks/open_set.py --only SESSION DIR` makes a session again.\n"
        yield from (
            f"* session {row.made.number}, `without-{row.absent}`, {row.made.kind},"
            f" {row.made.damage.text}: {text}"
            for row, text in found
        )


def cells(name: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """One row of the table."""
    of = [row.flows for row in rows if row.flows is not None]
    there = sum(int(each.there.sum()) for each in of)
    right = sum(int(each.right.sum()) for each in of)
    stated = sum(float(each.error[each.linked].sum()) for each in of)
    wrong = [each.linked & each.wrong for each in of]
    absent = sum(int((w & ~each.there).sum()) for w, each in zip(wrong, of, strict=True))
    others = sum(int((w & each.there).sum()) for w, each in zip(wrong, of, strict=True))
    missing = sum(int((~each.there).sum()) for each in of)
    return (
        name, str(len(rows)), f"{missing:,}", f"{there:,}", f"{100 * right / max(there, 1):.1f}%",
        f"{stated:.2g}", str(absent), str(others),
    )  # fmt: skip


if __name__ == "__main__":
    main()
