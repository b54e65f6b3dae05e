"""Clocks and write laws of relays, settled together, and candidates proved or dropped.

Each write law that a protocol may have is a hypothesis: under the right one, writes that came out of the
relay have their partners among those that went in, so that their sizes give the clocks
(:mod:`vpnforensics.align.estimate`; where they do not, their onsets do: :mod:`vpnforensics.align.onsets`),
and under these clocks they obey the law. Laws differ by a few bytes, and wrong ones obey nothing: no further
measure is needed to tell ``ssh -w`` from ``ssh -D``, or ssh from Shadowsocks where both were joined after
their openings. Services of one protocol at one host share a law.

Where none of the known laws holds, one is learned on the clocks that are known or that onsets give, as length
maps are (:mod:`vpnforensics.align.learning`). Where none is found either, relays that are sure stay tunnels,
and so do those whose onsets are the egress side's; what such a relay carried, no writes can tell.

A carrier that is only possible becomes a tunnel where its own writes obey the law (a login beside an
``ssh -D`` does not); of protocols that nothing else looks like, where those of its host do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.kept_bytes import KEEPING, KeptBytes, find_kept_bytes
from vpnforensics.align.learning import learn_length_map, share_obeying
from vpnforensics.align.onsets import align_by_onsets, followed
from vpnforensics.align.settle import Settled, clocks, egress_lengths
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.tunnels.carriers import Carriers, as_carried
from vpnforensics.tunnels.table import RecordTable, TunnelSet, merge_records
from vpnforensics.tunnels.write_law import LAWS, WriteLaw
from vpnforensics.tunnels.writes import WriteTable, find_writes

_PROVED_SHARE = 0.2
"""Share of writes with a partner by the law, beyond chance; right laws had 0.6 and more, wrong ones 0.05."""
_SURELY_SHARE = 0.6
"""No further law is tried."""
_LEAST_WRITES = 20
_NEAR_NS = 50_000_000
"""How far the onsets' offset may be from that of the sizes."""
_MOST_GROUPS = 8
"""Of services whose laws are tried, those with most writes."""
_OWN_SHARE = 0.1
_LIKE_OTHERS = ("ssh", "tls")
"""Protocols that ordinary services have, too: of these, each carrier is proved by itself."""


@dataclass(frozen=True, eq=False)
class Relayed:
    """What was settled, and the flows as the relays carried them."""

    settled: Settled
    flows: FlowTable
    captured: FlowTable
    """The same flows with all their packets."""
    kept: KeptBytes | None
    """Of relays that keep bytes: what equal payloads say."""


@dataclass(frozen=True, eq=False)
class _Trial:
    """A law tried on the carriers of one group."""

    law: WriteLaw
    alignment: Alignment
    share: float
    flows: FlowTable
    records: RecordTable


def settle_relays(
    carriers: Carriers, flows: FlowTable, known_clock: Alignment | None, rng: np.random.Generator
) -> Relayed | None:
    """Clocks, laws and the carriers that are tunnels; ``None`` where none is proved or sure.

    Parameters
    ----------
    carriers : Carriers
    flows : FlowTable
        Egress flows, none of them a carrier's own.
    known_clock : Alignment or None
        Where it is known beforehand.
    rng : numpy.random.Generator
    """
    alike = None
    if any(t.protocol in KEEPING for t in carriers.tunnels):
        alike = find_kept_bytes(carriers, flows, known_clock, rng.spawn(1)[0])
    if alike is not None:
        known_clock = alike.alignment
    writes = find_writes(flows)
    groups = _groups(carriers)[:_MOST_GROUPS]
    trials = [(group, _best(carriers, group, flows, writes, known_clock, rng)) for group in groups]
    proved = [(group, trial) for group, trial in trials if trial is not None]
    main = max((trial for _, trial in proved), key=lambda trial: trial.share, default=None)
    laws: dict[int, WriteLaw] = {}
    for group, trial in proved:
        assert main is not None
        if (trial.law.of_packets, trial.law.opening) == (main.law.of_packets, main.law.opening):
            carrying = _carrying(group, carriers, trial, flows, writes, main.alignment, rng)
            laws.update(dict.fromkeys(carrying, trial.law))
    if main is None or not laws:
        settled = _without_laws(carriers, flows, writes, known_clock, rng)
        return None if settled is None else Relayed(settled, flows, flows, alike)
    keep = np.array([t.sure or n in laws for n, t in enumerate(carriers.tunnels)], np.bool_)
    maps = tuple(dict.fromkeys(laws.values()))
    chosen = carriers.select(keep)
    law_of = [laws.get(n) for n in np.flatnonzero(keep).tolist()]
    map_of = np.array([-1 if law is None else maps.index(law) for law in law_of], np.int64)
    tunnels = tuple(
        t if law is None else replace(t, protocol=law.name or t.protocol, variant=law.variant)
        for law, t in zip(law_of, chosen.tunnels, strict=True)
    )
    records = _records(chosen, maps, map_of)
    settled = Settled(main.alignment, TunnelSet(tunnels, records, np.zeros(0, np.int64)), maps, map_of)
    return Relayed(settled, main.flows, flows, alike)


def _without_laws(
    carriers: Carriers,
    flows: FlowTable,
    writes: WriteTable,
    known_clock: Alignment | None,
    rng: np.random.Generator,
) -> Settled | None:
    """Relays that are sure, or whose onsets prove a double role, though no law of theirs holds."""
    alignment = known_clock or align_by_onsets(carriers, flows, writes, rng)
    keep = np.array([t.sure for t in carriers.tunnels], np.bool_)
    if alignment.usable:
        keep |= followed(carriers, flows, writes, alignment, rng)
    if not keep.any():
        return None
    chosen = carriers.select(keep)
    tunnels = TunnelSet(chosen.tunnels, chosen.records(WriteLaw("")), np.zeros(0, np.int64))
    return Settled(alignment, tunnels, (), np.full(len(chosen), -1, np.int64))


def _groups(carriers: Carriers) -> list[list[int]]:
    """Carriers by protocol and the host that relays; they share a law. Those with most writes first."""
    members: dict[tuple[str, str], list[int]] = {}
    for n, tunnel in enumerate(carriers.tunnels):
        members.setdefault((tunnel.protocol, tunnel.server.rpartition(":")[0]), []).append(n)
    of = carriers.carrier_of[carriers.writes.connection]
    total = np.bincount(of[of >= 0], minlength=len(carriers))
    return sorted(members.values(), key=lambda group: -int(total[group].sum()))


def _best(
    carriers: Carriers,
    group: list[int],
    flows: FlowTable,
    writes: WriteTable,
    known_clock: Alignment | None,
    rng: np.random.Generator,
) -> _Trial | None:
    """The law that a group's writes obey best, with the clocks that it gives; ``None`` for none."""
    rng = rng.spawn(1)[0]  # how much chance is taken here must not change what it does in the steps after
    mine = carriers.select(np.isin(np.arange(len(carriers)), group))
    clock = known_clock or align_by_onsets(mine, flows, writes, rng)
    best: _Trial | None = None
    for law in LAWS[carriers.tunnels[group[0]].protocol]:
        found = _tried(law, mine, flows, writes, known_clock, clock, rng)
        if found is not None and (best is None or found.share > best.share):
            best = found
        if best is not None and best.share >= _SURELY_SHARE:
            break
    if best is None and clock.usable:
        for of_packets in (False, True):
            new = _learned(mine, flows, writes, clock, of_packets, rng)
            found = None if new is None else _tried(new, mine, flows, writes, clock, clock, rng)
            if found is not None and (best is None or found.share > best.share):
                best = found
    return best


def _tried(
    law: WriteLaw,
    mine: Carriers,
    flows: FlowTable,
    writes: WriteTable,
    known_clock: Alignment | None,
    by_onsets: Alignment,
    rng: np.random.Generator,
) -> _Trial | None:
    """A law on the clocks that it gives, or else on those of the onsets; ``None`` if it is not obeyed."""
    carried, records = as_carried(flows, writes, law), mine.records(law)
    if len(records) < _LEAST_WRITES:
        return None
    tunnels = TunnelSet(mine.tunnels, records, np.zeros(0, np.int64))
    laws = dict.fromkeys(range(len(mine)), law)
    alignment = known_clock or clocks(tunnels, laws, carried, (), rng)
    if not alignment.usable and by_onsets.usable:  # what the sizes leave open, the onsets decide
        near = clocks(tunnels, laws, carried, (), rng, (by_onsets.offset_ns, _NEAR_NS))
        alignment = near if near.usable else by_onsets
    if not alignment.usable:
        return None
    egress = egress_lengths(carried, alignment.to_ingress(carried.packets.ts_ns))
    share = share_obeying(law, records, egress, rng)
    return _Trial(law, alignment, share, carried, records) if share >= _PROVED_SHARE else None


def _learned(
    mine: Carriers,
    flows: FlowTable,
    writes: WriteTable,
    clock: Alignment,
    of_packets: bool,
    rng: np.random.Generator,
) -> WriteLaw | None:
    """A law of writes, or of packets, that is none of the protocol's known ones."""
    law = WriteLaw("", of_packets=of_packets, origin="learned")
    carried = as_carried(flows, writes, law)
    egress = egress_lengths(carried, clock.to_ingress(carried.packets.ts_ns))
    found = learn_length_map(mine.records(law), egress, rng)
    if found is None or found.length_map.kind == "padded":
        return None
    block = found.length_map.block
    return replace(law, frame=found.length_map.overhead, unit=block, room=block, extra=found.length_map.extra)


def _carrying(
    group: list[int],
    carriers: Carriers,
    trial: _Trial,
    flows: FlowTable,
    writes: WriteTable,
    alignment: Alignment,
    rng: np.random.Generator,
) -> list[int]:
    """The carriers of a group that obey its law themselves, as far as they can be asked; in a download, of
    which few writes do, those whose onsets are followed.
    """
    egress = egress_lengths(trial.flows, alignment.to_ingress(trial.flows.packets.ts_ns))
    alike = carriers.tunnels[group[0]].protocol in _LIKE_OTHERS
    found, unproved = [], []
    for place, n in enumerate(sorted(group)):
        mine = trial.records.take(trial.records.tunnel == place)
        few = len(mine) < _LEAST_WRITES
        if (not alike) if few else share_obeying(trial.law, mine, egress, rng) >= _OWN_SHARE:
            found.append(n)
        elif not few:
            unproved.append(n)
    if unproved:
        asked = carriers.select(np.isin(np.arange(len(carriers)), unproved))
        follows = followed(asked, flows, writes, alignment, rng)
        found += np.array(unproved)[follows].tolist()
    return found


def _records(carriers: Carriers, maps: tuple[WriteLaw, ...], map_of: npt.NDArray[np.int64]) -> RecordTable:
    """The writes of carriers by the law of each, in order of time."""
    parts = (carriers.records(law) for law in maps)
    return merge_records([part.take(map_of[part.tunnel] == number) for number, part in enumerate(parts)])
