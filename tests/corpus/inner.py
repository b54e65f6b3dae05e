"""What clients do inside their tunnels: packets of true lengths, which a server lets out to the Internet."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from tests.corpus.specimen import Draft
from tests.corpus.wire import MS, Connection, Endpoint, Talk, Wire

SERVER_OUTSIDE = "203.0.113.1"
RESOLVER = Endpoint("192.0.2.53", 53)


class Sealer(Protocol):
    """A tunnel's one end of encryption."""

    def packet(self, up: bool, length: int) -> None:
        """Put the outer packet of an inner one on the wire."""
        ...


@dataclass(frozen=True, slots=True)
class Step:
    """One inner packet: which way, and its IP total length."""

    up: bool
    length: int


def chatter(rng: random.Random, count: int) -> Iterator[Step]:
    """Lengths of ordinary traffic without a purpose: for tunnels whose other side is not captured.

    The client begins: where nothing else tells who that is, it is who speaks first.
    """
    for number in range(count):
        up = rng.random() < 0.5 or number == 0
        yield Step(up, rng.choice((40, 52, 52, 60, 84, 120, 340, 576, 1280)))


def steps_of(wire: Wire, client: Endpoint) -> list[Step]:
    """The packets on a wire as a tunnel sees them: ``client``'s own go up."""
    steps = []
    for packet in wire.packets:
        length = int.from_bytes(packet.frame[16:18], "big")
        steps.append(Step(packet.frame[26:30] == client.packed, length))
    return steps


def browse(wire: Wire, source: int) -> tuple[str, ...]:
    """A lookup, and a page fetched from a server: ports ``source`` and the one after it."""
    rng = wire.rng
    here = Endpoint(SERVER_OUTSIDE, source)
    lookup = Talk(wire, here, RESOLVER)
    name = rng.randbytes(rng.randrange(9, 40))
    ident = rng.randbytes(2)
    lookup.up(ident + b"\1\0\0\1\0\0\0\0\0\0" + bytes([len(name)]) + name + b"\0\0\1\0\1")
    answer = b"\x81\x80\0\1\0\1\0\0\0\0" + bytes([len(name)]) + name + b"\0\0\1\0\1"
    lookup.down(ident + answer + rng.randbytes(rng.randrange(16, 90)))
    there = Endpoint(f"192.0.2.{rng.randrange(60, 250)}", 443)
    page = Connection(wire, Endpoint(SERVER_OUTSIDE, source + 1), there)
    page.up(b"\x16\x03\x01" + rng.randbytes(rng.randrange(200, 500)))
    page.down(b"\x16\x03\x03" + rng.randbytes(rng.randrange(700, 1300)))
    for _ in range(rng.randrange(3, 7)):
        page.up(b"\x17\x03\x03" + rng.randbytes(rng.randrange(40, 600)))
        page.down(b"\x17\x03\x03" + rng.randbytes(rng.randrange(60, 1300)))
    page.close()
    return str(here), str(page.client)


def through_a_server(
    draft: Draft,
    tunnels: list[tuple[Endpoint, Sealer]],
    *,
    flows: int = 4,
    traffic: Callable[[Wire, int], tuple[str, ...]] = browse,
) -> None:
    """Let the clients browse; their packets go through their tunnels and out at the server.

    Each of ``tunnels`` is a client and what seals its packets. What goes down reaches the server first.
    ``traffic`` puts flows on a wire, from a port on and the next, and returns their sources.
    """
    port = 40000
    plan = []
    for client, sealer in tunnels:
        for _ in range(flows):
            apart = Wire(f"{draft.name} {port}")
            apart.now_ns += draft.wire.rng.randrange(0, 9_000 * MS) + 200 * MS
            for source in traffic(apart, port):
                draft.carried[source] = str(client)
            steps = steps_of(apart, Endpoint(SERVER_OUTSIDE))
            plan += [(packet, step, sealer) for packet, step in zip(apart.packets, steps, strict=True)]
            port += 2
    plan.sort(key=lambda item: item[0].ts_ns)
    for packet, step, sealer in plan:
        delay = draft.wire.rng.randrange(40_000, 160_000)
        outside = packet.ts_ns
        draft.wire.now_ns = outside - delay if step.up else outside + delay
        sealer.packet(step.up, step.length)
        draft.outside.packets.append(packet)
