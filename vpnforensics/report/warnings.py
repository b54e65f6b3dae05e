"""What an analyst has to know of a case before believing its verdicts: one sentence each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.engines import counters, packets, volume, writes
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.packets.selection import leaves_out
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.findings import clock_set
from vpnforensics.report.quantities import span, utc
from vpnforensics.tunnels.find import Tunnel

_APART_NS, _APART = 60_000_000_000, 10
"""Captures of a folder with so long a pause, and so many times their own length, may be of two clocks."""
_LOST_SHARE = 0.01
"""A tunnel over TCP with more of its bytes unread than this is worth a warning."""


def read_in_part(ingress: PacketTable, egress: PacketTable) -> list[str]:
    """That packets were left out when they were read, and what that means for verdicts."""
    found = []
    for role, side in (("ingress", ingress), ("egress", egress)):
        source = side.source
        if source is None or not source.selection:
            continue
        if not leaves_out(side):
            means = "flows that reach out of that time are not denied"
        elif role == "ingress":
            means = "tunnels that were left out may have carried any flow, so that none is denied"
        else:
            means = "what else the tunnels carried stays unexplained, which weakens links"
        found.append(
            f"read were {len(side):,} of the {source.packets:,} packets of the {role} capture"
            f" ({source.selection}); {means}"
        )
    return found


def far_apart(capture: PacketTable) -> list[str]:
    """That a folder's captures lie so far apart in time that they may be two sides with their own clocks."""
    source = capture.source
    if source is None or len(source.files) < 2:
        return []
    ts_ns = np.sort(capture.ts_ns)
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


def tunnels_at_egress(sure: Sequence[Tunnel]) -> list[str]:
    """That the egress capture looks like another ingress capture."""
    if not sure:
        return []
    return [
        f"the egress capture holds tunnels of its own ({sure[0].protocol}, {sure[0].client}):"
        " is it the client-facing side, too? the Internet-facing side of the same server goes there"
    ]


def conversations_beside(tunnels: int) -> list[str]:
    """That both captures hold the tunnels."""
    said = f"the egress capture holds {tunnels:,} conversations of the tunnels, too; they are no flows"
    return [said] if tunnels else []


def of_decision(case: Case, decision: Decision) -> list[str]:
    """Why flows could not be linked, all of them or those of a tunnel; clocks that were set."""
    found = _steps(case.alignment)
    if not case.alignment.usable:
        found.append(f"the two clocks cannot be aligned: {case.alignment.reason}; no flow can be linked")
    elif not decision.engine:
        found.append(
            _apart(case)
            or "no engine that was allowed to speak has anything to go on;"
            " `vpnf engines` says what each needs"
        )
    elif decision.engine in (packets.NAME, writes.NAME):
        found += [decision.lent] if decision.lent else []
        by_volume = any(voice.engine == volume.NAME for voice in decision.voices)
        found += [
            f"tunnel of {tunnel.client} ({tunnel.protocol}): no length map known or learned;"
            " no flow can be linked to it"
            for tunnel, number in zip(case.tunnels.tunnels, case.map_of_tunnel, strict=True)
            if number < 0 and not by_volume
        ]
        found += _too_strict(decision) + _too_alike(decision)
    return found + list(decision.unheard)


def _too_strict(decision: Decision) -> list[str]:
    """That fewer false links are allowed than any case can support."""
    allowed, least = decision.policy.expected_false_links, decision.policy.least_error
    most = int(allowed / least)
    if most >= int((decision.error < 0.5).sum()):
        return []
    return [
        f"{allowed:g} expected false links are fewer than can be supported: no single error is stated below"
        f" {least:g}, so that at most {most:,} flows can be linked"
    ]


def _too_alike(decision: Decision) -> list[str]:
    """That chance explains flows in this case as well as their tunnels do."""
    decoys = decision.decoys
    if not decoys.least_error:
        return []
    return [
        f"of {decoys.tried:,} copies of flows that no tunnel carried, {decoys.sure:,} look surely carried:"
        " lengths and times do not tell the tunnels of this case apart; no error is stated below"
        f" {decoys.least_error:.2g}, so that hardly a flow is linked"
    ]


def of_accounts(case: Case, *, by_counters: bool) -> list[str]:
    """What the tunnels' clear counters and byte streams say that the captures lack."""
    conserved = counters.conserve(case) if by_counters else None
    found = list(conserved.findings) if conserved is not None else []
    for tunnel in case.tunnels.tunnels:
        if tunnel.stream is not None and tunnel.stream.lost_share > _LOST_SHARE:
            found.append(f"tunnel of {tunnel.client}: {tunnel.stream}")
    return found


def _steps(alignment: Alignment) -> list[str]:
    """That a clock was set while its capture ran."""
    found = []
    for step in alignment.steps:
        text = f"{clock_set(step.at_ns, step.size_ns, step.role)}; its times are taken as if it had run on"
        if not step.placed:
            text = (
                f"the two clocks change against each other by {step.change_ns / 1e9:+.6f} s about"
                f" {utc(step.at_ns)} (egress), and neither capture shows where; around it nothing is denied"
            )
        found.append(text)
    if alignment.breaks:
        found.append(
            f"the clocks change against each other {len(alignment.breaks)} times more than could be followed;"
            " flows at other times are undecided"
        )
    return found


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
