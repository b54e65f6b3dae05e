"""Figures of the header-field features and engines: clocks, IP IDs, devices, legacy TCP tunnels, counters.

    python benchmarks/fields.py [clock|ipid|devices|tunnels|alone|siblings|counters]...

What is simulated comes from fixed seeds, and takes two or three minutes; the counters are those of the
repository's recordings. Figures of recorded stacks are in ``fields_lab.py``, of all engines together in
``fusion.py``, of their cost in ``correlating.py``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

import vpnforensics as vf
from benchmarks.figures import chosen_sections, figure, heading, share
from tests.engines import cases
from tests.engines.test_counters import case_of as complete_case
from tests.features import models
from tests.truth import OFFSET_S, RECORDINGS, degrade, load, tally, without_client
from vpnforensics.engines import counters, ip_id, timestamps
from vpnforensics.engines.registry import ENGINES
from vpnforensics.features.conservation import Conservation
from vpnforensics.features.devices import find_devices
from vpnforensics.features.ip_id import classify_ip_ids
from vpnforensics.features.senders import find_senders
from vpnforensics.features.tcp_clock import sender_clock
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PROTO_TCP

CLOCKS = 200
SENDERS = 200
DEVICE_CASES = 8
CLIENTS = 20
_LOSS = 0.02


def clock() -> None:
    heading(f"clock: error of the skew under bursty queueing, ppm, {CLOCKS} clocks a line")
    for path_name, path in (
        ("load 0.6", models.Path()),
        ("load 0.2", models.Path(burst_hz=2.0)),
        ("load 0.8, sparse", models.Path(burst_hz=8.0, packets_hz=6.0)),
    ):
        for seconds, most in ((75, None), (120, 2.0), (600, 0.3)):
            rng = np.random.default_rng(seconds)
            errors, covered = [], []
            for _ in range(CLOCKS):
                skew = float(rng.normal(0, 50))
                found = sender_clock(*models.clock_packets(seconds, skew, rng, path))
                if found.skew_ppm is not None and found.skew_interval_ppm is not None:
                    low, high = found.skew_interval_ppm
                    errors.append(abs(found.skew_ppm - skew))
                    covered.append(low <= skew <= high)
            median, at_90, inside = np.median(errors), np.quantile(errors, 0.9), np.mean(covered)
            name = f"{seconds / 60:g} min, {path_name}"
            aim = f"median <= {most}" if most else ""
            figure(
                f"{name}: error",
                f"median {median:.3f}, 90 % {at_90:.3f}; spoke {len(errors)}/{CLOCKS}",
                aim,
                bool(median <= most) if most else None,
            )
            by_chance = 2 * np.sqrt(0.95 * 0.05 / len(covered))  # of so few trials
            figure(
                f"{name}: 95 % interval covers the truth",
                f"{inside:.3f}",
                f">= 0.95, less {by_chance:.3f} for chance",
                bool(inside >= 0.95 - by_chance),
            )


def ipid() -> None:
    heading("IP ID: senders of 50 and more packets classed right, 20 % of the packets missing")
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
        others = ", ".join(f"{name} {n}" for name, n in found.items() if name != kind)
        figure(kind, share(found.get(kind, 0), sum(found.values())) + (f"; else {others}" if others else ""))
    figure("all classes", share(right, total), ">= 0.99", right >= 0.99 * total)


def devices() -> None:
    heading(
        f"devices: 3 behind one tunnel, about 60 TCP flows, 10 min, {DEVICE_CASES} cases; pairs of TCP flows"
    )
    for stack, precise, complete in (
        ("linux-legacy", 0.99, 0.9),
        ("android-legacy", 0.99, 0.9),
        ("macos-legacy", 0.99, 0.9),
        ("linux-4.11", 0.99, None),
        ("linux", 0.99, None),
        ("windows-7", None, None),
        ("openbsd", 0.99, None),
    ):
        joined, right, same = 0, 0, 0
        for seed in range(DEVICE_CASES):
            with tempfile.TemporaryDirectory() as folder:
                truth = simulate(cases.devices_behind_one_tunnel(stack, seed), folder, seed)
                table = assemble_flows(read_capture(Path(folder) / "egress.pcap"))
            owner = cases.owners(table, truth, "device")
            found = find_devices(find_senders(table)).device
            tcp = np.flatnonzero((table.proto == PROTO_TCP) & (owner >= 0))
            one, other = np.triu_indices(len(tcp), 1)
            alike = owner[tcp[one]] == owner[tcp[other]]
            told = (found[tcp[one]] == found[tcp[other]]) & (found[tcp[one]] >= 0)
            joined, right, same = joined + told.sum(), right + (told & alike).sum(), same + alike.sum()
        precision = f"{right / joined:.4f}" if joined else "– (nothing joined)"
        met = None if precise is None else right >= precise * joined and right >= (complete or 0) * same
        aims = [f"precision >= {precise}"] * (precise is not None) + [f"recall >= {complete}"] * bool(
            complete
        )
        figure(
            stack,
            f"precision {precision}, recall {right / same:.4f}",
            ", ".join(aims),
            met,
        )


def tunnels() -> None:
    heading(f"tunnels: {CLIENTS} clients of one stack, one engine alone; flows of 10+ packets linked")
    for stack, protocol, engines in (
        ("linux-legacy", "openvpn-tcp", {timestamps: 0.99, ip_id: None}),
        ("macos-legacy", "openvpn-tcp", {timestamps: 0.99, ip_id: None}),
        ("windows-7", "openvpn-tcp", {timestamps: None, ip_id: 0.99}),
        ("printer", "openvpn-tcp", {timestamps: None, ip_id: 0.99}),
        ("linux", "openvpn-tcp", {timestamps: None, ip_id: None}),
        ("linux-legacy", "wireguard", {timestamps: 0.0, ip_id: None}),
        ("windows-7", "wireguard", {timestamps: 0.0, ip_id: None}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            truth = simulate(cases.clients_of_one_stack(stack, protocol, CLIENTS, 1), folder, 1)
            case, owner = cases.case_of(Path(folder), truth)
        long = (case.flows.packets_up + case.flows.packets_down >= 10) & (owner >= 0)
        for engine, least in engines.items():
            scores = engine.score(case)
            linked = cases.best_alone(scores, len(owner))
            right, wrong = (
                int(np.sum(long & (linked == owner))),
                int(np.sum((linked >= 0) & (linked != owner))),
            )
            reason = "; ".join(f"{count} × {why}" for why, count in scores.silence.items())
            said = f"{share(right, int(long.sum()))}, false {wrong}"
            aim, met = "none false", wrong == 0
            if least:
                aim, met = f">= {least}, none false", met and right >= least * long.sum()
            elif least == 0.0:  # nothing outside to compare with: it has to say so
                aim, met = "silence, with its reason", not len(scores) and bool(reason)
            figure(
                f"{stack} over {protocol}, {engine.NAME}",
                said + (f"; silent: {reason}" if reason and not right else ""),
                aim,
                bool(met),
            )


def alone() -> None:
    heading(f"alone: {CLIENTS} clients of one stack, one engine decides; flows of 10+ packets linked")
    for stack, engine in (
        ("linux-legacy", timestamps),
        ("macos-legacy", timestamps),
        ("windows-7", ip_id),
        ("printer", ip_id),
        ("linux", timestamps),
        ("linux", ip_id),
    ):
        for protocol in ("openvpn-tcp", "wireguard")[: 1 if engine is timestamps else 2]:
            linked, long, wrong, stated = 0, 0, 0, 0.0
            for seed in (1, 2):
                with tempfile.TemporaryDirectory() as folder:
                    simulate(cases.clients_of_one_stack(stack, protocol, CLIENTS, seed), folder, seed)
                    recording = load(Path(folder))
                    case = vf.correlate(recording.ingress, recording.egress, engines=(engine.NAME,))
                found = tally(recording, case)
                linked, long, wrong = linked + found.long_linked, long + found.long, wrong + found.wrong
                stated += case.expected_false_links
            said = f"{share(linked, long)}, false {wrong}, stated {stated:.5f}"
            figure(f"{stack} over {protocol}, {engine.NAME}", said, "none false", wrong == 0)


def siblings() -> None:
    heading(
        "siblings: 40 clients of the usual stacks, 10 ms of jitter; short flows linked without and with it"
    )
    without = tuple(name for name in ENGINES if name != "siblings")
    for missing in (False, True):
        counts = {without: [0, 0], tuple(ENGINES): [0, 0]}
        short = 0
        for seed in (101, 102, 103):
            with tempfile.TemporaryDirectory() as folder:
                simulate(mixed_case(40, 40, duration_s=60.0, scale=0.2, seed=seed), folder, seed)
                recording = degrade(load(Path(folder)), jitter_s=0.01, seed=seed)
                if missing:
                    clients = sorted({flow["client"] for flow in recording.truth["flows"]})
                    recording = without_client(recording, clients[seed % len(clients)])
                for engines, count in counts.items():
                    case = vf.correlate(recording.ingress, recording.egress, engines=engines)
                    found = tally(recording, case, offset_s=OFFSET_S)
                    count[0] += found.short_linked
                    count[1] += found.wrong
                short += found.short
        (before, wrong_before), (after, wrong_after) = counts.values()
        name = "one client's tunnel missing" if missing else "all tunnels there"
        said = f"{share(before, short)}, then {share(after, short)}; false {wrong_before}, then {wrong_after}"
        figure(name, said, "more, none false", after >= before and wrong_after == 0)


def conservation() -> None:
    heading("counters: what went into the tunnels against what came out, on the recordings; no flow linked")
    for folder in sorted(p for p in RECORDINGS.iterdir() if p.is_dir()):
        recording = load(folder)
        ingress, egress, rng = recording.ingress, recording.egress, np.random.default_rng(0)
        whole = complete_case(ingress, egress)
        known = {(f["src"], f["dst"]): f["client"] for f in recording.truth["flows"]}
        client = whole.tunnels.tunnels[0].client
        of_client = [
            known.get((whole.flows.source(f), whole.flows.destination(f))) == client
            for f in range(len(whole.flows))
        ]
        thin_out = complete_case(ingress, egress.take(rng.random(len(egress)) >= _LOSS))
        thin_in = complete_case(ingress.take(rng.random(len(ingress)) >= _LOSS), egress)
        without = complete_case(ingress, egress.take(~np.array(of_client)[whole.flows.flow]))
        for what, case, aim, wanted in (
            ("complete", whole, "nothing missing", ""),
            ("2 % missing at egress", thin_out, "said, at egress", "at egress"),
            ("2 % missing at ingress", thin_in, "said, at ingress", "ingress capture lacks"),
            ("one client's egress missing", without, "said, and which", f"egress of {client} is not"),
        ):
            balance = counters.conserve(case)
            said = balance.findings if balance else ("no balance",)
            met = any(wanted in finding for finding in said) if wanted else not said
            figure(f"{folder.name}, {what}", _balance(balance), aim, met)


def _balance(balance: Conservation | None) -> str:
    if balance is None:
        return "no balance"
    both = [row for row in balance.rows if row.tunnel < 0]
    shares = ", ".join(
        f"{'up' if r.up else 'down'} {r.share_out:.4f} out, {r.lost_in:.4f} lost in" for r in both
    )
    return "; ".join(balance.findings) or shares


SECTIONS = {
    "clock": clock,
    "ipid": ipid,
    "devices": devices,
    "tunnels": tunnels,
    "alone": alone,
    "siblings": siblings,
    "counters": conservation,
}


def main() -> None:
    for name in chosen_sections(__doc__, SECTIONS):
        SECTIONS[name]()


if __name__ == "__main__":
    main()
