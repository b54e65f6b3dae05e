"""The truth as a document: ``truth.json``, its rows on the clocks of the captures that were written."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.lab.conntrack import Endpoint, Key, Translations
from vpnforensics.groundtruth.lab.drivers import Client
from vpnforensics.groundtruth.lab.network import SERVER_OUTER
from vpnforensics.groundtruth.lab.topology import Machine
from vpnforensics.groundtruth.lab.truth import Egress, EgressFlow, inner_endpoint
from vpnforensics.groundtruth.scenario import IpIdClass
from vpnforensics.groundtruth.scenario_capture import Frames

_PROTO = {"tcp": 6, "udp": 17, "gre": 47, "esp": 50}
_NAMES = {number: name for name, number in _PROTO.items()}
_WITHOUT_PORTS = ("gre", "esp")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who sent a flow: the machine, and its endpoint inside the tunnel (None at a relay)."""

    machine: Machine
    inner: Endpoint | None


Attribution = Callable[[EgressFlow], Owner | str]


def through_nat(
    server: Translations, homes: Mapping[str, Translations], machines: Sequence[Machine]
) -> Attribution:
    """Owners by inner address and, behind a client that is a router, by its own translations."""
    by_inner = {m.client.inner: [n for n in machines if n.client is m.client] for m in machines}

    def owner(flow: EgressFlow) -> Owner | str:
        inner = inner_endpoint(flow, server)
        if isinstance(inner, str):
            return inner
        candidates = by_inner.get(inner.address, [])
        if not candidates:
            return f"{inner} is no client: the server's own"
        if candidates[0].namespace != candidates[0].client.namespace:
            home = homes[candidates[0].client.name]
            far = Endpoint(flow.far.address, inner.port) if flow.proto == "icmp" else flow.far
            addresses = {e.address for e in home.inner.get((flow.proto, inner, far), set())}
            candidates = [m for m in candidates if m.address in addresses]
        if len(candidates) != 1:
            return f"{len(candidates)} devices behind {inner} could have sent it"
        return Owner(candidates[0], inner)

    return owner


def through_relay(
    openers: Mapping[Key, set[int]], machines: Sequence[Machine], in_turn: Mapping[int, int] | None = None
) -> Attribution:
    """Owners by the numbers of the clients behind each of a relay's connections.

    Parameters
    ----------
    openers : mapping of Key to set of int
    machines : sequence of Machine
    in_turn : mapping of int to int, optional
        Where a five-tuple was used again: see :func:`openers_in_turn`.
    """

    def owner(flow: EgressFlow) -> Owner | str:
        numbers = openers.get(flow.key, set())
        if len(numbers) > 1 and in_turn and flow.packets[0] in in_turn:
            numbers = numbers & {in_turn[flow.packets[0]]}
        found = [m for m in machines if m.client.number in numbers]
        if not found:
            return "the relay opened it for no client that is known"
        return Owner(found[0], None) if len(found) == 1 else f"{len(found)} clients used it"

    return owner


def openers_in_turn(openings: Mapping[Key, Sequence[int]], flows: Sequence[EgressFlow]) -> dict[int, int]:
    """Number of the client that opened each flow, by the flow's first packet.

    The kernel's account of a five-tuple and its flows are both in order of time; where they are not equally
    many, it is not told whose is which.
    """
    again: dict[Key, list[EgressFlow]] = defaultdict(list)
    for flow in flows:
        again[flow.key].append(flow)
    return {
        flow.packets[0]: number
        for key, mine in again.items()
        if len(openings.get(key, ())) == len(mine)
        for flow, number in zip(mine, openings[key], strict=True)
    }


def outer_endpoints(
    ingress: Sequence[bytes], clients: Sequence[Client], transport: Literal["udp", "tcp", "esp", "gre"]
) -> dict[str, tuple[Endpoint, Endpoint, list[str]]]:
    """Each client's tunnel among the ingress frames: the conversation of that transport with most bytes.

    ESP and GRE have no ports; they are 0.

    Returns
    -------
    dict
        By client name: client endpoint, server endpoint, and the client's other conversations as text.
    """
    sizes: Counter[tuple[str, int, int, int]] = Counter()
    names = {client.outer: client.name for client in clients}
    for frame in ingress:
        source, target = (".".join(map(str, frame[at : at + 4])) for at in (26, 30))
        start = 14 + 4 * (frame[14] & 15)
        words = bytes(4) if _NAMES.get(frame[23]) in _WITHOUT_PORTS else frame[start : start + 4]
        ports = int.from_bytes(words[:2], "big"), int.from_bytes(words[2:], "big")
        outer, near, far = (source, *ports) if source in names else (target, ports[1], ports[0])
        if outer in names and frame[23] in _PROTO.values():
            sizes[names[outer], frame[23], near, far] += len(frame)
    found: dict[str, tuple[Endpoint, Endpoint, list[str]]] = {}
    for client in clients:
        own = [(n, proto, near, far) for (name, proto, near, far), n in sizes.items() if name == client.name]
        main = max((c for c in own if c[1] == _PROTO[transport]), default=None)
        if main is None:
            continue
        others = sorted(
            f"{_NAMES[proto]} {client.outer}:{near} {SERVER_OUTER}:{far}"
            for _, proto, near, far in own
            if (proto, near, far) != main[1:]
        )
        found[client.name] = (Endpoint(client.outer, main[2]), Endpoint(SERVER_OUTER, main[3]), others)
    return found


def client_of_ingress(ingress: Sequence[bytes], clients: Sequence[Client]) -> npt.NDArray[np.int32]:
    """Index of the client whose packet each ingress frame is, or -1."""
    index = {bytes(map(int, c.outer.split("."))): i for i, c in enumerate(clients)}
    return np.array([index.get(f[26:30], index.get(f[30:34], -1)) for f in ingress], dtype=np.int32)


def tunnel_rows(
    clients: Sequence[Client],
    protocol: str,
    tunnels: Mapping[str, tuple[Endpoint, Endpoint, list[str]]],
    present: set[int],
) -> list[dict[str, Any]]:
    """Truth rows of the tunnels; `present` holds the indices of clients in the written ingress capture."""
    return [
        {
            "client": str(tunnels[c.name][0]),
            "server": str(tunnels[c.name][1]),
            "protocol": protocol,
            "name": c.name,
            "also": tunnels[c.name][2],
            "captured": i in present,
        }
        for i, c in enumerate(clients)
        if c.name in tunnels
    ]


def device_rows(
    machines: Sequence[Machine], tunnels: Mapping[str, tuple[Endpoint, Endpoint, list[str]]]
) -> dict[str, dict[str, Any]]:
    """Truth about each device's clock and IP IDs, by its name."""
    rows = {}
    for machine in machines:
        stack = machine.device.stack
        rows[machine.device.name] = {
            "client": str(tunnels[machine.client.name][0]) if machine.client.name in tunnels else None,
            "personality": stack.personality,
            "clock": {"kind": stack.timestamps, "hz": stack.timestamp_hz, "skew_ppm": stack.clock_ppm},
            "ip_id": ip_id_classes(stack.ip_id),
            "ttl": stack.ttl,
            "traffic": list(machine.device.traffic),
        }
    return rows


def ip_id_classes(asked: IpIdClass) -> dict[str, IpIdClass]:
    """How a device numbers its packets, protocol by protocol.

    ``per_flow`` is what Linux does where nothing rewrites the field (``ip_select_ident_segs``, since 5.17): a
    connected socket, of UDP too, has a counter of its own, and the lab's programs connect theirs (dig, the C
    library's resolver, iperf3). What is sent without, as ping does, gets a counter hashed from addresses and
    protocol, which jumps ahead with time.
    """
    return {"tcp": asked, "udp": asked, "icmp": "bucket" if asked == "per_flow" else asked}


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the egress capture the truth explains, before anything was degraded."""

    egress_packets: int
    in_true_flows: int
    matched_packets: int
    flows: int
    unattributed_flows: int

    @property
    def share(self) -> float:
        """Share of egress packets that belong to a flow with a truth row."""
        return self.in_true_flows / self.egress_packets if self.egress_packets else 0.0

    def as_dict(self) -> dict[str, object]:
        """For the manifest."""
        return dataclasses.asdict(self) | {"share": round(self.share, 6)}


def attribute(egress: Egress, owner: Attribution) -> tuple[list[tuple[EgressFlow, Owner | str]], Coverage]:
    """Every flow with its owner or the reason why it has none."""
    rows = [(flow, owner(flow)) for flow in egress.flows]
    good = [flow for flow, who in rows if isinstance(who, Owner)]
    covered = sum(len(flow.packets) for flow in good)
    return rows, Coverage(egress.packets, covered, egress.matched, len(good), len(rows) - len(good))


def flow_rows(
    rows: Sequence[tuple[EgressFlow, Owner | str]],
    tunnels: Mapping[str, tuple[Endpoint, Endpoint, list[str]]],
    seen: Frames,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Truth rows and unattributed rows, with times and counts as the written egress capture shows them.

    A flow of which the capture kept no packet has no row.
    """
    position = _written(seen)
    good: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for flow, who in rows:
        kept = np.array([p for p in flow.packets if p < len(position)], dtype=np.int64)
        kept = position[kept]
        kept = kept[kept >= 0]
        if not len(kept):
            continue
        times = seen.ts_ns[kept]
        row: dict[str, Any] = {
            "proto": flow.proto,
            "src": str(flow.near),
            "dst": str(flow.far),
            "first_ns": int(times.min()),
            "last_ns": int(times.max()),
            "packets": len(kept),
        }
        if isinstance(who, str):
            rest.append(row | {"reason": who})
        elif who.machine.client.name not in tunnels:
            rest.append(row | {"reason": f"the tunnel of {who.machine.client.name} was not seen at ingress"})
        else:
            client = str(tunnels[who.machine.client.name][0])
            inner = str(who.inner) if who.inner else None
            good.append(row | {"client": client, "inner": inner, "device": who.machine.device.name})
    return good, rest


def other_rows(egress: Egress, seen: Frames) -> list[dict[str, Any]]:
    """Rows for the packets that belong to no conversation, by what they are."""
    position = _written(seen)
    kept: dict[str, list[int]] = {}
    for source, _, reason in egress.other:
        if source < len(position) and position[source] >= 0:
            kept.setdefault(reason, []).append(int(seen.ts_ns[position[source]]))
    return [
        {"packets": len(times), "first_ns": min(times), "last_ns": max(times), "reason": reason}
        for reason, times in kept.items()
    ]


def _written(seen: Frames) -> npt.NDArray[np.int64]:
    """Position in the written capture by position in the true one; -1 where it was lost."""
    position = np.full(int(seen.source.max(initial=-1)) + 1, -1, dtype=np.int64)
    position[seen.source] = np.arange(len(seen.source))
    return position
