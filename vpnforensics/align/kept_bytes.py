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

An HTTP proxy writes requests and answers anew, and may mix those of several clients in one connection. So of
what is not behind a CONNECT, exchanges of a request and its answer take the place of connections, and
fingerprints of what the proxy has to keep of them the place of heads
(:mod:`vpnforensics.align.http_exchanges`). A flow is of a client if all of its exchanges are, and is worth
what the least sure of them is; if they are of several clients, it is nobody's.

Assumptions: complete captures, but for some loss; heads of 24 bytes, and of messages their beginnings.

Known weakness: a relay that reads in other pieces than it was sent shows no more than the first of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.asked_hosts import AskedHosts
from vpnforensics.align.http_exchanges import HttpExchanges, find_exchanges
from vpnforensics.align.kept_delays import KeptDelays
from vpnforensics.align.kept_pairs import KeptPairs
from vpnforensics.align.line import LEAST_PAIRS, align_pairs
from vpnforensics.align.payload_heads import (
    PayloadHeads,
    alike_beside,
    first_places,
    holders,
    never_twice,
    number_heads,
    payload_heads,
)
from vpnforensics.arrays import Columns
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.flows.grouping import changes
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import Carriers
from vpnforensics.tunnels.relay_requests import Destination, destinations

KEEPING = ("socks5", "socks4", "http-proxy")
"""Relays whose payloads go through as they are."""
REWRITING = "http-proxy"
"""A relay whose connections keep bytes behind a CONNECT only."""
_NEVER_TWICE_DECADES = 6.0
"""What such a head proves in a pair that has it alone: half of its 13 bytes would be more."""
_MOST_APART_NS = 100_000_000
"""Half of the proved pairs lie nearer the line of the clocks, or it is none."""


@dataclass(frozen=True, eq=False)
class KeptBytes:
    """What equal payloads say of each egress flow."""

    alignment: Alignment
    carrier: npt.NDArray[np.int64]
    """Number of the likeliest connection's carrier, as its tunnel has it; -1 without."""
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
    """Those of them that are never the same twice, and messages: no relay writes these anew."""
    clients: npt.NDArray[np.int64]
    """How many clients its exchanges are of, as far as that is told; 0 where it has none."""


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
    outer, inner = _sides(carriers, flows, asked)
    if not len(outer) or not len(inner):
        return None
    here_heads, there_heads = inner.heads, outer.heads
    outer_number, inner_number, numbers = number_heads(there_heads, here_heads)
    often = holders(inner_number, inner.holder, numbers)
    there, here = first_places(outer_number, numbers), first_places(inner_number, numbers)
    once = np.flatnonzero((holders(outer_number, outer.holder, numbers) == 1) & (often == 1))
    proves = never_twice(there_heads.head[there[once]])
    proving = once[proves]
    sure = proving if len(proving) >= LEAST_PAIRS else once[proves | inner.is_message[here[once]]]
    alignment = known_clock or align_pairs(
        here_heads.ts_ns[here[sure]], there_heads.ts_ns[there[sure]], here_heads.up[here[sure]], rng
    )
    if not alignment.usable:
        return None
    inner_ns = alignment.to_ingress(here_heads.ts_ns)
    apart_ns = inner_ns[here] - there_heads.ts_ns[there]  # of each number that both have
    if len(sure) and np.median(np.abs(apart_ns[sure])) > _MOST_APART_NS:
        return None
    delays = KeptDelays.of(apart_ns, here_heads.up[here], proving, once[inner.is_message[here[once]]])
    delays = delays.take(2 * inner.is_message + here_heads.up)
    mine, theirs = alike_beside(
        inner_number, inner_ns - delays.high_ns, inner_ns - delays.low_ns, outer_number, there_heads.ts_ns
    )
    if not len(mine):
        return None
    within_ns = delays.within_ns(mine, inner_ns[mine] - there_heads.ts_ns[theirs])
    by_chance = often[inner_number[mine]] * within_ns / max(int(np.ptp(inner_ns)), 1)
    worth = -np.log10(np.clip(by_chance, 1e-9, 1.0)) + _NEVER_TWICE_DECADES * np.isin(
        inner_number[mine], proving
    )
    rarity = _rarity(here_heads, often[inner_number])
    pairs = KeptPairs.of(here_heads.of[mine], there_heads.of[theirs], inner_number[mine], worth, rarity[mine])
    connection, flow = outer.connection_of, inner.connection_of
    hosts = AskedHosts.of(
        asked,
        flows,
        len(conversations),
        connection[there_heads.of[there[proving]]],
        flow[here_heads.of[here[proving]]],
    )
    pairs = pairs.with_hosts(hosts.decades(connection[pairs.conversation], flow[pairs.flow]))
    best, score = pairs.judged(carriers.carrier_of[connection])
    return _by_flow(carriers, outer, inner, alignment, best, score, len(flows))


@dataclass(frozen=True, eq=False)
class _Side:
    """What is compared of one side."""

    heads: PayloadHeads
    """``of`` is a connection, or an exchange: those are numbered after all connections."""
    is_message: npt.NDArray[np.bool_]
    """Whether each head is a message's fingerprint."""
    connection_of: npt.NDArray[np.int64]
    """Of each connection, itself, and of each exchange."""

    def __len__(self) -> int:
        return len(self.heads)

    @property
    def holder(self) -> npt.NDArray[np.int64]:
        """Who counts as having each head: a connection its payloads, an exchange its messages."""
        return np.where(self.is_message, self.heads.of, self.connection_of[self.heads.of])

    @staticmethod
    def of(heads: PayloadHeads, found: HttpExchanges, prints: list[npt.NDArray[np.uint8]], n: int) -> _Side:
        """Payloads of ``n`` connections and of exchanges in them, and their messages by some fingerprints."""
        also = [found.bodies, *(found.messages.heads(each) for each in prints)]
        also = [replace(each, of=each.of + n) for each in also]
        parts = [heads, *also]
        is_message = np.repeat(np.arange(len(parts)) >= 2, [len(part) for part in parts])
        return _Side(PayloadHeads.joined(parts), is_message, np.r_[np.arange(n), found.connection_of])


def _sides(carriers: Carriers, flows: FlowTable, asked: Mapping[int, Destination]) -> tuple[_Side, _Side]:
    """Ingress and egress: of connections of relays that keep bytes, what they keep."""
    conversations = carriers.conversations
    protocol = np.array([t.protocol for t in carriers.tunnels] + [""])[carriers.carrier_of]
    outward = conversations.up == carriers.forward[conversations.flow]
    heads = payload_heads(conversations, np.isin(protocol, KEEPING), outward)
    rewritten = protocol == REWRITING
    rewritten[list(asked)] = False
    heads = heads.take(~rewritten[heads.of] | never_twice(heads.head))
    tcp = flows.proto == PROTO_TCP
    theirs = find_exchanges(conversations, rewritten, outward)
    mine = find_exchanges(flows, tcp & bool(len(theirs)), flows.up)
    prints = [theirs.messages.core, theirs.messages.whole]
    outer = _Side.of(heads, theirs, prints, len(conversations))
    own = payload_heads(flows, tcp, flows.up)
    return outer, _Side.of(own, mine, [mine.messages.as_known(theirs.messages)], len(flows))


def _by_flow(
    carriers: Carriers,
    outer: _Side,
    inner: _Side,
    alignment: Alignment,
    best: KeptPairs,
    score: npt.NDArray[np.float64],
    flows: int,
) -> KeptBytes:
    """The best pair of each flow that has one, for all flows; of exchanges, what they come to together."""
    every, of = len(inner.connection_of), inner.connection_of[flows:]
    found = _Found.nothing(every, np.bincount(inner.heads.of, minlength=every))
    at = outer.connection_of[best.conversation]
    for column, values in zip(
        (found.carrier, found.connection, found.score, found.shared, found.content),
        (carriers.numbers[carriers.carrier_of[at]], at, score, best.shared, best.content),
        strict=True,
    ):
        column[best.flow] = values
    by_payloads, exchanges = found.take(np.arange(flows)), found.take(np.arange(flows, every))
    by_messages = exchanges.together(of, flows)
    told = exchanges.score > 0
    clients = np.bincount(np.unique(of[told] << 32 | exchanges.carrier[told]) >> 32, minlength=flows)
    anew = np.bincount(inner.heads.of[never_twice(inner.heads.head)], minlength=flows)[:flows]
    surest = by_payloads.or_surer(by_messages)
    return KeptBytes(
        alignment,
        surest.carrier,
        surest.connection,
        surest.score,
        surest.shared,
        surest.content,
        surest.payloads,
        anew + by_messages.payloads,
        clients,
    )


@dataclass(frozen=True, eq=False)
class _Found(Columns):
    """Where the payloads of each flow, or exchange, were found; columns as in :class:`KeptBytes`."""

    carrier: npt.NDArray[np.int64]
    connection: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    shared: npt.NDArray[np.int64]
    content: npt.NDArray[np.float64]
    payloads: npt.NDArray[np.int64]

    @staticmethod
    def nothing(n: int, payloads: npt.NDArray[np.int64]) -> _Found:
        """Nowhere."""
        nowhere = np.full(n, -1, np.int64)
        return _Found(
            nowhere, nowhere.copy(), np.full(n, -np.inf), np.zeros(n, np.int64), np.zeros(n), payloads
        )

    def together(self, of: npt.NDArray[np.int64], flows: int) -> _Found:
        """Of each flow what its exchanges come to: it is of a client if all are, as surely as they are."""
        found = _Found.nothing(flows, np.bincount(of, self.payloads, flows).astype(np.int64))
        if not len(of):
            return found
        order = np.lexsort((self.score, of))
        leads = np.flatnonzero(changes(of[order]))
        flow, least = of[order[leads]], order[leads]
        others = np.minimum.reduceat(self.carrier[order], leads) != np.maximum.reduceat(
            self.carrier[order], leads
        )
        doubt = np.add.reduceat(10.0 ** -self.score[order].clip(0), leads)
        found.carrier[flow] = np.where(others, -1, self.carrier[least])
        found.connection[flow] = np.where(others, -1, self.connection[least])
        found.score[flow] = np.where(found.carrier[flow] < 0, -np.inf, -np.log10(doubt))
        found.shared[flow] = np.add.reduceat(self.shared[order], leads)
        found.content[flow] = np.minimum.reduceat(self.content[order], leads)
        return found

    def or_surer(self, other: _Found) -> _Found:
        """The surer of both for each flow, less the other where that is of another client."""
        rather = other.score > self.score
        chosen = [np.where(rather, getattr(other, c.name), getattr(self, c.name)) for c in fields(self)]
        against = np.where(self.carrier == other.carrier, 0.0, np.minimum(self.score, other.score).clip(0))
        found = _Found(*chosen)
        return replace(found, score=found.score - against)


def _rarity(inner: PayloadHeads, often: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Decimal logarithm of how many more flows have a payload of this size and direction than this one."""
    _, alike = np.unique(2 * inner.size + inner.up, return_inverse=True)
    of_size = holders(alike, inner.of, int(alike.max()) + 1)
    return np.asarray(np.log10((of_size[alike] + 1) / (often + 1)).clip(0))
