"""Known truth beside a result: recordings with their truth, the damage done to them, and the tally."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.result import CaseResult
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.damage import degrade as damaged

RECORDINGS = Path(__file__).parent / "recordings"
OFFSET_S = 4393.217
"""How far ahead a damaged recording's egress clock is."""


@dataclass(frozen=True)
class Recording:
    """Both sides of a VPN server and what really happened."""

    ingress: PacketTable
    egress: PacketTable
    truth: dict[str, Any]


@dataclass(frozen=True)
class Tally:
    """What became of the flows whose truth is known."""

    long_linked: int
    long: int
    short_linked: int
    short: int
    wrong: int
    """Linked to a tunnel that did not carry them."""

    @property
    def long_share(self) -> float:
        return self.long_linked / self.long

    @property
    def short_share(self) -> float:
        return self.short_linked / self.short


def load(folder: Path) -> Recording:
    """A recording from its folder."""
    side = {
        name: next(
            folder / f"{name}{end}"
            for end in (".pcap", ".pcap.zst", ".pcapng")
            if (folder / f"{name}{end}").exists()
        )
        for name in ("ingress", "egress")
    }
    return Recording(
        read_capture(side["ingress"]),
        read_capture(side["egress"]),
        json.loads((folder / "truth.json").read_text()),
    )


def degrade(
    recording: Recording,
    *,
    jitter_s: float,
    loss: float = 0.01,
    offset_s: float = OFFSET_S,
    drift_ppm: float = 40.0,
    seed: int = 1,
) -> Recording:
    """Another clock on the egress side, packets missing from either, normal jitter on egress times."""
    damage = Damage(1e3 * jitter_s, loss, offset_s, drift_ppm, seed=seed)
    ingress, egress, _ = damaged(recording.ingress, recording.egress, damage)
    return replace(recording, ingress=ingress, egress=egress)


def without_client(recording: Recording, client: str) -> Recording:
    """The recording without one client's packets in the ingress capture."""
    table = recording.ingress
    address = table.addresses.texts.index(client.rsplit(":", 1)[0])
    return replace(recording, ingress=table.take((table.src != address) & (table.dst != address)))


def tally(
    recording: Recording,
    case: CaseResult,
    *,
    offset_s: float = 0.0,
    only_client: str | None = None,
    long: int = 10,
) -> Tally:
    """Compare links with the truth, flow by flow."""
    clients = known_clients(case)
    counts = {True: [0, 0], False: [0, 0]}
    wrong = 0
    true_clients = carriers(recording, case, offset_s=offset_s)
    for packets, tunnel, true in zip(
        case.endpoints["packets"], case.links["tunnel"], true_clients, strict=True
    ):
        linked = clients.get(tunnel, ())
        right = is_right(linked, true)
        wrong += bool(linked) and not right
        if true is not None and (only_client is None or true == only_client):
            counts[packets >= long][0] += right
            counts[packets >= long][1] += 1
    return Tally(counts[True][0], counts[True][1], counts[False][0], counts[False][1], wrong)


def known_clients(case: CaseResult) -> dict[str, tuple[str | None, ...]]:
    """What each tunnel's client is known by: its endpoint; of a relay's, with a port a flow, its address."""
    rows = zip(case.tunnels["id"], case.tunnels["client"], case.tunnels["transport"], strict=True)
    return {t: (host(client),) if transport == "stream" else (client,) for t, client, transport in rows}


def is_right(linked: tuple[str | None, ...], true: str | None) -> bool:
    """Whether the true client is the one that the linked tunnel's is known by."""
    return true is not None and (true in linked or host(true) in linked)


def host(endpoint: str | None) -> str | None:
    """The address of an endpoint."""
    return endpoint.rpartition(":")[0] if endpoint else None


def carriers(recording: Recording, case: CaseResult, *, offset_s: float = 0.0) -> list[str | None]:
    """Client that each flow of the case was carried for, None where the truth does not say.

    A flow is known by its endpoints and when it began.
    """
    flows = recording.truth["flows"]
    return [None if n < 0 else flows[n]["client"] for n in numbers(recording, case, offset_s=offset_s)]


def numbers(recording: Recording, case: CaseResult, *, offset_s: float = 0.0) -> list[int]:
    """Which of the truth's flows each flow of the case is, -1 where it is none."""
    known: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for n, flow in enumerate(recording.truth["flows"]):
        known.setdefault((flow["src"], flow["dst"]), []).append((flow["first_ns"], n))
    found: list[int] = []
    for flow in case.endpoints.itertuples():
        began = flow.first_ns - round(offset_s * 1e9)
        candidates = known.get((flow.src, flow.dst), ())
        found.append(min(candidates, key=lambda of: abs(of[0] - began), default=(0, -1))[1])
    return found
