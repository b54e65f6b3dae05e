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

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, RECORDINGS, Recording, carriers, degrade, load, tally, without_client
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
    print(f"{'recording':20}{'damage':44}{'10+ packets':>20}{'shorter':>20}{'with a twin':>13}{'wrong':>7}")
    for folder in folders:
        recording = load(folder)
        nearest = twins(recording)
        if not options.missing:
            row(
                folder.name,
                "none",
                [tally(recording, vf.correlate(recording.ingress, recording.egress))],
                0.0,
            )
        for jitter_ms in (0.2, 2.0, 10.0):
            found = [
                judged(recording, jitter_ms, seed, options.missing) for seed in range(1, options.seeds + 1)
            ]
            damage = f"other clock, 1 % loss, jitter sd {jitter_ms:g} ms"
            row(folder.name, damage, found, float(np.mean(nearest < HIDDEN_SD * jitter_ms * 1e6)))


def judged(recording: Recording, jitter_ms: float, seed: int, missing: bool) -> object:
    """The tally of one damaged copy; with a client missing, of the others' flows."""
    damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=OFFSET_S, seed=seed)
    if missing:
        clients = sorted({flow["client"] for flow in recording.truth["flows"]})
        gone = clients[seed % len(clients)]
        damaged = without_client(damaged, gone)
        rest = [flow for flow in recording.truth["flows"] if flow["client"] != gone]
        case = vf.correlate(damaged.ingress, damaged.egress)
        found = tally(damaged, case, offset_s=OFFSET_S)
        others = tally(Recording(damaged.ingress, damaged.egress, {"flows": rest}), case, offset_s=OFFSET_S)
        return type(found)(others.long_linked, others.long, others.short_linked, others.short, found.wrong)
    return tally(damaged, vf.correlate(damaged.ingress, damaged.egress), offset_s=OFFSET_S)


def twins(recording: Recording) -> np.ndarray:
    """D to the nearest like flow of another client, ns, of each short flow; inf without one."""
    case = vf.correlate(recording.ingress, recording.egress)
    client = carriers(recording, case)
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
        alike[key].append((client[f], packets.ts_ns[mine][order]))
    nearest = []
    for members in alike.values():
        ts_ns = np.stack([t for _, t in members])
        of = np.array([c for c, _ in members], object)
        for mine, t in zip(of, ts_ns, strict=True):
            others = ts_ns[of != mine]
            nearest.append(float(np.sqrt(((others - t) ** 2.0).sum(axis=1)).min()) if len(others) else np.inf)
    return np.array(nearest)


def row(name: str, damage: str, tallies: list, twin_share: float) -> None:
    long_linked, long, short_linked, short, wrong = (
        sum(getattr(found, field) for found in tallies)
        for field in ("long_linked", "long", "short_linked", "short", "wrong")
    )
    of_long = f"{long_linked}/{long} {long_linked / max(long, 1):7.2%}"
    of_short = f"{short_linked}/{short} {short_linked / max(short, 1):7.2%}"
    print(f"{name:20}{damage:44}{of_long:>20}{of_short:>20}{twin_share:>13.1%}{wrong:>7}", flush=True)


if __name__ == "__main__":
    main()
