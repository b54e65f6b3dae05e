"""Joint attribution: which flow was in which tunnel, or in none, given all records and all flows at once.

The model
---------
Flow f was in one tunnel k, or in none that was captured. If it was in k, each of its packets was carried by
one record of k, of the size that k's length map gives it and within the delay law g of its direction, or the
record was missed by the capture: with a probability ``miss`` that is learned for packets about which the
tunnel's counter has a hole, has none, or is not there (:mod:`vpnforensics.engines.holes`). A record carries
one packet, or is *unexplained*: something unknown put it there, at a rate learned from the case.

That conservation is the evidence: in a complete capture one or two records in a hundred stay unexplained, so
that chance competes at their rate, not at that of all records. Flows tell records how much they need them,
and records tell flows what else they are open to::

    m(i,j)   = g(i,j) / open_i,   open_i = chance_i + claims of the other flows on record i
    W(f,k)   = sum over all ways in which records of k carried the packets of f, or missed them, of the
               product of (1 - miss) m(i,j) and of miss; one record a packet, one packet a record
    q(f,k)   = P(k) W(f,k) / (P(none) + sum over k' of P(k') W(f,k'))                posterior
    claim_i  = open_i * P(f used i) / P(f did not use i)

The ways are summed for up to four packets of one size that compete for the same records together: packet by
packet, two queries and their two records would each see the other's record as a way out, and hardly claim
either.

In between, expectation maximisation learns the rate of unexplained records (of a size class in a tunnel,
shrunk to the tunnel's and that to the direction's), the share missed and the delay law of each direction, and
P(none).

Loopy messages count one doubt several times, so the posterior of a flow's best tunnel is taken from the exact
joint posterior with each flow that competes for its records, the worst of them
(:mod:`vpnforensics.evidence.joint._pair_kernels`): beside the claims that the messages leave, and beside the
likeliest attribution of all at once. Claims that are spread over a burst hold nobody off: of six equal
lookups with records for five, each would look sure. In that attribution one has none, and those in whose
place it might as well be share its doubt.

Sum-product on factor graphs: Kschischang, Frey & Loeliger 2001 (IEEE Trans. Inf. Theory 47). Association of
tracks with measurements by such messages: Williams & Lau 2014 (IEEE Trans. Aerosp. Electron. Syst. 50).

Known weaknesses: swaps of more than two flows are not checked; packets of a burst are taken for independent
(flows of many packets are therefore settled before, by a stricter measure); one law for all
tunnels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vpnforensics.align.classes import SIZE_BITS
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines._hole_kernels import KINDS
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.joint._graph_kernels import Reach, begins_of_cells, records_around
from vpnforensics.evidence.joint._message_kernels import (
    ANEW,
    HALFWAY,
    KEPT,
    Learned,
    Messages,
    Rates,
    sum_claims,
    sum_unexplained,
)
from vpnforensics.evidence.joint._trial_kernels import give
from vpnforensics.evidence.joint.graph import Asked, connect, edges_of_packets
from vpnforensics.evidence.joint.hints import Hints
from vpnforensics.evidence.joint.law import unimodal, widened
from vpnforensics.evidence.joint.rounds import Room, flows_in_parts, one_round, pairs_and_links, worst_errors
from vpnforensics.scratch import beside, blocks

_MISS, _UNEXPLAINED, _NONE = 0.02, 0.02, 0.05
"""Where learning starts: shares of packets missed, of records unexplained, of flows without a tunnel."""
_MISS_RANGE, _UNEXPLAINED_RANGE, _NONE_RANGE = (2e-3, 0.3), (1e-3, 0.95), (1e-3, 0.9)
"""Shares learned stay within; an empty case teaches nothing, and no share is ever known to be 0."""
_MISS_IN_HOLE = 0.98
"""Share missed at most where a tunnel's counter has a hole."""
_OF_TUNNEL, _OF_DIRECTION = 5.0, 10.0
"""Records that the share of the tunnel, and of the direction, weighs in that of a class, and of a tunnel."""
_LOCAL_NS = 20_000_000_000
"""Records of a kind are counted within this of each other for their local rate: longer than a page load, so
that a burst does not speak against its own flow; shorter than a client's habits last."""
_ROUNDS, _SETTLED, _LEARN_FROM, _LEARN_EVERY, _LEAST_ROUNDS = 40, 1e-2, 4, 3, 13
"""Passes at most; largest change of a message at which they end; when rates are learned, and how often."""
_ROOM = 0.6
"""Widths of the delay law added at either end: the first law may lack its tails."""
_LAW_PACKETS = 100
"""Packets surely carried that a law is learned from, at least."""
_MOST_EDGES = 30_000_000
"""Edges of a graph, at most (about 100 bytes each while it is built); flows with the most are left out
beyond."""
_MOST_A_TUNNEL = 25
"""Records in reach of a packet, in a tunnel on average, at most: one of so many alike says next to nothing,
and costs most (where lengths are rounded and jitter is ten milliseconds, a quarter of an hour)."""
_CROWD = 24
"""Records in reach of a packet, on average over flows, where all packets look alike: with more, nothing but
times is compared among hundreds, which took minutes and linked nothing (decoys looked as sure as flows)."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """What the model says of the flows it was asked about; of others, and of their pairs, nothing."""

    asked: Bools
    """Flows that took part, shape (flows,)."""
    best: Int32s
    """Likeliest tunnel of each flow, -1 without one."""
    error: Floats
    """P(the likeliest tunnel did not carry the flow), after the pair check; 1 without one."""
    pair_flow: Int32s
    pair_tunnel: Int32s
    pair_odds: Floats
    """ln posterior odds of each pair; of a flow's best, after the pair check."""
    unlisted_odds: Floats
    """ln posterior odds of each flow for a tunnel that has none of its packets."""
    log_prior: Floats
    """ln prior odds of each flow for a single tunnel."""
    missing: Floats
    """Share of each flow's packets that its likeliest tunnel misses, as its counter says; 0 without one."""
    miss: tuple[float, ...]
    """By kind (:mod:`vpnforensics.engines._hole_kernels`)."""
    none_share: float
    unexplained_share: float
    left_out: int
    """Flows that had too many possible records to be asked."""

    def completed_by(self, later: Posterior, settled: Bools) -> Posterior:
        """What this one says of the flows ``settled``, and a later one of the others."""
        mine, theirs = settled[self.pair_flow], ~settled[later.pair_flow]
        flow = np.r_[self.pair_flow[mine], later.pair_flow[theirs]]
        tunnel = np.r_[self.pair_tunnel[mine], later.pair_tunnel[theirs]]
        odds = np.r_[self.pair_odds[mine], later.pair_odds[theirs]]
        order = np.lexsort((tunnel, flow))
        return replace(
            later,
            asked=self.asked,
            best=np.where(settled, self.best, later.best).astype(np.int32),
            error=np.where(settled, self.error, later.error),
            pair_flow=flow[order],
            pair_tunnel=tunnel[order],
            pair_odds=odds[order],
            unlisted_odds=np.where(settled, self.unlisted_odds, later.unlisted_odds),
            log_prior=np.where(settled, self.log_prior, later.log_prior),
            missing=np.where(settled, self.missing, later.missing),
            unexplained_share=self.unexplained_share,
            left_out=self.left_out,
        )


def solve(
    containment: Containment,
    wanted: Bools,
    alive: Ints,
    none_share: float | None = None,
    hints: Hints | None = None,
) -> Posterior:
    """Posterior of every flow with a wanted packet.

    Parameters
    ----------
    containment : Containment
        The records still free, and the flows.
    wanted : ndarray of bool, shape (packets,)
        Egress packets that count.
    alive : ndarray of int64, shape (flows,)
        Tunnels that each flow is compared with.
    none_share : float, optional
        P(none), where it is not to be learned.
    hints : Hints, optional
        What speaks for a flow's tunnels besides its packets; the posterior odds are then those of both.
    """
    return _Solver(containment, wanted, alive, none_share, hints).solve()


class _Solver:
    """The graph of a case, and the state of its learning."""

    def __init__(
        self,
        containment: Containment,
        wanted: Bools,
        alive: Ints,
        none_share: float | None = None,
        hints: Hints | None = None,
    ) -> None:
        self.none_known, self.none_share = none_share is not None, none_share or _NONE
        self.containment, self.place = containment, beside(containment.egress.ts_ns)
        uncounted = np.maximum(_MISS_RANGE[1], containment.miss[-2:])
        self.most_miss = np.r_[np.repeat(_MISS_RANGE[1], 2), np.repeat(_MISS_IN_HOLE, KINDS - 4), uncounted]
        law = containment.law
        self.flows, self.tunnels = len(containment.egress.start) - 1, containment.tunnels
        room = int(len(law.up) * _ROOM)
        self.step_ns = law.step_ns
        self.density = np.stack([widened(side, room, law.step_ns) for side in (law.down, law.up)])
        self.reach = Reach(law.low_ns - room * law.step_ns, law.step_bits, len(law.up) + 2 * room)
        asked = Asked.of_flows(containment, wanted)
        each = edges_of_packets(containment, asked, self.reach)
        if not containment.classes.all_padded:
            telling = each <= _MOST_A_TUNNEL * self.tunnels
            asked, each = asked.only(telling), each[telling]
        edges = np.diff(np.r_[0, np.cumsum(each, dtype=np.int64)][asked.start])
        order = np.argsort(edges, kind="stable")
        too_many = np.zeros(self.flows, np.bool_)
        too_many[order] = np.cumsum(edges[order]) > _MOST_EDGES
        if containment.classes.all_padded:
            packets = asked.sizes
            too_many |= np.mean(edges[packets > 0] / packets[packets > 0]) > _CROWD
        asked, self.left_out = asked.without(too_many), int(too_many.sum())
        self.asked = asked.sizes > 0
        self.alive = np.maximum(alive, 1)
        self.connected = connect(containment, asked, self.reach)
        self.graph = self.connected.graph
        pairs = self.graph.pair_flow, self.graph.pair_tunnel
        self.hinted = np.zeros(len(pairs[0])) if hints is None else hints.of(*pairs)
        self.hinted_elsewhere = np.zeros(self.flows) if hints is None else hints.elsewhere
        self.room, self.parts = Room.of(self.graph), flows_in_parts(self.graph)
        self._count_records(asked)

    def _count_records(self, asked: Asked) -> None:
        """Records about each of its kind, and the cells (class in tunnel) that share a rate of unexplained
        ones.
        """
        classes, by_tunnel = self.containment.classes, self.containment.by_tunnel
        row, scratch = by_tunnel.row, beside(by_tunnel.row)
        self.around = scratch.empty(len(row), np.int32)
        records_around(row, by_tunnel.start, classes.start, by_tunnel.ts_ns, _LOCAL_NS, self.around)
        # By tunnel and class, as records are, cells are runs of them; they are numbered by class and tunnel.
        begin = begins_of_cells(row, by_tunnel.start, classes.start)
        size_class = np.searchsorted(classes.start, row[begin[:-1]], side="right") - 1
        tunnel = classes.tunnel[row[begin[:-1]]].astype(np.int64)
        order = np.argsort(size_class * self.tunnels + tunnel)
        number = np.empty(len(order), np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        self.cell = scratch.repeated(number, begin)
        size_class, self.cell_tunnel = size_class[order], tunnel[order]
        self.cell_up = (classes.key[size_class] >> SIZE_BITS) & 1
        touched = np.zeros(len(classes), np.bool_)
        for of_map in asked.size_class:
            for rows in blocks(len(of_map)):
                touched[of_map[rows][of_map[rows] >= 0]] = True
        self.counted = touched[size_class].astype(np.float64)
        self.cell_size = np.diff(begin)[order] * self.counted

    def solve(self) -> Posterior:
        graph = self.graph
        links, pairs = len(graph.link_flow), len(graph.pair_tunnel)
        self.unexplained = np.full(len(self.cell_size), _UNEXPLAINED)
        self.miss = np.r_[_MISS, _MISS, self.containment.miss[2:]]
        scratch = beside(self.cell)
        self.chance = scratch.empty(len(self.cell), np.float64)
        rates = self._rates()
        lengths = (links, len(self.cell), pairs, pairs, self.flows)
        messages = Messages(*(scratch.full(length, 0.0, np.float64) for length in lengths))
        for turn in range(_ROUNDS):
            learn = turn >= _LEARN_FROM and turn % _LEARN_EVERY == 1
            # Halfway, once there are any: undamped claims oscillate between two twins.
            change, learned = self._round(rates, messages, HALFWAY if turn else ANEW, learn)
            sum_claims(graph, messages)
            if learn:
                self._learn(rates, messages, learned)
                rates = self._rates()
            elif turn >= _LEAST_ROUNDS and change < _SETTLED:
                break
        self._round(rates, messages, KEPT, False)
        return self._posterior(rates, messages)

    def _round(self, rates: Rates, messages: Messages, claims: int, learn: bool) -> tuple[float, Learned]:
        """One round of all flows: its largest change, and what it learned, summed in the order of parts."""
        learned = Learned(np.zeros((2, self.reach.bins)), np.zeros(KINDS), np.zeros(KINDS))
        given = self.graph, rates, messages, self.room, claims, learn
        change = 0.0
        for flows, said in zip(self.parts, self.place.each(one_round, self.parts, *given), strict=True):
            pairs, links = pairs_and_links(self.graph, flows)
            messages.claim[links], messages.none[flows] = said.claim, said.none
            messages.weight[pairs], messages.posterior[pairs] = said.weight, said.posterior
            change = max(change, said.change)
            for total, more in zip(learned, said.learned or (), strict=False):
                total += more
        return change, learned

    def _rates(self) -> Rates:
        for rows in blocks(len(self.cell)):
            local_rate = self.around[rows] / (2.0 * _LOCAL_NS)
            self.chance[rows] = self.unexplained[self.cell[rows]] * local_rate
        return Rates(
            np.log((1 - self.none_share) / self.alive),
            float(np.log(self.none_share)),
            self.connected.unseen @ np.log(self.miss) + self.hinted,
            self.miss.copy(),
            self.density.copy(),
            self.chance,
        )

    def _learn(self, rates: Rates, messages: Messages, learned: Learned) -> None:
        """One step of expectation maximisation."""
        unexplained = np.zeros(len(self.cell_size))
        sum_unexplained(self.cell, self.counted, rates.chance, messages.claimed, unexplained)
        if self.asked.any() and not self.none_known:
            absent = float(messages.none[self.asked].sum())
            self.none_share = float(np.clip((absent + 1) / (self.asked.sum() + 2), *_NONE_RANGE))
        unseen = messages.posterior @ self.connected.unseen
        missed, carried = learned.missed + unseen, learned.carried + unseen
        self.miss = np.clip((missed + 1) / (carried + 2), _MISS_RANGE[0], self.most_miss)
        for side in (0, 1):
            self._learn_unexplained(side, unexplained)
            if learned.delays[side].sum() >= _LAW_PACKETS:
                self.density[side] = unimodal(learned.delays[side], self.step_ns)

    def _learn_unexplained(self, side: int, unexplained: Floats) -> None:
        of = self.cell_up == side
        if not of.any():
            return
        of_direction = (unexplained[of].sum() + 1) / (self.cell_size[of].sum() + 2)
        number = np.bincount(self.cell_tunnel[of], weights=unexplained[of], minlength=self.tunnels)
        size = np.bincount(self.cell_tunnel[of], weights=self.cell_size[of], minlength=self.tunnels)
        of_tunnel = (number + _OF_DIRECTION * of_direction) / (size + _OF_DIRECTION)
        prior = _OF_TUNNEL * of_tunnel[self.cell_tunnel[of]]
        self.unexplained[of] = np.clip(
            (unexplained[of] + prior) / (self.cell_size[of] + _OF_TUNNEL), *_UNEXPLAINED_RANGE
        )

    def _given(self, rates: Rates, messages: Messages, best: Int32s, error: Floats) -> Messages:
        """The likeliest attribution of all at once, the surest first, as claims."""
        flows = np.flatnonzero(best >= 0).astype(np.int32)
        owned = self.containment.own(flows, best[flows], -error[flows])
        scratch = beside(self.cell)
        given = messages._replace(
            claim=scratch.empty(messages.claim.shape, np.float64),
            claimed=scratch.empty(messages.claimed.shape, np.float64),
            weight=scratch.empty(messages.weight.shape, np.float64),
        )
        give(self.graph, rates, given, owned.owner, self.room.scratch(np.zeros(0)))
        return given

    def _posterior(self, rates: Rates, messages: Messages) -> Posterior:
        graph, none = self.graph, messages.none
        pair_flow, posterior = graph.pair_flow, messages.posterior
        order = np.lexsort((posterior, pair_flow))
        last = order[np.r_[pair_flow[order][1:] != pair_flow[order][:-1], True]] if len(order) else order
        best_pair = np.full(self.flows, -1, np.int64)
        best_pair[pair_flow[last]] = last
        best = np.where(best_pair >= 0, np.r_[graph.pair_tunnel, np.int32(-1)][best_pair], np.int32(-1))
        # P(wrong) is summed from the alternatives: 1 - q would be lost below 1e-16.
        lesser = posterior.copy()
        lesser[last] = 0.0
        error = np.where(
            best_pair >= 0, np.bincount(pair_flow, weights=lesser, minlength=self.flows) + none, 1.0
        )
        heard = error.copy()
        candidates = np.flatnonzero((best_pair >= 0) & (error < 0.5))
        given = self._given(rates, messages, best.astype(np.int32), error)
        for others in (messages, given):
            beside_them = graph, rates, others, candidates, best_pair, self.room
            for some, worst in self.place.each(worst_errors, self.parts, *beside_them):
                error[some] = np.maximum(error[some], worst)
        error = np.minimum(error, 1.0)
        # What the checks take from the likeliest, the others have, in the shares that messages give them.
        raised = np.where(heard > 0.0, error / np.maximum(heard, 1e-300), 1.0)
        odds = _log_odds(np.minimum(posterior * raised[pair_flow], 1.0))
        of_best = np.maximum(error[pair_flow[last]], 1e-300)
        odds[last] = np.log(np.maximum(1 - of_best, 1e-300)) - np.log(of_best)
        down, up = np.log(self.miss[0:2])
        # ln 1 / (sum of all weights), known from P(none) and its share in it.
        share = np.log(np.maximum(none * raised, 1e-300)) - rates.log_none
        unlisted = rates.log_prior + self.connected.sought[0] * down + self.connected.sought[1] * up + share
        unlisted += self.hinted_elsewhere
        size = float(self.cell_size.sum())
        return Posterior(
            self.asked,
            best.astype(np.int32),
            error,
            pair_flow,
            graph.pair_tunnel,
            odds,
            np.minimum(unlisted, 0.0),
            rates.log_prior - np.log1p(-np.minimum(np.exp(rates.log_prior), 1 - 1e-12)),
            self._missing(best_pair),
            tuple(self.miss.tolist()),
            self.none_share,
            float((self.unexplained * self.cell_size).sum() / size) if size else 0.0,
            self.left_out,
        )

    def _missing(self, best_pair: Ints) -> Floats:
        """Share of each flow's packets that its best pair misses, as far as holes in a counter tell."""
        graph, having = self.graph, np.flatnonzero(best_pair >= 0)
        runs = np.diff(graph.group_runs[graph.pair_groups])
        of_run = np.repeat(np.arange(len(runs)), runs)
        seen = np.bincount(of_run * KINDS + graph.run_kind, minlength=len(runs) * KINDS)
        asked = (seen.reshape(-1, KINDS) + self.connected.unseen)[best_pair[having]]
        share = np.zeros(self.flows)
        share[having] = asked[:, 2:-2] @ self.miss[2:-2] / asked.sum(axis=1)
        return share


def _log_odds(p: Floats) -> Floats:
    p = np.clip(p, 1e-300, 1.0)
    return np.asarray(np.log(p) - np.log(np.maximum(1.0 - p, 1e-16)))
