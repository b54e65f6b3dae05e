"""Clocks and length maps, settled together: each needs the other.

With known maps, sizes give the clocks (:mod:`vpnforensics.align.estimate`); with known clocks, closeness
in time gives the maps (:mod:`vpnforensics.align.learning`). Where neither is known, the two sides' packet
counts give a rough offset, that the maps, and those the clocks. Tunnels of one protocol at one server share
a map.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.classes import classify_records
from vpnforensics.align.egress_packets import EgressPackets
from vpnforensics.align.estimate import estimate_alignment
from vpnforensics.align.learning import (
    EgressLengths,
    hides_lengths,
    learn_length_map,
    share_obeying,
)
from vpnforensics.align.volume import Volume, align_by_volume, sure_offset, volume_peaks
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.scratch import ascending, beside, counted
from vpnforensics.tunnels.find import RecordTable, Tunnel, TunnelSet
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.write_law import LengthLaw

_VOLUME_PEAKS, _VOLUME_BIN_NS, _VOLUME_APART_NS = 6, 50_000_000, 200_000_000
_ROUGH_NS = 100_000_000
_GROUPS_TO_LEARN, _CANDIDATES_FOR_CLOCKS = 24, 3
_LEARNED_MUST_BEAT = 1.3
_OWN_SHARE = 0.2
_OBEYED_SHARE, _OBEYED_WELL = 0.05, 0.5
_AS_WELL = 0.95
"""Of a learned map's share: what a formula has to explain to be taken in its place; shares vary by a percent
or two from sample to sample."""


_Support = dict[tuple[int, LengthMap], float]
"""Share of the records that obey a map, by the first tunnel of a group and the map."""


@dataclass(frozen=True, eq=False)
class Settled:
    """One clock, the tunnels that are some, and their length maps."""

    alignment: Alignment
    tunnels: TunnelSet
    maps: tuple[LengthLaw, ...]
    map_of_tunnel: npt.NDArray[np.int64]
    """Index into ``maps``, -1 where a tunnel's map is not known."""

    def with_unread(self, more: Sequence[Tunnel]) -> Settled:
        """The same, with tunnels that are there but of which nothing is read."""
        tunnels = replace(self.tunnels, tunnels=(*self.tunnels.tunnels, *more))
        unmapped = np.full(len(more), -1, np.int64)
        return replace(self, tunnels=tunnels, map_of_tunnel=np.r_[self.map_of_tunnel, unmapped])


def settle(
    found: TunnelSet,
    flows: FlowTable,
    known_clock: Alignment | None,
    rng: np.random.Generator,
    *,
    begins_at: Sequence[int] = (),
) -> Settled:
    """Align the clocks, settle the length maps, and prove or drop the candidates among the tunnels.

    Parameters
    ----------
    found : TunnelSet
        Tunnels and candidates.
    flows : FlowTable
        Egress flows.
    known_clock : Alignment or None
        The alignment, where it is known beforehand.
    rng : numpy.random.Generator
    begins_at : sequence of int
        Egress rows at which parts begin that the alignment is to describe by themselves.
    """
    rng = rng.spawn(1)[0]  # how much chance is taken here must not change what it does in the steps after
    groups = _groups(found)
    chosen: dict[int, LengthMap] = {}
    support: _Support = {}
    if known_clock is not None:
        alignment = known_clock
    else:
        alignment, chosen, support = _align(found, groups, flows, begins_at, rng)
    if alignment.usable:
        chosen = _settle_maps(found, groups, chosen, support, flows, alignment, rng)
    keep = np.array([t.sure or n in chosen for n, t in enumerate(found.tunnels)], np.bool_)
    maps: list[LengthMap] = []
    number = np.full(len(found), -1, np.int64)
    for n in range(len(found)):
        length_map = chosen.get(n)
        if length_map is not None:
            if length_map not in maps:
                maps.append(length_map)
            number[n] = maps.index(length_map)
    return Settled(alignment, found.select(keep), tuple(maps), number[keep])


def _groups(found: TunnelSet) -> list[list[int]]:
    """Tunnels by protocol and server; they share a length map. Largest first."""
    members: dict[tuple[str, str, str], list[int]] = {}
    for n, tunnel in enumerate(found.tunnels):
        members.setdefault((tunnel.protocol, tunnel.variant, tunnel.server), []).append(n)
    total = counted(found.records.tunnel, len(found))
    return sorted(members.values(), key=lambda group: -int(total[group].sum()))


def _align(
    found: TunnelSet,
    groups: list[list[int]],
    flows: FlowTable,
    begins_at: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Alignment, dict[int, LengthMap], _Support]:
    """Clocks from the known maps, likeliest first; from volume where no known map serves.

    Where no tunnel is sure, the largest candidates' maps are tried; what obeys them has to be more.
    """
    lengths = flows.packets.ip_len_bytes
    mapped = [group for group in groups if found.tunnels[group[0]].length_maps]
    sure = [group for group in mapped if found.tunnels[group[0]].sure]
    known = [
        group
        for group in sure or mapped[:_CANDIDATES_FOR_CLOCKS]
        if not hides_lengths(_records_of(found, group), lengths)
    ]
    enough = _OBEYED_SHARE if sure else _OWN_SHARE
    first: Alignment | None = None
    for rank in range(max((len(found.tunnels[g[0]].length_maps) for g in known), default=0)):
        chosen = {
            n: found.tunnels[n].length_maps[min(rank, len(found.tunnels[n].length_maps) - 1)]
            for group in known
            for n in group
        }
        alignment = clocks(found, chosen, flows, begins_at, rng)
        support = _support(found, known, chosen, flows, alignment, rng) if alignment.usable else {}
        # A pile can be found in anything; under the right clocks some group's packets obey its map.
        if any(share >= enough for share in support.values()):
            return alignment, chosen, support
        if alignment.usable:
            alignment = Alignment(
                "not_identifiable",
                reason="under the best offset the packets still do not obey the tunnels' length maps",
            )
        first = first or alignment
    rough, chosen = _align_by_volume(found, groups, flows, begins_at, rng)
    if rough.usable:
        return rough, chosen, {}
    return first or rough, {}, {}


def _support(
    found: TunnelSet,
    groups: list[list[int]],
    chosen: dict[int, LengthMap],
    flows: FlowTable,
    alignment: Alignment,
    rng: np.random.Generator,
) -> _Support:
    """How well each group's packets obey its map under an alignment."""
    egress = egress_lengths(flows, alignment.to_ingress(flows.packets.ts_ns))
    return {
        (group[0], chosen[group[0]]): share_obeying(chosen[group[0]], _records_of(found, group), egress, rng)
        for group in groups
    }


def clocks(
    found: TunnelSet,
    chosen: Mapping[int, LengthLaw],
    flows: FlowTable,
    begins_at: Sequence[int],
    rng: np.random.Generator,
    near: tuple[int, int] | None = None,
) -> Alignment:
    """The alignment under which packets and records are of one size by the maps chosen, by tunnel."""
    maps = tuple(dict.fromkeys(chosen.values()))
    number = np.full(len(found), -1, np.int64)
    for n, length_map in chosen.items():
        number[n] = maps.index(length_map)
    classes = classify_records(found.records, number, maps)
    packets = flows.packets
    size_class = [classes.class_of(m, packets.ip_len_bytes, flows.up) for m in range(len(maps))]
    rows = beside(packets.ts_ns).filled(
        len(packets), np.int32, lambda some: np.arange(some.start, some.stop, dtype=np.int32)
    )
    egress = EgressPackets.joined([EgressPackets(packets.ts_ns, c, flows.up, rows) for c in size_class])
    return estimate_alignment(
        egress, classes, rng, row_of_record=found.records.row, begins_at=begins_at, near=near
    )


def _align_by_volume(
    found: TunnelSet,
    groups: list[list[int]],
    flows: FlowTable,
    begins_at: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Alignment, dict[int, LengthMap]]:
    reason = "no tunnel with a known length map, and none could be learned"
    packets = flows.packets
    if not len(found.records) or not len(packets):
        return Alignment("not_identifiable", reason=reason), {}
    best: tuple[float, dict[int, LengthMap]] = (0.0, {})
    raw = egress_lengths(flows, packets.ts_ns)
    for group in groups[:3]:
        records = _records_of(found, group)
        if not len(records):
            continue
        for peak in volume_peaks(
            _counts(records), _counts(raw), _VOLUME_PEAKS, _VOLUME_BIN_NS, _VOLUME_APART_NS
        ):
            shifted = egress_lengths(flows, packets.ts_ns - peak.offset_ns)
            learned = learn_length_map(records, shifted, rng, near_ns=_ROUGH_NS)
            if learned is not None and learned.share > best[0]:
                best = (learned.share, dict.fromkeys(group, learned.length_map))
    if not best[1]:
        return Alignment("not_identifiable", reason=reason), {}
    alignment = clocks(found, best[1], flows, begins_at, rng)
    padded = all(length_map.kind == "padded" for length_map in best[1].values())
    if padded and not alignment.usable:  # how many packets go by at a moment still tells
        sides = _counts(found.records), _counts(raw)
        offset_ns = sure_offset(*sides)
        line = None if offset_ns is None else align_by_volume(*sides, offset_ns, rng)
        alignment = line or alignment
    return alignment, best[1]


def _counts(side: RecordTable | EgressLengths) -> Volume:
    """Packets, whatever their lengths."""
    return Volume(side.ts_ns, np.ones(len(side.ts_ns)), side.up)


def _settle_maps(
    found: TunnelSet,
    groups: list[list[int]],
    chosen: dict[int, LengthMap],
    known_support: _Support,
    flows: FlowTable,
    alignment: Alignment,
    rng: np.random.Generator,
) -> dict[int, LengthMap]:
    """On one clock: the best known map of each group, or the learned one where it explains clearly more."""
    egress = egress_lengths(flows, alignment.to_ingress(flows.packets.ts_ns))
    settled: dict[int, LengthMap] = {}
    for rank, group in enumerate(groups):
        tunnel = found.tunnels[group[0]]
        records = _records_of(found, group)
        known = dict.fromkeys([chosen[n] for n in group if n in chosen] + list(tunnel.length_maps))
        stated = [m for m in tunnel.length_maps if m.origin == "stated"]
        if stated:  # somebody knows, whatever can be seen
            settled.update(dict.fromkeys(group, stated[0]))
            continue
        if hides_lengths(records, egress.inner_bytes):
            known = {}  # padded to one size, whatever the protocol does by itself
        support: dict[LengthMap, float] = {}
        for m in known if tunnel.sure else ():
            share = known_support.get((group[0], m))
            support[m] = share_obeying(m, records, egress, rng) if share is None else share
        best = max(support, key=lambda m: support[m], default=None)
        if rank < _GROUPS_TO_LEARN and (best is None or support[best] < _OBEYED_WELL):
            learned = learn_length_map(records, egress, rng)
            known_share = support[best] if best is not None else 0.0
            if learned is not None and learned.share > _LEARNED_MUST_BEAT * known_share:
                length_map = _as_known(learned.length_map, known, records, egress, rng)
                members = group if tunnel.sure else _proved(found, group, length_map, egress, rng)
                settled.update(dict.fromkeys(members, length_map))
                continue
        # A map that nothing obeys (padding, another cipher) is worse than none: it would acquit the tunnel.
        if best is not None and (support[best] >= _OBEYED_SHARE or not len(records)):
            settled.update(dict.fromkeys(group, best))
    for group in groups:
        if not any(n in settled for n in group):
            settled.update(_as_beside(found, group, settled, egress, rng))
    return settled


def _as_beside(
    found: TunnelSet,
    group: list[int],
    settled: dict[int, LengthMap],
    egress: EgressLengths,
    rng: np.random.Generator,
) -> dict[int, LengthMap]:
    """What the packets of a group prove of the maps that others of its protocol and server have: whose
    handshake was not captured is of a variant of its own, and may be too little to learn from.
    """
    tunnel = found.tunnels[group[0]]
    of = tunnel.protocol, tunnel.server
    theirs = (m for n, m in settled.items() if (found.tunnels[n].protocol, found.tunnels[n].server) == of)
    for length_map in dict.fromkeys(theirs):
        members = _proved(found, group, length_map, egress, rng)
        if members:
            return dict.fromkeys(members, length_map)
    return {}


def _as_known(
    learned: LengthMap,
    known: Iterable[LengthMap],
    records: RecordTable,
    egress: EgressLengths,
    rng: np.random.Generator,
) -> LengthMap:
    """The learned map, or the protocol's own that as many obey: of blocks, few sizes leave bytes open."""
    share = {m: share_obeying(m, records, egress, rng) for m in (*known, learned)}
    best = max(known, key=lambda m: share[m], default=learned)
    return best if share[best] >= _AS_WELL * share[learned] else learned


def _proved(
    found: TunnelSet,
    group: list[int],
    length_map: LengthMap,
    egress: EgressLengths,
    rng: np.random.Generator,
) -> list[int]:
    """The candidates of a group that a learned map explains on their own."""
    proved = []
    for n in group:
        records = _records_of(found, [n])
        if share_obeying(length_map, records, egress, rng) >= _OWN_SHARE:
            proved.append(n)
    return proved


def _records_of(found: TunnelSet, group: list[int]) -> RecordTable:
    member = np.zeros(len(found), np.bool_)
    member[group] = True
    if member.all():
        return found.records
    return found.records.take(member[found.records.tunnel])


def egress_lengths(flows: FlowTable, ts_ns: npt.NDArray[np.int64]) -> EgressLengths:
    """The flows' packets in order of these times."""
    lengths, up = flows.packets.ip_len_bytes, flows.up
    if ascending(ts_ns):
        return EgressLengths(ts_ns, lengths, up)
    order = np.argsort(ts_ns, kind="stable")
    return EgressLengths(*(beside(array).taken(array, order) for array in (ts_ns, lengths, up)))
