"""Figures of the header-field features and engines: clocks, IP IDs, devices, legacy TCP tunnels.

    python benchmarks/fields.py [clock|ipid|devices|tunnels]...

Everything is simulated here from fixed seeds; a run takes less than two minutes.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from features import models

from vpnforensics.features.ip_id import classify_ip_ids
from vpnforensics.features.tcp_clock import sender_clock

CLOCKS = 200
SENDERS = 200


def clock() -> None:
    print("clock: error of the skew under bursty queueing, ppm")
    for name, path in (
        ("load 0.6", models.Path()),
        ("load 0.2", models.Path(burst_hz=2.0)),
        ("load 0.8, sparse", models.Path(burst_hz=8.0, packets_hz=6.0)),
    ):
        for seconds, target in ((75, None), (120, 2.0), (600, 0.3)):
            rng = np.random.default_rng(seconds)
            errors, covered, hull, median, agreed, spoke = [], [], [], [], 0, 0
            for _ in range(CLOCKS):
                skew = float(rng.normal(0, 50))
                found = sender_clock(*models.clock_packets(seconds, skew, rng, path))
                if found.fit is None:
                    continue
                spoke += 1
                low, high = found.skew_interval_ppm
                errors.append(abs(found.skew_ppm - skew))
                covered.append(low <= skew <= high)
                hull.append(abs(found.fit.hull * 1e6 - skew))
                median.append(abs(found.fit.theil_sen * 1e6 - skew))
                agreed += found.fit.agree
            goal = f" (target {target})" if target else ""
            at_90, sharp, robust = np.quantile(errors, 0.9), np.median(hull), np.median(median)
            print(
                f"  {name:16s} {seconds:4d} s: median {np.median(errors):.3f}{goal}, 90 % {at_90:.3f};"
                f" hull {sharp:.3f}, Theil-Sen {robust:.3f}; interval covers {np.mean(covered):.3f};"
                f" agree {agreed}/{spoke}; spoke {spoke}/{CLOCKS}"
            )


def ipid() -> None:
    print("IP ID: senders of 50 and more packets classed right at 20 % loss (target 0.99)")
    rng = np.random.default_rng(1)
    right, total = 0, 0
    for kind in models.PERSONALITIES:
        found: dict[str, int] = {}
        for _ in range(SENDERS):
            t, ids, flow, destination = models.ip_id_packets(kind, rng, packets=int(rng.integers(65, 400)))
            if len(ids) >= 50:
                named = classify_ip_ids(t, ids, flow, destination).ip_id_class
                found[named] = found.get(named, 0) + 1
        right += found.get(kind, 0)
        total += sum(found.values())
        print(f"  {kind:16s} {found}")
    print(f"  right: {right}/{total} = {right / total:.4f}")


SECTIONS = {"clock": clock, "ipid": ipid}


def main() -> None:
    for name in sys.argv[1:] or SECTIONS:
        began = time.perf_counter()
        SECTIONS[name]()
        print(f"  [{time.perf_counter() - began:.1f} s]")


if __name__ == "__main__":
    main()
