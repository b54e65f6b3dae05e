"""Which fields of the packets give users away, and by how much.

*Bits told*: the mutual information between a flow's value of a field and the client that it is linked to,
less the mean of what the same values tell of clients that are dealt out at random (few flows seem to tell
much). So many of the log2(clients) bits that name a client can be read off one flow by that field, at egress
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vpnforensics.arrays import Ints
from vpnforensics.audit import strings
from vpnforensics.engines.case import Case
from vpnforensics.features.contract import ip_id_dicts
from vpnforensics.packets.table import TCP_SYN
from vpnforensics.weighing import Weighed

_DEALS = 50
"""Random deals whose mean is taken off: its own error is then a seventh of one deal's."""
_SHOWN = 5
"""Values of a field that are named, the most frequent ones: a line has room for no more."""


@dataclass(frozen=True, slots=True)
class Leak:
    """One field, and what it shows."""

    field: str
    seen: str
    """In numbers."""
    bits: float | None
    """Told of the client by one flow's value; None where a value does not stand for itself."""
    of_bits: float
    """log2 of the clients."""
    tied: int | None
    """Flows that it ties to other flows of their device; None where it ties none by its nature."""
    hidden_by: str
    """The measure that hides this field and no other; empty where none was measured."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def find_leaks(found: Weighed, seed: int) -> list[Leak]:
    """What each field shows.

    Parameters
    ----------
    found : Weighed
        The recording as it is; bits are told of linked flows.
    seed : int
    """
    case, client = found.case, found.decision.tunnel.astype(np.int64)
    rng = np.random.default_rng(seed)
    clients = len(np.unique(client[client >= 0]))
    of_bits = float(np.log2(max(clients, 1)))

    def told(value: Ints) -> float:
        return bits_told(value, client, rng)

    ttl, mss, ecn = _ttl(case), _mss(case), _ecn(case)
    stamped, by_clock = _stamped(case), _tied(case, ("timestamps", "rate"))
    by_counter = _tied(case, ("an IP-ID", "a step of an IP-ID"))
    copying = sum(t.copies_ecn for t in case.tunnels.tunnels)
    return [
        Leak("times", _delays(found), None, of_bits, None, "batch"),
        Leak("lengths", _lengths(case), None, of_bits, None, "pad-mtu"),
        Leak("counters", _counters(case), None, of_bits, None, strings.NO_COUNTERS),
        Leak("tsval", strings.TSVAL.format(stamped=int((stamped > 0).sum()), flows=len(case.flows)),
        told(stamped), of_bits,
             by_clock, "scrub-timestamps"),
        Leak("ip_id", _ip_ids(case), None, of_bits, by_counter, "scrub-ip-id"),
        Leak("ttl", _values(ttl), told(ttl), of_bits, None, "ttl"),
        Leak("mss", _values(mss), told(mss), of_bits, None, ""),
        Leak("ecn", strings.ECN.format(flows=int(ecn.sum()), copying=copying, tunnels=len(case.tunnels)),
        told(ecn),
             of_bits, None, "ecn"),
    ]  # fmt: skip


def bits_told(value: Ints, client: Ints, rng: np.random.Generator) -> float:
    """Mutual information of two labels, bits, beyond what chance gives.

    Parameters
    ----------
    value : ndarray of int64, shape (n,)
        Negative: the flow has none, and is left out.
    client : ndarray of int64, shape (n,)
        Negative likewise.
    rng : numpy.random.Generator
    """
    known = (value >= 0) & (client >= 0)
    a, b = (np.unique(x[known], return_inverse=True)[1].ravel() for x in (value, client))
    if len(a) < 2 or a.max() == 0 or b.max() == 0:
        return 0.0
    by_chance = np.mean([_information(a, rng.permutation(b)) for _ in range(_DEALS)])
    return max(_information(a, b) - float(by_chance), 0.0)


def _information(a: Ints, b: Ints) -> float:
    together = np.bincount(a * (int(b.max()) + 1) + b)
    return _entropy(np.bincount(a)) + _entropy(np.bincount(b)) - _entropy(together)


def _entropy(counts: Ints) -> float:
    share = counts[counts > 0] / counts.sum()
    return abs(float(np.sum(share * np.log2(share))))  # one value would be -0


def _delays(found: Weighed) -> str:
    law = found.decision.delay_law
    return strings.delays(law["median_ns"], law["p95_ns"]) if law else strings.NO_DELAYS


def _lengths(case: Case) -> str:
    size = case.tunnels.records.size
    if not len(size):
        return strings.NO_RECORDS
    counts = np.bincount(size)
    return strings.LENGTHS.format(
        sizes=int((counts > 0).sum()),
        bits=_entropy(counts),
        inner=_entropy(np.bincount(case.egress.inner_bytes)),
    )


def _counters(case: Case) -> str:
    records = case.tunnels.records
    counted = len(np.unique(records.tunnel[records.counter >= 0]))
    return strings.COUNTERS.format(counted=counted, tunnels=len(case.tunnels))


def _ip_ids(case: Case) -> str:
    senders = case.devices.senders
    inner = ip_id_dicts(senders, range(0, 2 * len(case.flows), 2))
    outer = (profile.to_dict() for profile in case.outer_ip_ids)
    return strings.IP_IDS.format(inner=_classes(inner), outer=_classes(outer))


def _classes(described: Iterable[dict[str, Any] | None]) -> str:
    counts = Counter(str(each["class"]) if each else "none" for each in described)
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _values(value: Ints) -> str:
    values, counts = np.unique(value[value >= 0], return_counts=True)
    order = np.lexsort((values, -counts))[:_SHOWN]
    shown = ", ".join(f"{values[i]} ({counts[i]:,})" for i in order)
    return (shown or "none") + (f", … {len(values) - _SHOWN} more" if len(values) > _SHOWN else "")


def _ttl(case: Case) -> Ints:
    """TTL as it arrives at egress: initial value and hops inside."""
    flows = case.flows
    return flows.of_first(flows.up, flows.packets.ttl)


def _mss(case: Case) -> Ints:
    flows, packets = case.flows, case.flows.packets
    return flows.of_first(flows.up & (packets.mss > 0), packets.mss)


def _stamped(case: Case) -> Ints:
    """Whether the SYN has timestamps; -1 without a SYN."""
    flows, packets = case.flows, case.flows.packets
    return flows.of_first(flows.up & (packets.tcp_flags & TCP_SYN != 0), packets.has_ts)


def _ecn(case: Case) -> Ints:
    """Whether any packet of the client's side is ECN-capable."""
    flows = case.flows
    capable = flows.up & (flows.packets.tos & 3 != 0)
    return (np.bincount(flows.flow[capable], minlength=len(flows)) > 0).astype(np.int64)


def _tied(case: Case, basis: tuple[str, ...]) -> int:
    """Flows with a tie of such a basis."""
    ties = case.devices.ties
    mine = np.array([b.startswith(basis) for b in ties.basis], np.bool_)
    return len(np.unique(np.r_[ties.first[mine], ties.second[mine]]))
