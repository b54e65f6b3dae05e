"""Links on simulated scenes that are hard each in its own way, beside what is aimed at.

python benchmarks/scenes.py [NAME]...      (all take half an hour; NAME as in the table)
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, Recording, carriers, degrade, is_right, known_clients, load
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures, SimulationSpec

SNAP = Capture(snaplen=96)


@dataclass(frozen=True)
class Scene:
    """A simulated case, the damage done to it, and what is aimed at."""

    spec: Callable[[], SimulationSpec]
    jitter_ms: float
    aims: dict[tuple[int, int], float]
    """Share linked of the flows of so many packets, from the first to below the second."""
    loss: float = 0.01
    away_ms: float = 0.0
    """How far from the server the egress is captured, one way."""
    most_cpu_s: float = np.inf
    most_mib: float = np.inf
    tcp_only: bool = False
    """Whether only flows over TCP count: a relay's lookups are its own."""


SHORT, ALL_LONG, EVERY = (2, 10), (10, 1 << 60), (1, 1 << 60)


def through_shadowsocks(jitter_ms: float) -> Scene:
    """A hundred clients of a relay, twice as busy as usual."""
    return Scene(
        lambda: mixed_case(100, 60, "shadowsocks", 30.0, scale=0.3, ingress=SNAP, egress=SNAP),
        jitter_ms,
        {EVERY: 0.97},
        most_cpu_s=60,
        tcp_only=True,
    )


SCENES = {
    "500-clients": Scene(
        lambda: mixed_case(500, 40, duration_s=120.0, scale=0.3, ingress=SNAP, egress=SNAP),
        2.0,
        {ALL_LONG: 0.99, SHORT: 0.85},
        most_cpu_s=60,
        most_mib=2048,
    ),
    "far-tap": Scene(
        lambda: replace(
            mixed_case(20, 80, duration_s=120.0, scale=0.3, ingress=SNAP, egress=SNAP),
            host_delay_s=(0.035, 0.08),  # none is nearer than the tap
        ),
        5.0,
        {(30, 1 << 60): 0.99, SHORT: 0.95},
        loss=0.005,
        away_ms=30.0,
    ),
    "padded-to-mtu": Scene(
        lambda: mixed_case(
            50, 40, duration_s=120.0, scale=1.0, ingress=SNAP, egress=SNAP,
            countermeasures=Countermeasures(pad_mtu=True),
        ),
        10.0,
        {(300, 1 << 60): 0.90},
    ),
    "cover-traffic": Scene(
        lambda: mixed_case(
            10, 40, duration_s=60.0, scale=0.1, ingress=SNAP, egress=SNAP,
            countermeasures=Countermeasures(pad_mtu=True, cover_hz=200.0),
        ),
        2.0,
        {},
    ),
    "openvpn-tcp-snapped": Scene(
        lambda: mixed_case(20, 60, "openvpn-tcp", 120.0, scale=0.3, ingress=SNAP, egress=SNAP),
        2.0,
        {ALL_LONG: 0.90},
    ),
    **{f"100-shadowsocks-{jitter}ms": through_shadowsocks(jitter) for jitter in (0, 2, 10)},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *SCENES])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        show(options.names[0], SCENES[options.names[0]], options.seed)
        return
    title = f"{'scene':22}{'packets':>10}  {'flows linked, of so many packets (aim)':58}"
    print(f"{title}{'wrong':>8}{'CPU s':>8}{'MiB':>7}", flush=True)
    for name in options.names or SCENES:  # in a process of its own: its peak of memory is its own
        command = [sys.executable, __file__, name, "--here", "--seed", str(options.seed)]
        subprocess.run(command, check=True)


def show(name: str, scene: Scene, seed: int) -> None:
    """Simulate a scene, and tell how it went."""
    with tempfile.TemporaryDirectory() as folder:  # until the end: the result digests its files
        simulate(scene.spec(), Path(folder), seed)
        report(name, scene, load(Path(folder)), seed)


def report(name: str, scene: Scene, whole: Recording, seed: int) -> None:
    """Damage and correlate a simulated scene."""
    apart = far(whole, scene.away_ms)
    recording = degrade(apart, jitter_s=scene.jitter_ms / 1e3, loss=scene.loss, seed=seed)
    begun = time.process_time()
    case = vf.correlate(recording.ingress, recording.egress)
    cpu_s = time.process_time() - begun
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    true = np.array(carriers(recording, case, offset_s=OFFSET_S), object)
    known = known_clients(case)
    linked = [known.get(tunnel, ()) for tunnel in case.links["tunnel"]]
    right = np.array([is_right(*pair) for pair in zip(linked, true, strict=True)])
    counted = (true != None) & ((case.endpoints["proto"] == "tcp") | (not scene.tcp_only))  # noqa: E711
    packets = case.endpoints["packets"].to_numpy()
    parts = []
    for (low, high), aim in (scene.aims or {SHORT: np.nan, ALL_LONG: np.nan}).items():
        of = (packets >= low) & (packets < high) & counted
        share = float(np.mean(right[of])) if of.any() else np.nan
        text = f"{low}+" if high == ALL_LONG[1] else f"{low}-{high - 1}"
        aimed_at = f" ({aim:.0%})" if aim == aim else ""
        parts.append(f"{text}: {share:.1%} of {int(of.sum()):,}{aimed_at}")
    wrong = int(sum(bool(of) for of in linked) - right.sum())
    llr = case.scores["llr"].dropna()
    over = "" if cpu_s <= scene.most_cpu_s and mib <= scene.most_mib else "  over its limits"
    row = f"{name:22}{len(recording.egress):>10,}  {'; '.join(parts):<58}{wrong:>8}"
    print(f"{row}{cpu_s:>8.1f}{mib:>7.0f}{over}")
    of_pairs = f"median {llr.median():.2f}, at most {llr.max():.2f}" if len(llr) else "none"
    print(f"{'':34}{case.alignment.status}; log10 LR of the pairs listed: {of_pairs}", flush=True)
    if case.alignment.reason:
        print(f"{'':34}{case.alignment.reason[:110]}")


def far(recording: Recording, away_ms: float) -> Recording:
    """The egress as it is seen further away: what goes up passes later, what comes down has passed before."""
    if not away_ms:
        return recording
    egress = recording.egress
    own = {flow["src"].rsplit(":", 1)[0] for flow in recording.truth["flows"]}
    ids = [number for number, text in enumerate(egress.addresses.texts) if text in own]
    up = np.isin(egress.src, ids)
    ts_ns = egress.ts_ns + np.where(up, 1, -1) * round(away_ms * 1e6)
    order = np.argsort(ts_ns, kind="stable")
    return replace(recording, egress=replace(egress, ts_ns=ts_ns).take(order))


if __name__ == "__main__":
    main()
