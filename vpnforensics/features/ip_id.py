"""What a host's IPv4 identification fields count (RFC 6864).

Theory of operation
-------------------
The ID must differ among fragments in flight, no more; so systems fill it each in their own way: 0, a
constant, a random number, or a counter for the whole host, for each destination, or for each connection. A
host's packets are pooled three ways (all, by destination, by flow), each pool read as a counter under the
gap law (:mod:`vpnforensics.features.gap_law`), as sent and with the bytes exchanged, and the shortest
description wins; ties go to the larger pool that was put to the test. None that beats chance is
``random``.

``bucket`` is Linux's counter for (source, destination, protocol), which leaps by a random share of the
time since its last use (``ip_idents_reserve``): told from ``per_destination`` by steps that grow with idle
time.

TCP and the rest are judged apart where one counter does not fit both: Linux counts TCP by socket. ID 0 is
left out of counters: Linux sends SYN-ACKs and resets with 0. Later fragments repeat an ID and are left
out.

Assumes that the packets are one host's. Behind a NAT they are not: use
:mod:`vpnforensics.features.ip_id_strings`, and one flow at a time here. A scope cannot be told from one
flow, nor ``global`` from ``per_destination`` with one destination; ``scope`` says what was put to the
test. Silent under ten packets. Fails at hosts whose counter moves by thousands between two packets: these
look ``random``.

Salutari, Cicalese & Rossi 2018, *A closer look at IP-ID behavior in the wild*.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from vpnforensics.features._kernels import id_steps
from vpnforensics.features.gap_law import LOG_CHANCE, LOG_P, LOG_SCALES, SCALES
from vpnforensics.features.senders import Senders
from vpnforensics.features.wraparound import swap_bytes, unwrap
from vpnforensics.packets.table import FRAG_LATER, PROTO_TCP

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.features.drawing import Drawn

Ints = npt.NDArray[np.int64]
IpIdClass = Literal[
    "zero", "constant", "global", "per_destination", "per_flow", "bucket", "byte_swapped", "random", "unknown"
]
Scope = Literal["host", "destination", "flow"]

LEAST_PACKETS = 10
_MOSTLY = 0.95
_SCOPES: tuple[Scope, ...] = ("host", "destination", "flow")
_CLASS_OF_SCOPE: dict[Scope, IpIdClass] = {
    "host": "global",
    "destination": "per_destination",
    "flow": "per_flow",
}
CLEAR_NATS = 2.0
"""By so much a packet must a counter beat chance; less is an odd one: ``unknown``."""
_IDLE_NS = 100_000_000
_IDLE_STEP = 4
_IDLE_SHARE = 0.3
_IDLE_LEAST = 4


@dataclass(frozen=True, eq=False)
class IpIdProfile:
    """The IP IDs of one sender, and the figures that class them."""

    ip_id_class: IpIdClass
    packets: int
    reason: str = ""
    """Why ``unknown``; or what could not be put to the test."""
    scope: Scope | None = None
    """The largest pool that is still a counter."""
    swapped: bool = False
    zero_share: float = 0.0
    gain_nats: dict[str, float] | None = None
    """For each pool, by how much a packet a counter beats chance."""
    increments: float | None = None
    """Share of the steps that are exactly 1."""
    scale: float | None = None
    """Typical step: scale of the gap law."""
    missing: int | None = None
    """Packets that were counted and not seen; for ``global`` they may have gone elsewhere."""
    gaps: int | None = None
    """Places where such are missing."""
    wraps: int | None = None
    """Times that the counters began anew at 0."""
    idle_jumps: float | None = None
    """Share of the steps after 100 ms of silence that exceed 4."""

    def to_dict(self) -> dict[str, Any] | None:
        """The result contract's ``ip_id``."""
        if self.packets < LEAST_PACKETS:
            return None
        return {
            "class": self.ip_id_class,
            "scope": self.scope,
            "increments": None if self.increments is None else round(self.increments, 6),
            "missing": self.missing,
        }


def classify_ip_ids(
    ts_ns: Ints, ip_id: npt.NDArray[Any], flow: npt.NDArray[Any], destination: npt.NDArray[Any]
) -> IpIdProfile:
    """Class of the IDs that one host put into packets of one kind (TCP, or not).

    Parameters
    ----------
    ts_ns : ndarray of int64, shape (n,)
    ip_id : ndarray of integers, shape (n,)
        0 to 65535.
    flow, destination : ndarray of integers, shape (n,)
        Identity of each packet's conversation and receiver.

    Returns
    -------
    IpIdProfile
    """
    packets = len(ip_id)
    if packets < LEAST_PACKETS:
        return IpIdProfile("unknown", packets, f"fewer than {LEAST_PACKETS} packets")
    zero_share = float(np.mean(ip_id == 0))
    if zero_share >= _MOSTLY:
        return IpIdProfile("zero", packets, zero_share=zero_share)
    used = np.flatnonzero(ip_id != 0)
    if len(used) < LEAST_PACKETS:
        return IpIdProfile(
            "unknown", packets, f"fewer than {LEAST_PACKETS} packets with an ID", zero_share=zero_share
        )
    order = used[np.argsort(ts_ns[used], kind="stable")]
    t, ids = ts_ns[order], ip_id[order].astype(np.int64)
    if np.mean(ids == np.partition(ids, len(ids) // 2)[len(ids) // 2]) >= _MOSTLY:
        return IpIdProfile("constant", packets, zero_share=zero_share)
    pools = {"host": np.zeros(len(ids), np.int64), "destination": destination[order], "flow": flow[order]}
    whole = _read(ids, pools["host"], t)
    read = {s: whole if _is_one(pools[s]) else _read(ids, pools[s], t) for s in _SCOPES}
    swapped = max(read[s].gain[1] for s in _SCOPES) > max(read[s].gain[0] for s in _SCOPES) + 5.0
    gains = {s: read[s].gain[swapped] for s in _SCOPES}
    figures: dict[str, float] = {s: round(gains[s] / len(ids), 4) for s in _SCOPES}
    # Within the price of a scale pools describe alike; the larger is reported.
    best = max(gains.values())
    scope = next(s for s in _SCOPES if gains[s] >= best - 0.5)
    if best <= 0:
        return IpIdProfile("random", packets, zero_share=zero_share, gain_nats=figures)
    if best < CLEAR_NATS * len(ids):
        return IpIdProfile(
            "unknown", packets, "neither a clear counter nor chance", zero_share=zero_share, gain_nats=figures
        )
    scope, untested = _tested(scope, pools)
    chosen = read[scope]
    jumps = chosen.long[swapped] / chosen.idle if chosen.idle >= _IDLE_LEAST else None
    named: IpIdClass = "byte_swapped" if swapped else _CLASS_OF_SCOPE[scope]
    if named == "per_destination" and jumps is not None and jumps >= _IDLE_SHARE:
        named = "bucket"
    if named == "per_flow" and jumps is not None and jumps >= _IDLE_SHARE and "destination" in untested:
        named = "bucket"
    missing, gaps, wraps = (
        # A bucket's leaps after silence are no packets.
        (chosen.passed[swapped], None, None) if named == "bucket" else _passed(ids, pools[scope], swapped)
    )
    return IpIdProfile(
        named,
        packets,
        untested,
        scope,
        swapped,
        zero_share,
        figures,
        chosen.ones[swapped] / chosen.steps if chosen.steps else None,
        chosen.scale[swapped],
        missing,
        gaps,
        wraps,
        jumps,
    )


@dataclass(frozen=True, slots=True)
class _Reading:
    """One pooling of a host's IDs read as counters: as sent, and with the bytes exchanged."""

    gain: list[float]
    """Nats by which counters, one a pool, beat chance."""
    scale: list[float]
    ones: list[int]
    """Steps that are exactly 1."""
    long: list[int]
    """Long steps after silence, of ``idle`` ones."""
    passed: list[int]
    """Values passed over within bursts."""
    steps: int
    idle: int


def _read(ids: Ints, pool: npt.NDArray[Any], t: Ints) -> _Reading:
    if not _is_one(pool):
        order = np.argsort(pool, kind="stable")
        ids, pool, t = ids[order], pool[order], t[order]
    sums, ones, long, passed, steps, idle = id_steps(
        ids, pool, t, LOG_P, _IDLE_NS, _IDLE_STEP, _IDLE_NS // 25, int(SCALES[-1])
    )
    best = sums.argmax(axis=1).tolist()
    gain = [
        float(s[k]) - LOG_SCALES - steps * LOG_CHANCE if steps else 0.0
        for s, k in zip(sums, best, strict=True)
    ]
    return _Reading(
        gain, [SCALES[k] for k in best], ones.tolist(), long.tolist(), passed.tolist(), steps, idle
    )


def _is_one(pool: npt.NDArray[Any]) -> bool:
    return bool((pool == pool[0]).all())


def _count(pool: npt.NDArray[Any]) -> int:
    return 1 if _is_one(pool) else len(np.unique(pool))


def _tested(scope: Scope, pools: dict[str, npt.NDArray[Any]]) -> tuple[Scope, str]:
    """The scope as far as it was put to the test, and what was not."""
    flows, destinations = _count(pools["flow"]), _count(pools["destination"])
    if scope == "host" and destinations == 1:
        scope = "destination"
    if scope == "destination" and flows == destinations:
        scope = "flow"
    if flows == 1:
        return scope, "one flow: whether others share its counter, or its destination's, cannot be told"
    if scope == "flow" and flows == destinations:
        return scope, "one flow a destination: whether the destination shares a counter cannot be told"
    if scope == "destination" and destinations == 1:
        return scope, "one destination: whether others share its counter cannot be told"
    return scope, ""


def _passed(ids: Ints, pool: npt.NDArray[Any], swapped: bool) -> tuple[int, int, int]:
    """Values that the counters of some pools passed over, in how many places, and how often they wrapped."""
    order = np.argsort(pool, kind="stable")
    parts = np.split(ids[order], np.flatnonzero(np.diff(pool[order])) + 1)
    missing, gaps, wraps = np.sum([passed_over(reconstruct(part, swapped=swapped)) for part in parts], axis=0)
    return int(missing), int(gaps), int(wraps)


def passed_over(line: Ints) -> tuple[int, int, int]:
    """Values that a counter passed over, in how many places, and how often it wrapped.

    Parameters
    ----------
    line : ndarray of int64, shape (n,)
        Values seen, in any order, as :func:`reconstruct` gives them; at least one.
    """
    seen = np.unique(line)
    steps = np.diff(seen)
    return int((steps - 1).sum()), int((steps > 1).sum()), int(seen[-1] // 65_536 - seen[0] // 65_536)


def reconstruct(ip_id: npt.NDArray[Any], *, swapped: bool = False) -> Ints:
    """The counter behind a pool's IDs, in order of time, without its wraps."""
    return unwrap(swap_bytes(ip_id) if swapped else ip_id, 16)


class IdSeries(NamedTuple):
    """IP IDs in order of time."""

    ts_ns: Ints
    ip_id: npt.NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class IpIdTable:
    """Profiles of all senders of a capture, pooled by address and kind of packet."""

    address: tuple[str, ...]
    kind: tuple[Literal["tcp", "other"], ...]
    profiles: tuple[IpIdProfile, ...]
    series: tuple[IdSeries, ...] = field(repr=False)

    def plot(self, ax: Axes | None = None) -> Drawn:
        """The IP IDs over time (needs the ``plot`` extra)."""
        from vpnforensics.features.plots import plot_ip_ids

        return plot_ip_ids(self, ax)

    def to_pandas(self) -> pd.DataFrame:
        """One row an address and kind."""
        rows = [
            {
                "address": address,
                "kind": kind,
                "class": p.ip_id_class,
                "scope": p.scope,
                "packets": p.packets,
                "zero_share": p.zero_share,
                "increments": p.increments,
                "scale": p.scale,
                "missing": p.missing,
                "idle_jumps": p.idle_jumps,
                **{f"gain_{s}": (p.gain_nats or {}).get(s) for s in _SCOPES},
                "reason": p.reason,
            }
            for address, kind, p in zip(self.address, self.kind, self.profiles, strict=True)
        ]
        return pd.DataFrame(rows)


def ip_id_table(senders: Senders) -> IpIdTable:
    """Profiles of every source address of a capture, for TCP and for the rest.

    Parameters
    ----------
    senders : Senders
    """
    packets = senders.flows.packets
    rows = np.flatnonzero((packets.ip_id >= 0) & (packets.frag != FRAG_LATER))
    tcp = packets.proto[rows] == PROTO_TCP
    key = 2 * packets.src[rows].astype(np.int64) + ~tcp
    order = np.lexsort((packets.ts_ns[rows], key))
    rows, key = rows[order], key[order]
    edges = np.r_[0, np.flatnonzero(np.diff(key)) + 1, len(key)] if len(key) else np.zeros(1, np.int64)
    addresses, kinds, profiles, series = [], [], [], []
    for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        mine = rows[begin:end]
        addresses.append(packets.addresses.texts[int(key[begin]) // 2])
        kind: Literal["tcp", "other"] = "other" if key[begin] % 2 else "tcp"
        kinds.append(kind)
        series.append(IdSeries(packets.ts_ns[mine], packets.ip_id[mine]))
        profiles.append(
            classify_ip_ids(
                packets.ts_ns[mine], packets.ip_id[mine], senders.flows.flow[mine], packets.dst[mine]
            )
        )
    return IpIdTable(tuple(addresses), tuple(kinds), tuple(profiles), tuple(series))
