"""Containment: each egress packet has its outer packet, of the right length, at the right time.

Theory of operation
-------------------
A VPN server turns one outer packet into one inner packet and back. Under H1 (this tunnel carried this flow)
an egress packet of length L at time t has a record of size m(L) in the tunnel at t - delay, the delay drawn
from the server's delay law g, but for a share ``miss`` of packets that a capture lost. Under H2 a record of
that size stands there by chance. The step of a packet is ::

    log(miss + (1 - miss) * X),    X = sum over records in reach of g(delay) / r

with r the tunnel's own chance rate around the record. X is 1 in the mean under H2 and large where the tunnel
has a record just there. The sum over records, rather than the best one, keeps bulk transfers honest: among
thousands of equal packets a second, which record was whose is unknowable, and the step is near zero
instead of strongly negative. A record serves one packet of a flow, so ten packets need ten records.

Packets come in bursts, and packets of a burst are not independent evidence. Two measures keep a burst from
counting more than once:

- the chance rate counts the *time* that records of a size occupy (each as wide as the delay law), not the
  records: a burst occupies little more than one packet;
- an egress packet that follows one of its own flow and size within the delay law's width is no news. Found,
  it says nothing; not found, it speaks against the tunnel. A long transfer is news again every
  ``_RENEWAL_NS``.

What dependence remains is for the calibration on rotated flows to find (:mod:`vpnforensics.evidence`), which
runs this very code. The score is the sum of the steps over both directions, as a decimal logarithm.

A packet longer than any that the tunnels carry was cut on its way, or sent beside them: it says nothing.

Assumptions: one outer packet for one inner packet; a known or learned length map; aligned clocks.

Silent where no tunnel has records, no length map is known, or the clocks cannot be aligned.

Known weaknesses: strictly periodic equal packets beside a tunnel carrying the same kind of stream; padding
to one size, which leaves times only; jitter beyond the gaps between a tunnel's packets.

Flow correlation by learned similarity is Nasr, Bahramali & Houmansadr 2018 (DeepCorr, ACM CCS); the bounds
of timing jitter for correlating connections are Donoho et al. 2002 (RAID). Here one side contains the other,
packet by packet, and the score is a likelihood ratio from the start.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vpnforensics.align.classes import SizeClasses, classify_records
from vpnforensics.engines._contest_kernels import own_records, score_pairs
from vpnforensics.engines._kernels import chance_gaps, fresh_packets, rarest_packets, score_containment
from vpnforensics.engines.case import Case, EgressRows, ScoreTable, concatenate
from vpnforensics.engines.delay_law import DelayLaw, estimate_delay_law, observed_delays
from vpnforensics.flows._kernels import group_rows

NAME = "packets"

_CHANCE_WINDOW_NS = 20_000_000_000
_RENEWAL_NS = 250_000_000
_MISS, _MOST_MISS = 0.03, 0.3
_THREADS = max(1, min(8, os.cpu_count() or 1))
_LEAST_PIECE = 256
_PROBES = 16
"""Of a longer flow so many packets are looked for in all tunnels; all of them where those are found."""
_NO_CONTEST = (np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.float32), np.zeros(0, np.int32))
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False)
class TunnelOrder:
    """The records once more, tunnel by tunnel: ``start[k]:start[k+1]`` are tunnel k's."""

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    """Row of the size classes, ascending within a tunnel."""
    ts_ns: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ownership:
    """Which flow each record is given to; records in the order of :attr:`Containment.by_tunnel`."""

    owner: npt.NDArray[np.int32]
    """Flow of each record, or -1."""
    claim: npt.NDArray[np.float64]
    """Score of each flow; -inf of those that claim nothing."""
    rival: npt.NDArray[np.float32]
    """Best score of a flow that wanted a record and was turned away; -inf without."""
    matched: npt.NDArray[np.int32]
    """Record that each egress packet got, or -1."""

    def only(self, flows: npt.NDArray[np.intp]) -> Ownership:
        """What the listed flows own; the records of others are free."""
        kept = np.zeros(len(self.claim) + 1, np.bool_)  # the last is nobody's
        kept[flows] = True
        owner = np.where(kept[self.owner], self.owner, np.int32(-1))
        # A packet without a record (-1) looks at the last one's owner, and stays without.
        matched = np.where(owner[self.matched] >= 0, self.matched, np.int32(-1))
        return Ownership(owner, self.claim, self.rival, matched)


@dataclass(frozen=True, eq=False)
class Containment:
    """A case prepared for scoring: size classes, local rates and the delay law."""

    classes: SizeClasses
    egress: EgressRows
    egress_class: tuple[npt.NDArray[np.int32], ...]
    """Class of each egress packet, one array a length map."""
    fresh: npt.NDArray[np.uint8]
    """1 for an egress packet that does not merely continue a burst of its flow and size."""
    probes: tuple[tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]], ...]
    """Packets that are looked for first, by flow: starts and rows, one pair a length map."""
    gap_ns: npt.NDArray[np.float32]
    """Mean gap of chance records around each record: one over the chance rate."""
    by_tunnel: TunnelOrder
    law: DelayLaw
    miss: float
    tunnels: int
    origin_ns: int
    period_ns: int
    """The circle on which rotations turn the egress times."""

    def score(
        self,
        flows: npt.NDArray[np.int32],
        *,
        shift_ns: npt.NDArray[np.int64] | None = None,
        floor_log10: float = -np.inf,
        thorough: bool = False,
    ) -> tuple[ScoreTable, npt.NDArray[np.int64]]:
        """Scores of the flows in every tunnel with a record in reach.

        Parameters
        ----------
        flows : ndarray of int32, shape (n,)
            A flow may stand several times, differently rotated.
        shift_ns : ndarray of int64, shape (n,), optional
            Rotation of each.
        floor_log10 : float
            Scores up to this are left out.
        thorough : bool
            Also look into tunnels that lack most of a long flow's rarest packets.

        Returns
        -------
        ScoreTable
        shift_ns : ndarray of int64
            Rotation of each pair's flow.
        """
        shift = np.zeros(len(flows), np.int64) if shift_ns is None else shift_ns
        pieces = _split(len(flows))
        sizes = np.diff(self.egress.start)

        def look(
            piece: slice, egress_class: npt.NDArray[np.int32], probes: tuple[npt.NDArray[Any], ...]
        ) -> ScoreTable:
            probe_start, probe = probes
            listed, tunnel, score, hits = score_containment(
                flows[piece],
                self.egress.start,
                probe_start,
                probe,
                self.egress.ts_ns,
                egress_class,
                self.fresh,
                self.egress.up,
                shift[piece],
                self.origin_ns,
                self.period_ns,
                self.classes.start,
                self.classes.ts_ns,
                self.classes.tunnel,
                self.gap_ns,
                self.law.up,
                self.law.down,
                self.law.low_ns,
                self.law.step_bits,
                self.law.width_ns,
                self.miss,
                self.tunnels,
                floor_log10 * _LN10,
            )
            return ScoreTable(listed + np.int32(piece.start), tunnel, score / _LN10, hits)

        probes = self.probes
        if thorough:
            every_packet = (self.egress.start, np.arange(len(self.egress.ts_ns), dtype=np.int32))
            probes = (every_packet,) * len(self.probes)
        sides = zip(self.egress_class, probes, strict=True)
        found = concatenate(_in_threads(look, [(piece, *side) for side in sides for piece in pieces]))
        pairs, shift = ScoreTable(flows[found.flow], found.tunnel, found.score, found.hits), shift[found.flow]
        begun = np.flatnonzero(sizes[pairs.flow] > _PROBES) if not thorough else np.zeros(0, np.int64)
        pairs.score[begun], pairs.hits[begun] = self._score_pairs(pairs.take(begun), shift[begun])
        kept = pairs.score > floor_log10
        return pairs.take(kept), shift[kept]

    def own(
        self, flows: npt.NDArray[np.int32], tunnels: npt.NDArray[np.int32], scores: npt.NDArray[np.float64]
    ) -> Ownership:
        """Which record carried which packet, if each flow listed was in its tunnel: strongest flows first.

        Parameters
        ----------
        flows, tunnels : ndarray of int32, shape (links,)
        scores : ndarray of float64, shape (links,)
            Decides who takes a record that two want.
        """
        # Tunnel by tunnel: its flows compete for its own records only, and those stay in the cache.
        order = np.lexsort((flows, -scores, tunnels))
        flows, tunnels, scores = flows[order], tunnels[order], scores[order]
        records = len(self.classes.ts_ns)
        owner = np.full(records, -1, np.int32)
        rival = np.full(records, -np.inf, np.float32)
        matched = np.full(len(self.egress.ts_ns), -1, np.int32)
        carried = np.full(records, -1, np.int32)
        # A tunnel's flows compete for its own records only, so tunnels can be shared out among threads.
        shares = [tunnels % _THREADS == share for share in range(_THREADS)]

        def own_share(mine: npt.NDArray[np.bool_], egress_class: npt.NDArray[np.int32]) -> None:
            own_records(
                flows[mine],
                tunnels[mine],
                scores[mine],
                self.egress.start,
                self.egress.ts_ns,
                egress_class,
                self.egress.up,
                self.classes.start,
                self.by_tunnel.row,
                self.by_tunnel.start,
                self.by_tunnel.ts_ns,
                self.law.up,
                self.law.down,
                self.law.low_ns,
                self.law.step_bits,
                owner,
                rival,
                matched,
                carried,
            )

        for egress_class in self.egress_class:
            _in_threads(own_share, [(mine, egress_class) for mine in shares])
        claim = np.full(len(self.egress.start) - 1, -np.inf)
        claim[flows] = scores
        return Ownership(owner, claim, rival, matched)

    def score_contested(
        self,
        pairs: ScoreTable,
        shift_ns: npt.NDArray[np.int64],
        owned: Ownership,
        margin: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]],
    ) -> npt.NDArray[np.float64]:
        """Scores of the pairs without the records that another flow wants.

        Only flows that are weaker by ``margin`` of the pair's score are disregarded.
        """
        return self._score_pairs(pairs, shift_ns, pairs.score - margin(pairs.score), owned)[0]

    def _score_pairs(
        self,
        pairs: ScoreTable,
        shift_ns: npt.NDArray[np.int64],
        limit: npt.NDArray[np.float64] | None = None,
        owned: Ownership | None = None,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
        """Score and hits of each pair; without a limit there is no contest."""
        order = np.argsort(pairs.tunnel, kind="stable")  # a tunnel's records stay in the cache
        flow, tunnel, shift_ns = pairs.flow[order], pairs.tunnel[order], shift_ns[order]
        limit = np.full(len(pairs), np.inf) if limit is None else limit[order]
        contest = (owned.owner, owned.claim, owned.rival, owned.matched) if owned else _NO_CONTEST

        def score_piece(
            piece: slice, egress_class: npt.NDArray[np.int32]
        ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int32]]:
            score, hits = score_pairs(
                flow[piece],
                tunnel[piece],
                limit[piece],
                self.egress.start,
                self.egress.ts_ns,
                egress_class,
                self.fresh,
                self.egress.up,
                shift_ns[piece],
                self.origin_ns,
                self.period_ns,
                self.classes.start,
                self.by_tunnel.row,
                self.by_tunnel.start,
                self.by_tunnel.ts_ns,
                self.gap_ns,
                self.law.up,
                self.law.down,
                self.law.low_ns,
                self.law.step_bits,
                self.law.width_ns,
                self.miss,
                *contest,
            )
            return score / _LN10, hits

        best, most = np.full(len(pairs), -np.inf), np.zeros(len(pairs), np.int32)
        pieces = _split(len(pairs))
        for egress_class in self.egress_class if pieces else ():
            found = _in_threads(score_piece, [(piece, egress_class) for piece in pieces])
            # A tunnel has one length map: by another's it has nothing of the flow.
            best[order] = np.maximum(best[order], np.concatenate([score for score, _ in found]))
            most[order] = np.maximum(most[order], np.concatenate([hits for _, hits in found]))
        return best, most

    def record_rows(self, owned: Ownership) -> npt.NDArray[np.int32]:
        """RecordTable row that each egress packet got, or -1."""
        got = owned.matched >= 0
        return np.where(got, self.classes.record[self.by_tunnel.row[np.where(got, owned.matched, 0)]], -1)

    def without(self, owned: Ownership) -> Containment:
        """The same case with the owned records gone: what is left to explain."""
        free = np.empty(len(owned.owner), np.bool_)
        free[self.by_tunnel.row] = owned.owner < 0
        classes = self.classes.keep(free)
        gap_ns, by_tunnel = _gaps(classes, self.law.width_ns, self.tunnels)
        return replace(self, classes=classes, gap_ns=gap_ns, by_tunnel=by_tunnel)

    def rotations(self, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Shifts for rotated copies: nowhere near the true position, spread over the whole circle."""
        least = min(5_000_000_000, self.period_ns // 8)
        edges = np.linspace(least, max(least + count, self.period_ns - least), count + 1)
        return np.asarray(rng.uniform(edges[:-1], edges[1:]).astype(np.int64))


_Piece = TypeVar("_Piece")


def _split(items: int) -> list[slice]:
    """Even pieces for the threads; what they are does not change any result."""
    edges = np.linspace(0, items, min(_THREADS, max(items // _LEAST_PIECE, 1)) + 1).astype(int).tolist()
    return [slice(begin, end) for begin, end in pairwise(edges) if end > begin]


def _in_threads(job: Callable[..., _Piece], arguments: list[tuple[Any, ...]]) -> list[_Piece]:
    """Results in order; the kernels run outside the interpreter's lock."""
    if len(arguments) < 2:
        return [job(*a) for a in arguments]
    return list(_threads().map(lambda a: job(*a), arguments))


@cache
def _threads() -> ThreadPoolExecutor:
    """One pool for all: a case makes hundreds of short calls."""
    return ThreadPoolExecutor(_THREADS)


os.register_at_fork(after_in_child=_threads.cache_clear)  # threads do not survive a fork


def prepare(case: Case) -> Containment | None:
    """Size classes, delay law and local rates of a case; ``None`` where the engine has nothing to go on."""
    if not case.alignment.usable or not case.maps or not len(case.flows):
        return None
    classes = classify_records(case.tunnels.records, case.map_of_tunnel, case.maps)
    if not len(classes):
        return None
    egress = case.egress
    egress_class = tuple(
        classes.class_of(number, egress.inner_bytes, egress.up) for number in range(len(case.maps))
    )
    law = estimate_delay_law(*observed_delays(classes, egress, egress_class))
    fresh = np.ones(len(egress.ts_ns), np.uint8)
    for per_map in egress_class:
        fresh_packets(egress.start, egress.ts_ns, per_map, len(classes), law.width_ns, _RENEWAL_NS, fresh)
    first = int(min(egress.ts_ns.min(), classes.ts_ns.min()))
    last = int(max(egress.ts_ns.max(), classes.ts_ns.max()))
    return Containment(
        classes,
        egress,
        egress_class,
        fresh,
        tuple(rarest_packets(egress.start, c, fresh, classes.counts, _PROBES) for c in egress_class),
        *_gaps(classes, law.width_ns, len(case.tunnels)),
        law,
        min(max(_MISS, case.tunnels.lost_share), _MOST_MISS),
        len(case.tunnels),
        first,
        max(last - first, 1),
    )


def _gaps(classes: SizeClasses, width_ns: float, tunnels: int) -> tuple[npt.NDArray[np.float32], TunnelOrder]:
    """Mean chance gap around each record, and the records by tunnel."""
    row, start = group_rows(classes.tunnel, tunnels)
    by_tunnel = TunnelOrder(start, row, classes.ts_ns[row])
    gap_ns = chance_gaps(row, start, classes.start, by_tunnel.ts_ns, width_ns, _CHANCE_WINDOW_NS)
    return gap_ns, by_tunnel
