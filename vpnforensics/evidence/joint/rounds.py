"""The joint model's work on some of its flows, beside what all others claim: what runs part by part.

Flows hear of each other by what is claimed of the records, which is summed between the rounds only; so what
some flows say in a round does not depend on what others say in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.evidence.joint._graph_kernels import Graph
from vpnforensics.evidence.joint._message_kernels import Learned, Messages, Rates, Scratch, flow_round
from vpnforensics.evidence.joint._pair_kernels import pair_errors
from vpnforensics.scratch import beside, parts_of

_LINKS = 1 << 16
"""Of flows that are worth a part of their own, about: a round of theirs takes longer than to ask a worker."""
_RIVALS = 200
"""Flows that one is compared with in the pair check, at most; denser cases state larger errors for it."""


class Room(NamedTuple):
    """What the largest group of a graph needs."""

    sums: int
    """One for each of its sets of packets and records."""
    records: int

    @classmethod
    def of(cls, graph: Graph) -> Room:
        """For all groups of a graph."""
        runs, links = np.diff(graph.group_runs), np.diff(graph.group_links)
        return cls(int(((links + 1) << runs).max(initial=1)), int(links.max(initial=1)))

    def scratch(self, none: Floats) -> Scratch:
        """It, with what a flow claims that claims nothing."""
        return Scratch(np.empty(self.sums), np.empty(self.sums), np.empty(self.records), none)


class Said(NamedTuple):
    """What some flows say in a round; see :class:`Messages`."""

    change: float
    """Largest of a claim."""
    claim: Floats
    weight: Floats
    posterior: Floats
    none: Floats
    learned: Learned | None


def flows_in_parts(graph: Graph) -> list[slice]:
    """The flows, in parts of about as many links each."""
    return parts_of(graph.group_links[graph.pair_groups[graph.flow_pairs]], _LINKS)


def pairs_and_links(graph: Graph, flows: slice) -> tuple[slice, slice]:
    """Those of some flows."""
    pairs = slice(*graph.flow_pairs[[flows.start, flows.stop]].tolist())
    groups = graph.pair_groups[[pairs.start, pairs.stop]]
    return pairs, slice(*graph.group_links[groups].tolist())


def one_round(
    flows: slice, graph: Graph, rates: Rates, messages: Messages, room: Room, claims: int, learn: bool
) -> Said:
    """One round of messages of some flows; ``claims`` and ``learn`` as :func:`flow_round` takes them."""
    learned = Learned(np.zeros((2, rates.density.shape[1])), np.zeros(KINDS), np.zeros(KINDS))
    change = flow_round(
        graph._replace(flow_pairs=graph.flow_pairs[flows.start : flows.stop + 1]),
        rates._replace(log_prior=rates.log_prior[flows]),
        messages._replace(none=messages.none[flows]),
        room.scratch(np.zeros(0)),
        claims,
        learn,
        learned,
    )
    pairs, links = pairs_and_links(graph, flows)
    return Said(
        change,
        messages.claim[links],
        messages.weight[pairs],
        messages.posterior[pairs],
        messages.none[flows],
        learned if learn else None,
    )


def worst_errors(
    flows: slice,
    graph: Graph,
    rates: Rates,
    messages: Messages,
    candidates: Ints,
    best_pair: Ints,
    room: Room,
) -> tuple[Ints, Floats]:
    """What the pair check of the candidates among some flows finds: flows, and the worst error of each."""
    mine = candidates[slice(*np.searchsorted(candidates, (flows.start, flows.stop)).tolist())]
    place = beside(messages.claim)
    trial = messages._replace(claim=place.copy(messages.claim), claimed=place.copy(messages.claimed))
    scratch = room.scratch(place.full(len(messages.claim), 0.0, np.float64))
    worst = pair_errors(graph, rates, messages, trial, mine, best_pair, _RIVALS, scratch)
    some = np.flatnonzero(worst)
    return some, worst[some]
