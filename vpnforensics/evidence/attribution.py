"""Which tunnel carried which flow: the strong first, the rest jointly, links by their summed error.

1. Long flows that only one tunnel can have carried leave with their records
   (:mod:`vpnforensics.evidence.joint.placing`).
2. All others are attributed jointly to what is left (:mod:`vpnforensics.evidence.joint.model`).
3. Flows are linked to their likeliest tunnels in order of their error, the stated probability that the link
   is wrong, until the sum of the errors reaches what is allowed for the case.
4. Copies of the flows, turned in time, go through the same model: the rate at which they would be linked
   stands beside the stated one, and where the model is sure of several, no error is stated below their
   share (:mod:`vpnforensics.evidence.decoys`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines.case import ScoreTable, concatenate
from vpnforensics.engines.containment import Containment
from vpnforensics.evidence.decoys import Decoys, try_decoys
from vpnforensics.evidence.joint.hints import Hints
from vpnforensics.evidence.joint.model import Posterior, solve
from vpnforensics.evidence.joint.placing import place_strong
from vpnforensics.evidence.joint.served_last import share_when_last
from vpnforensics.evidence.policy import Policy
from vpnforensics.scratch import beside, blocks

_NOT_LINKED = 0.5
"""Error from which on a flow is likelier not in its likeliest tunnel than there."""
_LARGE = 0.03
"""An error that is stated halfway between its multiple and itself."""
_TINY = 1e-300
"""Stands for an error of 0, of which there is no logarithm."""
_LN10 = float(np.log(10.0))

GiveHints = Callable[[Int32s], Hints | None]


@dataclass(frozen=True, eq=False)
class Attribution:
    """Outcome of linking; arrays have one entry a flow unless said otherwise."""

    tunnel: Int32s
    """Linked tunnel, or -1."""
    error: Floats
    """Stated probability that the likeliest tunnel, linked or not, did not carry the flow."""
    record: Int32s
    """RecordTable row that carried each egress packet of linked flows (rows as in EgressRows), or -1."""
    decoys: Decoys
    pairs: ScoreTable
    """Pairs with evidence for them, first look; and each flow's likeliest."""
    llr: Floats
    """log10 likelihood ratio of each of the pairs, as the model has it: neither calibrated nor bounded."""
    unlisted_llr: Floats
    """Likewise of each flow in any tunnel that is not listed."""
    by_packets: tuple[Floats, Floats]
    """Both, without hints."""
    hints: Hints | None
    """What else the model was told."""


def attribute(
    containment: Containment,
    alive: npt.NDArray[np.int64],
    *,
    policy: Policy,
    rng: np.random.Generator,
    progress: Callable[[float], None] | None = None,
    hints: GiveHints | None = None,
) -> Attribution:
    """Link flows to tunnels.

    Parameters
    ----------
    containment : Containment
    alive : ndarray of int64, shape (flows,)
        Tunnels present during each flow: its comparisons.
    policy : Policy
    rng : numpy.random.Generator
        Turns the decoys, on which no link depends unless the model is sure of several of them.
    progress : callable, optional
        Called with the share done.
    hints : callable, optional
        Called with the tunnel of each flow that is sure, -1 of others: what that says of the others.
    """
    tell = progress or (lambda share: None)
    settled = _settle(containment, alive, policy, hints=hints)
    tell(0.5)
    likely = surest(settled.error, policy.expected_false_links)

    def with_copies(extended: Containment, copies: Int32s) -> tuple[Floats, Floats]:
        flows = len(alive)
        found = _settle(extended, np.r_[alive, alive[copies]], policy, settled.posterior.none_share)
        llr, _ = _likelihood_ratios(found.pairs, found, policy)
        return found.error[flows:], llr[found.pairs.flow >= flows]

    worst = float(settled.error[likely].max(initial=0.0))
    decoys = try_decoys(containment, alive, with_copies, worst, policy, rng)
    tell(0.9)
    error = np.maximum(settled.error, decoys.least_error)
    linked = surest(error, policy.expected_false_links)
    record = _records(settled, linked)
    pairs = _listed(containment, settled.pairs, settled.likeliest)
    llr, unlisted = _likelihood_ratios(pairs, settled, policy)
    by_packets = _likelihood_ratios(pairs, replace(settled, posterior=settled.by_packets), policy)
    return Attribution(
        np.where(linked, settled.likeliest, -1).astype(np.int32),
        error,
        record,
        decoys,
        pairs,
        llr,
        unlisted,
        by_packets,
        settled.hints,
    )


@dataclass(frozen=True, eq=False)
class _Settled:
    """A case attributed: each flow's likeliest tunnel and the error of it."""

    pairs: ScoreTable
    """First look at all flows."""
    posterior: Posterior
    by_packets: Posterior
    """Without hints."""
    hints: Hints | None
    jointly: npt.NDArray[np.bool_]
    """Flows that the joint model decided; the others were placed before, or have no tunnel to be in."""
    kept: Floats
    """Share of its evidence that each flow keeps when it is served last."""
    likeliest: Int32s
    error: Floats
    record: Int32s
    """RecordTable row of each packet of the flows that have left with their records, or -1."""
    left: npt.NDArray[np.bool_]
    """Those flows."""
    rest: Containment
    """The case without those records."""


def _settle(
    containment: Containment,
    alive: npt.NDArray[np.int64],
    policy: Policy,
    none_share: float | None = None,
    hints: GiveHints | None = None,
) -> _Settled:
    """The strong first, the others jointly, and the unsure of those once more, without the sure ones.

    In a burst of equal packets each flow's claims are diluted by all the others': every one could do with
    another's record. Once the surest have left with theirs, what the rest need is what is left; and what the
    sure do may hint at whose the others are.

    The model compares, and takes packets for independent: of a long flow whose tunnel was not captured, the
    half that finds records no other flow needs (a stall leaves them by the dozen) outweighs the half that
    does not. So no error of a long flow is stated below what the containment score leaves to chance, which
    counts all records and asks for nearly all packets; but where much cannot be read, as the tunnel's counter
    says, which asks for too many. Of packets in a relay's writes so many miss partners that two of four may
    be another client's lookup: there no flow is believed beyond its score. Nor does the model ask whether
    there is one flow too many in a tunnel at a moment: so of none more is believed than it keeps when it is
    served last.

    Flows that the model was not asked about, because too many records are in reach of each packet, are linked
    only if they are strong.
    """
    sizes = np.diff(containment.egress.start)
    placed = place_strong(containment, np.flatnonzero(alive > 0).astype(np.int32), policy)
    rest, record = placed.rest, placed.record
    jointly = (placed.tunnel < 0) & (alive > 0)
    # Of long ones, packets that only continue a burst cost much there and say little.
    short = sizes <= policy.every_packet
    posterior = solve(rest, _telling(containment, jointly, short), alive, none_share)
    jointly &= posterior.asked
    sure = jointly & (posterior.error < policy.sure)
    by_packets, told = posterior, None
    if sure.any():
        flows = np.flatnonzero(sure).astype(np.int32)
        owned = rest.own(flows, posterior.best[flows], -posterior.error[flows])
        rest = rest.take_out(flows, owned, record)
        unsure = _telling(containment, jointly & ~sure, short)
        later = solve(rest, unsure, alive, posterior.none_share)
        by_packets = posterior.completed_by(later, sure | ~later.asked)
        if hints is not None:
            told = hints(np.where(sure, posterior.best, placed.tunnel).astype(np.int32))
        if told is not None:
            later = solve(rest, unsure, alive, posterior.none_share, told)
        posterior = posterior.completed_by(later, sure | ~later.asked)
    likeliest = np.where(jointly, posterior.best, placed.tunnel).astype(np.int32)
    by_margin = 10.0 ** (-policy.believed * np.maximum(placed.margin, 0.0))
    error = np.where(jointly, _stated(posterior.error, policy.understated), by_margin)
    scored = jointly & (posterior.missing < policy.unread)
    scored &= (sizes >= policy.long) | containment.of_packets
    error = np.where(
        scored, np.maximum(error, _by_score(containment, placed.pairs, likeliest, scored)), error
    )
    nowhere = jointly & (posterior.error >= _NOT_LINKED)
    kept = _kept(containment, placed.pairs, likeliest, error, nowhere, policy)
    error = np.where(likeliest >= 0, np.maximum(error**kept, policy.least_error), 1.0)
    left = sure | (placed.tunnel >= 0)
    return _Settled(
        placed.pairs, posterior, by_packets, told, jointly, kept, likeliest, error, record, left, rest
    )


def _kept(
    containment: Containment,
    pairs: ScoreTable,
    likeliest: Int32s,
    error: Floats,
    nowhere: Bools,
    policy: Policy,
) -> Floats:
    """Share of its evidence that each flow keeps when it is served last, beside those that are nowhere and
    stand first in its tunnel; 1 where all packets look alike, for decoys tell there what evidence is worth,
    and of writes, many of which lack a partner in their own tunnel.
    """
    if containment.classes.all_padded or containment.of_writes:
        return np.ones(len(error))
    row, lead = pairs.best(len(error))
    rivals = np.flatnonzero(nowhere & (lead > 0.0))
    tunnel = np.where(error < _NOT_LINKED, likeliest, np.int32(-1))
    decades = -np.log10(np.maximum(error, _TINY))
    tunnel[rivals], decades[rivals] = pairs.tunnel[row[rivals]], policy.believed * lead[rivals]
    return share_when_last(containment, tunnel, decades, rivals)


def _telling(containment: Containment, flows: Bools, short: Bools) -> Bools:
    """The packets of some flows that the model looks for, of ``short`` flows all; none of which no tunnel
    would have a record: flows of nothing else say nothing of how many are in no tunnel.
    """
    start, fresh = containment.egress.start, containment.fresh
    wanted = beside(fresh).repeated(flows, start)
    every = beside(fresh).repeated(short, start)
    for rows in blocks(len(wanted)):
        carried = np.max([of[rows] for of in containment.egress_class], axis=0) != IN_PIECES
        wanted[rows] &= (every[rows] | (fresh[rows] > 0)) & carried
    return wanted


def _stated(error: Floats, times: float) -> Floats:
    """The model's errors as they are stated: small ones so many times, large ones as they are."""
    return np.minimum(error * (1 + (times - 1) / (1 + error / _LARGE)), 1.0)


def _by_score(containment: Containment, pairs: ScoreTable, tunnel: Int32s, scored: Bools) -> Floats:
    """What the score of each of the flows ``scored`` in its tunnel leaves to chance, at most 1.

    A pair may have none yet: the first look leaves out tunnels with few of a flow's rarest packets, which are
    what a relay writes as one.
    """
    score = np.zeros(len(tunnel))
    pairs = _listed(containment, pairs, np.where(scored, tunnel, np.int32(-1)))
    its = pairs.tunnel == tunnel[pairs.flow]
    score[pairs.flow[its]] = pairs.score[its]
    return np.asarray(10.0 ** -np.maximum(score, 0.0))


def surest(error: Floats, allowed: float) -> npt.NDArray[np.bool_]:
    """The flows of the least errors whose sum is at most ``allowed``; none that is likelier wrong than
    right.
    """
    order = np.argsort(error, kind="stable")
    within = np.cumsum(error[order]) <= allowed
    linked = np.zeros(len(error), np.bool_)
    linked[order[within]] = True
    return linked & (error < _NOT_LINKED)


def _records(settled: _Settled, linked: npt.NDArray[np.bool_]) -> Int32s:
    """RecordTable row of each egress packet of the linked flows, or -1."""
    record = settled.record
    late = np.flatnonzero(linked & ~settled.left).astype(np.int32)
    if len(late):
        owned = settled.rest.own(late, settled.likeliest[late], -settled.error[late])
        settled.rest.take_out(late, owned, record)
    return of_linked(record, linked, settled.rest.egress.start)


def of_linked(record: Int32s, linked: Bools, start: Ints) -> Int32s:
    """The records of linked flows' packets, -1 of others."""
    scratch = beside(record)
    of_packet = scratch.repeated(linked, start)
    return scratch.filled(
        len(record), np.int32, lambda rows: np.where(of_packet[rows], record[rows], np.int32(-1))
    )


def _listed(containment: Containment, pairs: ScoreTable, likeliest: Int32s) -> ScoreTable:
    """The pairs, and each flow's likeliest where it is not among them."""
    some, tunnels = np.flatnonzero(likeliest >= 0), containment.tunnels
    known = np.isin(_keys(some, likeliest[some], tunnels), _keys(pairs.flow, pairs.tunnel, tunnels))
    flow = some[~known].astype(np.int32)
    none = np.zeros(len(flow))
    more = ScoreTable(flow, likeliest[flow], none, none.astype(np.int32))
    return concatenate([pairs, containment.score_again(more)])


def _keys(flow: Ints | Int32s, tunnel: Int32s, tunnels: int) -> Ints:
    """One number a pair."""
    return flow.astype(np.int64) * tunnels + tunnel


def _likelihood_ratios(pairs: ScoreTable, settled: _Settled, policy: Policy) -> tuple[Floats, Floats]:
    """Posterior odds over prior odds of every pair, and of the unlisted pairs of every flow; log10."""
    posterior, jointly = settled.posterior, settled.jointly
    # Of flows placed before: by score, as far as that is believed.
    row, lead = pairs.best(len(jointly))
    best = np.where(row >= 0, np.r_[pairs.score, 0.0][row], 0.0)
    is_best = row[pairs.flow] == np.arange(len(pairs))
    llr = policy.believed * np.where(is_best, lead[pairs.flow], pairs.score - best[pairs.flow])
    unlisted = -policy.believed * best
    # Of the others: by the model; a pair that is not in its graph is one without any packet in common.
    unlisted = np.where(jointly, (posterior.unlisted_odds - posterior.log_prior) / _LN10, unlisted)
    tunnels = settled.rest.tunnels
    known = np.r_[_keys(posterior.pair_flow, posterior.pair_tunnel, tunnels), np.iinfo(np.int64).max]
    wanted = _keys(pairs.flow, pairs.tunnel, tunnels)
    at = np.searchsorted(known, wanted)
    odds = np.r_[posterior.pair_odds, 0.0][at] - posterior.log_prior[pairs.flow]
    of_model = np.where(known[at] == wanted, odds / _LN10, unlisted[pairs.flow])
    return settled.kept[pairs.flow] * np.where(jointly[pairs.flow], of_model, llr), settled.kept * unlisted
