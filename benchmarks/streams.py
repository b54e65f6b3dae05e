"""Links right, wrong and undecided through relays, on recordings with known truth, damaged step by step.

The damage is that of `benchmarks/truth.py`: two clocks, 1 % of the packets lost on either side, normal jitter
at egress. ``--missing`` does it once more for each client, whose packets are then not in the ingress capture:
none of its flows may be linked. ``--without ENGINE`` leaves engines out. Flows are told apart by what carries
evidence: packets of 10 and more, bytes of 2 and of 10 kB and more (TCP), and datagrams, which most relays do
not pass on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import (
    OFFSET_S,
    Recording,
    carriers,
    degrade,
    is_right,
    known_clients,
    load,
    without_client,
)
from vpnforensics.engines.registry import ENGINES

KINDS = ("all", "10+ packets", "TCP 2 kB+", "TCP 10 kB+", "datagrams")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="recordings with truth.json")
    parser.add_argument("--seeds", type=int, default=1, help="how often each damage is done")
    parser.add_argument("--missing", action="store_true", help="each client missing in turn")
    parser.add_argument("--jitter", type=float, nargs="+", default=(0.0, 2.0, 10.0), help="ms")
    parser.add_argument("--without", nargs="+", default=(), choices=tuple(ENGINES), metavar="ENGINE")
    options = parser.parse_args()
    engines = [name for name in ENGINES if name not in options.without]
    print(
        f"{'recording':24}{'jitter':>7}"
        + "".join(f"{kind:>18}" for kind in KINDS)
        + f"{'wrong':>7}{'CPU s':>7}"
    )
    for folder in options.folders:
        recording = load(folder)
        for jitter_ms in options.jitter:
            began = time.process_time()
            counts: Counter[tuple[str, str]] = Counter()
            for seed in range(1, options.seeds + 1):
                for gone in _gone(recording, missing=options.missing):
                    counts += judged(recording, jitter_ms, seed, gone, engines)
            took = time.process_time() - began
            cells = (f"{counts[kind, 'right']}/{counts[kind, 'there']}" for kind in KINDS)
            shares = (counts[kind, "right"] / max(counts[kind, "there"], 1) for kind in KINDS)
            text = "".join(f"{cell:>11}{share:7.1%}" for cell, share in zip(cells, shares, strict=True))
            print(
                f"{folder.name:24}{jitter_ms:7g}{text}{counts['all', 'wrong']:7}{took:7.1f}",
                flush=True,
            )


def judged(
    recording: Recording, jitter_ms: float, seed: int, gone: str | None, engines: list[str]
) -> Counter[tuple[str, str]]:
    """Flows of the clients that are there, those linked rightly, and all linked wrongly, by kind of flow."""
    damaged = degrade(recording, jitter_s=jitter_ms / 1e3, seed=seed)
    if gone is not None:
        damaged = without_client(damaged, gone)
    counts: Counter[tuple[str, str]] = Counter()
    try:
        case = vf.correlate(damaged.ingress, damaged.egress, engines=engines)
    except vf.errors.CaseError as refusal:
        print(f"refused: {refusal}", file=sys.stderr)
        return counts
    known = known_clients(case)
    true_clients = carriers(damaged, case, offset_s=OFFSET_S)
    for flow, tunnel, true in zip(
        case.endpoints.itertuples(), case.links["tunnel"], true_clients, strict=True
    ):
        kinds = ["all"]
        kinds += ["10+ packets"] * (flow.packets >= 10) + ["datagrams"] * (flow.proto == "udp")
        kinds += [f"TCP {kb} kB+" for kb in (2, 10) if flow.proto == "tcp" and flow.bytes >= 1000 * kb]
        linked = known.get(tunnel, ())
        right = is_right(linked, true)
        for kind in kinds:
            counts[kind, "wrong"] += bool(linked) and not right
            counts[kind, "right"] += right
            counts[kind, "there"] += true is not None and true != gone
    return counts


def _gone(recording: Recording, *, missing: bool) -> list[str | None]:
    if not missing:
        return [None]
    return sorted({flow["client"] for flow in recording.truth["flows"] if flow["client"]})


if __name__ == "__main__":
    main()
