"""Relays that keep bytes (SOCKS, CONNECT, HTTP in clear): the same payloads on either side.

Theory of operation
-------------------
A relay that does not encrypt passes on what it reads, so a segment on its one side begins with the bytes of a
segment on the other, under another sequence number. What is compared are the first 24 bytes of payload, which
a capture snapped at 96 bytes has, too. How much that proves depends on what stands in them:

- A Hello of TLS, a record under the connection's own key and ssh's cookie are made anew each time (RFC 8446,
  4.1.2 and 5.2; RFC 4253, 7.1): 13 random bytes or more are in the head. Found in one connection of each side
  only, they prove the pair, and, many of them together, the clocks.
- Text (``GET /``, ``HTTP/1.1 200 OK``) comes again, and so does a file that is fetched twice, random as it
  may look: by chance at the rate at which it is seen, within the delays that the proved pairs show. That
  chance is what it is worth; to who has looked at sizes and times already, how rare it is among payloads of
  its size.
- A connection's payloads go on somewhere. If nothing else at the time could be where they went, this flow is:
  captures lose a packet or three in a hundred, so that for another, unseen, to be it all of its must be lost.
- SOCKS and CONNECT name host and port. The port has to be the flow's; which addresses a host has, the proved
  pairs show, and a flow to another speaks against the pair.
- Another client's connection that fits as well, or another flow that fits this connection as well, takes back
  what it proves itself: of two clients who send the same at one moment neither is named.

Heads and which of them are alike: :mod:`vpnforensics.align.payload_heads`; the pairs that share some, judged
against their rivals: :mod:`vpnforensics.align.kept_pairs`; hosts: :mod:`vpnforensics.align.asked_hosts`.

Assumptions: complete captures, but for some loss; heads of 24 bytes.

An HTTP proxy writes requests and answers anew, and mixes those of several clients in one connection; of what
is not behind a CONNECT only that counts which is never the same twice.

Known weakness: a relay that reads in other pieces than it was sent shows no more than the first of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.asked_hosts import AskedHosts
from vpnforensics.align.kept_pairs import KeptPairs
from vpnforensics.align.line import align_pairs
from vpnforensics.align.payload_heads import (
    PayloadHeads,
    alike_beside,
    first_places,
    holders,
    never_twice,
    number_heads,
    payload_heads,
)
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import Carriers
from vpnforensics.tunnels.relay_requests import Destination, destinations

KEEPING = ("socks5", "socks4", "http-proxy")
"""Relays whose payloads go through as they are."""
REWRITING = "http-proxy"
"""A relay whose connections keep bytes behind a CONNECT only."""
_NEVER_TWICE_DECADES = 6.0
"""What such a head proves in a pair that has it alone: half of its 13 bytes would be more."""
_SPREAD, _SLACK_NS, _UNKNOWN_NS = 1.5, 5_000_000, 250_000_000
"""How far beyond the delays of 99 % of the proved pairs others may lie: by their distance from the median,
and at least; and how far where too few are proved."""
_LEAST_PROVED = 12
_MOST_APART_NS = 100_000_000
"""Half of the proved pairs lie nearer the line of the clocks, or it is none."""


@dataclass(frozen=True, eq=False)
class KeptBytes:
    """What equal payloads say of each egress flow."""

    alignment: Alignment
    carrier: npt.NDArray[np.int64]
    """Carrier of the likeliest connection, as in the carriers given; -1 without."""
    connection: npt.NDArray[np.int64]
    """Its number in the flow table of the ingress side."""
    score: npt.NDArray[np.float64]
    """Decimal logarithm of how unlikely such a pair is by chance, less its best rival's; -inf without."""
    shared: npt.NDArray[np.int64]
    """Different payloads found in both."""
    content: npt.NDArray[np.float64]
    """Decimal logarithm of how rare they are among payloads of their sizes: added to sizes and times."""
    payloads: npt.NDArray[np.int64]
    """Payloads of the flow that are long enough."""
    anew: npt.NDArray[np.int64]
    """Those of them that are never the same twice: no relay writes these anew."""


def find_kept_bytes(
    carriers: Carriers, flows: FlowTable, known_clock: Alignment | None, rng: np.random.Generator
) -> KeptBytes | None:
    """Egress flows with the connections that had their payloads; ``None`` where the clocks stay unknown.

    Parameters
    ----------
    carriers : Carriers
    flows : FlowTable
        Of the egress side, as captured.
    known_clock : Alignment or None
        Where it is known beforehand.
    rng : numpy.random.Generator
    """
    conversations = carriers.conversations
    asked = destinations(conversations, np.flatnonzero(carriers.carrier_of >= 0), carriers.forward)
    outer = _outer_heads(carriers, asked)
    inner = payload_heads(flows, flows.proto == PROTO_TCP, flows.up)
    if not len(outer) or not len(inner):
        return None
    outer_number, inner_number, numbers = number_heads(outer, inner)
    often = holders(inner_number, inner.of, numbers)
    there, here = first_places(outer_number, numbers), first_places(inner_number, numbers)
    proving = np.flatnonzero((holders(outer_number, outer.of, numbers) == 1) & (often == 1))
    proving = proving[never_twice(outer.head[there[proving]])]
    there, here = there[proving], here[proving]
    alignment = known_clock or align_pairs(inner.ts_ns[here], outer.ts_ns[there], inner.up[here], rng)
    if not alignment.usable:
        return None
    inner_ns = alignment.to_ingress(inner.ts_ns)
    apart_ns = inner_ns[here] - outer.ts_ns[there]
    if len(here) and np.median(np.abs(apart_ns)) > _MOST_APART_NS:
        return None
    low, high = (bound[inner.up.astype(np.intp)] for bound in _window(apart_ns, inner.up[here]))
    mine, theirs = alike_beside(inner_number, inner_ns - high, inner_ns - low, outer_number, outer.ts_ns)
    if not len(mine):
        return None
    by_chance = often[inner_number] * (high - low) / max(int(np.ptp(inner_ns)), 1)
    worth = -np.log10(np.clip(by_chance, 1e-9, 1.0)) + _NEVER_TWICE_DECADES * np.isin(inner_number, proving)
    rarity = _rarity(inner, often[inner_number])
    pairs = KeptPairs.of(inner.of[mine], outer.of[theirs], inner_number[mine], worth[mine], rarity[mine])
    hosts = AskedHosts.of(asked, flows, len(conversations), outer.of[there], inner.of[here])
    pairs = pairs.with_hosts(hosts.decades(pairs.conversation, pairs.flow))
    best, score = pairs.judged(carriers.carrier_of)
    return _by_flow(carriers, inner, alignment, best, score, len(flows))


def _by_flow(
    carriers: Carriers,
    inner: PayloadHeads,
    alignment: Alignment,
    best: KeptPairs,
    score: npt.NDArray[np.float64],
    flows: int,
) -> KeptBytes:
    """The best pair of each flow that has one, for all flows."""
    connection, scores = np.full(flows, -1, np.int64), np.full(flows, -np.inf)
    shared, content = np.zeros(flows, np.int64), np.zeros(flows)
    connection[best.flow], scores[best.flow] = best.conversation, score
    shared[best.flow], content[best.flow] = best.shared, best.content
    carrier = np.where(connection >= 0, carriers.carrier_of[connection], -1)
    payloads = np.bincount(inner.of, minlength=flows)
    anew = np.bincount(inner.of[never_twice(inner.head)], minlength=flows)
    return KeptBytes(alignment, carrier, connection, scores, shared, content, payloads, anew)


def _outer_heads(carriers: Carriers, asked: Mapping[int, Destination]) -> PayloadHeads:
    """Of the connections of relays that keep bytes: what they keep."""
    conversations = carriers.conversations
    protocol = np.array([t.protocol for t in carriers.tunnels] + [""])[carriers.carrier_of]
    outward = conversations.up == carriers.forward[conversations.flow]
    heads = payload_heads(conversations, np.isin(protocol, KEEPING), outward)
    rewritten = protocol == REWRITING
    rewritten[list(asked)] = False
    return heads.take(~rewritten[heads.of] | never_twice(heads.head))


def _rarity(inner: PayloadHeads, often: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Decimal logarithm of how many more flows have a payload of this size and direction than this one."""
    _, alike = np.unique(2 * inner.size + inner.up, return_inverse=True)
    of_size = holders(alike, inner.of, int(alike.max()) + 1)
    return np.asarray(np.log10((of_size[alike] + 1) / (often + 1)).clip(0))


def _window(
    delay_ns: npt.NDArray[np.int64], up: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Least and most of egress less ingress time, down and up, by the pairs that are proved."""
    low, high = np.full(2, -_UNKNOWN_NS, np.int64), np.full(2, _UNKNOWN_NS, np.int64)
    for side in (False, True):
        mine = delay_ns[up == side]
        if len(mine) >= _LEAST_PROVED:
            least, middle, most = np.quantile(mine, (0.005, 0.5, 0.995))
            low[int(side)] = int(middle - _SPREAD * (middle - least)) - _SLACK_NS
            high[int(side)] = int(middle + _SPREAD * (most - middle)) + _SLACK_NS
    return low, high
