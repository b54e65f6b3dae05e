"""What volume adds to a decision: what flows need against what passed in their clients' streams.

Who had what is asked in :mod:`vpnforensics.evidence.owners`.

What the odds are worth is measured on two kinds of comparisons that are known to be false: copies of the
flows, turned in time, that contend with the case's flows; and the case without one of its clients, each in
turn, for what clients do at one moment is in no copy. No odds are believed further than both allow, nor, of
Tor, than the policy does.

Links by writes stand, and where volume has the same client the smaller error: both see the same bytes. One is
taken back where its flow does not find what it needs in the streams of its client, if that is rare: of a
client that was missing, one had found its writes with another. Of Tor, where few writes have partners, they
teach nothing, and are taken back wherever volume is not of their client. All other flows are linked in order
of the stated error, as far as the sum of errors allows. Nothing is denied.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.engines import volume as engine
from vpnforensics.engines.case import Case
from vpnforensics.engines.volume import Streams
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.calibration import LEAST_KNOWN, chance_beyond
from vpnforensics.evidence.connections import connections_of, of_one_law, shared, unlinked
from vpnforensics.evidence.contended import Contended, doubt, heard
from vpnforensics.evidence.contest import Contest, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.owners import SURE, Owners
from vpnforensics.tunnels.cells import CELLS
from vpnforensics.tunnels.needs import bytes_of

_TOR = "tor"


def with_volume(case: Case, decision: Decision, rng: np.random.Generator) -> Decision:
    """The decision with what volume says, where clients' streams carry many connections.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers.
    decision : Decision
        By writes, or by nothing.
    rng : numpy.random.Generator
        Draws clients, and turns the copies.
    """
    untaught = all(t.protocol == _TOR for t in case.tunnels.tunnels)
    every_one = np.arange(len(case.tunnels))
    streams = engine.prepare(case, every_one, CELLS) if untaught else _of_law(case, decision)
    if streams is None or streams.too_many:
        return decision
    flows, clients = len(case.flows), len(streams.clients)
    place = np.full(len(case.tunnels) + 1, -1)
    place[streams.clients] = np.arange(clients)
    asked = Owners(case, streams, place[np.full(flows, -1) if untaught else decision.tunnel], rng)
    found = asked.found
    if (found.chance > SURE).sum() < LEAST_KNOWN:
        return decision
    copies, without = asked.copies(), asked.without()
    tried, compared = len(copies), len(without) * (clients - 1)

    def believed(claim: Floats) -> Floats:
        of_copies = chance_beyond(claim, copies, tried * clients)
        worth = np.minimum(of_copies, chance_beyond(claim, without, compared))
        return np.minimum(worth, decision.policy.believed_untaught * claim) if untaught else worth

    having = np.diff(found.desk.asked.start)
    tunnel = streams.clients[found.likeliest]
    error = np.where(having > 0, np.maximum(doubt(believed(found.claim)), decision.policy.least_error), 1.0)
    elsewhere = (decision.tunnel >= 0) & ((found.chance < 0.5) | (tunnel != decision.tunnel))
    contradicted = elsewhere if untaught else asked.contradicted()
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
        comparisons_of=np.where(
            having > 0, np.maximum(decision.comparisons_of, clients), decision.comparisons_of
        ),
        null_comparisons=decision.null_comparisons + tried * clients + compared,
        decoys=replace(
            decision.decoys,
            tried=decision.decoys.tried + tried,
            linked=decision.decoys.linked + int((doubt(believed(copies)) <= worst).sum()),
            comparisons=decision.decoys.comparisons + tried * clients,
        ),
    )
    flow, client = np.divmod(np.arange(flows * clients), clients)
    decades = (found.score - np.log10(clients)).ravel()
    contest = Contest(flow, np.arange(len(flow)), streams.clients[client], decades).take(having[flow] > 0)
    outcome = replace(settle_contest(contest, flows, len(flow)), tunnel=tunnel, claim=found.claim)
    won = tuple(f"{n} needs against what passed in its streams" for n in having.tolist())
    silence = "in its streams nothing passed where the flow needs it"
    every, some = np.full(flows, clients), np.maximum(found.claim, 1e-3)
    slope = believed(some) / some
    return heard(
        case,
        decided,
        Contended(engine.NAME, contest, outcome, every, slope, linked, won, silence, having.astype(np.int32)),
    )


def _of_law(case: Case, decision: Decision) -> Streams | None:
    """Carriers of the law that most linked flows are under, if they carry many flows each."""
    if (decision.tunnel >= 0).sum() < LEAST_KNOWN or not shared(connections_of(case, decision)):
        return None
    tunnels, law = of_one_law(case, decision)
    if law.of_packets or law.of_frames:  # writes have all there is to know
        return None
    streams = engine.prepare(case, np.flatnonzero(tunnels), bytes_of(law))
    return None if streams is None else streams.moved(0, engine.slack_by(decision.delay_law))
