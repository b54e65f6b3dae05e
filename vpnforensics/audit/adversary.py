"""Who looks at both sides, and what they know.

An audit takes the worst case (Kerckhoffs 1883: the system is known): the adversary knows how an operator
pads, and by default the relation of the two clocks. What a weaker one finds, who has to estimate the clocks,
stands beside it. A correlator that has never heard of a padding rule is blind to it: that makes nobody safer.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np

from vpnforensics.audit.copies.padding import Pad, PaddedMap
from vpnforensics.audit.recording import Recording
from vpnforensics.case import grouped, known_clock, make_case, why_no_tunnels
from vpnforensics.engines.registry import ENGINES
from vpnforensics.errors import CaseError
from vpnforensics.evidence.policy import Policy
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.options import Options
from vpnforensics.sides import Progress
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap
from vpnforensics.tunnels.table import TunnelSet
from vpnforensics.weighing import Weighed, weigh


@dataclass(frozen=True, slots=True)
class Adversary:
    """Who has both captures.

    Parameters
    ----------
    pad : callable or None
        How packets are padded before the tunnel's own rule.
    rules : mapping
        That rule, by the client's endpoint, where it is not the protocol's.
    knows_clocks : bool
        Whether the relation of the two captures' clocks is known, or has to be estimated.
    allowed : float
        False links they put up with in the whole case.
    engines : tuple of str
        What they look at.
    seed : int
    """

    pad: Pad | None = None
    rules: Mapping[str, LengthMap] = field(default_factory=dict)
    knows_clocks: bool = True
    allowed: float = 1.0
    engines: tuple[str, ...] = tuple(ENGINES)
    seed: int = 0

    def weigh(self, recording: Recording, progress: Progress = lambda step, share: None) -> Weighed:
        """What they make of a recording, whose sides are on one clock if they know the clocks.

        Raises
        ------
        CaseError
            There is no tunnel in it, no flow, or nothing encrypted.
        """
        rng = np.random.default_rng(self.seed)
        sides = recording.sides
        flows: Future[FlowTable] = Future()
        flows.set_result(grouped(sides.egress))
        clock = known_clock(sides, self.knows_clocks)
        case, _ = make_case(sides, flows, clock, rng, progress, tunnels_of=self._tunnels)
        if not len(case.tunnels):
            raise CaseError(why_no_tunnels(sides))
        options = _WithoutDecoys(self.allowed, self.seed, engines=self.engines)
        return weigh(case, options, rng, progress, clock=clock, one=sides.are_one)

    def _tunnels(self, conversations: FlowTable) -> TunnelSet:
        """The tunnels, with the length maps that the padding makes of theirs."""
        found = find_tunnels(conversations)
        if self.pad is None:
            return found
        longest = np.zeros(len(found), np.int64)
        np.maximum.at(longest, found.records.tunnel, found.records.size)
        rules = [self.rules.get(t.client, next(iter(t.length_maps), None)) for t in found.tunnels]
        tunnels = tuple(
            t if rule is None else replace(t, length_maps=(_padded(rule, self.pad, size),))
            for t, rule, size in zip(found.tunnels, rules, longest.tolist(), strict=True)
        )
        return replace(found, tunnels=tunnels)


class _WithoutDecoys(Options):
    """Decoys take four fifths of the time, and check what is stated of links; here truth does that."""

    __slots__ = ()

    @property
    def policy(self) -> Policy:
        """Every threshold that decides."""
        return replace(Policy(expected_false_links=self.expected_false_links), decoy_rounds=0)


def _padded(rule: LengthMap, pad: Pad, longest_record: int) -> PaddedMap:
    mtu = rule.cap if rule.cap < UNCAPPED else int(rule.longest_inner(np.array([longest_record]))[0])
    return PaddedMap.of(rule, pad, mtu)
