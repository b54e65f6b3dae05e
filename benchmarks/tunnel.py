"""Throughput of the reference tunnel beside wireguard-go and OpenVPN; and a soak.

``python benchmarks/tunnel.py [speed] [--seconds N] [--rounds N]`` measures every VPN in the same two network
namespaces, in turn, each round in a new order, and prints the medians; ``python benchmarks/tunnel.py
journal`` alternates with and without a journal, pair by pair; ``python benchmarks/tunnel.py soak [--minutes
N]`` runs traffic both ways across many rekeys and watches the memory. As root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.reftunnel.longtalk import Pings
from tests.reftunnel.netlab import CLIENT_INNER, SERVER_INNER, NetLab, cable, two_configs, without_address


@dataclass
class Figures:
    """Of one VPN, one value a round."""

    up_mbit_s: list[float] = field(default_factory=list)
    down_mbit_s: list[float] = field(default_factory=list)
    cpu_s_per_gbit: list[float] = field(default_factory=list)
    small_up_kpps: list[float] = field(default_factory=list)
    small_down_kpps: list[float] = field(default_factory=list)


@contextlib.contextmanager
def reference(folder: Path, **extra: str) -> Iterator[tuple[NetLab, str]]:
    with NetLab(folder) as lab:
        cable(lab)
        extra_lines = {key: value for key, value in extra.items() if key != "Journal"}
        client, server, _, _ = two_configs(extra=extra_lines)
        for file in extra.get("Journal", "").split():
            # "s.parquet" is a journal at the server, "c.parquet" one at the client.
            line = f"[Interface]\nJournal = {folder}/{file}"
            if file.startswith("s"):
                server = server.replace("[Interface]", line)
            else:
                client = client.replace("[Interface]", line)
        lab.ours("s", server)
        lab.ours("c", client)
        yield lab, "10.77.0.1"


@contextlib.contextmanager
def wireguard_go(folder: Path) -> Iterator[tuple[NetLab, str]]:
    with NetLab(folder) as lab:
        cable(lab)
        client, server, _, _ = two_configs()
        lab.theirs("s", without_address(server), SERVER_INNER)
        lab.theirs("c", without_address(client), CLIENT_INNER)
        yield lab, "10.77.0.1"


@contextlib.contextmanager
def direct(folder: Path) -> Iterator[tuple[NetLab, str]]:
    with NetLab(folder) as lab:
        cable(lab)
        yield lab, "192.0.2.1"


def _certificates(folder: Path) -> None:
    """A throw-away authority and two certificates, with the openssl program."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run = lambda *command: subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=20)  # noqa: E731
    run(
        "openssl",
        "req",
        "-x509",
        *key,
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
        "-days",
        "2",
        "-subj",
        "/CN=ca",
    )
    for name in ("c", "s"):
        run("openssl", "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        run(
            *("openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-out", f"{name}.crt"),
        )


@contextlib.contextmanager
def openvpn(folder: Path) -> Iterator[tuple[NetLab, str]]:
    _certificates(folder)
    with NetLab(folder) as lab:
        cable(lab)
        common = [
            "--dev-type",
            "tun",
            "--proto",
            "udp",
            "--cipher",
            "AES-256-GCM",
            "--disable-dco",
            "--ca",
            "ca.crt",
        ]
        for name, inner, other, role in (
            ("s", "10.77.0.1", "10.77.0.2", ["--tls-server", "--dh", "none", "--port", "1194"]),
            ("c", "10.77.0.2", "10.77.0.1", ["--tls-client", "--remote", "192.0.2.1", "1194", "--nobind"]),
        ):
            process = lab.start(
                name,
                *("openvpn", "--cd", str(folder), "--dev", lab.interface(name), *common, *role),
                *("--cert", f"{name}.crt", "--key", f"{name}.key", "--ifconfig", inner, other, "--verb", "0"),
                stderr=subprocess.DEVNULL,
            )
            lab.tunnels.append(process)
        lab.wait(lambda: lab.ping("c", "10.77.0.1", 1, wait_s=1))
        yield lab, "10.77.0.1"


CONTENDERS = {
    "direct": direct,
    "reference": reference,
    "reference, journal": lambda folder: reference(folder, Journal="s.parquet"),
    "reference, journal at both ends": lambda folder: reference(folder, Journal="s.parquet c.parquet"),
    "reference, offload off": lambda folder: reference(folder, Offload="off"),
    "reference, TCP": lambda folder: reference(folder, Transport="tcp"),
    "wireguard-go": wireguard_go,
    "openvpn (UDP)": openvpn,
}


def small_packets_kpps(lab: NetLab, address: str, seconds: int, *options: str) -> float:
    """Thousands of 64-byte UDP payloads a second that arrive when as many as possible are sent."""
    for _ in range(3):
        # The flood can starve iperf3's own control connection; then there is no result, and it is run again.
        out = lab.run(
            "c",
            *("iperf3", "-c", address, "-u", "-b", "0", "-l", "64", "-t", str(seconds), "-J", *options),
            timeout_s=seconds + 20,
            check=False,
        )
        end = json.loads(out or "{}").get("end", {}).get("sum")
        if end:
            return float((end["packets"] - end["lost_packets"]) / end["seconds"] / 1000)
        time.sleep(1)
    return float("nan")


def measure(name: str, seconds: int, figures: Figures) -> None:
    with tempfile.TemporaryDirectory() as folder, CONTENDERS[name](Path(folder)) as (lab, address):
        assert lab.ping("c", address) == 3
        time.sleep(1)  # so that starting up is not measured
        with lab.iperf_server("s"):
            before = _cpu_s(lab)
            figures.up_mbit_s.append(lab.iperf("c", address, seconds))
            figures.down_mbit_s.append(lab.iperf("c", address, seconds, "-R"))
            gbit = (figures.up_mbit_s[-1] + figures.down_mbit_s[-1]) * seconds / 1000
            figures.cpu_s_per_gbit.append((_cpu_s(lab) - before) / gbit)
            figures.small_up_kpps.append(small_packets_kpps(lab, address, max(1, seconds // 2)))
            figures.small_down_kpps.append(small_packets_kpps(lab, address, max(1, seconds // 2), "-R"))


def speed(seconds: int, rounds: int, names: list[str]) -> None:
    results = {name: Figures() for name in names}
    order = list(results)
    for number in range(rounds):
        random.Random(number).shuffle(order)
        for name in order:
            measure(name, seconds, results[name])
    print(
        f"iperf3, {rounds} rounds of {seconds} s, medians; 64-byte UDP in kpps; load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':32}{'up Mbit/s':>10}{'down Mbit/s':>12}{'CPU s/Gbit':>12}{'small up':>10}{'small down':>11}")
    for name, figures in results.items():
        columns = (figures.up_mbit_s, figures.down_mbit_s, figures.cpu_s_per_gbit)
        up, down, cpu = map(statistics.median, columns)
        small_up, small_down = map(statistics.median, (figures.small_up_kpps, figures.small_down_kpps))
        print(f"{name:32}{up:10.0f}{down:12.0f}{cpu:12.2f}{small_up:10.1f}{small_down:11.1f}")
    if {"reference", "wireguard-go"} <= results.keys():
        ours, theirs = results["reference"], results["wireguard-go"]
        for what, a, b in (
            ("up", ours.up_mbit_s, theirs.up_mbit_s),
            ("down", ours.down_mbit_s, theirs.down_mbit_s),
            ("small packets up", ours.small_up_kpps, theirs.small_up_kpps),
            ("small packets down", ours.small_down_kpps, theirs.small_down_kpps),
        ):
            ratio = statistics.median(a) / statistics.median(b)
            print(f"reference / wireguard-go, {what}: {ratio:.2f}x")


@dataclass(frozen=True)
class Passage:
    """What carrying packets one way cost both ends."""

    mbit_s: float
    kpps: float
    cpu_us_per_packet: float


def journal_cost(seconds: int, alternations: int) -> None:
    """Speed and processor time a packet with a journal at the server, beside those just before or after."""
    ratios: dict[tuple[str, str], list[float]] = {}
    print(f"{'':7}{'Mbit/s':>15}{'kpps':>15}{'CPU us/packet':>17}   without and with a journal at the server")
    for number in range(alternations):
        pair: dict[bool, dict[str, Passage]] = {}
        for is_with in (number % 2 == 0, number % 2 == 1):
            extra = {"Journal": "s.parquet"} if is_with else {}
            with tempfile.TemporaryDirectory() as folder, reference(Path(folder), **extra) as (lab, address):
                pair[is_with] = passages(lab, address, seconds)
        for way in ("up", "down"):
            before, after = pair[False][way], pair[True][way]
            speeds = f"{before.mbit_s:7.0f} {after.mbit_s:7.0f}{before.kpps:7.1f} {after.kpps:7.1f}"
            print(
                f"{way:7}{speeds}{before.cpu_us_per_packet:9.2f} {after.cpu_us_per_packet:7.2f}", flush=True
            )
            ratios.setdefault((way, "of the speed"), []).append(1 - after.mbit_s / before.mbit_s)
            more = after.cpu_us_per_packet / before.cpu_us_per_packet - 1
            ratios.setdefault((way, "more processor time a packet"), []).append(more)
    for (way, what), values in ratios.items():
        low, middle, high = (100 * each for each in (min(values), statistics.median(values), max(values)))
        print(f"the journal costs {middle:.0f} % {what} {way} ({low:.0f} to {high:.0f})")


def passages(lab: NetLab, address: str, seconds: int) -> dict[str, Passage]:
    """Bulk TCP each way, by what the server counts."""
    assert lab.ping("c", address) == 3
    with lab.iperf_server("s"):
        lab.iperf(
            "c", address, 1
        )  # so that starting up is not measured, that of the journal's writer included
        result = {}
        for way, options in (("up", ()), ("down", ("-R",))):
            packets, cpu_s = _packets(lab), _cpu_s(lab)
            mbit_s = lab.iperf("c", address, seconds, *options)
            packets, cpu_s = _packets(lab) - packets, _cpu_s(lab) - cpu_s
            result[way] = Passage(mbit_s, packets / seconds / 1000, cpu_s / packets * 1e6)
    return result


def _packets(lab: NetLab) -> int:
    """Packets that the server has carried, both ways."""
    (peer,) = lab.show("s")["peers"]
    return int(peer["received_packets"] + peer["sent_packets"])


def _cpu_s(lab: NetLab) -> float:
    """Processor time of the tunnels so far: unlike speed, it hardly depends on what else the machine does."""
    ticks = 0
    for process in lab.tunnels:
        for task in (process.pid, *_children(process.pid)):
            fields = Path(f"/proc/{task}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(minutes: float) -> int:
    """Traffic both ways with rekeys; the exit status is 1 if memory grew or traffic stopped."""
    with tempfile.TemporaryDirectory() as folder, reference(Path(folder)) as (lab, address):
        pings = Pings(lab, "c", address, int(minutes * 300), 0.2)
        pids = [process.pid for process in lab.tunnels]
        start, handshakes, sizes = time.monotonic(), set(), []
        with lab.iperf_server("s"):
            while time.monotonic() - start < minutes * 60 - 10:
                rate = lab.iperf("c", address, 8, "--bidir", "-b", "50M")
                handshakes.add(lab.show("s")["peers"][0]["latest_handshake_ns"] // 1_000_000_000)
                sizes.append(sum(map(_resident_bytes, pids)))
                print(
                    f"{time.monotonic() - start:6.0f} s  {rate:6.0f} Mbit/s  {sizes[-1] / 2**20:7.1f} MiB",
                    flush=True,
                )
        lost = pings.lost()
        print(f"{pings.count - len(lost)} of {pings.count} pings answered")
        early = statistics.median(sizes[1 : max(2, len(sizes) // 4)])
        late = statistics.median(sizes[-max(1, len(sizes) // 4) :])
        growth_mib = (late - early) / 2**20
        # Seconds are rounded: one handshake may show as two neighbours.
        rekeys = sum(second - 1 not in handshakes for second in handshakes) - 1
        print(f"rekeys seen {rekeys}, memory growth {growth_mib:.2f} MiB, drops {lab.show('s')['dropped']}")
        return int(growth_mib > 2 or bool(lost))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=["speed", "journal", "soak"], default="speed")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, help="of speed (3), or pairs of journal (7)")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", action="append", choices=list(CONTENDERS))
    arguments = parser.parse_args()
    if arguments.what == "soak":
        return soak(arguments.minutes)
    if arguments.what == "journal":
        journal_cost(arguments.seconds, arguments.rounds or 7)
        return 0
    speed(arguments.seconds, arguments.rounds or 3, arguments.only or list(CONTENDERS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
