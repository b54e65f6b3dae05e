"""What equal payloads add to a decision on relays that keep bytes.

The score of a pair is the decimal logarithm of how unlikely it is by chance, by construction (see
:mod:`vpnforensics.align.kept_bytes`), so that it is a likelihood ratio as those of the engine ``exact`` are.
Where it is beyond what all comparisons of the case allow, the flow is linked; that outweighs a link by sizes
and times to another client. Where it is not, but sizes and times find the same client likeliest, the odds
that those leave are multiplied with what the bytes add to them, and the surest are linked.

What sizes and times say of a client who had none of a flow's payloads is not believed: it would take that
all of them were lost. That holds where payloads are seen to be kept, and of an HTTP proxy for those that it
cannot write anew.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.kept_bytes import KEEPING, REWRITING, KeptBytes
from vpnforensics.engines import exact
from vpnforensics.engines.case import Case
from vpnforensics.evidence.attribution import surest
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.listing import keys_of, list_pairs, rows_of
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.grouping import changes, places

_LEAST_PROVED = 5
"""Flows whose payloads were found, so that it is known that they are kept and captured."""
_LEAST_EXPECTED = 2
"""Payloads, all of which a capture loses in one of a thousand flows."""


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
    number = {t.number: n for n, t in enumerate(case.tunnels.tunnels)}
    carrier = np.array([number.get(n, -1) for n in kept.carrier.tolist()], np.int32)
    said = np.flatnonzero((carrier >= 0) & (kept.score > 0)).astype(np.int32)
    bound = np.log10(max(len(case.flows) * clients, 10))
    llr = np.clip(kept.score[said], 0.0, bound)
    compared = int((kept.payloads > 0).sum()) * clients
    allowed = decision.policy.expected_false_links / max(compared, 1)
    linked = said[kept.score[said] >= -np.log10(allowed)]
    tunnel, error = decision.tunnel.copy(), decision.error.copy()
    tunnel[linked] = carrier[linked]
    error[linked] = np.clip(10.0 ** -kept.score[linked] * clients, decision.policy.least_error, 1.0)
    refuted = _refuted(case, kept, carrier, tunnel, len(linked))
    tunnel[refuted], error[refuted] = -1, 1.0
    same = said[(tunnel[said] < 0) & (_likeliest(decision, len(tunnel))[said] == carrier[said])]
    odds = error[same] / np.maximum(1.0 - error[same], 1e-9) * 10.0 ** -kept.content[same]
    doubt = np.ones(len(tunnel))
    doubt[same] = np.maximum(odds / (1.0 + odds), decision.policy.least_error)
    left = decision.policy.expected_false_links - float(error[tunnel >= 0].sum())
    more = np.flatnonzero(surest(doubt, left))
    tunnel[more], error[more] = carrier[more], doubt[more]
    rows = np.repeat(tunnel == decision.tunnel, np.diff(case.egress.start))
    notes = [
        f"{a} of {n} payloads found in connection {case.conversations.source(c)}"
        for a, n, c in zip(
            kept.shared[said].tolist(),
            kept.payloads[said].tolist(),
            kept.connection[said].tolist(),
            strict=True,
        )
    ]
    voice = Voice(exact.NAME, kept.score[said], llr, kept.payloads[said].astype(np.int32), tuple(notes))
    mine = said.astype(np.int64) * clients + carrier[said]
    keys = np.union1d(keys_of(case, decision.scores), mine)
    before, at = rows_of(case, decision.scores, keys), places(mine, keys)
    fused = np.fmax(np.r_[decision.llr, np.nan][before], np.r_[llr, np.nan][at])
    voices = [v.spread(before, "no writes alike") for v in decision.voices]
    voices.append(voice.spread(at, "no payloads of 24 bytes to compare, or none alike"))
    return replace(
        list_pairs(case, decision, keys, fused, voices),
        engine=decision.engine or exact.NAME,
        chance=np.where(kept.score > 0, 1.0, decision.chance),
        comparisons_of=np.maximum(decision.comparisons_of, np.where(kept.payloads > 0, clients, 0)),
        tunnel=tunnel,
        record=np.where(rows, decision.record, -1),
        error=error,
        null_comparisons=max(decision.null_comparisons, len(case.flows) * clients),
    )


def _refuted(
    case: Case,
    kept: KeptBytes,
    carrier: npt.NDArray[np.int32],
    tunnel: npt.NDArray[np.int32],
    proved: int,
) -> npt.NDArray[np.intp]:
    """Flows linked to a client whose connections had none of their payloads."""
    if proved < _LEAST_PROVED:
        return np.zeros(0, np.intp)
    protocol = np.array([t.protocol for t in case.tunnels.tunnels] + [""])[tunnel]
    expected = np.where(
        protocol == REWRITING, kept.anew, np.where(np.isin(protocol, KEEPING), kept.payloads, 0)
    )
    return np.flatnonzero((tunnel >= 0) & (carrier != tunnel) & (expected >= _LEAST_EXPECTED))


def _likeliest(decision: Decision, flows: int) -> npt.NDArray[np.int32]:
    """Tunnel of each flow's best listed pair, -1 without."""
    scores = decision.scores
    order = np.lexsort((-np.nan_to_num(decision.llr, nan=-np.inf), scores.flow))
    lead = order[changes(scores.flow[order])]
    likeliest = np.full(flows, -1, np.int32)
    likeliest[scores.flow[lead]] = scores.tunnel[lead]
    return likeliest
