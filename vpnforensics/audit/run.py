"""An audit, end to end: two captures in, how linkable their users are out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from vpnforensics.audit.adversary import Adversary
from vpnforensics.audit.copies.belonging import Belonging, NoCopyError, belonging
from vpnforensics.audit.leaks import find_leaks
from vpnforensics.audit.linkability import ALLOWED, Linkability, Owners, links_at, measure, owners_of
from vpnforensics.audit.measures import Measure, Strength, usual
from vpnforensics.audit.recording import Recording, read_recording
from vpnforensics.audit.result import AuditResult, Client, Effect
from vpnforensics.engines.registry import ENGINES
from vpnforensics.errors import CaseError
from vpnforensics.report.inputs import input_row
from vpnforensics.report.provenance import tool_row
from vpnforensics.sides import Capture, Progress
from vpnforensics.weighing import Weighed


def audit(
    ingress: Capture,
    egress: Capture | None = None,
    *,
    allowed: Sequence[float] = ALLOWED,
    strength: Strength | None = None,
    measures: Sequence[Measure] | None = None,
    seed: int = 0,
    by_client: bool = False,
    progress: Progress | None = None,
    argv: Sequence[str] | None = None,
) -> AuditResult:
    """How linkable the users behind a VPN server are, which fields leak, and what would lower it.

    Parameters
    ----------
    ingress, egress
        The two sides, as :func:`vpnforensics.correlate` takes them.
    allowed : sequence of float
        False links allowed in the whole case; shares are stated for each, effects for the first.
    strength : Strength, optional
        Of the usual countermeasures.
    measures : sequence of Measure, optional
        The countermeasures instead of the usual ones.
    seed : int
        Seeds all chance; the same inputs, options and seed give the same result.
    by_client : bool
        Name clients, with the number of their flows that are linked; otherwise nobody is named.
    progress : callable, optional
        Called with the name of a step and the share of it done.
    argv : sequence of str, optional
        The command line, for the record.

    Raises
    ------
    CaptureError
        A capture cannot be read.
    CaseError
        The captures hold no tunnels or no flows.
    """
    tell = progress or (lambda step, share: None)
    levels = tuple(sorted(set(allowed)))
    chosen = tuple(measures) if measures is not None else usual(strength or Strength())
    recording, warnings = read_recording(ingress, egress, tell)
    inputs = tuple(
        input_row(role, side) for role, side in (("ingress", recording.ingress), ("egress", recording.egress))
    )
    tell("as it is", 0.0)
    unsure = Adversary(knows_clocks=recording.are_one, seed=seed, allowed=max(levels))
    found = unsure.weigh(recording)
    if all(t.protocol == "plain" for t in found.case.tunnels.tunnels):
        raise CaseError(
            "the ingress side can be read as it is: there is no tunnel whose users could be hidden"
        )
    uninformed = measure(recording, unsure, allowed=levels)[1]
    effects, now, found, without = _measured(recording, found, uninformed, chosen, levels, seed, tell)
    return AuditResult(
        tool=tool_row({"allowed_false_links": list(levels)}, {}, seed, argv or ()),
        inputs=inputs,
        alignment=found.case.alignment.to_dict(),
        protocols=tuple(sorted({t.protocol for t in found.case.tunnels.tunnels})),
        allowed=levels,
        now=now,
        now_uninformed=uninformed,
        leaks=tuple(find_leaks(found, seed)),
        without_counters=without,
        effects=tuple(effects),
        clients=_clients(found, levels[0]) if by_client else (),
        warnings=tuple(warnings),
    )


def _measured(
    recording: Recording,
    found: Weighed,
    uninformed: Linkability,
    chosen: Sequence[Measure],
    levels: tuple[float, ...],
    seed: int,
    tell: Progress,
) -> tuple[list[Effect], Linkability, Weighed, Linkability | None]:
    """The effects, and the recording as it is for whoever knows the clocks; that needs the clocks aligned."""
    try:
        known = belonging(recording, found)
    except NoCopyError as error:
        return [Effect(m, None, None, str(error)) for m in chosen], uninformed, found, None
    straight = Recording(known.ingress, known.egress)
    informed, now = measure(straight, Adversary(seed=seed), allowed=levels)
    if informed is not None:
        found = informed
        known = belonging(straight, found)
    engines = tuple(e for e in ENGINES if e != "counters")
    without = measure(straight, Adversary(seed=seed, engines=engines), allowed=levels)[1]
    effects, owners = [], owners_of(found)
    for i, each in enumerate(chosen):
        tell(each.title, i / len(chosen))
        effects.append(effect_of(each, known, levels, owners, seed))
    return effects, now, found, without


def effect_of(
    each: Measure, known: Belonging, levels: tuple[float, ...], owners: Owners, seed: int
) -> Effect:
    """One countermeasure, measured on a copy."""
    try:
        copy = each.change.apply(known, seed)
    except NoCopyError as error:
        return Effect(each, None, None, str(error))
    best = Adversary(each.change.padding, known.rules, seed=seed)
    informed, uninformed = (
        measure(copy, who, allowed=levels, owners=owners)[1]
        for who in (best, replace(best, knows_clocks=False))
    )
    if each.change.is_paced:
        # Stacks number packets and read their clocks when sending; the copy's would do so at other times.
        still = measure(each.change.of_fields.apply(known, seed), Adversary(seed=seed), allowed=levels)[1]
        informed, uninformed = (
            replace(seen, tied=round(still.tied_share * seen.flows)) for seen in (informed, uninformed)
        )
    return Effect(each, informed, uninformed)


def _clients(found: Weighed, allowed: float) -> tuple[Client, ...]:
    linked = links_at(found, allowed)
    count = np.bincount(linked[linked >= 0], minlength=len(found.case.tunnels))
    return tuple(
        Client(tunnel.client, int(n)) for tunnel, n in zip(found.case.tunnels.tunnels, count, strict=True)
    )
