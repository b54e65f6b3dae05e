"""Two captures made into a case: tunnels on one side, flows on the other, and one clock for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from copy import deepcopy
from dataclasses import replace

import numpy as np

from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.align.relays import Relayed, settle_relays
from vpnforensics.align.settle import Settled, settle
from vpnforensics.align.straight import put_straight, rows_of, settle_straight
from vpnforensics.engines.case import Case
from vpnforensics.errors import CaseError
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.flows.super_frames import split_super_frames
from vpnforensics.packets.table import PacketTable
from vpnforensics.report import warnings
from vpnforensics.sides import Progress, Sides, name_of
from vpnforensics.tunnels.apart import flows_apart
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.tunnels.find import Tunnel, TunnelSet, find_tunnels


def grouped(packets: PacketTable) -> FlowTable:
    """The flows of a capture, and at once their order: everything after needs it."""
    flows = assemble_flows(packets)
    _ = flows.order
    return flows


def known_clock(sides: Sides, stated: bool) -> Alignment | None:
    """The alignment where it need not be estimated: one capture, or a user who knows."""
    if sides.are_one:
        return same_clock("both sides come from one capture")
    return same_clock("stated by the user") if stated else None


def make_case(
    sides: Sides,
    egress_flows: Future[FlowTable],
    clock: Alignment | None,
    rng: np.random.Generator,
    tell: Progress,
    *,
    tunnels_of: Callable[[FlowTable], TunnelSet] = find_tunnels,
) -> tuple[Case, list[str]]:
    """Find the tunnels, part the flows from them, and settle clocks and length maps.

    Parameters
    ----------
    sides : Sides
    egress_flows : Future of FlowTable
        :func:`grouped` of the egress side.
    clock : Alignment or None
        Where it is known beforehand.
    rng : numpy.random.Generator
    tell : callable
    tunnels_of : callable
        Finds the tunnels among the ingress side's conversations; who knows more of them than can be seen,
        says so here.

    Returns
    -------
    Case
        With no tunnels where none was found.
    list of str
        Warnings.

    Raises
    ------
    CaseError
        The egress capture holds tunnels only.
    """
    tell("finding tunnels", 0.0)
    conversations = whole_conversations(sides.ingress)
    tunnels = tunnels_of(conversations)
    recognised = any(t.sure for t in tunnels.tunnels)
    tell("assembling flows", 0.0)
    everything = egress_flows.result()
    # What may be a tunnel is not compared with itself; what then proves to be none is a flow again.
    flows = _apart(everything, conversations, tunnels.tunnels, recognised)
    tell("aligning clocks", 0.0)
    straight = settle_straight(conversations, tunnels, flows, clock, rng)
    conversations, flows, settled = straight.conversations, straight.flows, straight.settled
    if len(flows) < len(everything) and len(settled.tunnels) < len(tunnels):
        everything = put_straight(everything, settled.alignment, flows.packets)
        more = _apart(everything, conversations, settled.tunnels.tunnels, recognised)
        flows, settled = more, _with_more(settled, flows, more, rng)
    # Relays: without tunnels that have records they are the case, beside such they forbid denials.
    beside = settled.tunnels.tunnels
    known = (settled.alignment if settled.alignment.usable else None) if beside else clock
    whole = None
    relayed = _relayed(conversations, tunnels, everything, beside, known, deepcopy(rng))
    if relayed is not None and beside:
        settled = settled.with_unread(relayed.settled.tunnels.tunnels)
    elif relayed is not None:
        settled, flows, whole = relayed.settled, relayed.flows, relayed.captured
    said = _warnings(sides, flows, settled.alignment, len(everything) - len(flows))
    said += tunnels.unheard
    if recognised:  # nobody will look at payloads again
        sides.forget_heads(conversations.packets, flows.packets)
    if not len(flows):
        raise CaseError(
            f"{name_of(sides.egress, 'egress')}: nothing but tunnels; is this the decrypted side?"
        )
    case = Case(
        conversations,
        settled.tunnels,
        flows,
        settled.alignment,
        settled.maps,
        settled.map_of_tunnel,
        captured=whole,
        kept=relayed.kept if relayed is not None else None,
    )
    return case, said


def whole_conversations(packets: PacketTable) -> FlowTable:
    """Conversations however long they pause: a tunnel may."""
    return assemble_flows(packets, idle_tcp_s=np.inf, idle_other_s=np.inf)


def why_no_tunnels(sides: Sides) -> str:
    """Why there is no case, with the likely cause."""
    here, there = name_of(sides.ingress, "ingress"), name_of(sides.egress, "egress")
    if sides.are_one:
        return f"{here}: no VPN tunnel in it, so it cannot serve as both sides"
    sure = _sure_tunnels(sides.egress)
    if sure:
        return (
            f"{here}: no tunnels, but {there} has {len(sure)} ({sure[0].protocol});"
            " the captures seem to be swapped: ingress comes first"
        )
    return (
        f"{here}: no VPN tunnel recognised, none proved by its lengths, and no packet that can be read"
        f" again in {there}; is this the client-facing side of the server, over the same time?"
    )


def _relayed(
    conversations: FlowTable,
    framed: TunnelSet,
    everything: FlowTable,
    beside: Sequence[Tunnel],
    clock: Alignment | None,
    rng: np.random.Generator,
) -> Relayed | None:
    """The relays among the conversations that none of the tunnels ``beside`` them has."""
    carriers = find_carriers(conversations, framed)
    taken = {c for t in beside for c in (t.conversation, *t.beside)}
    carriers = carriers.select(np.array([t.conversation not in taken for t in carriers.tunnels], np.bool_))
    if not len(carriers):
        return None
    flows = _apart(everything, conversations, (*carriers.tunnels, *beside), recognised=False)
    return settle_relays(carriers, flows, clock, rng) if len(flows) else None


def _apart(
    everything: FlowTable, conversations: FlowTable, tunnels: Sequence[Tunnel], recognised: bool
) -> FlowTable:
    """The flows that are none of the tunnels; with tunnels recognised, as they were on the wire."""
    flows = flows_apart(everything, conversations, tunnels)
    if not recognised:
        return flows  # both sides may be readable, and merged alike
    packets = split_super_frames(flows)
    return flows if packets is flows.packets else replace(assemble_flows(packets), number=flows.number)


def _with_more(settled: Settled, seen: FlowTable, flows: FlowTable, rng: np.random.Generator) -> Settled:
    """What was settled on the flows seen then, for all that proved to be flows."""
    settled = replace(settled, alignment=rows_of(settled.alignment, seen.packets, flows.packets))
    if (settled.map_of_tunnel < 0).any():  # what a tunnel carried may be among what was put back
        return settle(settled.tunnels, flows, settled.alignment, rng)
    return settled


def _sure_tunnels(packets: PacketTable) -> list[Tunnel]:
    return [t for t in find_tunnels(whole_conversations(packets)).tunnels if t.sure]


def _warnings(sides: Sides, flows: FlowTable, alignment: Alignment, tunnels_beside: int) -> list[str]:
    """What may be wrong with the captures as two sides of one server."""
    if sides.are_one:
        return warnings.far_apart(sides.ingress)
    found = [] if alignment.usable else warnings.tunnels_at_egress(_sure_tunnels(flows.packets))
    return found + warnings.conversations_beside(tunnels_beside)
