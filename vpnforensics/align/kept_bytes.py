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
- A connection's payloads go on somewhere. For another, unseen, to be where they went, all of its must be
  lost, and captures lose a packet or three in a hundred.
- SOCKS and CONNECT name host and port. The port has to be the flow's; which addresses a host has, the proved
  pairs show, and a flow to another speaks against the pair.

Heads and which of them are alike: :mod:`vpnforensics.align.payload_heads`; the pairs that share some:
:mod:`vpnforensics.align.kept_pairs`; hosts: :mod:`vpnforensics.align.asked_hosts`. Whose flow it was, of
those who sent the same at one moment, is decided in :mod:`vpnforensics.evidence.kept_bytes`.

An HTTP proxy writes requests and answers anew, and may mix those of several clients in one connection. So of
what is not behind a CONNECT, exchanges of a request and its answer take the place of connections, and
fingerprints of what the proxy has to keep of them the place of heads
(:mod:`vpnforensics.align.http_exchanges`). Two whose requests differ, or whose answers do, are no pair.

Assumptions: complete captures, but for some loss; heads of 24 bytes, and of messages their beginnings.

Known weakness: a relay that reads in other pieces than it was sent shows no more than the first of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
_LEAST_ASKED, _AGREE = 12, 0.9
"""Exchanges known by their requests, and the share of them with the same answer; or the other way round."""
_MOST_APART_NS = 100_000_000
"""Half of the proved pairs lie nearer the line of the clocks, or it is none."""


@dataclass(frozen=True, eq=False)
class KeptBytes:
    """Which flows and connections have equal payloads.

    Numbers of flows are followed by those of exchanges in them; of connections likewise.
    """

    alignment: Alignment
    pairs: KeptPairs
    flow_of: npt.NDArray[np.int64]
    """Of each flow, itself; of each exchange in one, that."""
    connection_of: npt.NDArray[np.int64]
    """Likewise on the ingress side, by the number in its flow table."""
    carrier_of: npt.NDArray[np.int64]
    """Number of each connection's carrier, as its tunnel has it."""
    payloads: npt.NDArray[np.int64]
    """Of each flow, and exchange: payloads that are long enough, and messages."""
    anew: npt.NDArray[np.int64]
    """Of each flow: those of them that are never the same twice, and messages: no relay writes these anew."""


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
    fits = _agreeing(outer, inner, theirs, mine, once, outer_number, inner_number)
    mine, theirs = mine[fits], theirs[fits]
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
    every = len(inner.connection_of)
    anew = inner.is_message | never_twice(here_heads.head)
    return KeptBytes(
        alignment,
        pairs,
        inner.connection_of,
        connection,
        carriers.numbers[carriers.carrier_of[connection]],
        np.bincount(here_heads.of, minlength=every),
        np.bincount(flow[here_heads.of[anew]], minlength=len(flows)),
    )


def _agreeing(
    outer: _Side,
    inner: _Side,
    theirs: npt.NDArray[np.int64],
    mine: npt.NDArray[np.int64],
    once: npt.NDArray[np.intp],
    outer_number: npt.NDArray[np.int64],
    inner_number: npt.NDArray[np.int64],
) -> npt.NDArray[np.bool_]:
    """Which of the matches are of pairs without another request, or another answer, that both have.

    A proxy may write answers as we do not know. So messages of a direction are asked only where exchanges
    that are known by the other's have the same.
    """
    of_inner, of_outer = inner.heads.of[mine], outer.heads.of[theirs]
    keys, pair = np.unique(of_inner << 32 | of_outer, return_inverse=True)
    proved = np.isin(inner_number[mine], once) & inner.is_message[mine]
    has = np.zeros((2, 2, len(keys)), np.bool_)  # of either side, down and up
    same = np.zeros((2, len(keys)), np.bool_)
    known = same.copy()
    for up in (0, 1):
        for n, (side, of) in enumerate(((inner, keys >> 32), (outer, keys & 0xFFFFFFFF))):
            there = np.zeros(len(side.connection_of), np.bool_)
            there[side.heads.of[side.is_message & (side.heads.up == up)]] = True
            has[n, up] = there[of]
        its = inner.is_message[mine] & (inner.heads.up[mine] == up)
        same[up, pair[its]] = True
        known[up, pair[its & proved]] = True
    other = has[0] & has[1] & ~same
    for up in (0, 1):
        asked = same[up][has[0, up] & has[1, up] & known[1 - up]]
        if len(asked) < _LEAST_ASKED or asked.mean() < _AGREE:
            other[up] = False
    return np.asarray(~(other[0] | other[1])[pair])


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


def _rarity(inner: PayloadHeads, often: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Decimal logarithm of how many more flows have a payload of this size and direction than this one."""
    _, alike = np.unique(2 * inner.size + inner.up, return_inverse=True)
    of_size = holders(alike, inner.of, int(alike.max()) + 1)
    return np.asarray(np.log10((of_size[alike] + 1) / (often + 1)).clip(0))
