"""``python -m vpnforensics.groundtruth.simulate``: a case of many clients, or one of the ready cases."""

from __future__ import annotations

import argparse

from vpnforensics.groundtruth.simulate.field_cases import CASES
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Capture


def main() -> None:
    """Parse the command line and simulate."""
    parser = argparse.ArgumentParser(prog="python -m vpnforensics.groundtruth.simulate", description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), help="a ready case; only --seed and -o go with it")
    parser.add_argument("--tunnels", type=int, default=10)
    parser.add_argument("--flows", type=int, default=40, help="egress flows a tunnel, about")
    parser.add_argument("--protocol", choices=sorted(PROTOCOLS), default="wireguard")
    parser.add_argument("--duration", type=float, default=120.0, help="seconds")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on transfer sizes")
    parser.add_argument("--offset", type=float, default=0.0, help="egress clock, seconds ahead")
    parser.add_argument("--drift", type=float, default=0.0, help="egress clock, ppm fast")
    parser.add_argument("--loss", type=float, default=0.0, help="share that either capture misses")
    parser.add_argument("--jitter", type=float, default=0.0002, help="access jitter, seconds")
    parser.add_argument("--snaplen", type=int, default=65535)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("-o", "--out", required=True, metavar="DIR")
    options = parser.parse_args()
    if options.case:
        simulate(CASES[options.case](), options.out, options.seed)
        return
    spec = mixed_case(
        tunnels=options.tunnels,
        flows=options.flows,
        protocol=options.protocol,
        duration_s=options.duration,
        scale=options.scale,
        jitter_s=options.jitter,
        ingress=Capture(loss=options.loss, snaplen=options.snaplen),
        egress=Capture(options.offset, options.drift, options.loss, options.snaplen),
    )
    simulate(spec, options.out, options.seed, jobs=options.jobs)


if __name__ == "__main__":
    main()
