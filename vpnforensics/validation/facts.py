"""Under which conditions a case was captured: from its manifest, its damage, and what was found in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.engines.case import Case
from vpnforensics.validation.damage import Damage
from vpnforensics.validation.labels import UNKNOWN, Labels
from vpnforensics.validation.sessions import Session

_WHOLE = 65_535
"""Snap lengths from here on cut nothing."""


@dataclass(frozen=True, slots=True)
class Facts:
    """One case's conditions; what nobody noted is None."""

    protocol: str
    """Of its tunnels, or ``mixed``."""
    transport: str
    """What carries them: ``udp``, ``esp``, ``tcp``, ``stream`` (a relay's), or ``mixed``."""
    clients: int
    """Whose tunnels were found."""
    jitter_ms: float
    """Of the capture's time stamps: added by damage, or by the recording's scenario."""
    loss: float
    """Share of a side's packets missing, the larger of both."""
    snap_bytes: int | None
    """0 where whole frames were kept."""
    padding: str
    alignment: str
    alignment_error_ms: float | None
    """Of the estimated offset in the middle of the capture, where the truth has it."""
    missing_client: bool
    """Whether a client of the truth has no packet at ingress."""
    made_by: str
    """``lab``, ``simulate``, or ``other``."""


def facts_of(session: Session, damage: Damage, case: Case, labels: Labels, first_ns: int) -> Facts:
    """The conditions of a case.

    Parameters
    ----------
    session : Session
    damage : Damage
    case : Case
    labels : Labels
    first_ns : int
        From where on the damage's clock drifts.
    """
    sides = _sides(session.manifest)
    captured = {c for c in labels.of_tunnel.tolist() if c != UNKNOWN}
    needed = {c for c in labels.of_flow.tolist() if c >= 0}
    return Facts(
        protocol=_common({t.protocol for t in case.tunnels.tunnels}),
        transport=_common({t.transport for t in case.tunnels.tunnels}),
        clients=len(captured),
        jitter_ms=round(max([damage.jitter_ms, *(s["jitter_ms"] for s in sides)]), 4),
        loss=max([damage.loss, *(s["loss"] for s in sides)]),
        snap_bytes=int(max(s["snaplen"] for s in sides)) if sides else None,
        padding=_padding(session.manifest),
        alignment=case.alignment.status,
        alignment_error_ms=_alignment_error_ms(session, damage, case, first_ns),
        missing_client=bool(needed - captured),
        made_by=made_by if (made_by := session.manifest.get("made_by")) in ("lab", "simulate") else "other",
    )


def _common(names: set[str]) -> str:
    return names.pop() if len(names) == 1 else "mixed" if names else "none"


def _sides(manifest: Mapping[str, Any]) -> list[dict[str, float]]:
    """Jitter, loss and snap length of each side, from the lab's manifest or the simulator's."""
    scenario = _mapping(manifest.get("scenario"))
    of = _mapping(scenario.get("capture")) or scenario
    found = []
    for name in ("ingress", "egress"):
        side = _mapping(of.get(name))
        if not side:
            continue
        snap = int(_number(side.get("snaplen")))
        jitter_ms = _number(side.get("jitter_ms")) or 1e3 * _number(side.get("jitter_s"))
        cut = snap if 0 < snap < _WHOLE else 0
        found.append({"jitter_ms": jitter_ms, "loss": _number(side.get("loss")), "snaplen": cut})
    return found


def _padding(manifest: Mapping[str, Any]) -> str:
    scenario = _mapping(manifest.get("scenario"))
    against = _mapping(_mapping(scenario.get("vpn")).get("countermeasures")) or _mapping(
        scenario.get("countermeasures")
    )
    if against.get("padding") == "mtu" or against.get("pad_mtu"):
        return "mtu"
    if against.get("padding") == "block" or against.get("pad_block"):
        return "block"
    if against.get("pad_buckets"):
        return "buckets"
    return "none" if scenario else "unknown"


def _alignment_error_ms(session: Session, damage: Damage, case: Case, first_ns: int) -> float | None:
    """Estimated minus true offset in the middle of the egress capture."""
    told = _mapping(session.truth.get("alignment"))
    if not case.alignment.usable or not {"offset_ns", "drift_ppm", "reference_ns"} <= told.keys():
        return None
    ts_ns = case.flows.packets.ts_ns
    if not len(ts_ns):
        return None
    shown = np.array([(int(ts_ns.min()) + int(ts_ns.max())) // 2], np.int64)
    recorded = shown - round(damage.offset_s * 1e9)  # where on the recording's clock; drift once more below
    recorded -= np.rint((recorded - first_ns) * damage.drift_ppm * 1e-6).astype(np.int64)
    since = recorded - int(told["reference_ns"])
    true = (
        recorded - int(told["offset_ns"]) - np.rint(since * float(told["drift_ppm"]) * 1e-6).astype(np.int64)
    )
    return round(float(case.alignment.to_ingress(shown)[0] - true[0]) / -1e6, 4)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else 0.0
