"""A case prepared for containment: records by size and time, and who owns them.

What the score means is said in :mod:`vpnforensics.engines.packets`; here are the tables that it is taken
from, and the kernels' threads.
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

from vpnforensics.align.classes import SizeClasses
from vpnforensics.engines._contest_kernels import own_records, score_pairs, take_records
from vpnforensics.engines._kernels import chance_gaps, score_containment
from vpnforensics.engines.case import EgressRows, ScoreTable, concatenate
from vpnforensics.engines.circle import Circle
from vpnforensics.engines.delay_law import DelayLaw
from vpnforensics.flows._kernels import group_rows

_THREADS = max(1, min(8, os.cpu_count() or 1))
_LEAST_PIECE = 256
PROBES = 16
"""Of a longer flow so many packets are looked for in all tunnels; all of them where those are found."""
_CHANCE_WINDOW_NS = 20_000_000_000
_LEAST_ROTATIONS = 2
_NO_CONTEST = (np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.float32), np.zeros(0, np.int32))
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False)
class TunnelOrder:
    """The records once more, tunnel by tunnel: ``start[k]:start[k+1]`` are tunnel k's."""

    start: npt.NDArray[np.int64]
    row: npt.NDArray[np.int32]
    """Row of the size classes, ascending within a tunnel."""
    ts_ns: npt.NDArray[np.int64]
    gap_ns: npt.NDArray[np.float32]


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
    circle: Circle
    """On which rotations turn the egress times."""

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
                self.circle.origin_ns,
                self.circle.period_ns,
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
        begun = np.flatnonzero(sizes[pairs.flow] > PROBES) if not thorough else np.zeros(0, np.int64)
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

    def score_again(self, pairs: ScoreTable, shift_ns: npt.NDArray[np.int64]) -> ScoreTable:
        """The same pairs with their scores here: all packets looked for, among all records, no contest."""
        score, hits = self._score_pairs(pairs, shift_ns)
        return ScoreTable(pairs.flow, pairs.tunnel, score, hits)

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
                self.circle.origin_ns,
                self.circle.period_ns,
                self.classes.start,
                self.by_tunnel.row,
                self.by_tunnel.start,
                self.by_tunnel.ts_ns,
                self.by_tunnel.gap_ns,
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

    def take_out(
        self, flows: npt.NDArray[np.intp], owned: Ownership, record: npt.NDArray[np.int32]
    ) -> Containment:
        """Note the records that these flows own, and return the same case with those gone: what is left.

        Parameters
        ----------
        flows : ndarray of int64
        owned : Ownership
        record : ndarray of int32, one an egress packet
            Gets the RecordTable rows of their packets' records.
        """
        free = np.ones(len(owned.owner), np.bool_)
        take_records(
            flows, self.egress.start, owned.matched, self.by_tunnel.row, self.classes.record, record, free
        )
        classes = self.classes.keep(free)
        gap_ns, by_tunnel = gaps(classes, self.law.width_ns, self.tunnels)
        return replace(self, classes=classes, gap_ns=gap_ns, by_tunnel=by_tunnel)

    def without_owned_above(self, score: float, owned: Ownership) -> Containment:
        """The same case without the records of flows that claim with more than this score.

        The rates stay what they are: chance is not less for that.
        """
        claim = np.append(owned.claim, -np.inf)  # the last is nobody's
        free = np.empty(len(owned.owner), np.bool_)
        free[self.by_tunnel.row] = claim[owned.owner] <= score
        classes, gap_ns = self.classes.keep(free), self.gap_ns[free]
        by_tunnel = tunnel_order(classes, gap_ns, self.tunnels)
        return replace(self, classes=classes, gap_ns=gap_ns, by_tunnel=by_tunnel)

    def rotations(
        self, flows: npt.NDArray[np.int32], turns: float, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Copies of the flows, spread over the whole circle, but for those that land near their true place.

        Parameters
        ----------
        flows : ndarray of int32, shape (n,), n > 0
        turns : float
            Copies of each; if they are less than two, only some flows have any.
        rng : numpy.random.Generator

        Returns
        -------
        copies : ndarray of int32
            Flow of each.
        shift_ns : ndarray of int64
        """
        rounds = max(_LEAST_ROTATIONS, round(turns))
        copies = np.tile(flows, rounds)
        turn = np.repeat((np.arange(rounds) + rng.random(rounds)) / rounds, len(flows))
        if turns < rounds:
            some = rng.random(len(copies)) < turns / rounds
            some[rng.integers(len(some))] |= not some.any()
            copies, turn = copies[some], turn[some]
        begin_ns = self.egress.ts_ns[self.egress.start[copies]]
        shift_ns, away = self.circle.turned(begin_ns, turn)
        return copies[away], shift_ns[away]


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


def tunnel_order(classes: SizeClasses, gap_ns: npt.NDArray[np.float32], tunnels: int) -> TunnelOrder:
    """The records by tunnel."""
    row, start = group_rows(classes.tunnel, tunnels)
    return TunnelOrder(start, row, classes.ts_ns[row], gap_ns[row])


def gaps(classes: SizeClasses, width_ns: float, tunnels: int) -> tuple[npt.NDArray[np.float32], TunnelOrder]:
    """Mean chance gap around each record, and the records by tunnel."""
    row, start = group_rows(classes.tunnel, tunnels)
    ts_ns = classes.ts_ns[row]
    gap_ns = chance_gaps(row, start, classes.start, ts_ns, width_ns, _CHANCE_WINDOW_NS)
    return gap_ns, TunnelOrder(start, row, ts_ns, gap_ns[row])
