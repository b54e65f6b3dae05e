"""How much of a recording can be linked: flows to clients, and flows to one another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from vpnforensics.arrays import Bools, Int32s, Ints
from vpnforensics.audit.adversary import Adversary
from vpnforensics.audit.recording import Recording
from vpnforensics.engines.case import Case
from vpnforensics.errors import CaseError
from vpnforensics.evidence.attribution import surest
from vpnforensics.packets.table import PROTO_TCP, TCP_ACK, TCP_SYN
from vpnforensics.sides import Progress
from vpnforensics.weighing import Weighed

ALLOWED = (0.01, 0.1, 1.0)
"""False links allowed in the whole case, by default: the correlator's own level, and two laxer ones. Who
attacks users needs no court's certainty."""
PACKETS_OF_A_FLOW = (1, 3, 10, 30, 100)
"""Where classes of flows by their packets begin: a lookup, a short exchange, a page, a transfer."""


@dataclass(frozen=True, slots=True)
class SizeClass:
    """Flows of so many packets, and how many of them are linked at each allowed number of false links."""

    least_packets: int
    most_packets: int | None
    flows: int
    linked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Linkability:
    """What an adversary with both captures can say of the flows of a recording.

    Links are counted as the adversary makes them; which of them are wrong is known where the clients are.
    """

    flows: int
    tunnels: int
    linked: tuple[int, ...]
    """Flows linked to a tunnel, at each allowed number of false links."""
    wrong: tuple[int, ...]
    """Of them, those that are known to have been another client's."""
    by_packets: tuple[SizeClass, ...]
    tied: int
    """Flows that share a device's clock line or IP-ID counter with another flow at egress."""
    outer_bytes: int
    """IP bytes of all tunnels."""
    inner_bytes: int
    """IP bytes of all flows."""
    round_trip_ns: int | None
    """Median from a SYN-ACK's way in at egress to its acknowledgement's way out: tunnel, client and back."""
    why_none: str = ""
    """Why nothing is linked; empty where something is."""

    def share(self, level: int = 0) -> float:
        """Share of the flows that are linked, and not wrongly, at an allowed number (by its place)."""
        return (self.linked[level] - self.wrong[level]) / self.flows if self.flows else 0.0

    @property
    def tied_share(self) -> float:
        """Share of the flows that are tied to another."""
        return self.tied / self.flows if self.flows else 0.0

    @property
    def expansion(self) -> float:
        """Outer bytes for each inner one."""
        return self.outer_bytes / self.inner_bytes if self.inner_bytes else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"linked_share": [self.share(i) for i in range(len(self.linked))]}


def links_at(found: Weighed, allowed: float) -> Ints:
    """Tunnel of each flow that is linked while so many false links are allowed in the case, else -1.

    Parameters
    ----------
    found : Weighed
        With links allowed at ``allowed`` or a laxer level.
    allowed : float
    """
    decision = found.decision
    made = decision.tunnel >= 0
    error = np.where(made, decision.error, 1.0)
    return np.where(surest(error, allowed) & made, decision.tunnel, -1).astype(np.int64)


def measure(
    recording: Recording,
    adversary: Adversary,
    *,
    allowed: tuple[float, ...] = ALLOWED,
    owners: Owners | None = None,
    progress: Progress = lambda step, share: None,
) -> tuple[Weighed | None, Linkability]:
    """Let an adversary look at a recording, and count.

    Parameters
    ----------
    recording : Recording
    adversary : Adversary
    allowed : tuple of float
        False links allowed in the whole case.
    owners : mapping, optional
        Client of each flow, as far as known.
    progress : callable

    Returns
    -------
    Weighed or None
        None where there is no case.
    Linkability
    """
    try:
        found = replace(adversary, allowed=max(allowed)).weigh(recording, progress)
    except CaseError as error:
        return None, _nothing(recording, allowed, str(error))
    return found, count(found, allowed, owners or {})


FlowKey = tuple[str, str, int]
"""Client side's endpoint at egress, far side's, and how manieth flow between the two: the same in every
copy."""
Owners = Mapping[FlowKey, str]
"""Client's endpoint of each flow."""


def flow_keys(case: Case) -> list[FlowKey]:
    """The flows' names that outlast a change of their times."""
    order = np.argsort(case.flows.first_ns, kind="stable").tolist()
    keys = numbered((case.flows.source(f), case.flows.destination(f)) for f in order)
    of = dict(zip(order, keys, strict=True))
    return [of[f] for f in range(len(case.flows))]


def numbered(flows: Iterable[tuple[str, str]]) -> list[FlowKey]:
    """Endpoints of flows, in order of time, each with how many of the same stand before it."""
    met: Counter[tuple[str, str]] = Counter()
    keys: list[FlowKey] = []
    for ends in flows:
        keys.append((*ends, met[ends]))
        met[ends] += 1
    return keys


def owners_of(found: Weighed) -> Owners:
    """The clients that a case's flows are linked to."""
    tunnels = found.case.tunnels.tunnels
    linked = zip(flow_keys(found.case), found.decision.tunnel.tolist(), strict=True)
    return {key: tunnels[t].client for key, t in linked if t >= 0}


def count(found: Weighed, allowed: tuple[float, ...], owners: Owners) -> Linkability:
    """The figures of a case."""
    case = found.case
    packets = np.diff(case.egress.start)
    named = [links_at(found, level) for level in allowed]
    links = [tunnel >= 0 for tunnel in named]
    clients = [t.client for t in case.tunnels.tunnels]
    number = {client: n for n, client in enumerate(clients)}
    known = [owners.get(key) for key in flow_keys(case)] if owners else [None] * len(case.flows)
    owner = np.array([-1 if who is None else number.get(who, len(clients)) for who in known], np.int64)
    wrong = tuple(int(((tunnel >= 0) & (owner >= 0) & (tunnel != owner)).sum()) for tunnel in named)
    classes = []
    for low, high in zip_longest(PACKETS_OF_A_FLOW, PACKETS_OF_A_FLOW[1:]):
        inside = (packets >= low) & (True if high is None else packets < high)
        linked = tuple(int((link & inside).sum()) for link in links)
        classes.append(SizeClass(low, None if high is None else high - 1, int(inside.sum()), linked))
    conversations = np.unique([t.conversation for t in case.tunnels.tunnels])
    return Linkability(
        flows=len(case.flows),
        tunnels=len(case.tunnels),
        linked=tuple(int(link.sum()) for link in links),
        wrong=wrong,
        by_packets=tuple(classes),
        tied=int((case.devices.device >= 0).sum()),
        outer_bytes=int(case.conversations.bytes[conversations].sum()),
        inner_bytes=int(case.flows.bytes.sum()),
        round_trip_ns=client_round_trip(case),
        why_none="" if links[-1].any() else _why(found),
    )


def client_round_trip(case: Case) -> int | None:
    """Median time between a handshake's SYN-ACK and its acknowledgement at egress, ns; None without any."""
    flows, packets = case.flows, case.flows.packets
    tcp = packets.proto == PROTO_TCP
    syn, ack = packets.tcp_flags & TCP_SYN != 0, packets.tcp_flags & TCP_ACK != 0
    offered = _first(flows.flow, packets.ts_ns, tcp & ~flows.up & syn & ack, len(flows))
    taken = _first(flows.flow, packets.ts_ns, tcp & flows.up & ~syn & ack, len(flows))
    known = (offered < _NEVER) & (taken < _NEVER) & (taken >= offered)
    return int(np.median(taken[known] - offered[known])) if known.any() else None


_NEVER = np.iinfo(np.int64).max


def _first(flow: Int32s, ts_ns: Ints, which: Bools, flows: int) -> Ints:
    first = np.full(flows, _NEVER)
    np.minimum.at(first, flow[which], ts_ns[which])
    return first


def _why(found: Weighed) -> str:
    case = found.case
    if not case.alignment.usable:
        return f"clocks not identifiable: {case.alignment.reason}"
    if (case.map_of_tunnel < 0).all():
        return "no tunnel's length map is known"
    return "no flow stands out in any tunnel"


def _nothing(recording: Recording, allowed: tuple[float, ...], why: str) -> Linkability:
    return Linkability(
        flows=0,
        tunnels=0,
        linked=(0,) * len(allowed),
        wrong=(0,) * len(allowed),
        by_packets=(),
        tied=0,
        outer_bytes=int(recording.ingress.ip_len_bytes.sum()),
        inner_bytes=int(recording.egress.ip_len_bytes.sum()),
        round_trip_ns=None,
        why_none=why,
    )
