"""What equal payloads add to a decision on relays that keep bytes.

The score of a pair is the decimal logarithm of how unlikely it is by chance, by construction (see
:mod:`vpnforensics.align.kept_bytes`). Flows and connections contend, each to be had once, or by none
(:mod:`vpnforensics.evidence.contest`): two clients may have asked for the same at one moment, and one of them
need not have been captured. How many flows are of none, those tell that share no payload with anybody. Of a
proxy that writes messages anew, exchanges contend; a flow is of a client if all of its exchanges are, and as
surely as all of them are together, and if they are of several clients, it is nobody's.

Where sizes and times find the same client likeliest, the odds that those leave are multiplied with what the
rarity of the bytes adds to them. Each flow has the smaller error of the two, and the surest are linked.

What sizes and times say of a client who had none of a flow's payloads is not believed: it would take that
all of them were lost. That holds where payloads are seen to be kept, and of an HTTP proxy for those that it
cannot write anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.kept_bytes import KEEPING, REWRITING, KeptBytes
from vpnforensics.arrays import Columns, Floats, Int32s, Ints
from vpnforensics.engines import exact
from vpnforensics.engines.case import Case
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.contest import Contest, settle_contest
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.listing import keys_of, list_pairs, rows_of
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import changes, places

_LEAST_PROVED = 5
"""Flows whose payloads were found, so that it is known that they are kept and captured."""
_LEAST_EXPECTED = 2
"""Payloads, all of which a capture loses in one of a thousand flows."""
_SURE = 300.0
"""Decades of odds that need not be told apart."""


def with_kept_bytes(case: Case, kept: KeptBytes, decision: Decision) -> Decision:
    """The decision with what equal payloads say.

    Parameters
    ----------
    case : Case
        Its tunnels are carriers, by whose numbers ``kept`` names them.
    kept : KeptBytes
    decision : Decision
        By writes, or undecided.
    """
    clients = len(case.tunnels)
    found = judge(kept, [t.number for t in case.tunnels.tunnels])
    odds = (1.0 - found.doubt) / np.maximum(found.doubt, 10.0**-_SURE)
    ratio = np.log10(np.maximum(odds * max(clients - 1, 1), 10.0**-_SURE))
    said = np.flatnonzero(ratio > 0).astype(np.int32)
    llr = np.minimum(ratio[said], np.log10(max(len(case.flows) * clients, 10)))
    doubt = found.doubt.copy()
    same = said[_likeliest(decision, len(case.flows))[said] == found.tunnel[said]]
    odds = decision.error[same] / np.maximum(1.0 - decision.error[same], 1e-9) * 10.0 ** -found.content[same]
    doubt[same] = np.minimum(doubt[same], odds / (1.0 + odds))
    doubt = np.maximum(doubt, decision.policy.least_error)
    rather = (doubt < 1) & ((decision.tunnel < 0) | (doubt < decision.error))
    tunnel = np.where(rather, found.tunnel, decision.tunnel).astype(np.int32)
    error = np.where(rather, doubt, decision.error)
    refuted = _refuted(case, kept, found, tunnel, int((doubt <= decision.policy.sure).sum()))
    tunnel[refuted], error[refuted] = -1, 1.0
    tunnel[~surest(np.where(tunnel < 0, 1.0, error), decision.policy.expected_false_links)] = -1
    rows = np.repeat(tunnel == decision.tunnel, np.diff(case.egress.start))
    notes = [
        f"{a} of {n} payloads found in connection {case.conversations.source(c)}"
        for a, n, c in zip(
            found.shared[said].tolist(),
            found.payloads[said].tolist(),
            found.connection[said].tolist(),
            strict=True,
        )
    ]
    voice = Voice(exact.NAME, ratio[said], llr, found.payloads[said].astype(np.int32), tuple(notes))
    mine = said.astype(np.int64) * clients + found.tunnel[said]
    keys = np.union1d(keys_of(case, decision.scores), mine)
    before, at = rows_of(case, decision.scores, keys), places(mine, keys)
    fused = np.fmax(np.r_[decision.llr, np.nan][before], np.r_[llr, np.nan][at])
    voices = [v.spread(before, "no writes alike") for v in decision.voices]
    voices.append(voice.spread(at, "no payloads of 24 bytes to compare, or none alike"))
    return replace(
        list_pairs(case, decision, keys, fused, voices),
        engine=decision.engine or exact.NAME,
        clients=found.clients,
        chance=np.where(ratio > 0, 1.0, decision.chance),
        comparisons_of=np.maximum(decision.comparisons_of, np.where(found.payloads > 0, clients, 0)),
        tunnel=tunnel,
        record=np.where(rows, decision.record, -1),
        error=error,
        null_comparisons=max(decision.null_comparisons, len(case.flows) * clients),
    )


@dataclass(frozen=True, eq=False)
class Judged(Columns):
    """Whose each flow is by its payloads, or each exchange."""

    tunnel: Int32s
    """The likeliest, -1 without."""
    doubt: Floats
    """Probability that it is another, or none; 1 without one."""
    connection: Ints
    """Of the ingress side, by its number in the flow table; of several that of the one least sure."""
    shared: Ints
    """Different payloads found in both."""
    content: Floats
    """Decimal logarithm of how rare they are among payloads of their sizes: added to sizes and times."""
    payloads: Ints
    """Those that are long enough."""
    clients: Ints
    """Of a flow: how many its exchanges are of, as far as that is told; 0 where it has none."""

    def together(self, of: Ints, flows: int) -> Judged:
        """Of each flow what its exchanges come to: it is of a client if all are, as surely as they are."""
        told = self.doubt < 0.5
        clients = np.bincount(np.unique(of[told] << 32 | self.tunnel[told]) >> 32, minlength=flows)
        found = Judged(
            np.full(flows, -1, np.int32),
            np.ones(flows),
            np.full(flows, -1, np.int64),
            np.zeros(flows, np.int64),
            np.zeros(flows),
            np.bincount(of, self.payloads, flows).astype(np.int64),
            clients,
        )
        order = np.lexsort((-self.doubt, of))
        leads = np.flatnonzero(changes(of[order]))
        if not len(leads):
            return found
        least, tunnel = order[leads], self.tunnel[order]
        one = np.minimum.reduceat(tunnel, leads) == np.maximum.reduceat(tunnel, leads)
        flow, least = of[least[one]], least[one]
        found.tunnel[flow], found.connection[flow] = self.tunnel[least], self.connection[least]
        found.doubt[flow] = np.minimum(np.add.reduceat(self.doubt[order], leads)[one], 1.0)
        found.shared[flow] = np.add.reduceat(self.shared[order], leads)[one]
        found.content[flow] = np.minimum.reduceat(self.content[order], leads)[one]
        return found

    def or_surer(self, other: Judged) -> Judged:
        """The surer of both for each flow; less sure by as much as the other is, where that is of another
        client.
        """
        rather = other.doubt < self.doubt
        chosen = [np.where(rather, getattr(other, c.name), getattr(self, c.name)) for c in fields(self)]
        found, against = Judged(*chosen), np.maximum(self.doubt, other.doubt)
        doubt = np.where(self.tunnel == other.tunnel, found.doubt, found.doubt / against)
        return replace(found, doubt=doubt, clients=other.clients)


def judge(kept: KeptBytes, numbers: Sequence[int]) -> Judged:
    """Whose each flow is, where flows and connections of equal payloads contend.

    Parameters
    ----------
    kept : KeptBytes
    numbers : sequence of int
        Of the tunnels, as ``kept`` names their carriers.
    """
    flows, units, pairs = len(kept.anew), len(kept.flow_of), kept.pairs
    number = {name: n for n, name in enumerate(numbers)}
    tunnel = np.array([number.get(n, -1) for n in kept.carrier_of.tolist()], np.int64)
    pairs = pairs.take(tunnel[pairs.conversation] >= 0)
    asked = np.bincount(kept.flow_of, kept.payloads, flows) > 0
    none = np.count_nonzero(asked) - len(np.unique(kept.flow_of[pairs.flow]))
    prior = np.log10((none + 1) / (np.count_nonzero(asked) - none + 1) * max(len(numbers), 1))
    contest = Contest(pairs.flow, pairs.conversation, tunnel[pairs.conversation], pairs.score - prior)
    outcome = settle_contest(contest, units, len(tunnel))
    row = places(pairs.flow << 32 | pairs.conversation, np.arange(units) << 32 | outcome.connection.clip(0))
    row[outcome.connection < 0] = -1
    each = Judged(
        outcome.tunnel.astype(np.int32),
        np.where(row >= 0, 1.0 / (1.0 + 10.0 ** outcome.claim.clip(-_SURE, _SURE)), 1.0),
        np.where(row >= 0, kept.connection_of[outcome.connection], -1),
        np.r_[pairs.shared, 0][row],
        np.r_[pairs.content, 0.0][row],
        kept.payloads,
        np.zeros(units, np.int64),
    )
    by_messages = each.take(np.arange(flows, units)).together(kept.flow_of[flows:], flows)
    return each.take(np.arange(flows)).or_surer(by_messages)


def _refuted(case: Case, kept: KeptBytes, found: Judged, tunnel: Int32s, proved: int) -> npt.NDArray[np.intp]:
    """Flows linked to a client whose connections had none of their payloads."""
    if proved < _LEAST_PROVED:
        return np.zeros(0, np.intp)
    protocol = np.array([t.protocol for t in case.tunnels.tunnels] + [""])[tunnel]
    expected = np.where(
        protocol == REWRITING, kept.anew, np.where(np.isin(protocol, KEEPING), found.payloads, 0)
    )
    return np.flatnonzero((tunnel >= 0) & (found.tunnel != tunnel) & (expected >= _LEAST_EXPECTED))


def _likeliest(decision: Decision, flows: int) -> npt.NDArray[np.int32]:
    """Tunnel of each flow's best listed pair, -1 without."""
    scores = decision.scores
    order = np.lexsort((-np.nan_to_num(decision.llr, nan=-np.inf), scores.flow))
    lead = order[changes(scores.flow[order])]
    likeliest = np.full(flows, -1, np.int32)
    likeliest[scores.flow[lead]] = scores.tunnel[lead]
    return likeliest
