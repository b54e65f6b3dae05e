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

Assumptions: complete captures, but for some loss; heads of 24 bytes.

An HTTP proxy writes requests and answers anew, and mixes those of several clients in one connection; of what
is not behind a CONNECT only that counts which is never the same twice.

Known weakness: a relay that reads in other pieces than it was sent shows no more than the first of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align.alignment import Alignment
from vpnforensics.align.line import align_pairs
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.packets.table import PROTO_TCP
from vpnforensics.tunnels.carriers import Carriers
from vpnforensics.tunnels.relay_requests import UNKNOWN, destinations

KEEPING = ("socks5", "socks4", "http-proxy")
"""Relays whose payloads go through as they are."""
REWRITING = "http-proxy"
"""A relay whose connections keep bytes behind a CONNECT only."""
HEAD_BYTES = 24
_RANDOM_FROM, _LEAST_DISTINCT, _LEAST_HIGH = 12, 9, 3
"""Where a head has to look random: 12 random bytes have fewer than 9 values, or 3 over 127, in 2 of 100."""
_NEVER_TWICE_DECADES = 6.0
"""What such a head proves in a pair that has it alone: half of its 13 bytes would be more."""
_LOST_DECADES = 1.5
"""Of a packet that should have matched and did not: captures lose about three in a hundred."""
_COUNTED = 2
"""Payloads of a pair that count, its best: more follow from them."""
_SPREAD, _SLACK_NS, _UNKNOWN_NS = 1.5, 5_000_000, 250_000_000
"""How far beyond the delays of 99 % of the proved pairs others may lie: by their distance from the median,
and at least; and how far where too few are proved."""
_LEAST_PROVED = 12
_MOST_APART_NS = 100_000_000
"""Half of the proved pairs lie nearer the line of the clocks, or it is none."""
_OTHER_HOST_DECADES = -2.0
"""Of a flow to an address that the host asked for was not seen to have: names have several."""
_MOST_ALIKE = 16
"""A payload that more connections have at a time names none."""


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


@dataclass(frozen=True, eq=False)
class _Heads:
    """Segments of one side with their heads."""

    of: npt.NDArray[np.int64]
    """Conversation or flow."""
    ts_ns: npt.NDArray[np.int64]
    up: npt.NDArray[np.bool_]
    size: npt.NDArray[np.int64]
    """Bytes of payload."""
    head: npt.NDArray[np.uint8]

    def take(self, index: npt.NDArray[np.bool_]) -> _Heads:
        """The segments at ``index``."""
        return _Heads(self.of[index], self.ts_ns[index], self.up[index], self.size[index], self.head[index])


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
    outer, inner = _outer_heads(carriers), _heads(flows, flows.proto == PROTO_TCP, flows.up)
    if not len(outer.of) or not len(inner.of):
        return None
    marked = np.concatenate([np.c_[h.head, h.up] for h in (outer, inner)]).astype(np.uint8)
    _, code = np.unique(_as_one(marked), return_inverse=True)
    outer_code, inner_code = code[: len(outer.of)], code[len(outer.of) :]
    most = int(code.max())
    often = _holders(inner_code, inner.of, most)
    there, here = _first(outer_code, most), _first(inner_code, most)
    proving = np.flatnonzero((_holders(outer_code, outer.of, most) == 1) & (often == 1))
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
    at_inner, at_outer = _beside(inner_code, inner_ns - high, inner_ns - low, outer_code, outer.ts_ns)
    if not len(at_inner):
        return None
    by_chance = often[inner_code] * (high - low) / max(int(np.ptp(inner_ns)), 1)
    worth = -np.log10(np.clip(by_chance, 1e-9, 1.0)) + _NEVER_TWICE_DECADES * np.isin(inner_code, proving)
    _, alike = np.unique(2 * inner.size + inner.up, return_inverse=True)
    of_size = _holders(alike, inner.of, int(alike.max()))
    rarity = np.log10((of_size[alike] + 1) / (often[inner_code] + 1)).clip(0)
    pairs = _Pairs.of(
        inner.of[at_inner], outer.of[at_outer], inner_code[at_inner], worth[at_inner], rarity[at_inner]
    )
    asked = _Asked.of(carriers, flows, outer.of[there], inner.of[here])
    pairs = pairs.named(asked.decades(pairs.conversation, pairs.flow))
    chosen, score = pairs.judged(carriers.carrier_of)
    count = len(flows)
    connection, best = np.full(count, -1, np.int64), np.full(count, -np.inf)
    shared, content = np.zeros(count, np.int64), np.zeros(count)
    content[pairs.flow[chosen]] = pairs.content[chosen]
    connection[pairs.flow[chosen]] = pairs.conversation[chosen]
    best[pairs.flow[chosen]] = score
    shared[pairs.flow[chosen]] = pairs.shared[chosen]
    carrier = np.where(connection >= 0, carriers.carrier_of[connection], -1)
    return KeptBytes(alignment, carrier, connection, best, shared, content, *_counts(inner, count))


def _counts(inner: _Heads, flows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Payloads of each flow, and those never the same twice."""
    anew = inner.of[never_twice(inner.head)]
    return np.bincount(inner.of, minlength=flows), np.bincount(anew, minlength=flows)


def _outer_heads(carriers: Carriers) -> _Heads:
    """Of the connections of relays that keep bytes: what they keep."""
    conversations = carriers.conversations
    protocol = np.array([t.protocol for t in carriers.tunnels] + [""])[carriers.carrier_of]
    wanted = np.isin(protocol, KEEPING)
    heads = _heads(conversations, wanted, conversations.up == carriers.forward[conversations.flow])
    asking = destinations(conversations, np.flatnonzero(protocol == REWRITING), carriers.forward)
    rewritten = protocol == REWRITING
    rewritten[list(asking)] = False
    return heads.take(~rewritten[heads.of] | never_twice(heads.head))


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of flow and connection that share payloads, by flow."""

    flow: npt.NDArray[np.int64]
    conversation: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    """Of the payloads by themselves."""
    only: npt.NDArray[np.int64]
    """Payloads of the connection that no other flow at the time has."""
    content: npt.NDArray[np.float64]

    def named(self, decades: npt.NDArray[np.float64]) -> _Pairs:
        """With what the destinations say; not those whose ports differ."""
        kept = np.isfinite(decades)
        return _Pairs(
            self.flow[kept],
            self.conversation[kept],
            self.shared[kept],
            (self.score + decades)[kept],
            self.only[kept],
            (self.content + decades)[kept],
        )

    @staticmethod
    def of(
        flow: npt.NDArray[np.int64],
        conversation: npt.NDArray[np.int64],
        code: npt.NDArray[np.int64],
        worth: npt.NDArray[np.float64],
        rarity: npt.NDArray[np.float64],
    ) -> _Pairs:
        """From matches of segments."""
        order = np.lexsort((-worth, code, conversation, flow))
        new = order[_changes(flow[order], conversation[order], code[order])]  # sent twice, it counts once
        flow, conversation, code, worth, rarity = (
            flow[new], conversation[new], code[new], worth[new], rarity[new],
        )  # fmt: skip
        _, place, wanted = np.unique(
            _as_one(np.c_[conversation, code]), return_inverse=True, return_counts=True
        )
        only = (wanted[place] == 1).astype(np.float64)
        order = np.lexsort((-worth, conversation, flow))
        first = np.flatnonzero(_changes(flow[order], conversation[order]))
        pair = np.cumsum(_changes(flow[order], conversation[order])) - 1
        rank = np.arange(len(order)) - first[pair]
        counted = rank < _COUNTED
        return _Pairs(
            flow[order][first],
            conversation[order][first],
            np.bincount(pair, minlength=len(first)).astype(np.int64),
            np.bincount(pair[counted], worth[order][counted], len(first)).astype(np.float64),
            np.bincount(pair, only[order], len(first)).astype(np.int64),
            np.bincount(pair[counted], rarity[order][counted], len(first)).astype(np.float64),
        )

    def judged(
        self, carrier_of: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
        """The best pair of each flow, and its score less that of its best rival."""
        score = self.score + _LOST_DECADES * np.minimum(self.only, _COUNTED)
        client = carrier_of[self.conversation]
        order = np.lexsort((-score, self.flow))
        lead = order[_changes(self.flow[order])]
        if not len(lead):
            return lead, score
        best_of = np.full(int(self.flow.max()) + 1, -1, np.int64)
        best_of[self.flow[lead]] = client[lead]
        rival = np.zeros(len(best_of))
        others = client != best_of[self.flow]
        np.maximum.at(rival, self.flow[others], score[others])
        order = np.lexsort((-score, self.conversation))
        new = _changes(self.conversation[order])
        first = np.flatnonzero(new)
        place = np.cumsum(new) - 1
        top = score[order][first]
        second = np.zeros(len(first))
        later = np.flatnonzero(~new)
        np.maximum.at(second, place[later], score[order][later])
        of_connection = np.empty(len(score))
        of_connection[order] = np.where(new, second[place], top[place])
        return lead, score[lead] - np.maximum(rival[self.flow[lead]], of_connection[lead])


@dataclass(frozen=True, eq=False)
class _Asked:
    """Which hosts were asked for, which addresses flows went to, and which of them go together."""

    host: npt.NDArray[np.int64]
    """Of each conversation, -1 where it is not known; and the port."""
    port: npt.NDArray[np.int64]
    address: npt.NDArray[np.int64]
    """Of each flow; and the port."""
    flow_port: npt.NDArray[np.int64]
    known: npt.NDArray[np.int64]
    """Host and address, as one number, of the proved pairs."""
    served: npt.NDArray[np.int64]
    """Hosts among them."""

    @staticmethod
    def of(
        carriers: Carriers, flows: FlowTable, conversation: npt.NDArray[np.int64], flow: npt.NDArray[np.int64]
    ) -> _Asked:
        """With the pairs that are proved."""
        conversations = carriers.conversations
        asked = destinations(conversations, np.flatnonzero(carriers.carrier_of >= 0), carriers.forward)
        number = {host: n for n, host in enumerate(sorted({d.host for d in asked.values()}))}
        host, port = np.full((2, len(conversations)), -1, np.int64)
        for n, destination in asked.items():
            host[n], port[n] = number[destination.host], destination.port
        address = flows.dst.astype(np.int64)
        told = host[conversation] >= 0
        mine = host[conversation[told]]
        known = np.unique(mine << 32 | address[flow[told]])
        return _Asked(host, port, address, flows.dport.astype(np.int64), known, np.unique(mine))

    def decades(
        self, conversation: npt.NDArray[np.int64], flow: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        """What the destination says of each pair; -inf where it was another port."""
        host, port = self.host[conversation], self.port[conversation]
        right = np.isin(host << 32 | self.address[flow], self.known)
        by_chance = max(len(np.unique(self.known & 0xFFFFFFFF)), 1)
        said = np.where(
            np.isin(host, self.served), np.where(right, np.log10(by_chance), _OTHER_HOST_DECADES), 0.0
        )
        return np.where((port != UNKNOWN) & (port != self.flow_port[flow]), -np.inf, said)


def _heads(table: FlowTable, wanted: npt.NDArray[np.bool_], up: npt.NDArray[np.bool_]) -> _Heads:
    packets = table.packets
    rows = np.flatnonzero(wanted[table.flow] & (packets.payload_bytes >= HEAD_BYTES))
    head = packets.head[rows, :HEAD_BYTES]
    there = head.any(axis=1)  # a snapped capture may have none
    rows = rows[there]
    return _Heads(
        table.flow[rows].astype(np.int64),
        packets.ts_ns[rows],
        up[rows],
        packets.payload_bytes[rows].astype(np.int64),
        head[there],
    )


def _as_one(columns: npt.NDArray[np.generic]) -> npt.NDArray[np.void]:
    """Each row as one value."""
    whole = np.ascontiguousarray(columns)
    return whole.view(np.dtype((np.void, whole.dtype.itemsize * whole.shape[1])))[:, 0]


def _changes(*columns: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where any of some sorted columns has another value than before."""
    new = np.zeros(len(columns[0]), np.bool_)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new


def _holders(code: npt.NDArray[np.int64], of: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """How many conversations have each head."""
    order = np.lexsort((of, code))
    return np.bincount(code[order][_changes(code[order], of[order])], minlength=most + 1)


def _first(code: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Where each head stands first."""
    first = np.full(most + 1, -1, np.int64)
    first[code[::-1]] = np.arange(len(code))[::-1]
    return first


def never_twice(head: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Whether heads have what is made anew each time: Hellos, records under their own keys, ssh's cookie."""
    tls = (head[:, 1] == 3) & (head[:, 2] <= 4)
    hello = tls & (head[:, 0] == 22) & ((head[:, 5] == 1) | (head[:, 5] == 2))
    kexinit = (head[:, :2] == 0).all(axis=1) & (head[:, 5] == 20)
    end = np.sort(head[:, _RANDOM_FROM:], axis=1)
    distinct = 1 + (np.diff(end, axis=1) != 0).sum(axis=1)
    random = (distinct >= _LEAST_DISTINCT) & ((end > 127).sum(axis=1) >= _LEAST_HIGH)
    return np.asarray((hello | kexinit | (tls & (head[:, 0] == 23))) & random)


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


def _beside(
    code: npt.NDArray[np.int64],
    from_ns: npt.NDArray[np.int64],
    to_ns: npt.NDArray[np.int64],
    other_code: npt.NDArray[np.int64],
    other_ns: npt.NDArray[np.int64],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Entries of this side and of the other with equal heads, the other's time within bounds."""
    order = np.lexsort((other_ns, other_code))
    start = np.searchsorted(other_code[order], np.arange(int(max(code.max(), other_code.max())) + 2))
    # Times of one code ascend, so a place among them is found by the time's rank within all.
    ranked = np.sort(other_ns)
    rank = np.searchsorted(ranked, other_ns[order]).astype(np.int64)
    key = other_code[order].astype(np.int64) * (len(ranked) + 1) + rank
    first = np.searchsorted(key, code * (len(ranked) + 1) + np.searchsorted(ranked, from_ns))
    past = np.searchsorted(key, code * (len(ranked) + 1) + np.searchsorted(ranked, to_ns, side="right"))
    first, past = np.maximum(first, start[code]), np.minimum(past, start[code + 1])
    count = np.maximum(past - first, 0)
    count[count > _MOST_ALIKE] = 0
    at = np.repeat(np.arange(len(code)), count)
    nth = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
    return at, order[first[at] + nth]
