"""Validation on sessions that anyone can make again: simulated ones, the samples, the shipped recordings.

python benchmarks/validation.py                  writes docs/validation.md and its pictures
python benchmarks/validation.py --only DIR       only simulates the sessions, into DIR, to look at packets
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.truth import OFFSET_S, RECORDINGS
from vpnforensics import samples
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures, SimulationSpec
from vpnforensics.options import Options
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.markdown import DRAWN, document_text
from vpnforensics.validation.plots import pictures
from vpnforensics.validation.report import gather, report
from vpnforensics.validation.sessions import Session, open_sessions
from vpnforensics.validation.trials import Plan, every

DOCS = Path(__file__).parent.parent / "docs"
SNAP = Capture(snaplen=96)
JITTERS_MS = (0.2, 2.0, 10.0)
DRIFT_PPM = 40.0


@dataclass(frozen=True)
class Simulated:
    """A session that the simulator makes, and whether it is damaged as well: a large one takes long."""

    spec: Callable[[], SimulationSpec]
    seed: int
    damaged: bool = True


def mix(tunnels: int, protocol: str, seed: int, against: Countermeasures | None = None) -> SimulationSpec:
    return mixed_case(
        tunnels, 60, protocol, 60.0, scale=0.1, ingress=SNAP, egress=SNAP, countermeasures=against, seed=seed
    )


SIMULATED = {
    "sim-wireguard-30": Simulated(lambda: mix(30, "wireguard", 101), 101),
    "sim-openvpn-udp-12": Simulated(lambda: mix(12, "openvpn-udp", 102), 102),
    "sim-strongswan-12": Simulated(lambda: mix(12, "strongswan", 103), 103),
    "sim-openvpn-tcp-12": Simulated(lambda: mix(12, "openvpn-tcp", 104), 104),
    "sim-nebula-12": Simulated(lambda: mix(12, "nebula", 105), 105),
    "sim-padded-block-12": Simulated(lambda: mix(12, "wireguard", 106, Countermeasures(pad_block=128)), 106),
    "sim-padded-mtu-12": Simulated(lambda: mix(12, "wireguard", 107, Countermeasures(pad_mtu=True)), 107),
    "sim-wireguard-130": Simulated(lambda: mix(130, "wireguard", 108), 108, damaged=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", type=Path, metavar="DIR", help="simulate the sessions into DIR and stop")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.only is not None:
        make(options.only)
        return
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        sessions = open_sessions([samples.FOLDER, RECORDINGS, Path(folder)])
        chosen = Options(seed=options.seed)
        material = gather(
            plan(sessions), chosen, lambda step, share: print(f"{share:4.0%} {step}", flush=True)
        )
        document = report(material, chosen, ["python", "benchmarks/validation.py"])
    for row in document["sessions"]:  # where they lay is nobody's business
        for each in (row, row["ingress"], row["egress"]):
            key = "folder" if "folder" in each else "path"
            each[key] = short(each[key])
    for kind in document["worst"].values():
        for each in kind:
            each["ingress"], each["egress"] = short(each["ingress"]), short(each["egress"])
    for row in document["cases"]:
        if "failed" in row:
            row["failed"] = " ".join(short(word) if "/" in word else word for word in row["failed"].split())
    images = DOCS / "images"
    for name, drawn in pictures(document).items():
        if name in DRAWN:
            (images / f"validation-{name}.svg").write_text(drawn, encoding="utf-8")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{time.monotonic() - began:.0f} s, {peak:,.0f} MiB")
    (DOCS / "validation.md").write_text(document_text(document), encoding="utf-8")


def make(folder: Path) -> None:
    """Simulate the sessions; the same bytes each time."""
    for name, each in SIMULATED.items():
        print(f"simulating {name}", flush=True)
        simulate(each.spec(), folder / name, each.seed)


def plan(sessions: list[Session]) -> Plan:
    """Each session as it is and damaged, with all clients and with one missing at ingress."""
    damages = [Damage()]
    damages += [Damage(jitter, 0.01, OFFSET_S, DRIFT_PPM) for jitter in JITTERS_MS]
    small = {name for name, each in SIMULATED.items() if not each.damaged}
    lists = (damages + [replace(each, without="*") for each in damages], [Damage()])
    return [pair for s in sessions for pair in every([s], lists[s.name in small])]


def short(path: str) -> str:
    """A path as seen from the project's folder; of what was simulated, its own name."""
    parts = Path(path).parts
    start = next(
        (n for n, part in enumerate(parts) if part in ("samples", "recordings") or part in SIMULATED), 0
    )
    return "/".join(parts[start:])


if __name__ == "__main__":
    main()
