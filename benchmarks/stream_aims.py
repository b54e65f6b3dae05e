"""Links through relays beside what is aimed at, and beside a baseline, on recordings with known truth.

Each kind of relay has flows of its own to be judged by: those that carry the evidence that it leaves. The
damage is that of `benchmarks/truth.py`: two clocks, 1 % of the packets lost on either side, normal jitter at
egress. ``--missing`` does it once more for each client, whose packets are then not in the ingress capture:
the aims are of the flows of the others, and no flow of that client may be linked. With ``--guards N`` the
ingress capture holds no more than N of the relays that clients of Tor begin at. The baseline is the cosine
of bytes in bins, given the clocks: how often the right client stands first, which is no link yet, for no
error comes with it.

A burst is what one direction sends up to a silence of 30 ms.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import vpnforensics as vf
from tests.truth import OFFSET_S, Recording, carriers, degrade, is_right, known_clients, load, without_client
from vpnforensics.align.onsets import onsets
from vpnforensics.case import grouped, known_clock, make_case
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.groundtruth.lab.drivers import DRIVERS
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.report.rows import flow_rows
from vpnforensics.sides import comparable, read_sides
from vpnforensics.tunnels.writes import find_writes
from vpnforensics.validation.baselines import volume

JITTERS_MS = (0.0, 2.0, 10.0)


@dataclass(frozen=True)
class Flows:
    """What is known of the flows of an egress capture, one entry a flow."""

    tcp: np.ndarray[Any, Any]
    packets: np.ndarray[Any, Any]
    ip_bytes: np.ndarray[Any, Any]
    payload_bytes: np.ndarray[Any, Any]
    bursts: np.ndarray[Any, Any]

    @classmethod
    def of(cls, table: FlowTable) -> Flows:
        """Those of a flow table."""
        n, writes = len(table), find_writes(table)
        size, payload = (table.packets.ip_len_bytes, table.packets.payload_bytes)
        return cls(
            table.proto == PROTO_TCP,
            np.bincount(table.flow, minlength=n),
            np.bincount(table.flow, size, n),
            np.bincount(table.flow, payload, n),
            np.bincount(writes.connection[onsets(writes)], minlength=n),
        )


Which = Callable[[Flows], Any]


@dataclass(frozen=True)
class Aim:
    """Flows of some relays, and the share of them to be linked at each jitter, if there is an aim."""

    what: str
    which: Which
    share: tuple[float, float, float] | None = None


CLEAR = (Aim("TCP, 24+ payload bytes", lambda f: f.tcp & (f.payload_bytes >= 24), (1.0, 1.0, 1.0)),)
SEALED = (Aim("TCP, 2 kB+", lambda f: f.tcp & (f.ip_bytes >= 2000), (0.95, 0.90, 0.70)),)
TUN_IN_CLEAR = (
    Aim("10+ packets", lambda f: f.packets >= 10, (0.98, 0.95, 0.90)),
    Aim("all", lambda f: f.packets > 0),
)
SOCKS_IN_CLEAR = (
    Aim("TCP, 2 kB+", lambda f: f.tcp & (f.ip_bytes >= 2000), (0.98, 0.95, 0.90)),
    Aim("TCP", lambda f: f.tcp),
)
AIMS: dict[str, tuple[Aim, ...]] = {
    **dict.fromkeys(("socks", "socks-dante", "http-proxy", "http-proxy-squid"), CLEAR),
    **dict.fromkeys(("shadowsocks", "trojan", "stunnel-socks"), SEALED),
    **dict.fromkeys(("ssh-tun-gcm", "ssh-tun-etm"), TUN_IN_CLEAR),
    **dict.fromkeys(("ssh-socks-gcm", "ssh-socks-etm"), SOCKS_IN_CLEAR),
    "ssh-tun": (Aim("10+ packets", lambda f: f.packets >= 10, (0.85, 0.75, 0.50)),),
    "ssh-socks": (Aim("TCP, 10 kB+", lambda f: f.tcp & (f.ip_bytes >= 10_000), (0.80, 0.70, 0.50)),),
    "tor": (
        Aim("12+ bursts", lambda f: f.tcp & (f.bursts >= 12), (0.99, 0.98, 0.80)),
        Aim("6+ bursts", lambda f: f.tcp & (f.bursts >= 6), (0.90, 0.85, 0.60)),
    ),
    "tor-far": (Aim("6+ bursts", lambda f: f.tcp & (f.bursts >= 6)),),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="recordings with truth.json and manifest.json")
    parser.add_argument("--missing", action="store_true", help="each client missing in turn, as well")
    parser.add_argument("--jitter", type=float, nargs="+", default=JITTERS_MS, choices=JITTERS_MS, help="ms")
    parser.add_argument("--same-clock", action="store_true", help="one clock, and it is stated")
    parser.add_argument("--guards", type=int, help="of Tor: so many of its relays are tapped")
    options = parser.parse_args()
    head = f"{'recording':22}{'jitter':>6}  {'flows':22}{'linked':>17}{'aim':>6}{'':8}"
    print(f"{head}{'cosine first':>12}{'wrong':>6}{'CPU s':>7}")
    for folder in options.folders:
        recording = load(folder)
        kind = json.loads((folder / "manifest.json").read_text())["scenario"]["vpn"]["kind"]
        if options.guards is not None:
            recording = tapped(recording, DRIVERS[kind].usual_port + np.arange(options.guards))
        gone = sorted({flow["client"] for flow in recording.truth["flows"] if flow["client"]})
        for jitter_ms in options.jitter:
            show(folder.name, AIMS[kind], recording, jitter_ms, [None], options.same_clock)
            if options.missing:
                show("  a client missing", AIMS[kind], recording, jitter_ms, gone, options.same_clock)


def tapped(recording: Recording, ports: np.ndarray[Any, Any]) -> Recording:
    """The recording with only these ports in its ingress capture."""
    table = recording.ingress
    return replace(recording, ingress=table.take(np.isin(table.sport, ports) | np.isin(table.dport, ports)))


def show(
    name: str,
    aims: tuple[Aim, ...],
    recording: Recording,
    jitter_ms: float,
    gone: list[str | None],
    same_clock: bool,
) -> None:
    """A line an aim, over these damages."""
    began, counts, why = time.process_time(), Counter[tuple[str, str]](), ""
    for client in gone:
        more, why = judged(aims, recording, jitter_ms, client, same_clock)
        counts += more
    took = time.process_time() - began
    for aim in aims:
        there, right = counts[aim.what, "there"], counts[aim.what, "right"]
        share, wanted, met = right / max(there, 1), "", ""
        if aim.share is not None:
            least = aim.share[JITTERS_MS.index(jitter_ms)]
            wanted, met = f"{least:.0%}", "none" if not there else "met" if share >= least else "MISSED"
        first = f"{counts[aim.what, 'first'] / max(there, 1):12.1%}" if len(gone) == 1 else f"{'':12}"
        print(
            f"{name:22}{jitter_ms:6g}  {aim.what:22}{right:>6}/{there:<5}{share:6.1%}{wanted:>6} {met:7}"
            f"{first}{counts['', 'wrong']:6}{took:7.1f}"
            + (f"  {why[:100]}" if why and aim is aims[0] else ""),
            flush=True,
        )


def judged(
    aims: tuple[Aim, ...], recording: Recording, jitter_ms: float, gone: str | None, same_clock: bool
) -> tuple[Counter[tuple[str, str]], str]:
    """Flows of the clients that are there, and of them: linked rightly, right by the baseline; all wrong."""
    offset_s = 0.0 if same_clock else OFFSET_S
    drift_ppm = 0.0 if same_clock else 40.0
    damaged = degrade(recording, jitter_s=jitter_ms / 1e3, offset_s=offset_s, drift_ppm=drift_ppm)
    damaged = damaged if gone is None else without_client(damaged, gone)
    counts: Counter[tuple[str, str]] = Counter()
    table = grouped(damaged.egress)
    flows = Flows.of(table)
    known = dict(zip(_keys(table.source, table), range(len(table)), strict=True))
    refused, ends = "", None
    try:
        case = vf.correlate(damaged.ingress, damaged.egress, same_clock=same_clock)
        ends, links, clients = case.endpoints, case.links["tunnel"], known_clients(case)
    except vf.errors.CaseError as refusal:
        ends, links, clients, refused = flow_rows(table), [None] * len(table), {}, str(refusal)
    first = {} if gone or refused else _likeliest(damaged, same_clock)
    of = [known[key] for key in zip(ends["src"], ends["first_ns"], strict=True)]
    true = carriers(damaged, SimpleNamespace(endpoints=ends), offset_s=offset_s)
    for n, key, tunnel, client in zip(of, range(len(of)), links, true, strict=True):
        right = is_right(clients.get(tunnel, ()), client)
        counts["", "wrong"] += tunnel is not None and bool(clients.get(tunnel)) and not right
        for aim in aims:
            if client is None or client == gone or not np.broadcast_to(aim.which(flows), len(table))[n]:
                continue
            counts[aim.what, "there"] += 1
            counts[aim.what, "right"] += right
            counts[aim.what, "first"] += is_right(first.get(key, ()), client)
    return counts, refused or case.alignment.reason


def _keys(source: Callable[[int], str], table: FlowTable) -> list[tuple[str, int]]:
    return [(source(n), int(table.first_ns[n])) for n in range(len(table))]


def _likeliest(damaged: Recording, same_clock: bool) -> dict[int, tuple[str | None, ...]]:
    """Client that each flow of the case is most like by the cosine of bytes."""
    sides, _ = comparable(read_sides(damaged.ingress, damaged.egress, lambda step, done: None))
    flows: Future[FlowTable] = Future()
    flows.set_result(grouped(sides.egress))
    clock = known_clock(sides, same_clock)
    case, _ = make_case(sides, flows, clock, np.random.default_rng(0), lambda step, done: None)
    found = volume.cosine(case)
    order = np.lexsort((found.score, found.flow))
    best = dict(zip(found.flow[order].tolist(), found.tunnel[order].tolist(), strict=True))
    return {flow: (case.tunnels.tunnels[k].client.rpartition(":")[0],) for flow, k in best.items()}


if __name__ == "__main__":
    main()
