"""What an audit found; plain values, so that it can be written and compared."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vpnforensics.audit.leaks import Leak
from vpnforensics.audit.linkability import Linkability
from vpnforensics.audit.measures import Measure
from vpnforensics.report.escaping import json_text

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Effect:
    """One countermeasure on a copy of the recording."""

    measure: Measure
    informed: Linkability | None
    """For an adversary who knows the clocks; None where there is no copy."""
    uninformed: Linkability | None
    """For one who has to estimate them."""
    why_not: str = ""
    """Why there is no copy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the ranked list: an effect against the recording as it is."""

    name: str
    title: str
    linked: float
    """Share of flows."""
    change_points: float
    """Linked flows now less before, percentage points: negative is better for users."""
    uninformed: float | None
    tied: float
    tied_change_points: float
    more_bytes: float
    """Outer bytes for each inner one, against now, less 1."""
    delay_ns: int | None
    why_none: str


@dataclass(frozen=True, slots=True)
class Client:
    """One client's flows; only where names were asked for."""

    client: str
    linked: int


@dataclass(frozen=True, slots=True)
class AuditResult:
    """How linkable the users of a recording are, and what lowers it."""

    tool: dict[str, Any]
    inputs: tuple[dict[str, Any], ...]
    alignment: dict[str, Any]
    protocols: tuple[str, ...]
    allowed: tuple[float, ...]
    now: Linkability
    """For an adversary who knows the clocks."""
    now_uninformed: Linkability
    leaks: tuple[Leak, ...]
    without_counters: Linkability | None
    effects: tuple[Effect, ...]
    clients: tuple[Client, ...]
    warnings: tuple[str, ...]

    @property
    def ranked(self) -> list[Row]:
        """The countermeasures: what lowers linked flows most, then tied flows; then by bytes and delay."""
        rows = [self._row(e) for e in self.effects if e.informed is not None]
        return sorted(
            rows, key=lambda r: (r.change_points, r.tied_change_points, r.more_bytes, r.delay_ns or 0, r.name)
        )

    def without(self, leak: Leak) -> Linkability | None:
        """What is left to an adversary to whom a field tells nothing; None where that was not measured."""
        if leak.field == "counters":
            return self.without_counters
        return next((e.informed for e in self.effects if e.measure.name == leak.hidden_by), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "tool": self.tool,
            "inputs": list(self.inputs),
            "alignment": self.alignment,
            "protocols": list(self.protocols),
            "allowed_false_links": list(self.allowed),
            "now": self.now.to_dict(),
            "now_clocks_unknown": self.now_uninformed.to_dict(),
            "leaks": [leak.to_dict() | {"linked_without": _share(self.without(leak))} for leak in self.leaks],
            "measures": [
                {
                    "name": e.measure.name,
                    "title": e.measure.title,
                    "settings": [asdict(s) for s in e.measure.settings],
                    "clocks_known": e.informed.to_dict() if e.informed else None,
                    "clocks_unknown": e.uninformed.to_dict() if e.uninformed else None,
                    "why_not": e.why_not or None,
                }
                for e in self.effects
            ],
            "ranked": [asdict(row) for row in self.ranked],
            "clients": [asdict(client) for client in self.clients],
            "warnings": list(self.warnings),
        }

    def to_json(self) -> str:
        """As JSON; the same audit gives the same bytes."""
        return json_text(self.to_dict(), indent=1)

    def _row(self, effect: Effect) -> Row:
        there, now = effect.informed, self.now
        assert there is not None
        delay = None
        if there.round_trip_ns is not None and now.round_trip_ns is not None:
            delay = there.round_trip_ns - now.round_trip_ns
        return Row(
            effect.measure.name,
            effect.measure.title,
            there.share(),
            100 * (there.share() - now.share()),
            _share(effect.uninformed),
            there.tied_share,
            100 * (there.tied_share - now.tied_share),
            there.expansion / now.expansion - 1 if now.expansion else 0.0,
            delay,
            there.why_none,
        )


def _share(found: Linkability | None) -> float | None:
    return None if found is None else found.share()
