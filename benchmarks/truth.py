"""Links right, wrong and undecided on recordings with known truth, damaged step by step.

Beside them, what no method can decide: flows with a *twin*, one of another tunnel with the same lengths and
directions so near in time that jitter hides which is which (``D`` below 5.3 standard deviations, D the root
of the summed squares of the packets' time differences; with normal jitter the posterior then stays above
about 1e-4). Where a tunnel rounds lengths there are more.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import (
    OFFSET_S,
    RECORDINGS,
    Recording,
    degrade,
    is_right,
    known_clients,
    load,
    numbers,
    without_client,
)
from vpnforensics.flows.assemble import assemble_flows

LONG = 10
HIDDEN_SD = 5.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folders", nargs="*", type=Path, help="recordings with truth.json (default: those shipped)"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how often each damage is done")
    parser.add_argument(
        "--missing", action="store_true", help="one client's packets are not in the ingress capture"
    )
    options = parser.parse_args()
    folders = options.folders or sorted(p for p in RECORDINGS.iterdir() if p.is_dir())
    print(
        f"{'recording':20}{'damage':44}{'10+ packets':>20}{'shorter':>20}"
        f"{'no twin':>20}{'with a twin':>13}{'wrong':>7}"
    )
    for folder in folders:
        recording = load(folder)
        nearest = twins(recording)
        if not options.missing:
            case = vf.correlate(recording.ingress, recording.egress)
            row(folder.name, "none", [tally(recording, case, nearest, 0.0)])
        for jitter_ms in (0.2, 2.0, 10.0):
            found = [
                judged(recording, jitter_ms, seed, options.missing, nearest)
                for seed in range(1, options.seeds + 1)
            ]
            row(folder.name, f"other clock, 1 % loss, jitter sd {jitter_ms:g} ms", found)


class Tally(NamedTuple):
    """Flows linked rightly, and flows: of ten packets and more, shorter, and those of them without a twin."""

    long_linked: int
    long: int
    short_linked: int
    short: int
    lone_linked: int
    lone: int
    wrong: int


def judged(
    recording: Recording, jitter_ms: float, seed: int, missing: bool, nearest: dict[int, float]
) -> Tally:
    """The tally of one damaged copy; with a client missing, of the others' flows."""
    damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=OFFSET_S, seed=seed)
    gone = None
    if missing:
        clients = sorted({flow["client"] for flow in recording.truth["flows"]})
        gone = clients[seed % len(clients)]
        damaged = without_client(damaged, gone)
    case = vf.correlate(damaged.ingress, damaged.egress)
    return tally(damaged, case, nearest, jitter_ms, offset_s=OFFSET_S, gone=gone)


def tally(
    recording: Recording,
    case: vf.CaseResult,
    nearest: dict[int, float],
    jitter_ms: float,
    *,
    offset_s: float = 0.0,
    gone: str | None = None,
) -> Tally:
    """Links beside the truth; of the flows of the client ``gone`` only the wrong ones."""
    number = np.array(numbers(recording, case, offset_s=offset_s))
    client = [recording.truth["flows"][n]["client"] if n >= 0 else None for n in number]
    clients = known_clients(case)
    linked = [clients.get(tunnel, ()) for tunnel in case.links["tunnel"]]
    of = np.array([c is not None and c != gone for c in client])
    right = np.array([is_right(link, c) for c, link in zip(client, linked, strict=True)])
    wrong = sum(bool(link) and not yes for link, yes in zip(linked, right.tolist(), strict=True))
    long = case.endpoints["packets"].to_numpy() >= LONG
    twin = np.array([nearest.get(int(n), np.inf) < HIDDEN_SD * jitter_ms * 1e6 for n in number])
    counts = [
        int((of & kind & which).sum()) for kind in (long, ~long, ~long & ~twin) for which in (right, of)
    ]
    return Tally(*counts, wrong)


def twins(recording: Recording) -> dict[int, float]:
    """D to the nearest like flow of another client, ns, of each short flow of the truth; inf without one."""
    case = vf.correlate(recording.ingress, recording.egress)
    number = numbers(recording, case)
    client = [recording.truth["flows"][n]["client"] if n >= 0 else None for n in number]
    flows = assemble_flows(recording.egress)
    rows, start = flows.order
    packets = flows.packets
    alike = defaultdict(list)
    for f in range(len(flows)):
        mine = rows[start[f] : start[f + 1]]
        if len(mine) >= LONG or client[f] is None:
            continue
        size, up = packets.ip_len_bytes[mine], flows.up[mine]
        order = np.lexsort((packets.ts_ns[mine], size, up))
        key = tuple(zip(size[order].tolist(), up[order].tolist(), strict=True))
        alike[key].append((client[f], number[f], packets.ts_ns[mine][order]))
    nearest = {}
    for members in alike.values():
        ts_ns = np.stack([t for *_, t in members])
        of = np.array([c for c, *_ in members], object)
        for mine, n, t in members:
            others = ts_ns[of != mine]
            nearest[n] = float(np.sqrt(((others - t) ** 2.0).sum(axis=1)).min()) if len(others) else np.inf
    return nearest


def row(name: str, damage: str, tallies: list[Tally]) -> None:
    *counts, wrong = (sum(of) for of in zip(*tallies, strict=True))
    pairs = list(zip(counts[::2], counts[1::2], strict=True))
    shares = "".join(f"{f'{linked}/{flows} {linked / max(flows, 1):7.2%}':>20}" for linked, flows in pairs)
    (_, short), (_, lone) = pairs[1:]
    print(f"{name:20}{damage:44}{shares}{1 - lone / max(short, 1):>13.1%}{wrong:>7}", flush=True)


if __name__ == "__main__":
    main()
