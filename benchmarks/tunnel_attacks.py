"""What attacks cost the traffic of the reference tunnel, beside wireguard-go in the same namespaces.

``python benchmarks/tunnel_attacks.py [--seconds N]`` floods the server of a tunnel from a third party, with
each kind of message, and prints what pings and a stream of UDP felt; the client is ours, and the server ours
or wireguard-go. Then it forges ICMP about the path's MTU, and makes the outer link narrow, and prints the
bulk speed before and after. As root.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.reftunnel.attacks.underflood import STREAM_MBIT_S, flooded_server, under_flood
from tests.reftunnel.netlab import (
    CLIENT_INNER,
    PORT,
    SERVER_INNER,
    NetLab,
    cable,
    two_configs,
    without_address,
)

FLOODS = (("initiations", 20_000), ("bad-mac1", 34_000), ("transport", 34_000), ("short", 34_000))


def floods(seconds: int) -> None:
    print(
        f"pings and {STREAM_MBIT_S} Mbit/s of UDP under a flood of {seconds} s; load {os.getloadavg()[0]:.1f}"
    )
    columns = f"{'a second':>9}{'pings lost':>11}{'UDP lost':>9}{'median ms':>11}{'99 % ms':>10}"
    print(f"{'server':14}{'flood':12}{columns}")
    for kind, rate_hz in FLOODS:
        for is_ours in (True, False):
            with tempfile.TemporaryDirectory() as folder, NetLab(Path(folder)) as lab:
                server = flooded_server(lab, is_ours=is_ours)
                felt = under_flood(lab, server, kind, rate_hz, seconds)
            print(f"{'reference' if is_ours else 'wireguard-go':14}{kind:12}{felt}", flush=True)


def both_ends(lab: NetLab, version: int, *, is_ours: bool) -> int:
    """Bring up both ends; the client's port."""
    cable(lab)
    client, server, _, _ = two_configs(version)
    if is_ours:
        lab.ours("s", server)
        lab.ours("c", client)
    else:
        lab.theirs("s", without_address(server), SERVER_INNER)
        lab.theirs("c", without_address(client), CLIENT_INNER)
    assert lab.ping("c", "10.77.0.1") == 3
    if is_ours:
        return int(lab.show("c")["listening_port"])
    return int(lab.run("c", "wg", "show", lab.interface("c"), "listen-port"))


def paths(seconds: int) -> None:
    print(f"\nbulk up, Mbit/s, {seconds} s each; load {os.getloadavg()[0]:.1f}")
    print(f"{'ends':14}{'outer':7}{'before':>8}{'ICMP forged':>13}{'link of 1400':>14}")
    for version in (4, 6):
        for is_ours in (True, False):
            with tempfile.TemporaryDirectory() as folder, NetLab(Path(folder)) as lab:
                port = both_ends(lab, version, is_ours=is_ours)
                with lab.iperf_server("s"):
                    before = lab.iperf("c", "10.77.0.1", seconds)
                    source, to = (
                        ("192.0.2.1", "192.0.2.2") if version == 4 else ("2001:db8::1", "2001:db8::2")
                    )
                    forge = (sys.executable, "-m", "tests.reftunnel.attacks.icmp", source, to)
                    mtu = 576 if version == 4 else 1280
                    lab.run("s", *forge, *map(str, (port, PORT, mtu, 2)))
                    forged = lab.iperf("c", "10.77.0.1", seconds)
                    lab.ip("c", "link", "set", f"{lab.prefix}cs", "mtu", "1400")
                    narrow = lab.iperf("c", "10.77.0.1", seconds)
            name = "reference" if is_ours else "wireguard-go"
            print(f"{name:14}IPv{version}   {before:8.0f}{forged:13.0f}{narrow:14.0f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    floods(arguments.seconds)
    paths(arguments.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
