"""Why a flow was not linked, in a sentence: what stood in the way, and what would have been needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.report.quantities import many


def reasons(case: Case, decision: Decision) -> list[str | None]:
    """The result contract's ``why`` of each flow; None for a linked one."""
    if not case.alignment.usable:
        return _unlinked(decision, [f"the clocks are not aligned: {case.alignment.reason}"] * len(case.flows))
    if not decision.engine:
        return _unlinked(decision, ["no engine had anything to go on"] * len(case.flows))
    has_candidate = np.zeros(len(case.flows), np.bool_)
    has_candidate[decision.scores.flow[~np.isnan(decision.llr)]] = True
    clients = np.zeros(len(case.flows), np.int64) if decision.clients is None else decision.clients
    said = []
    for verdict, compared, chance, error, candidate, unseen, of in zip(
        decision.verdicts(),
        decision.comparisons_of.tolist(),
        decision.chance.tolist(),
        decision.error.tolist(),
        has_candidate.tolist(),
        decision.observability.words(),
        clients.tolist(),
        strict=True,
    ):
        if of > 1:
            said.append(f"its requests came from {of} clients")
        elif verdict == "no_tunnel":
            said.append(
                f"had one of the {many(compared, 'tunnel')} there carried it, so little of it would be found"
                f" with probability {chance:.1g}"
            )
        elif not compared:
            said.append("no tunnel was there at its time")
        elif candidate and error < 1:
            said.append(
                f"a link to its likeliest tunnel would be wrong with probability {error:.2g}, more than is"
                " left of what the case allows"
            )
        else:
            said.append(
                "no tunnel had packets of its lengths near its times, and "
                + (unseen or "it is too short to say that none carried it")
            )
    return _unlinked(decision, said)


def _unlinked(decision: Decision, said: Sequence[str]) -> list[str | None]:
    linked = (decision.tunnel >= 0).tolist()
    return [None if yes else why for yes, why in zip(linked, said, strict=True)]
