"""The main job, end to end: two captures in, a case result out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vpnforensics._version import __version__
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.align.line import align_pairs
from vpnforensics.align.settle import settle
from vpnforensics.align.straight import put_straight, rows_of, settle_straight
from vpnforensics.engines import counters, exact, ip_id, packets, timestamps
from vpnforensics.engines.case import Case
from vpnforensics.errors import CaseError
from vpnforensics.evidence import fields
from vpnforensics.evidence.decision import Decision, decide_by_exact, decide_by_packets, undecided
from vpnforensics.evidence.policy import Policy
from vpnforensics.features.capture_clock import capture_steps, on_one_clock
from vpnforensics.features.devices import Devices, find_devices
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.flows.copies import without_copies
from vpnforensics.flows.super_frames import split_super_frames
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable
from vpnforensics.report import rows
from vpnforensics.report.findings import clock_set
from vpnforensics.report.quantities import span, utc
from vpnforensics.report.result import CaseResult
from vpnforensics.report.stacks import Stacks
from vpnforensics.tunnels.apart import flows_apart
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.plain import plain_clients

Capture = str | Path | PacketTable
Progress = Callable[[str, float], None]
"""Called with the name of a step and the share of it done."""

EXPECTED_FALSE_LINKS = Policy().expected_false_links
_APART_NS, _APART = 60_000_000_000, 10
"""Captures of a folder with so long a pause, and so many times their own length, may be of two clocks."""
_LOST_SHARE = 0.01
"""A tunnel over TCP with more of its bytes unread than this is worth a warning."""
ENGINES = (packets.NAME, exact.NAME, *fields.NAMES)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; written into the result."""

    expected_false_links: float = EXPECTED_FALSE_LINKS
    seed: int = 0
    same_clock: bool = False
    engines: tuple[str, ...] = ENGINES

    @property
    def policy(self) -> Policy:
        """Every threshold that decides."""
        return Policy(expected_false_links=self.expected_false_links)

    def __post_init__(self) -> None:
        if not 0 < self.expected_false_links < np.inf:
            raise ValueError("expected_false_links is a positive number")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise ValueError("seed is a whole number, 0 or more")
        # As plain values: numbers of numpy are no JSON.
        object.__setattr__(self, "expected_false_links", float(self.expected_false_links))
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "same_clock", bool(self.same_clock))
        unknown = set(self.engines) - set(ENGINES)
        if unknown or not self.engines:
            raise ValueError(f"engines are some of {', '.join(ENGINES)}; not {', '.join(sorted(unknown))}")


def correlate(
    ingress: Capture,
    egress: Capture | None = None,
    *,
    expected_false_links: float = EXPECTED_FALSE_LINKS,
    seed: int = 0,
    same_clock: bool = False,
    engines: Sequence[str] = ENGINES,
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
) -> CaseResult:
    """Which tunnel of the ingress capture carried which flow of the egress capture.

    Parameters
    ----------
    ingress : str, Path or PacketTable
        Client-facing side of a VPN server: encrypted tunnels. Where it has none but can be read (a NAT, a
        tap on the tunnel's inner interface), its clients take the place of tunnels.
    egress : str, Path or PacketTable, optional
        Internet-facing side. Without it, or with the same bytes, the ingress capture serves as both.
    expected_false_links : float
        False links to expect in the whole case, the level at which flows are called linked.
    seed : int
        Seeds all sampling; the same inputs, options and seed give the same result.
    same_clock : bool
        Both captures were stamped by one clock, known from elsewhere: do not estimate an offset.
    engines : sequence of str
        The engines that may speak.
    progress : callable, optional
        Called with the name of a step and the share of it done.
    argv : sequence of str, optional
        The command line, for the record.

    Returns
    -------
    CaseResult

    Raises
    ------
    CaptureError
        A capture cannot be read.
    CaseError
        The captures hold no tunnels or no flows, or are swapped.
    ValueError
        An option is out of its range.
    """
    options = Options(expected_false_links, seed, same_clock, tuple(engines))
    tell = progress or (lambda step, share: None)
    outer = _read(ingress, "ingress", tell)
    inner = outer if egress is None or _same_name(ingress, egress) else _read(egress, "egress", tell)
    one_capture = inner is outer or _same_bytes(outer, inner)
    rng = np.random.default_rng(options.seed)
    if not len(outer):
        raise CaseError(f"{_name(outer, 'ingress')}: no IP packets, so no tunnels")
    if not len(inner):
        raise CaseError(f"{_name(inner, 'egress')}: no IP packets, so no flows")
    tell("finding tunnels", 0.0)
    aside = ThreadPoolExecutor(1)
    captured = (outer, inner)
    compared = without_copies(outer)
    outer, warnings = compared.packets, compared.left_out("ingress")
    if one_capture:
        inner = outer
    else:
        compared = without_copies(inner)
        inner = compared.packets
        warnings += compared.left_out("egress")
    inner_flows = None if one_capture else aside.submit(_grouped, inner)
    inputs = aside.map(rows.input_row, ("ingress", "egress"), captured)  # their digests take long
    del captured
    if one_capture:  # no other clock to hold it against
        set_at = capture_steps(outer)
        outer = inner = on_one_clock(outer, set_at)
        warnings += [f"{clock_set(s.at_ns, s.size_ns)}; times are taken as if it had run on" for s in set_at]
    conversations = assemble_flows(outer, idle_tcp_s=np.inf, idle_other_s=np.inf)
    tunnels = find_tunnels(conversations)
    recognised = any(t.sure for t in tunnels.tunnels)
    tell("assembling flows", 0.0)
    everything = inner_flows.result() if inner_flows else assemble_flows(outer)
    # What may be a tunnel is not compared with itself; what then proves to be none is a flow again.
    flows = flows_apart(everything, conversations, tunnels.tunnels)
    flows = _on_the_wire(flows) if recognised else flows  # else both sides may be readable, and merged alike
    tell("aligning clocks", 0.0)
    known_clock = _known_clock(options, one_capture)
    outer_too = len(everything) - len(flows)
    warnings += _far_apart(outer) if one_capture else []
    straight = settle_straight(conversations, tunnels, flows, known_clock, rng)
    conversations, flows, settled = straight.conversations, straight.flows, straight.settled
    if len(flows) < len(everything) and len(settled.tunnels) < len(tunnels):
        everything = put_straight(everything, settled.alignment, flows.packets)
        again = flows_apart(everything, conversations, settled.tunnels.tunnels)
        again = _on_the_wire(again) if recognised else again
        settled = replace(settled, alignment=rows_of(settled.alignment, flows.packets, again.packets))
        outer_too, flows = len(everything) - len(again), again
        if (settled.map_of_tunnel < 0).any():  # what a tunnel carried may be among what was put back
            settled = settle(settled.tunnels, flows, settled.alignment, rng)
    if not one_capture and not settled.alignment.usable:
        warnings += _tunnels_of_its_own(flows)
    if recognised:
        for table in (outer, inner, conversations.packets, flows.packets):
            if table is not ingress and table is not egress:
                table.forget_heads()  # ours alone, and nobody will look at payloads again
    if not len(flows):
        raise CaseError(f"{_name(inner, 'egress')}: nothing but tunnels; is this the decrypted side?")
    if not one_capture:
        warnings += _both_sides_hold(outer_too)
    endpoints = aside.submit(rows.flow_rows, flows)
    aside.shutdown(wait=False)
    case = Case(conversations, settled.tunnels, flows, settled.alignment, settled.maps, settled.map_of_tunnel)
    tell("scoring", 0.0)
    devices: Devices | None = None
    if not len(case.tunnels) and exact.NAME in options.engines:
        case, decision = _decide_exactly(case, known_clock, options, one_capture, rng)
    else:
        decision = _decide(case, options, rng, tell)
        if timestamps.NAME in options.engines and any(t.transport == "tcp" for t in case.tunnels.tunnels):
            tell("grouping devices", 0.0)  # their timestamps are pooled
            devices = find_devices(find_senders(flows))
        tell("reading header fields", 0.0)
        decision = fields.weigh_fields(
            case,
            decision,
            options.engines,
            devices.device if devices else None,
            rng=rng,
        )
    if not len(case.tunnels):
        raise CaseError(_no_tunnels(outer, inner, one_capture))
    warnings += _warnings(case, decision)
    warnings += _accounts(case, options)
    tell("reporting", 0.0)
    stacks = Stacks(
        case,
        devices,
        with_clocks=timestamps.NAME in options.engines,
        with_ip_ids=ip_id.NAME in options.engines,
    )
    return CaseResult(
        tool={
            "name": "vpnforensics",
            "version": __version__,
            "argv": list(argv) if argv is not None else [],
            "parameters": {
                "expected_false_links": options.expected_false_links,
                "same_clock": options.same_clock,
                "engines": list(options.engines),
                "python": ".".join(map(str, sys.version_info[:3])),
                "numpy": np.__version__,
            },
            "policy": options.policy.to_dict(),
            "seed": options.seed,
        },
        inputs=list(inputs),
        alignment=case.alignment,
        tunnels=rows.tunnel_rows(case, decision, stacks),
        endpoints=endpoints.result(),
        describe_stacks=stacks.flow_columns,
        tell_pairs=lambda: rows.score_rows(case, decision),
        links=rows.link_rows(case, decision),
        comparisons=decision.comparisons,
        null_comparisons=decision.null_comparisons,
        expected_false_links=decision.expected_false_links,
        allowed_false_links=options.expected_false_links,
        decoys={"tried": decision.decoys.tried, "linked": decision.decoys.linked},
        warnings=warnings,
        pair_packets=lambda: rows.pairing_rows(case, decision),
        delay_law=decision.delay_law,
    )


def _grouped(packets: PacketTable) -> FlowTable:
    """The flows of a capture, and at once their order: everything after needs it."""
    flows = assemble_flows(packets)
    _ = flows.order
    return flows


def _read(capture: Capture, role: str, tell: Progress) -> PacketTable:
    if isinstance(capture, PacketTable):
        return capture
    return read_capture(
        capture, progress=lambda done, total: tell(f"reading {role}", done / total if total else 0.0)
    )


def _same_bytes(outer: PacketTable, inner: PacketTable) -> bool:
    """Whether two captures are one, under two names: their digests are taken only where their sizes agree."""
    first, second = outer.source, inner.source
    if first is None or second is None or (first.bytes, first.packets) != (second.bytes, second.packets):
        return False
    return first.decap == second.decap and first.sha256 == second.sha256


def _same_name(ingress: Capture, egress: Capture) -> bool:
    if isinstance(ingress, PacketTable) or isinstance(egress, PacketTable):
        return ingress is egress
    if "-" in (str(ingress), str(egress)):
        return str(ingress) == str(egress)
    try:
        return Path(ingress).samefile(egress)
    except OSError:
        return False  # reading them will say what is wrong


def _known_clock(options: Options, one_capture: bool) -> Alignment | None:
    if one_capture:
        return same_clock("both sides come from one capture")
    return same_clock("stated by the user") if options.same_clock else None


def _on_the_wire(flows: FlowTable) -> FlowTable:
    """The flows with the packets of merged ones."""
    packets = split_super_frames(flows)
    return flows if packets is flows.packets else replace(assemble_flows(packets), number=flows.number)


def _tunnels_of_its_own(flows: FlowTable) -> list[str]:
    """That the egress capture looks like another ingress capture."""
    conversations = assemble_flows(flows.packets, idle_tcp_s=np.inf, idle_other_s=np.inf)
    sure = [t for t in find_tunnels(conversations).tunnels if t.sure]
    if not sure:
        return []
    return [
        f"the egress capture holds tunnels of its own ({sure[0].protocol}, {sure[0].client}):"
        " is it the client-facing side, too? the Internet-facing side of the same server goes there"
    ]


def _far_apart(packets: PacketTable) -> list[str]:
    """That a folder's captures lie so far apart in time that they may be two sides with their own clocks."""
    source = packets.source
    if source is None or len(source.files) < 2:
        return []
    ts_ns = np.sort(packets.ts_ns)
    gap_ns = np.diff(ts_ns)
    at = int(np.argmax(gap_ns)) if len(gap_ns) else 0
    lasting_ns = min(int(ts_ns[at] - ts_ns[0]), int(ts_ns[-1] - ts_ns[min(at + 1, len(ts_ns) - 1)]))
    if not len(gap_ns) or gap_ns[at] < max(_APART_NS, _APART * lasting_ns):
        return []
    files = [file.path for file in source.files]
    pair = " ".join(files) if len(files) == 2 else "INGRESS EGRESS"
    return [
        f"the captures of {source.path} lie {span(int(gap_ns[at]))} apart, taken as one of one clock;"
        f" if they are the two sides of the server, type: vpnf correlate {pair}"
        " (the client-facing side first)"
    ]


def _both_sides_hold(tunnels: int) -> list[str]:
    said = f"the egress capture holds {tunnels:,} conversations of the tunnels, too; they are no flows"
    return [said] if tunnels else []


def _decide(case: Case, options: Options, rng: np.random.Generator, tell: Progress) -> Decision:
    if packets.NAME not in options.engines:
        return undecided(case, options.policy)
    return decide_by_packets(
        case,
        policy=options.policy,
        rng=rng,
        progress=lambda share: tell("scoring", share),
    )


def _decide_exactly(
    case: Case,
    known_clock: Alignment | None,
    options: Options,
    one_capture: bool,
    rng: np.random.Generator,
) -> tuple[Case, Decision]:
    """With no tunnel in the ingress capture, perhaps it can be read: clients take the tunnels' place."""
    matches = exact.match_exactly(case.conversations, case.flows, one_capture=one_capture)
    if not (matches.score > 0).any():
        return case, undecided(case, options.policy)
    clients, client_of = plain_clients(case.conversations)
    alignment = known_clock
    if alignment is None:
        matched = np.flatnonzero(matches.ingress_row >= 0)
        egress_ns = case.flows.packets.ts_ns[matched]
        ingress_ns = case.conversations.packets.ts_ns[matches.ingress_row[matched]]
        alignment = align_pairs(egress_ns, ingress_ns, case.flows.up[matched], rng)
    matches = exact.match_exactly(
        case.conversations, case.flows, one_capture=one_capture, alignment=alignment
    )
    readable = Case(
        case.conversations, clients, case.flows, alignment, (), np.full(len(clients), -1, np.int64)
    )
    return readable, decide_by_exact(readable, matches, client_of, policy=options.policy)


def _no_tunnels(outer: PacketTable, inner: PacketTable, one_capture: bool) -> str:
    """Why there is no case, with the likely cause."""
    here, there = _name(outer, "ingress"), _name(inner, "egress")
    if one_capture:
        return f"{here}: no VPN tunnel in it, so it cannot serve as both sides"
    other = find_tunnels(assemble_flows(inner, idle_tcp_s=np.inf, idle_other_s=np.inf))
    sure = [t for t in other.tunnels if t.sure]
    if sure:
        return (
            f"{here}: no tunnels, but {there} has {len(sure)} ({sure[0].protocol});"
            " the captures seem to be swapped: ingress comes first"
        )
    return (
        f"{here}: no VPN tunnel recognised, none proved by its lengths, and no packet that can be read"
        f" again in {there}; is this the client-facing side of the server, over the same time?"
    )


def _warnings(case: Case, decision: Decision) -> list[str]:
    warnings = []
    warnings += _steps(case.alignment)
    if not case.alignment.usable:
        warnings.append(f"the two clocks cannot be aligned: {case.alignment.reason}; no flow can be linked")
    elif not decision.engine:
        warnings.append(
            _apart(case)
            or "no engine that was allowed to speak has anything to go on;"
            " `vpnf engines` says what each needs"
        )
    elif decision.engine == packets.NAME:
        warnings += [
            f"tunnel of {tunnel.client} ({tunnel.protocol}): no length map known or learned;"
            " no flow can be linked to it"
            for tunnel, number in zip(case.tunnels.tunnels, case.map_of_tunnel, strict=True)
            if number < 0
        ]
    return warnings


def _steps(alignment: Alignment) -> list[str]:
    """That a clock was set while its capture ran."""
    told = []
    for step in alignment.steps:
        text = f"{clock_set(step.at_ns, step.size_ns, step.role)}; its times are taken as if it had run on"
        if not step.placed:
            text = (
                f"the two clocks change against each other by {step.change_ns / 1e9:+.6f} s about"
                f" {utc(step.at_ns)} (egress), and neither capture shows where; around it nothing is denied"
            )
        told.append(text)
    if alignment.breaks:
        told.append(
            f"the clocks change against each other {len(alignment.breaks)} times more than could be followed;"
            " flows at other times are undecided"
        )
    return told


def _apart(case: Case) -> str:
    """That two captures of one clock share no time, which leaves every engine without anything to compare."""
    ingress_ns, egress_ns = case.conversations.packets.ts_ns, case.flows.packets.ts_ns
    if case.alignment.status != "same_clock" or not len(ingress_ns) or not len(egress_ns):
        return ""
    after = int(egress_ns.min()) - int(ingress_ns.max())
    before = int(ingress_ns.min()) - int(egress_ns.max())
    if max(after, before) <= 0:
        return ""
    order = "egress begins {} after ingress ends" if after > 0 else "egress ends {} before ingress begins"
    gap = order.format(span(max(after, before)))
    return f"on one clock, the captures do not overlap in time: {gap}; no flow can be linked"


def _accounts(case: Case, options: Options) -> list[str]:
    """What the tunnels' clear counters and byte streams say that the captures lack."""
    conserved = counters.conserve(case) if counters.NAME in options.engines else None
    found = list(conserved.findings) if conserved is not None else []
    for tunnel in case.tunnels.tunnels:
        if tunnel.stream is not None and tunnel.stream.lost_share > _LOST_SHARE:
            found.append(f"tunnel of {tunnel.client}: {tunnel.stream}")
    return found


def _name(packets: PacketTable, role: str) -> str:
    return packets.source.path if packets.source else f"the {role} capture"
