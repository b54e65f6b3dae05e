"""One case of three WireGuard clients, under every damage that a capture's clock has been seen to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import cache

from tests.corpus.inner import SERVER_OUTSIDE, through_a_server
from tests.corpus.specimen import Draft, Specimen
from tests.corpus.wire import MS, START_NS, Endpoint, Packet, Talk, pcap
from tests.corpus.wireguard import WireGuard

SERVER = Endpoint("203.0.113.1", 51820)
S = 1_000_000_000
_MIDDLE_NS = START_NS + 5 * S
Warp = Callable[[list[Packet]], list[Packet]]


@cache
def _three_clients(apart: bool) -> Draft:
    draft = Draft("three clients", "clocks", apart=apart)
    tunnels = []
    for number in range(3):
        client = Endpoint(f"198.51.100.{80 + number}", 41641)
        session = WireGuard(Talk(draft.wire, client, SERVER, pause_s=(0, 0)))
        session.handshake()
        draft.holds("wireguard", client, SERVER)
        tunnels.append((client, session))
    through_a_server(draft, tunnels)
    return draft


def case(name: str, family: str, *, apart: bool = False, least_links: int = 20) -> Draft:
    """Three clients behind one server for ten seconds: the same packets under every name."""
    draft = copy(_three_clients(apart))
    draft.name, draft.family, draft.least_links = name, family, least_links
    return draft


def _moved(change: Callable[[int], int]) -> Warp:
    """Every time through a function; the file's order stays."""
    return lambda packets: [replace(p, ts_ns=change(p.ts_ns)) for p in packets]


def _sent_by_server(packet: Packet) -> bool:
    return packet.frame[26:30] == Endpoint(SERVER_OUTSIDE).packed


def _stray(at: int) -> Warp:
    def warp(packets: list[Packet]) -> list[Packet]:
        stray = replace(packets[at], ts_ns=packets[at].ts_ns + 30 * 86_400 * S)
        return [*packets[:at], stray, *packets[at + 1 :]]

    return warp


def _step(size_ns: int) -> Warp:
    return _moved(lambda t: t + (size_ns if t >= _MIDDLE_NS else 0))


def _apart_37_s(packets: list[Packet]) -> list[Packet]:
    """A card that stamps what is sent in TAI, what comes in UTC (37 s since 2017)."""
    return [replace(p, ts_ns=p.ts_ns + 37 * S) if _sent_by_server(p) else p for p in packets]


_WHOLE: dict[str, Warp] = {
    "nothing": list,
    "starts-in-1970": _moved(lambda t: t - START_NS + 5 * S),
    "stray-first-frame": _stray(0),
    "stray-frame": _stray(100),
    "10-ms-ticks": _moved(lambda t: t // (10 * MS) * (10 * MS)),
}
"""What leaves enough of the times to link by."""
_LOST: dict[str, Warp] = {
    # Who opened a conversation is read from the file's order, which outlives a clock that is set.
    "file-backwards": lambda packets: packets[::-1],
    "1-s-ticks": _moved(lambda t: t // S * S),
    "times-run-backwards": _moved(lambda t: 2 * _MIDDLE_NS - t),
    "sent-and-received-37-s-apart": _apart_37_s,
    "equal-times": _moved(lambda t: START_NS),
    "all-zero": _moved(lambda t: 0),
}
"""What does not: nothing may be linked wrongly, nor denied."""


_SET: dict[str, Warp] = {
    "set-from-1970": _moved(lambda t: t if t >= _MIDDLE_NS else t - START_NS + 5 * S),
    "day-long-gap": _step(86_400 * S),
    "step-back-1.5-s": _step(-1_500 * MS),
    "step-back-5-s": _step(-5 * S),
    "step-forward-2-s": _step(2 * S),
}
"""A clock set while the capture runs: of one capture it moves both sides, of two it has to be found."""


def specimens() -> Iterator[Specimen]:
    for warps, least in ((_WHOLE, 20), (_SET, 20), (_LOST, 0)):
        for name, warp in warps.items():
            for apart in (False, True):
                draft = case(
                    f"clock-{name}{'-of-ingress' if apart else ''}", "clocks", apart=apart, least_links=least
                )
                if warps is _SET and apart:
                    draft.says = "capture's clock was set by"  # in a silence, either
                write = lambda packets, warp=warp: pcap(warp(packets))  # noqa: E731
                yield draft.done(write, write_outside=pcap)
    # The egress clock: hours off, and drifting.
    for name, change in (
        ("offset", lambda t: t + 4_393 * S + 217_000_000),
        ("drift-40-ppm", lambda t: t + (t - START_NS) // 25_000),
    ):
        draft = case(f"clock-{name}-of-egress", "clocks", apart=True)
        yield draft.done(write_outside=lambda packets, change=change: pcap(_moved(change)(packets)))
