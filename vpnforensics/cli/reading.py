"""Captures for a command: read with progress, checked for damage under ``--strict``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vpnforensics.cli.errors import DamagedInputError
from vpnforensics.report.findings import findings

if TYPE_CHECKING:
    from vpnforensics.packets.table import PacketTable
    from vpnforensics.scratch import Scratch


def read(
    path: str | tuple[str, ...],
    *,
    strict: bool,
    decap: str,
    show: Callable[[str, float], None],
    step: str = "reading",
    select: str = "",
    scratch: str | Scratch | None = None,
) -> PacketTable:
    """Read a capture, of one file or several.

    Raises
    ------
    CaptureError
        It cannot be read.
    DamagedInputError
        It lost packets to damage, and ``strict`` is set.
    """
    from vpnforensics.packets.read import read_capture

    show(step, 0.0)
    packets = read_capture(
        path,
        decap=decap,
        select=select,
        scratch=scratch,
        progress=lambda done, total: show(step, done / total if total else 0.0),
    )
    if strict and packets.source is not None and packets.source.health.damaged:
        damage = [f.text for f in findings(packets.source.health.to_dict()) if f.severity == "damage"]
        raise DamagedInputError(
            f"{packets.source.path}: {'; '.join(damage)} (--strict refuses damaged captures)"
        )
    return packets
