"""A decided case beside the kernel's account of who opened a connection: exact evidence, to check links."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.engines.case import Case
from vpnforensics.logs.matching import SLACK_NS
from vpnforensics.logs.session import Session, Translation, host_of
from vpnforensics.report.quantities import many
from vpnforensics.report.rows import PROTOCOL_NAMES

_NAMED = 5
"""Of many that do not agree, so many are named."""


class Translated:
    """The links against the kernel's own account of who opened a connection."""

    def __init__(
        self,
        case: Case,
        tunnel: npt.NDArray[np.integer[Any]],
        translations: Sequence[Translation],
        sessions_of: Sequence[Sequence[tuple[Session, int]]],
    ) -> None:
        self.ids = case.flows.ids
        self.inner = _inner_hosts(case, translations) if translations else {}
        self.home = _homes(tunnel, self.inner, sessions_of)
        linked = [flow for flow in self.inner if tunnel[flow] >= 0 and self.inner[flow] in self.home]
        self.agree = [flow for flow in linked if self.home[self.inner[flow]] == tunnel[flow]]
        self.contradict = [flow for flow in linked if self.home[self.inner[flow]] != tunnel[flow]]
        self.is_asked = bool(translations)

    def counts(self) -> dict[str, int] | None:
        """Flows that translations know; links that agree with them, and that do not."""
        if not self.is_asked:
            return None
        return {"flows": len(self.inner), "agree": len(self.agree), "contradict": len(self.contradict)}

    def findings(self) -> list[str]:
        """Links that contradict the kernel; translations that fit no flow."""
        if self.is_asked and not self.inner:
            return ["no translated connection of the logs is a flow of the egress capture"]
        told = [f"{self.ids[flow]} (opened by {self.inner[flow]})" for flow in self.contradict]
        return named(told, "link", "that the server's own translations contradict")


def _inner_hosts(case: Case, translations: Sequence[Translation]) -> dict[int, str]:
    """The inner address behind each flow, by the one translation of its tuple, or the nearest in time."""
    known: dict[tuple[str, str, str], list[Translation]] = {}
    for each in translations:
        known.setdefault((each.proto, each.outer, each.far), []).append(each)
    flows = case.flows
    candidates: dict[int, list[Translation]] = {}
    for flow in range(len(flows)):
        proto = PROTOCOL_NAMES.get(int(flows.proto[flow]), "")
        found = known.get((proto, flows.source(flow), flows.destination(flow)))
        if found:
            candidates[flow] = found
    apart = sorted(
        found[0].begin_ns - int(flows.first_ns[flow])
        for flow, found in candidates.items()
        if len(found) == 1 and found[0].begin_ns is not None
    )
    offset_ns = apart[len(apart) // 2] if apart else 0
    hosts = {}
    for flow, found in candidates.items():
        at_ns = int(flows.first_ns[flow]) + offset_ns
        nearest = min(found, key=lambda each: abs((each.begin_ns or at_ns) - at_ns))
        inner = {host_of(each.inner) for each in found}
        if len(inner) == 1 or abs((nearest.begin_ns or at_ns) - at_ns) < SLACK_NS:
            hosts[flow] = host_of(nearest.inner)
    return hosts


def _homes(
    tunnel: npt.NDArray[np.integer[Any]],
    inner: dict[int, str],
    sessions_of: Sequence[Sequence[tuple[Session, int]]],
) -> dict[str, int]:
    """The tunnel of each inner address: by the log that assigned it, else by most of its links."""
    assigned: dict[str, set[int]] = {}
    for t, sessions in enumerate(sessions_of):
        for session, _ in sessions:
            for address in session.assigned:
                assigned.setdefault(address, set()).add(t)
    votes: dict[str, dict[int, int]] = {}
    for flow, host in inner.items():
        if tunnel[flow] >= 0:
            count = votes.setdefault(host, {})
            count[int(tunnel[flow])] = count.get(int(tunnel[flow]), 0) + 1
    homes = {host: max(count, key=lambda t: (count[t], -t)) for host, count in votes.items()}
    return homes | {host: next(iter(ts)) for host, ts in assigned.items() if len(ts) == 1}


def named(told: Sequence[str], noun: str, what: str) -> list[str]:
    """One sentence for all that do not agree, with the first of them by name."""
    if not told:
        return []
    more = f" and {len(told) - _NAMED:,} more" if len(told) > _NAMED else ""
    return [f"{many(len(told), noun)} {what}: {', '.join(told[:_NAMED])}{more}"]
