"""A session worked on as a case: engines and fused as ``vpnf correlate`` has them, beside the truth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vpnforensics.align.alignment import Alignment
from vpnforensics.case import grouped, known_clock, make_case
from vpnforensics.engines.case import Case
from vpnforensics.errors import CaptureError, CaseError
from vpnforensics.evidence.decision import Decision
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.options import Options
from vpnforensics.packets.read import read_capture
from vpnforensics.sides import Progress, comparable, read_sides
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.validation.damage import Damage, degrade
from vpnforensics.validation.facts import Facts, facts_of
from vpnforensics.validation.labels import Labels, label
from vpnforensics.validation.sessions import Session
from vpnforensics.weighing import weigh


@dataclass(frozen=True, eq=False)
class Trial:
    """One case with its truth."""

    session: Session
    damage: Damage
    facts: Facts
    case: Case
    decision: Decision
    labels: Labels


@dataclass(frozen=True, slots=True)
class Failed:
    """A session of which no case could be made; it stands in the report with its reason."""

    session: Session
    damage: Damage
    reason: str


def try_session(session: Session, damage: Damage, options: Options, tell: Progress) -> Trial | Failed:
    """Work on one session, damaged so.

    Parameters
    ----------
    session : Session
    damage : Damage
    options : Options
    tell : callable
    """
    try:
        return _tried(session, damage, options, tell)
    except (CaptureError, CaseError, ValueError) as error:
        return Failed(session, damage, str(error))


Plan = Sequence[tuple[Session, Damage]]
"""What to work on: a session, and what is done to it first."""


def every(sessions: Sequence[Session], damages: Sequence[Damage]) -> Plan:
    """Every session under every damage.

    A damage ``without`` the name ``*`` leaves out one client, another for each seed. One capture of both
    sides has one tap and one clock: it is worked on without what befalls one side.
    """
    return [
        (session, _named(damage, session))
        for session in sessions
        for damage in damages
        if session.ingress != session.egress or not damage.of_one_side
    ]


def trials(plan: Plan, options: Options, tell: Progress) -> Iterator[Trial | Failed]:
    """The cases of a plan, one at a time: each is as large as its captures."""
    for number, (session, damage) in enumerate(plan):
        tell(f"working on {session.name}, damage {damage.text}", number / len(plan))
        yield try_session(session, damage, options, lambda step, done: None)


def _named(damage: Damage, session: Session) -> Damage:
    if damage.without != "*":
        return damage
    there = {row["client"] for row in session.truth["tunnels"] if row.get("captured", True)}
    carried = sorted({flow["client"] for flow in session.truth["flows"]} & there)
    return replace(damage, without=carried[damage.seed % len(carried)] if carried else "")


def labelled(session: Session, damage: Damage, options: Options) -> tuple[Case, Labels]:
    """The case of a session and its truth, not weighed.

    Raises
    ------
    CaptureError, CaseError
        As of :func:`try_session`'s reasons.
    """
    made = _made(session, damage, options, np.random.default_rng(options.seed), lambda step, done: None)
    return made.case, _labels(session, damage, made.case, made.first_ns)


class _Made(NamedTuple):
    case: Case
    clock: Alignment | None
    one: bool
    first_ns: int
    """From where on the damage's clock drifts."""


def _made(
    session: Session, damage: Damage, options: Options, rng: np.random.Generator, tell: Progress
) -> _Made:
    outer = read_capture(session.ingress)
    inner = outer if session.egress == session.ingress else read_capture(session.egress)
    damaged = degrade(outer, inner, damage)
    sides = read_sides(damaged.ingress, damaged.egress, tell)
    sides, _ = comparable(sides)
    flows: Future[FlowTable] = Future()
    flows.set_result(grouped(sides.egress))
    clock = known_clock(sides, options.same_clock)
    case, _ = make_case(sides, flows, clock, rng, tell)
    return _Made(case, clock, sides.are_one, damaged.first_ns)


def _tried(session: Session, damage: Damage, options: Options, tell: Progress) -> Trial:
    rng = np.random.default_rng(options.seed)
    made = _made(session, damage, options, rng, tell)
    weighed = weigh(made.case, options, rng, tell, clock=made.clock, one=made.one)
    if not len(weighed.case.tunnels):
        raise CaseError(f"{session.folder}: {_why_no_tunnels(weighed.case)}")
    labels = _labels(session, damage, weighed.case, made.first_ns)
    try:
        facts = facts_of(session, damage, weighed.case, labels, made.first_ns)
    except _FORM as error:
        raise _not_in_form(session, error) from error
    return Trial(session, damage, facts, weighed.case, weighed.decision, labels)


def _why_no_tunnels(case: Case) -> str:
    maybe = find_carriers(case.conversations, case.tunnels).tunnels
    if not maybe:
        return "no tunnel was found at ingress"
    kinds = ", ".join(sorted({each.protocol for each in maybe}))
    return (
        f"no tunnel was found at ingress: of {len(maybe)} that may be a relay's ({kinds}) none was proved by"
        f" its writes with {len(case.flows)} flows"
    )


_FORM = (KeyError, TypeError, AttributeError, OverflowError)
"""What a truth that has the required keys, and is in no known form all the same, may raise."""


def _labels(session: Session, damage: Damage, case: Case, first_ns: int) -> Labels:
    try:
        return label(case, session.truth, lambda ns: damage.shown(ns, first_ns) if damage.any else ns)
    except _FORM as error:
        raise _not_in_form(session, error) from error


def _not_in_form(session: Session, error: Exception) -> CaptureError:
    return CaptureError(session.folder / "truth.json", None, f"is not in the lab's form: {error!r}")
