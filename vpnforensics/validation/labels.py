"""What is true of a case: which tunnel carried which of its flows, by the truth beside the captures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Ints
from vpnforensics.engines.case import Case
from vpnforensics.report.endpoints import parted
from vpnforensics.validation.sessions import endpoints, sent_by_the_server

UNKNOWN = -1
NO_CLIENT = -2
"""Sent by no client: the server's own."""
_APART_NS = 5_000_000_000
"""A flow of the case is one of the truth's if it began within that one's time, give or take this."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Clients by number, of the truth's flows and of the case's tunnels."""

    clients: tuple[str, ...]
    of_flow: Ints
    """Client of each flow of the case, :data:`NO_CLIENT` or :data:`UNKNOWN`."""
    of_tunnel: Ints
    """Client of each tunnel of the case, or :data:`UNKNOWN`."""

    @property
    def known(self) -> Bools:
        """Flows whose truth is known."""
        return np.asarray(self.of_flow != UNKNOWN)

    @property
    def there(self) -> Bools:
        """Flows that a tunnel of the case carried."""
        return np.isin(self.of_flow, self.of_tunnel[self.of_tunnel >= 0])

    def true(self, flow: npt.NDArray[Any], tunnel: npt.NDArray[Any]) -> Bools:
        """Whether these tunnels carried these flows."""
        return np.asarray((self.of_flow[flow] >= 0) & (self.of_flow[flow] == self.of_tunnel[tunnel]))


def label(case: Case, truth: dict[str, Any], clock: Callable[[Ints], Ints] | None = None) -> Labels:
    """The truth of a case.

    Parameters
    ----------
    case : Case
    truth : dict
        As ``truth.json`` has it.
    clock : callable, optional
        From the truth's times (of the egress file) to those of the case.
    """
    names = [row["client"] for row in (*truth["tunnels"], *truth["flows"])]
    clients = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return Labels(tuple(clients), _of_flows(case, truth, clients, clock), _of_tunnels(case, truth, clients))


def unattributed(case: Case, labels: Labels, truth: dict[str, Any]) -> dict[str, int]:
    """Why the truth gives flows of a case to nobody, where it says so, and how many each reason is of."""
    reason = {
        (row.get("src"), row.get("dst")): str(row.get("reason")) for row in truth.get("unattributed", ())
    }
    flows = case.flows
    ends = ((flows.source(f), flows.destination(f)) for f in np.flatnonzero(~labels.known).tolist())
    return dict(Counter(reason[each] for each in ends if each in reason))


def _of_flows(
    case: Case, truth: dict[str, Any], clients: dict[str, int], clock: Callable[[Ints], Ints] | None
) -> Ints:
    rows = [(row, clients[row["client"]]) for row in truth["flows"]]
    rows += [(row, NO_CLIENT) for row in sent_by_the_server(truth)]
    times = np.array([(row["first_ns"], row["last_ns"]) for row, _ in rows], np.int64).reshape(-1, 2)
    times = times if clock is None else clock(times)
    known: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    for (row, client), (first, last) in zip(rows, times.tolist(), strict=True):
        known[row["src"], row["dst"]].append((first, last, client))
    flows = case.flows
    found = np.full(len(flows), UNKNOWN, np.int64)
    for f, began in enumerate(flows.first_ns.tolist()):
        ends = flows.source(f), flows.destination(f)
        near = known.get(ends) or known.get(ends[::-1])  # who began it, a capture with losses may not show
        if near is None:
            continue
        apart, client = min((max(first - began, began - last, 0), client) for first, last, client in near)
        if apart <= _APART_NS:
            found[f] = client
    return found


def _of_tunnels(case: Case, truth: dict[str, Any], clients: dict[str, int]) -> Ints:
    """By the endpoint of the client; else by an endpoint of its other conversations, or its address."""
    by_endpoint = {
        end: clients[row["client"]] for row in truth["tunnels"] for end in endpoints(row)
    } | clients
    hosts: dict[str, set[int]] = defaultdict(set)
    for endpoint, number in clients.items():
        hosts[parted(endpoint)[0]].add(number)
    found = []
    for tunnel in case.tunnels.tunnels:
        alone = hosts.get(parted(tunnel.client)[0], set())
        other = next(iter(alone)) if len(alone) == 1 else UNKNOWN
        found.append(by_endpoint.get(tunnel.client, other))
    return np.array(found, np.int64)
