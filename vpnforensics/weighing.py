"""A case weighed: by packets, or exactly where both sides can be read, and then by header fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.kept_bytes import REWRITING
from vpnforensics.align.line import align_pairs
from vpnforensics.engines import connections, exact, lookups, packets, volume, writes
from vpnforensics.engines.case import Case
from vpnforensics.evidence.connections import with_connections
from vpnforensics.evidence.decision import Decision, decide_by_exact, decide_by_packets, undecided
from vpnforensics.evidence.fields import weigh_fields
from vpnforensics.evidence.kept_bytes import with_kept_bytes
from vpnforensics.evidence.shipped import lend
from vpnforensics.evidence.volume import with_volume
from vpnforensics.features.names.find import FlowNames
from vpnforensics.options import Options
from vpnforensics.sides import Progress
from vpnforensics.tunnels.plain import plain_clients


@dataclass(frozen=True, eq=False)
class Weighed:
    """A case with its verdicts."""

    case: Case
    decision: Decision


def weigh(
    case: Case,
    options: Options,
    rng: np.random.Generator,
    tell: Progress,
    *,
    clock: Alignment | None,
    one: bool,
    names: Callable[[], FlowNames] | None = None,
) -> Weighed:
    """Likelihood ratios and verdicts of a case.

    Parameters
    ----------
    case : Case
        Without tunnels its ingress side may be readable: then its clients take their place.
    options : Options
    rng : numpy.random.Generator
    tell : callable
    clock : Alignment or None
        Where it is known beforehand.
    one : bool
        Whether one capture is both sides.
    names : callable, optional
        Gives the names that the flows gave themselves, when they are needed.
    """
    tell("scoring", 0.0)
    if not len(case.tunnels) and exact.NAME in options.engines:
        readable, decision = _weigh_exactly(case, clock, options, one, rng)
        return Weighed(readable, decision)
    decision = undecided(case, options.policy)
    if (writes.NAME if case.by_writes else packets.NAME) in options.engines:
        decision = decide_by_packets(
            case,
            policy=options.policy,
            rng=rng,
            progress=lambda share: tell("scoring", share),
            names=names if case.of_packets and lookups.NAME in options.engines else None,
        )
    if case.by_writes and not _written_anew(case):
        if connections.NAME in options.engines:
            decision = with_connections(case, decision, rng)
        if volume.NAME in options.engines:
            decision = with_volume(case, decision, rng)
    if case.kept is not None and exact.NAME in options.engines:
        decision = with_kept_bytes(case, case.kept, decision)
    # A relay's own connections have no header field of its clients.
    if case.by_writes or case.kept is not None:
        return Weighed(case, decision)
    tell("reading header fields", 0.0)
    decision = weigh_fields(case, decision, options.engines, rng=rng)
    return Weighed(case, lend(case, decision))


def _written_anew(case: Case) -> bool:
    """Whether a relay writes requests anew and mixes clients in its connections: totals tell nothing then."""
    return case.kept is not None and any(t.protocol == REWRITING for t in case.tunnels.tunnels)


def _weigh_exactly(
    case: Case, clock: Alignment | None, options: Options, one: bool, rng: np.random.Generator
) -> tuple[Case, Decision]:
    """With no tunnel in the ingress capture, perhaps it can be read: clients take the tunnels' place."""
    matches = exact.match_exactly(case.conversations, case.flows, one_capture=one)
    if not (matches.score > 0).any():
        return case, undecided(case, options.policy)
    clients, client_of = plain_clients(case.conversations)
    alignment = clock
    if alignment is None:
        matched = np.flatnonzero(matches.ingress_row >= 0)
        egress_ns = case.flows.packets.ts_ns[matched]
        ingress_ns = case.conversations.packets.ts_ns[matches.ingress_row[matched]]
        alignment = align_pairs(egress_ns, ingress_ns, case.flows.up[matched], rng)
    matches = exact.match_exactly(case.conversations, case.flows, one_capture=one, alignment=alignment)
    unmapped = np.full(len(clients), -1, np.int64)
    readable = Case(case.conversations, clients, case.flows, alignment, (), unmapped)
    return readable, decide_by_exact(readable, matches, client_of, policy=options.policy)
