"""What cells seen against cells needed add to a decision, of clients of Tor.

Who had whose cells is asked in :mod:`vpnforensics.evidence.cell_owners`.

What the odds are worth is measured on two kinds of comparisons that are known to be false: copies of the
flows, turned in time, that contend with the case's flows; and the case without one of its clients, each in
turn. No odds are believed further than both allow, nor than the policy believes; those of flows with large
needs by themselves, for copies of whole transfers claim more than others ever do.

Where a link by writes has the same client, the smaller error stands: both see the same cells. Where cells are
sure of another client, or of none, it is taken back. All other flows are linked in order of the stated error,
as far as the sum of errors allows. Nothing is denied.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpnforensics.engines import cells as engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, chance_slope
from vpnforensics.evidence.cell_owners import SURE, Owners
from vpnforensics.evidence.connections import unlinked
from vpnforensics.evidence.contended import Contended, doubt, heard
from vpnforensics.evidence.contest import Contest, settle_contest
from vpnforensics.evidence.decision import Decision


def with_cells(case: Case, decision: Decision, rng: np.random.Generator) -> Decision:
    """The decision with what cells say, where all tunnels are clients of Tor and nothing else has spoken.

    Parameters
    ----------
    case : Case
    decision : Decision
    rng : numpy.random.Generator
        Turns the copies.
    """
    if any(t.protocol != engine.PROTOCOL for t in case.tunnels.tunnels):
        return decision
    tor = engine.prepare(case)
    if tor is None or tor.too_many:
        return decision
    asked = Owners(case, tor, rng)
    found, clients = asked.found, len(tor.clients)
    if (found.chance > SURE).sum() < LEAST_KNOWN:
        return decision
    copies, copied = asked.copies()
    without, gone = asked.without()
    tried, compared, slope = len(copies), len(without) * (clients - 1), np.zeros(len(case.flows))
    whole = np.ones(len(case.flows), np.bool_)
    for mine in (whole, asked.large, ~asked.large):
        of_copies, of_missing = copies[mine[copied]], without[mine[gone]]
        if mine is not whole and min(len(of_copies), len(of_missing)) < LEAST_KNOWN:
            continue  # too few by themselves: as all are
        slope[mine] = min(
            decision.policy.believed_contended,
            chance_slope(of_copies, len(of_copies) * clients),
            chance_slope(of_missing, len(of_missing) * (clients - 1)),
        )
    having = np.diff(found.desk.asked.start)
    tunnel = tor.clients[found.likeliest]
    error = np.where(having > 0, np.maximum(doubt(slope * found.claim), decision.policy.least_error), 1.0)
    linked_before = decision.tunnel >= 0
    contradicted = linked_before & ((found.chance < 0.5) | (tunnel != decision.tunnel))
    decision = unlinked(case, decision, contradicted)
    stands = decision.tunnel >= 0
    decision = replace(decision, error=np.where(stands, np.minimum(decision.error, error), decision.error))
    open_ = np.where(stands | contradicted, 1.0, error)
    linked = surest(open_, decision.policy.expected_false_links - decision.expected_false_links)
    worst = float(open_[linked].max(initial=0.0))
    decided = replace(
        decision,
        engine=decision.engine or engine.NAME,
        tunnel=np.where(linked, tunnel, decision.tunnel).astype(np.int32),
        error=np.where(linked, error, decision.error),
        comparisons_of=np.where(having > 0, clients, decision.comparisons_of),
        null_comparisons=decision.null_comparisons + tried * clients + compared,
        decoys=replace(
            decision.decoys,
            tried=decision.decoys.tried + tried,
            linked=decision.decoys.linked + int((doubt(slope[copied] * copies) <= worst).sum()),
            comparisons=decision.decoys.comparisons + tried * clients,
        ),
    )
    flow, client = np.divmod(np.arange(len(having) * clients), clients)
    decades = (found.score - np.log10(clients)).ravel()
    contest = Contest(flow, np.arange(len(flow)), tor.clients[client], decades).take(having[flow] > 0)
    outcome = replace(settle_contest(contest, len(having), len(flow)), tunnel=tunnel, claim=found.claim)
    won = tuple(f"{n} needs against the cells of its streams" for n in having.tolist())
    silence = "its streams had no cells where the flow needs them"
    every = np.full(len(having), clients)
    return heard(
        case,
        decided,
        Contended(engine.NAME, contest, outcome, every, slope, linked, won, silence, having.astype(np.int32)),
    )
