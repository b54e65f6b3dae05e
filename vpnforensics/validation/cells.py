"""Cells and tables of text of a validation report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table with what has to be known to read it."""

    caption: str
    note: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def damage_text(damage: Mapping[str, Any]) -> str:
    """A damage of the document, in words."""
    from vpnforensics.validation.damage import Damage

    return Damage(**damage).text


def part_of(part: float, whole: float) -> str:
    """So many of so many, and the share."""
    return f"{part:,.0f} of {whole:,} ({part / max(whole, 1):.2g})"


def number(value: float | None) -> str:
    """Four decimals; nothing where there is no number."""
    return "" if value is None else f"{value:.4f}"


def with_interval(value: float | None, interval: Sequence[float | None] | None) -> str:
    """A number and its 95 % interval, where it has one."""
    if value is None:
        return "not defined"
    if interval is None or None in interval:
        return number(value)
    return f"{value:.4f} [{interval[0]:.4f}, {interval[1]:.4f}]"


def share(value: float, interval: Sequence[float]) -> str:
    """A share and its 95 % interval, in percent."""
    return f"{value:.2%} [{interval[0]:.2%}, {interval[1]:.2%}]"
