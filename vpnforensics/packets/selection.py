"""Which packets of a capture to read: an expression in the manner of tcpdump.

::

    host 192.0.2.1 and udp port 51820
    net 10.0.0.0/8 and not (port 53 or icmp)
    after 2026-11-22T11:00 and before 2026-11-22T11:05
    sample 1/20

A packet is judged by its columns; a row group of a stored capture by the least and the largest value of its
columns, so that most of what is not wanted need not be read. As with tcpdump, ports are those of TCP and UDP,
and later fragments have none. ``sample 1/20`` keeps every twentieth pair of addresses with all its packets,
the same ones whenever it is asked: whole tunnels on the client-facing side.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools
from vpnforensics.packets.moments import time_ns
from vpnforensics.packets.table import (
    FRAG_LATER,
    PROTO_AH,
    PROTO_ESP,
    PROTO_GRE,
    PROTO_ICMP,
    PROTO_ICMPV6,
    PROTO_TCP,
    PROTO_UDP,
    AddressTable,
    PacketTable,
)

Table = Mapping[str, npt.NDArray[Any]]
"""Columns by name."""
Bounds = Mapping[str, tuple[Any, Any]]
"""Least and largest value of columns; one that is not known is left out."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PROTOCOLS = {
    "tcp": PROTO_TCP, "udp": PROTO_UDP, "icmp": PROTO_ICMP, "icmp6": PROTO_ICMPV6, "esp": PROTO_ESP,
    "gre": PROTO_GRE, "ah": PROTO_AH,
}  # fmt: skip
_VERSIONS = {"ip": 4, "ip6": 6}
_EVER_NS = (-(1 << 63), (1 << 63) - 1)
_LONGEST = (1 << 31) - 1
"""What the column of times, and that of lengths, can hold."""
_MOST_DEPTH = 50
"""Of brackets: deeper ones are nobody's, and would end at Python's own limit."""
_ODD = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # of splitmix64


@dataclass(frozen=True)
class _Range:
    """A column's value lies within bounds, both included."""

    column: str
    low: int
    high: int

    def mask(self, columns: Table, _: Sieve) -> Bools:
        values = columns[self.column]
        return np.asarray((values >= self.low) & (values <= self.high))

    def may(self, bounds: Bounds) -> tuple[bool, bool]:
        if self.column not in bounds:
            return True, True
        least, most = bounds[self.column]
        return least <= self.high and most >= self.low, least < self.low or most > self.high


@dataclass(frozen=True)
class _Port:
    """A port of TCP or UDP lies within bounds."""

    ends: tuple[str, ...]
    low: int
    high: int

    def mask(self, columns: Table, _: Sieve) -> Bools:
        found = np.zeros(len(columns["proto"]), np.bool_)
        for end in self.ends:
            ports = columns["sport" if end == "src" else "dport"]
            found |= (ports >= self.low) & (ports <= self.high)
        has_ports = (columns["proto"] == PROTO_TCP) | (columns["proto"] == PROTO_UDP)
        return np.asarray(found & has_ports & (columns["frag"] != FRAG_LATER))

    def may(self, bounds: Bounds) -> tuple[bool, bool]:
        ranges = [_Range("sport" if end == "src" else "dport", self.low, self.high) for end in self.ends]
        return any(each.may(bounds)[0] for each in ranges), True


@dataclass(frozen=True)
class _Address:
    """An address lies in a network."""

    ends: tuple[str, ...]
    network: Network

    def mask(self, columns: Table, sieve: Sieve) -> Bools:
        inside = sieve.of_addresses(self, self.each)
        found = [inside[columns[end]] for end in self.ends]
        return np.asarray(found[0] | found[-1])

    def each(self, addresses: AddressTable) -> Bools:
        """Of each address, whether it lies in the network."""
        version, bits = self.network.version, self.network.prefixlen
        at = 12 if version == 4 else 0
        wanted = np.frombuffer(self.network.network_address.packed, np.uint8)
        whole, rest = divmod(bits, 8)
        found = (addresses.version == version) & (addresses.packed[:, at : at + whole] == wanted[:whole]).all(
            1
        )
        if rest:
            found &= (addresses.packed[:, at + whole] ^ wanted[whole]) >> (8 - rest) == 0
        return np.asarray(found)

    def may(self, bounds: Bounds) -> tuple[bool, bool]:
        if self.network.num_addresses > 1:
            return True, True
        text = str(self.network.network_address)
        known = [bounds[end] for end in self.ends if end in bounds]
        return len(known) < len(self.ends) or any(low <= text <= high for low, high in known), True


@dataclass(frozen=True)
class _Sample:
    """One of so many pairs of addresses."""

    of: int

    def mask(self, columns: Table, sieve: Sieve) -> Bools:
        digest = sieve.of_addresses(self, _digests)
        with np.errstate(over="ignore"):
            pair = _mixed(digest[columns["src"]] + digest[columns["dst"]])
        return np.asarray(pair % np.uint64(self.of) == 0)

    def may(self, _: Bounds) -> tuple[bool, bool]:
        return True, True


@dataclass(frozen=True)
class _Not:
    inner: Test

    def mask(self, columns: Table, sieve: Sieve) -> Bools:
        return ~self.inner.mask(columns, sieve)

    def may(self, bounds: Bounds) -> tuple[bool, bool]:
        holds, fails = self.inner.may(bounds)
        return fails, holds


@dataclass(frozen=True)
class _Several:
    """All of its parts hold, or one of them where that is enough."""

    parts: tuple[Test, ...]
    one_is_enough: bool = False

    def mask(self, columns: Table, sieve: Sieve) -> Bools:
        found = self.parts[0].mask(columns, sieve)
        for part in self.parts[1:]:
            more = part.mask(columns, sieve)
            found = found | more if self.one_is_enough else found & more
        return found

    def may(self, bounds: Bounds) -> tuple[bool, bool]:
        holds, fails = zip(*(part.may(bounds) for part in self.parts), strict=True)
        return (any(holds), all(fails)) if self.one_is_enough else (all(holds), any(fails))


Test = _Range | _Port | _Address | _Sample | _Not | _Several


def _demands(test: Test) -> tuple[Test, ...]:
    """What all has to hold: the parts of a test that asks for all of them, or the test itself."""
    return test.parts if isinstance(test, _Several) and not test.one_is_enough else (test,)


@dataclass(frozen=True)
class Selection:
    """An expression that was understood."""

    text: str
    test: Test = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Selection | None:
        """What a user means; None for an empty text, which is everything.

        Raises
        ------
        ValueError
            It cannot be understood: where, and what is known.
        """
        if not text.strip():
            return None
        return cls(" ".join(text.split()), _Parser(text).whole())

    @property
    def is_of_time(self) -> bool:
        """Whether it is a span of time, in which nothing is left out."""
        return all(isinstance(each, _Range) and each.column == "ts_ns" for each in _demands(self.test))

    def may_hold(self, bounds: Bounds) -> bool:
        """Whether packets within these bounds may be among those that are meant."""
        return self.test.may(bounds)[0]

    def of(self, packets: PacketTable) -> PacketTable:
        """The packets of a table that are meant."""
        columns = {spec.name: array for spec, array in packets.columns()}
        return packets.take(Sieve(self, lambda start: packets.addresses.since(start)).mask(columns))


def leaves_out(packets: PacketTable) -> bool:
    """Whether packets were left out at times of which others were read: tunnels, or a part of their load."""
    selection = Selection.parse(packets.source.selection) if packets.source is not None else None
    return selection is not None and not selection.is_of_time


class Sieve:
    """A selection at work on a capture whose addresses become known bit by bit.

    Parameters
    ----------
    selection : Selection
    addresses : callable
        The addresses that are known, from a number on.
    """

    def __init__(self, selection: Selection, addresses: Callable[[int], AddressTable]) -> None:
        self.selection = selection
        self._addresses = addresses
        self._known: dict[Test, npt.NDArray[Any]] = {}

    def mask(self, columns: Table) -> Bools:
        """Which rows are meant."""
        return self.selection.test.mask(columns, self)

    def of_addresses(self, test: Test, judge: Callable[[AddressTable], npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """What a test says of each address; of those that are new since it was last asked, anew."""
        known = self._known.get(test)
        new = self._addresses(0 if known is None else len(known))
        if known is None or len(new):
            judged = judge(new)
            self._known[test] = known = judged if known is None else np.concatenate([known, judged])
        return known


def _digests(addresses: AddressTable) -> npt.NDArray[np.uint64]:
    high, low = addresses.packed.view(">u8").astype(np.uint64).T
    return _mixed(_mixed(high) ^ low ^ addresses.version)


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Finaliser of splitmix64."""
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * _ODD[0]
        x = (x ^ (x >> np.uint64(27))) * _ODD[1]
    return np.asarray(x ^ (x >> np.uint64(31)))


class _Parser:
    """Recursive descent: ``or`` binds less than ``and``, and both less than ``not``."""

    def __init__(self, text: str) -> None:
        self.words: list[str] = re.findall(r"[()!]|&&|\|\||[^\s()!&|]+|[&|]", text)
        self.at = 0
        self.depth = 0

    def whole(self) -> Test:
        test = self._either()
        if self.at < len(self.words):
            self._fail(f"{self.words[self.at]!r} is not expected there")
        return test

    def _either(self) -> Test:
        parts = [self._both()]
        while self._next("or", "||"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else _Several(tuple(parts), one_is_enough=True)

    def _both(self) -> Test:
        parts = [self._one()]
        while self._next("and", "&&"):
            parts.append(self._one())
        flat = [each for part in parts for each in _demands(part)]
        return flat[0] if len(flat) == 1 else _Several(tuple(flat))

    def _one(self) -> Test:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            self._fail("too deep")
        if self._next("not", "!"):
            test: Test = _Not(self._one())
        elif self._next("("):
            test = self._either()
            if not self._next(")"):
                self._fail("a bracket is not closed")
        else:
            test = self._primitive(self._word("an expression"))
        self.depth -= 1
        return test

    def _primitive(self, word: str) -> Test:
        if word in _PROTOCOLS:
            proto = _Range("proto", _PROTOCOLS[word], _PROTOCOLS[word])
            if self._peek() in ("port", "portrange", "src", "dst"):  # as in: udp port 53
                return _Several((proto, self._primitive(self._word("a port"))))
            return proto
        if word in _VERSIONS:
            return _Range("ip_version", _VERSIONS[word], _VERSIONS[word])
        ends: tuple[str, ...] = ("src", "dst")
        if word in ends:
            ends, word = (word,), self._word("host, net, port or portrange")
            if word not in ("host", "net", "port", "portrange"):
                self._fail(f"{ends[0]} host, net, port or portrange, not {word!r}")
        if word in ("host", "net"):
            return _Address(ends, self._network(word))
        if word in ("port", "portrange"):
            low, high = self._numbers(word, 65_535)
            return _Port(ends, low, high)
        if word == "proto":
            low, high = self._numbers(word, 255)
            return _Range("proto", low, high)
        if word in ("less", "greater"):
            length, _ = self._numbers(word, _LONGEST)
            return _Range("ip_len_bytes", *((0, length) if word == "less" else (length, _LONGEST)))
        if word in ("after", "before"):
            self._word("a time")
            ns = min(max(time_ns(self.words[self.at - 1]), _EVER_NS[0]), _EVER_NS[1])
            return _Range("ts_ns", *((ns, _EVER_NS[1]) if word == "after" else (_EVER_NS[0], ns)))
        if word == "sample":
            return _Sample(self._share())
        return self._fail(
            f"{word!r} is not known; known are host, net, port, portrange (with src or dst), proto, less,"
            f" greater, after, before, sample, {', '.join([*_PROTOCOLS, *_VERSIONS])}, and, or, not, brackets"
        )

    def _network(self, word: str) -> Network:
        text = self._word("an address").strip("[]")
        try:
            if word == "host":
                return ipaddress.ip_network(ipaddress.ip_address(text))
            return ipaddress.ip_network(text, strict=False)
        except ValueError:
            self._fail(f"{text!r} is no {'address' if word == 'host' else 'network'}")

    def _numbers(self, word: str, most: int) -> tuple[int, int]:
        text = self._word("a number")
        low, _, high = text.partition("-") if word == "portrange" else (text, "", text)
        if not all(part.isascii() and part.isdecimal() and int(part) <= most for part in (low, high)):
            self._fail(f"{word} {text!r} is no number up to {most:,}")
        return int(low), int(high)

    def _share(self) -> int:
        text = self._word("a share")
        found = re.fullmatch(r"1/([1-9][0-9]{0,8})", text)
        if found is None:
            self._fail(f"{text!r} is no share; write 1/20 for one of twenty")
        return int(found[1])

    def _peek(self) -> str:
        return self.words[self.at].lower() if self.at < len(self.words) else ""

    def _next(self, *words: str) -> bool:
        if self._peek() not in words or not self._peek():
            return False
        self.at += 1
        return True

    def _word(self, what: str) -> str:
        if self.at == len(self.words):
            self._fail(f"{what} is missing at the end")
        self.at += 1
        return self.words[self.at - 1].lower()

    def _fail(self, why: str) -> NoReturn:
        before = " ".join(self.words[: self.at])
        raise ValueError(f"selection: after {before!r}: {why}" if before else f"selection: {why}")
