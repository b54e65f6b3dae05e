"""Tunnels padded to the MTU: links right and wrong, and decoys of which the model was sure.

Twelve simulated clients a seed; 1 % of the packets lost on either side, normal jitter at egress; each case
whole and with one client's packets missing from the ingress capture. ``--without`` takes back one of the
rules that such tunnels have (docs/adr/0002, decisions 6, 9 and 10). The clocks are known, or with
``--other-clock`` unknown: as far apart and drifting as `benchmarks/truth.py` has them.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, degrade, load, tally, without_client
from vpnforensics.engines import packets
from vpnforensics.evidence import decoys
from vpnforensics.evidence.joint import model
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture, Countermeasures

JITTER_MS = (1.0, 2.0, 4.0, 10.0)
RULES = {
    "law": (packets, "TIMES", 0),
    "decoys": (decoys, "_MANY_SURE", math.inf),
    "crowd": (model, "_CROWD", math.inf),
}
"""Where each rule is, and the value that takes it back."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, default=[11, 12, 13, 14, 15, 16])
    parser.add_argument("--without", choices=RULES, help="take back one rule")
    parser.add_argument("--other-clock", action="store_true", help="two clocks, unknown")
    options = parser.parse_args()
    if options.without:
        setattr(*RULES[options.without])
    began_s = time.process_time()
    apart = {} if options.other_clock else {"offset_s": 0.0, "drift_ppm": 0.0}
    offset_s = apart.get("offset_s", OFFSET_S)
    snapped, to_mtu = Capture(snaplen=96), Countermeasures(pad_mtu=True)
    spec = mixed_case(
        12, 40, duration_s=60.0, scale=0.5, ingress=snapped, egress=snapped, countermeasures=to_mtu
    )
    print(f"{'seed':>4}{'jitter ms':>11}  {'ingress':18}{'right':>7}{'wrong':>7}{'flows':>7}  warned")
    links = wrong = cases = 0
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            simulate(spec, Path(folder), seed)
            recording = load(Path(folder))
            gone = min(flow["client"] for flow in recording.truth["flows"])
            for jitter_ms in JITTER_MS:
                case = degrade(recording, jitter_s=jitter_ms / 1e3, seed=seed, **apart)
                for ingress, damaged in (("whole", case), ("a client missing", without_client(case, gone))):
                    found = vf.correlate(damaged.ingress, damaged.egress, same_clock=not options.other_clock)
                    count = tally(damaged, found, offset_s=offset_s)
                    warned = any("look surely carried" in said for said in found.warnings)
                    right, flows = count.long_linked + count.short_linked, count.long + count.short
                    links, wrong, cases = links + right + count.wrong, wrong + count.wrong, cases + 1
                    print(
                        f"{seed:>4}{jitter_ms:>11g}  {ingress:18}{right:>7}{count.wrong:>7}{flows:>7}"
                        f"  {'decoys look surely carried' if warned else ''}",
                        flush=True,
                    )
    took_s = time.process_time() - began_s
    print(f"{links:,} links, {wrong} wrong, in {cases} cases; {took_s:.0f} s of processor time")


if __name__ == "__main__":
    main()
