"""The main job, end to end: two captures in, a case result out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vpnforensics._version import __version__
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.settle import settle
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.errors import CaseError
from vpnforensics.evidence.attribution import Attribution, attribute
from vpnforensics.evidence.likelihood import likelihood_ratio, share_of_carried
from vpnforensics.evidence.null_scores import stratum_of
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable
from vpnforensics.report import rows
from vpnforensics.report.result import CaseResult
from vpnforensics.tunnels.find import TunnelSet, find_tunnels

Capture = str | Path | PacketTable
Progress = Callable[[str, float], None]
"""Called with the name of a step and the share of it done."""

EXPECTED_FALSE_LINKS = 0.01
_EDGE_NS = 1_000_000_000
"""A tunnel counts as present this long before its first and after its last packet."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a user can choose; written into the result."""

    expected_false_links: float = EXPECTED_FALSE_LINKS
    seed: int = 0
    same_clock: bool = False


def correlate(
    ingress: Capture,
    egress: Capture | None = None,
    *,
    expected_false_links: float = EXPECTED_FALSE_LINKS,
    seed: int = 0,
    same_clock: bool = False,
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
) -> CaseResult:
    """Which tunnel of the ingress capture carried which flow of the egress capture.

    Parameters
    ----------
    ingress : str, Path or PacketTable
        Client-facing side of a VPN server: encrypted tunnels.
    egress : str, Path or PacketTable, optional
        Internet-facing side. Without it, or where it is the same file, the ingress capture serves as both.
    expected_false_links : float
        False links to expect in the whole case, the level at which flows are called linked.
    seed : int
        Seeds all sampling; the same inputs, options and seed give the same result.
    same_clock : bool
        Both captures were stamped by one clock, known from elsewhere: do not estimate an offset.
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
    """
    options = Options(expected_false_links, seed, same_clock)
    tell = progress or (lambda step, share: None)
    outer = _read(ingress, "ingress", tell)
    one_capture = egress is None or _same_capture(ingress, egress)
    inner = outer if one_capture or egress is None else _read(egress, "egress", tell)
    rng = np.random.default_rng(seed)
    tell("finding tunnels", 0.0)
    conversations = assemble_flows(outer, idle_tcp_s=np.inf, idle_other_s=np.inf)
    tunnels = find_tunnels(conversations)
    tell("assembling flows", 0.0)
    flows = _egress_flows(inner, conversations, tunnels, one_capture)
    _check(outer, inner, tunnels, flows, one_capture)
    tell("aligning clocks", 0.0)
    case, warnings = _settle(conversations, tunnels, flows, options, one_capture, rng)
    tell("scoring", 0.0)
    return _decide(case, outer, inner, options, warnings, tell, argv, rng)


def _read(capture: Capture, role: str, tell: Progress) -> PacketTable:
    if isinstance(capture, PacketTable):
        return capture
    return read_capture(
        capture, progress=lambda done, total: tell(f"reading {role}", done / total if total else 0.0)
    )


def _same_capture(ingress: Capture, egress: Capture) -> bool:
    if isinstance(ingress, PacketTable) or isinstance(egress, PacketTable):
        return ingress is egress
    if "-" in (str(ingress), str(egress)):
        return str(ingress) == str(egress)
    try:
        return Path(ingress).samefile(egress)
    except OSError:
        return False  # reading them will say what is wrong


def _egress_flows(
    inner: PacketTable, conversations: FlowTable, tunnels: TunnelSet, one_capture: bool
) -> FlowTable:
    """Flows of the egress side; in a capture of both sides, without the tunnels' own packets."""
    if not one_capture:
        return assemble_flows(inner)
    outer = np.zeros(len(conversations), np.bool_)
    outer[[t.conversation for t in tunnels.tunnels if t.sure]] = True
    return assemble_flows(inner.take(~outer[conversations.flow]))


def _check(
    outer: PacketTable, inner: PacketTable, tunnels: TunnelSet, flows: FlowTable, one_capture: bool
) -> None:
    """Refuse what cannot be a case, with the likely cause."""
    if not len(outer):
        raise CaseError(f"{_name(outer, 'ingress')}: no IP packets, so no tunnels")
    if not len(inner):
        raise CaseError(f"{_name(inner, 'egress')}: no IP packets, so no flows")
    if not len(flows):
        raise CaseError(f"{_name(inner, 'egress')}: nothing but tunnels; is this the decrypted side?")
    if any(t.sure for t in tunnels.tunnels) or one_capture:
        return
    other = find_tunnels(assemble_flows(inner, idle_tcp_s=np.inf, idle_other_s=np.inf))
    found = [t for t in other.tunnels if t.sure]
    if found:
        raise CaseError(
            f"{_name(outer, 'ingress')}: no tunnels, but {_name(inner, 'egress')} has {len(found)}"
            f" ({found[0].protocol}); the captures seem to be swapped: ingress comes first"
        )


def _name(packets: PacketTable, role: str) -> str:
    return packets.source.path if packets.source else f"the {role} capture"


def _settle(
    conversations: FlowTable,
    tunnels: TunnelSet,
    flows: FlowTable,
    options: Options,
    one_capture: bool,
    rng: np.random.Generator,
) -> tuple[Case, list[str]]:
    """The case on one clock, with the tunnels' length maps settled."""
    known_clock = None
    if one_capture:
        known_clock = same_clock("both sides come from one capture")
    elif options.same_clock:
        known_clock = same_clock("stated by the user")
    settled = settle(tunnels, flows, known_clock, rng)
    warnings = []
    if not settled.alignment.usable:
        warnings.append(
            f"the two clocks cannot be aligned: {settled.alignment.reason}; no flow can be linked"
        )
    for tunnel, number in zip(settled.tunnels.tunnels, settled.map_of_tunnel, strict=True):
        if number < 0 and settled.alignment.usable:
            warnings.append(
                f"tunnel of {tunnel.client} ({tunnel.protocol}): no length map known or learned;"
                " no flow can be linked to it"
            )
    return (
        Case(
            conversations,
            settled.tunnels,
            flows,
            settled.alignment,
            settled.maps,
            settled.map_of_tunnel,
        ),
        warnings,
    )


def _decide(
    case: Case,
    outer: PacketTable,
    inner: PacketTable,
    options: Options,
    warnings: list[str],
    tell: Progress,
    argv: Sequence[str] | None,
    rng: np.random.Generator,
) -> CaseResult:
    containment = packets_engine.prepare(case)
    alive = _alive(case)
    if containment is None:
        found = None
        scores = ScoreTable(*(np.zeros(0, t) for t in (np.int32, np.int32, np.float64, np.int32)))
        carried = llr = np.zeros(0)
        miss = 0.0
    else:
        found = attribute(
            containment,
            alive,
            expected_false_links=options.expected_false_links,
            rng=rng,
            progress=lambda share: tell("scoring", share),
        )
        miss = _miss_rate(case, found)
        scores = _listed(containment, found)
        carried = share_of_carried(scores.hits, np.diff(case.egress.start)[scores.flow], miss)
        llr = _llr(scores, case, found, carried)
    tell("reporting", 0.0)
    law = containment.law if containment is not None else None
    return CaseResult(
        tool={
            "name": "vpnforensics",
            "version": __version__,
            "argv": list(argv) if argv is not None else [],
            "parameters": {
                "expected_false_links": options.expected_false_links,
                "same_clock": options.same_clock,
                "python": ".".join(map(str, sys.version_info[:3])),
                "numpy": np.__version__,
            },
            "seed": options.seed,
        },
        inputs=[rows.input_row("ingress", outer), rows.input_row("egress", inner)],
        alignment=case.alignment,
        tunnels=rows.tunnel_rows(case, found),
        flows=rows.flow_rows(case),
        scores=rows.score_rows(scores, llr, case),
        links=rows.link_rows(case, found, scores, llr, carried, alive),
        comparisons=int(alive.sum()),
        expected_false_links=float(found.expected_false_links) if found else 0.0,
        warnings=warnings,
        pairings=rows.pairing_rows(case, found),
        delay_law={
            "median_ns": [round(law.median_ns[0]), round(law.median_ns[1])],
            "p95_ns": [round(law.p95_ns[0]), round(law.p95_ns[1])],
            "low_ns": law.low_ns,
            "step_ns": law.step_ns,
            "up": law.up,
            "down": law.down,
        }
        if law is not None
        else {},
    )


def _alive(case: Case) -> npt.NDArray[np.int64]:
    """Tunnels present at some time of each flow: its comparisons."""
    flows = case.flows
    if not case.alignment.usable:
        return np.zeros(len(flows), np.int64)
    mapped = [t for t, n in zip(case.tunnels.tunnels, case.map_of_tunnel, strict=True) if n >= 0]
    starts = np.sort(np.array([t.first_ns for t in mapped], np.int64)) - _EDGE_NS
    ends = np.sort(np.array([t.last_ns for t in mapped], np.int64)) + _EDGE_NS
    first = case.alignment.to_ingress(flows.first_ns)
    last = case.alignment.to_ingress(flows.last_ns)
    return np.searchsorted(starts, last, side="right") - np.searchsorted(ends, first, side="left")


def _miss_rate(case: Case, found: Attribution) -> float:
    """Share of the linked flows' packets without a record."""
    flow = np.repeat(np.arange(len(case.flows)), np.diff(case.egress.start))
    of_linked = found.tunnel[flow] >= 0
    return float(np.mean(found.record[of_linked] < 0)) if of_linked.any() else 0.03


def _listed(containment: packets_engine.Containment, found: Attribution) -> ScoreTable:
    """Pairs worth reporting: every pair with evidence for it, and the best of each flow that has none."""
    every = containment.score(np.arange(len(found.tunnel), dtype=np.int32))
    order = np.lexsort((every.tunnel, -every.score, every.flow))
    every = every.take(order)
    best = np.r_[True, every.flow[1:] != every.flow[:-1]] if len(every) else np.zeros(0, np.bool_)
    linked = found.tunnel[every.flow] == every.tunnel
    return every.take((every.score > 0) | best | linked)


def _llr(
    scores: ScoreTable, case: Case, found: Attribution, carried: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    strata = stratum_of(np.diff(case.egress.start))[scores.flow]
    false_positive, nulls = np.ones(len(scores)), np.ones(len(scores), np.int64)
    for s, tail in found.lone_tails.items():
        mine = strata == s
        false_positive[mine] = tail.false_positive_rate(scores.score[mine])
        nulls[mine] = tail.comparisons
    return likelihood_ratio(carried, false_positive, nulls, int((found.tunnel >= 0).sum()))
