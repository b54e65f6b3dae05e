"""What an engine's scores come to: likelihood ratios for pairs, verdicts for flows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import IN_PIECES
from vpnforensics.arrays import Bools, Floats, Int32s, Ints
from vpnforensics.engines import exact as exact_engine
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines import writes as writes_engine
from vpnforensics.engines.case import LONGEST_STAY_NS, USUAL_MISS, Case, ScoreTable, concatenate
from vpnforensics.engines.containment import Containment
from vpnforensics.engines.exact import ExactMatches
from vpnforensics.engines.lookups import find_asked
from vpnforensics.evidence.attribution import Attribution, attribute, of_linked
from vpnforensics.evidence.calibration import Calibration, bounds, chance_cap, chance_slope
from vpnforensics.evidence.decoys import NO_DECOYS, Decoys
from vpnforensics.evidence.denial import chance_of_nothing, chance_of_so_little
from vpnforensics.evidence.lookups import hints_of, voice_of
from vpnforensics.evidence.observability import Observability, Why, at_work, observability, unproven
from vpnforensics.evidence.policy import Policy
from vpnforensics.evidence.voices import Voice
from vpnforensics.features.names.find import FlowNames
from vpnforensics.flows.grouping import changes, count_in_groups
from vpnforensics.packets.selection import leaves_out
from vpnforensics.scratch import beside, blocks


@dataclass(frozen=True, eq=False)
class Decision:
    """Scored pairs with their likelihood ratios, and the link of each flow."""

    engine: str
    scores: ScoreTable
    llr: Floats
    """log10 likelihood ratio of each scored pair."""
    chance: Floats
    """P(so little found of the flow in any tunnel | one of them carried it), of each flow."""
    comparisons_of: Ints
    """Tunnels each flow was compared with."""
    tunnel: Int32s
    """Linked tunnel of each flow, or -1."""
    record: npt.NDArray[np.signedinteger[Any]]
    """RecordTable row that carried each egress packet (rows as in EgressRows), or -1."""
    error: Floats
    """Stated probability that a flow's link is wrong, or of the likeliest one if it were made."""
    policy: Policy
    voices: tuple[Voice, ...]
    """What each engine says of the scored pairs."""
    delay_law: dict[str, Any]
    """Medians, 95 % points (up, down; ns) and the tabulated densities; empty without."""
    unlisted_llr: Floats
    """log10 likelihood ratio of each flow for every tunnel that is not listed; NaN where nothing was
    compared."""
    observability: Observability
    """Which packets of the flows the ingress capture could have shown."""
    null_comparisons: int = 0
    """Comparisons known to be false behind the likelihood ratios."""
    decoys: Decoys = NO_DECOYS
    most_llr: float = np.inf
    """The largest log10 likelihood ratio that those of them allow which claim too much."""
    clients: Ints | None = None
    """How many clients the requests of each flow came from, where a proxy mixes them; 0 where not known."""
    lent: str = ""
    """What calibration was lent to a case too small for its own, or why none was."""
    unheard: tuple[str, ...] = ()
    """Engines of other packages that do not work: a sentence each."""

    @property
    def expected_false_links(self) -> float:
        """Sum of the stated errors of the links."""
        return float(self.error[self.tunnel >= 0].sum())

    @property
    def comparisons(self) -> int:
        """Comparisons made in the whole case."""
        return int(self.comparisons_of.sum())

    def bounded(self) -> Bools:
        """Scored pairs whose likelihood ratio is as large as the comparisons behind it allow: it is
        ``>=``.
        """
        upper = min(self.most_llr, np.log10(max(self.null_comparisons, 1)))
        return np.asarray(self.llr >= upper - 1e-9)

    def verdicts(self) -> list[str]:
        """``linked``, ``no_tunnel`` or ``undecided``, of each flow; none is denied that evidence speaks for.

        The chance of so little counts packets alone; a likelihood ratio weighs which they are.
        """
        refuted = self.chance < self.policy.no_tunnel_chance
        refuted[self.scores.flow[self.llr > 0]] = False
        denied = np.where(refuted, "no_tunnel", "undecided")
        return list(np.where(self.tunnel >= 0, "linked", denied).tolist())


def undecided(case: Case, policy: Policy) -> Decision:
    """No engine had anything to go on."""
    none = np.zeros(0)
    return Decision(
        "",
        ScoreTable(none.astype(np.int32), none.astype(np.int32), none, none.astype(np.int32)),
        none,
        np.ones(len(case.flows)),
        np.zeros(len(case.flows), np.int64),
        np.full(len(case.flows), -1, np.int32),
        beside(case.egress.row).full(len(case.egress.row), -1, np.int32),
        np.ones(len(case.flows)),
        policy,
        (),
        {},
        np.full(len(case.flows), np.nan),
        observability(case),
    )


def decide_by_packets(
    case: Case,
    *,
    policy: Policy,
    rng: np.random.Generator,
    progress: Callable[[float], None] | None = None,
    names: Callable[[], FlowNames] | None = None,
) -> Decision:
    """Verdicts and likelihood ratios from joint attribution, of packets or, through relays, of writes; and of
    lookups, where ``names`` says what was asked for.
    """
    engine = writes_engine if case.by_writes else packets_engine
    containment = engine.prepare(case, at_work(case))
    if containment is None:
        return undecided(case, policy)
    alive = present(case, case.map_of_tunnel >= 0)
    table = observability(case)
    asked = find_asked(case.flows, names()) if names is not None else None
    found = attribute(
        containment,
        alive,
        policy=policy,
        rng=rng,
        progress=progress,
        hints=None if asked is None else lambda tunnel: hints_of(asked, tunnel, alive, policy.believed),
    )
    scores = _with_records(case, _listed(containment, found), found)
    sizes = np.diff(case.egress.start)[scores.flow]
    table = table.noted(_too_long(containment), Why.TOO_LONG)
    law = containment.law
    del containment  # as large as the captures
    miss = _miss_rate(case, found, table.seen)
    table = table.noted(unproven(case.egress.ts_ns, found.record), Why.UNPROVEN)
    lost = (case.map_of_tunnel < 0).any() or case.tunnels.lost_share > USUAL_MISS or case.by_writes
    table = replace(table, readable=not (lost or leaves_out(case.conversations.packets)))
    chance = chance_of_so_little(case, table, scores, miss)
    null_comparisons = _null_comparisons(found, alive)
    calibration = _calibration(found, null_comparisons)
    voices = [_voice(engine.NAME, scores, sizes, found, calibration)]
    if names is not None:
        voices.append(voice_of(found.hints, scores, calibration))
    return Decision(
        engine.NAME,
        scores,
        calibration.llr(_listed_llr(scores, found.llr, found.unlisted_llr)),
        chance,
        alive,
        found.tunnel,
        of_linked(found.record, found.tunnel >= 0, case.egress.start),
        found.error,
        policy,
        tuple(voices),
        {
            "median_ns": [round(law.median_ns[0]), round(law.median_ns[1])],
            "p95_ns": [round(law.p95_ns[0]), round(law.p95_ns[1])],
            "low_ns": law.low_ns,
            "step_ns": law.step_ns,
            "up": law.up,
            "down": law.down,
        },
        np.where(alive > 0, np.clip(found.unlisted_llr, calibration.lower, 0.0), np.nan),
        table,
        null_comparisons,
        found.decoys,
        calibration.upper,
    )


def _too_long(containment: Containment) -> Bools:
    """Packets that tunnels of each length map do not carry as one, shape (maps, packets)."""
    egress_class = containment.egress_class
    marks = beside(egress_class[0]).empty((len(egress_class), len(egress_class[0])), np.bool_)
    for rows in blocks(marks.shape[1]):
        for of_map, per_map in zip(marks, egress_class, strict=True):
            of_map[rows] = per_map[rows] == IN_PIECES
    return marks


def decide_by_exact(case: Case, matches: ExactMatches, client_of: Ints, *, policy: Policy) -> Decision:
    """Verdicts and likelihood ratios where both sides are readable.

    Parameters
    ----------
    case : Case
        Its tunnels are the ingress clients, its records all their packets.
    matches : ExactMatches
    client_of : ndarray of int64
        Client (tunnel number) of each ingress conversation, or -1.
    policy : Policy
    """
    flows, clients = len(case.flows), len(case.tunnels)
    comparisons_of = np.full(flows, clients, np.int64)
    allowed = policy.expected_false_links / max(flows * clients, 1)
    client = np.where(matches.conversation >= 0, client_of[matches.conversation], -1).astype(np.int32)
    listed = np.flatnonzero(client >= 0)
    scores = ScoreTable(
        listed.astype(np.int32),
        client[listed],
        matches.score[listed],
        matches.shared[listed].astype(np.int32),
    )
    # By chance a score s comes with probability 10^-s: it is one, by construction (see the engine).
    tunnel = np.where(matches.score >= -np.log10(allowed), client, -1).astype(np.int32)
    bound = np.log10(max(flows * clients, 10))
    record_of_row = np.full(len(case.conversations.packets), -1, np.int64)
    record_of_row[case.tunnels.records.row] = np.arange(len(case.tunnels.records))
    ingress_row = matches.ingress_row[case.egress.row]
    sizes = np.diff(case.egress.start)[listed]
    llr = np.clip(scores.score, -bound, bound)
    chance, table = _chance_unseen(case, matches, tunnel)
    return Decision(
        exact_engine.NAME,
        scores,
        llr,
        chance,
        comparisons_of,
        tunnel,
        np.where(ingress_row >= 0, record_of_row[ingress_row], -1),
        np.clip(10.0**-matches.score * max(clients, 1), policy.least_error, 1.0),
        policy,
        (Voice(exact_engine.NAME, scores.score, llr, sizes.astype(np.int32), _found(scores.hits, sizes)),),
        {},
        np.full(flows, -bound),
        table,
        flows * clients,
    )


def _chance_unseen(case: Case, matches: ExactMatches, tunnel: Int32s) -> tuple[Floats, Observability]:
    """P(no packet of the flow in the ingress capture | they went through it), of each flow; and the table."""
    comparable, found = (of[case.egress.row] for of in (matches.comparable, matches.seen))
    named = matches.ingress_row[case.egress.row] >= 0
    table = replace(observability(case), readable=not leaves_out(case.conversations.packets))
    table = table.noted(~comparable, Why.EMPTY)
    seen = table.seen[0]
    linked = np.repeat(tunnel >= 0, np.diff(case.egress.start)) & seen
    miss = float(np.mean(~found[linked])) if linked.any() else USUAL_MISS
    chance = chance_of_nothing(case, table, miss)
    chance[table.per_flow(found)[0] > 0] = 1.0  # a part was there; what the rest lacks is the capture's
    return chance, table.noted(found & ~named, Why.SHARED)


def present(case: Case, of: Bools | None = None) -> Ints:
    """Tunnels, or those ``of`` them, that may have carried packets at some time of each flow: its
    comparisons.
    """
    flows = case.flows
    counted = np.ones(len(case.tunnels), np.bool_) if of is None else of
    starts = np.sort(case.tunnels.first_ns[counted]) - LONGEST_STAY_NS
    ends = np.sort(case.tunnels.last_ns[counted]) + LONGEST_STAY_NS
    first = case.alignment.to_ingress(flows.first_ns)
    last = case.alignment.to_ingress(flows.last_ns)
    return np.searchsorted(starts, last, side="right") - np.searchsorted(ends, first, side="left")


def there(case: Case) -> Bools:
    """Which tunnels :func:`present` counts for each flow, shape (flows, tunnels)."""
    first_ns, last_ns = case.tunnels.first_ns - LONGEST_STAY_NS, case.tunnels.last_ns + LONGEST_STAY_NS
    begin, end = (case.alignment.to_ingress(ns) for ns in (case.flows.first_ns, case.flows.last_ns))
    return np.asarray((first_ns <= end[:, None]) & (begin[:, None] <= last_ns))


def _miss_rate(case: Case, found: Attribution, whole: Bools) -> float:
    """Share without a record of the packets that the linked flows' tunnels would have carried as one."""
    tunnel = beside(found.record).repeated(found.tunnel, case.egress.start)
    expected = missed = 0
    for rows in blocks(len(tunnel)):
        linked = np.flatnonzero(tunnel[rows] >= 0)
        linked = linked[whole[case.map_of_tunnel[tunnel[rows][linked]], rows.start + linked]]
        expected += len(linked)
        missed += int(np.count_nonzero(found.record[rows][linked] < 0))
    return missed / expected if expected else USUAL_MISS


def _with_records(case: Case, scores: ScoreTable, found: Attribution) -> ScoreTable:
    """The pairs; a link explains the packets that have their record, which may be more than the score saw."""
    having = count_in_groups(found.record, case.egress.start).astype(np.int32)
    linked = found.tunnel[scores.flow] == scores.tunnel
    hits = np.where(linked, np.maximum(scores.hits, having[scores.flow]), scores.hits)
    return replace(scores, hits=hits)


def _listed(containment: Containment, found: Attribution) -> ScoreTable:
    """Pairs worth reporting: every pair with evidence for it, and the best of each flow that has none."""
    without = np.ones(len(found.tunnel), np.bool_)
    without[found.pairs.flow] = False
    rest = containment.score(np.flatnonzero(without).astype(np.int32), thorough=True)
    rest = rest.take(np.lexsort((rest.tunnel, -rest.score, rest.flow)))
    return concatenate([found.pairs, rest.take(changes(rest.flow))])


def _null_comparisons(found: Attribution, alive: Ints) -> int:
    """Comparisons known to be false: of decoys, and of linked flows with the other tunnels there."""
    return found.decoys.comparisons + int((alive[found.tunnel >= 0] - 1).sum())


def _calibration(found: Attribution, null_comparisons: int) -> Calibration:
    """What chance and real competitors leave of the model's ratios; those against a pair are not doubted."""
    linked = found.tunnel[found.pairs.flow]
    competitors = found.llr[(linked >= 0) & (linked != found.pairs.tunnel)]
    false = np.r_[found.decoys.llr, competitors]
    lower, upper = bounds(null_comparisons, int((found.tunnel >= 0).sum()))
    upper = min(upper, chance_cap(false, null_comparisons))
    return Calibration(chance_slope(np.minimum(false, upper), null_comparisons), 1.0, lower, upper)


def _voice(
    engine: str, scores: ScoreTable, sizes: Ints, found: Attribution, calibration: Calibration
) -> Voice:
    llr = _listed_llr(scores, *found.by_packets)
    claim = calibration.unbounded(llr)
    found_of = _found(scores.hits, sizes, engine)
    return Voice(engine, scores.score, calibration.llr(llr), sizes.astype(np.int32), found_of, claim)


def _listed_llr(scores: ScoreTable, of_pairs: Floats, unlisted: Floats) -> Floats:
    """Of all pairs: of those that the attribution has, which come first, and of the others."""
    llr = unlisted[scores.flow]
    llr[: len(of_pairs)] = of_pairs
    return llr


def _found(hits: Int32s, sizes: Ints, what: str = "packets") -> tuple[str, ...]:
    return tuple(f"{h} of {n} {what} found" for h, n in zip(hits.tolist(), sizes.tolist(), strict=True))
