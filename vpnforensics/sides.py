"""The two sides of a VPN server as they were captured: read, told apart, and fit to be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.capture.stream import Stored
from vpnforensics.errors import CaseError
from vpnforensics.features.capture_clock import capture_steps, on_one_clock
from vpnforensics.flows.copies import without_copies
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.findings import clock_set

Capture = Stored | Sequence[Stored] | PacketTable
Progress = Callable[[str, float], None]
"""Called with the name of a step and the share of it done."""


@dataclass(frozen=True, eq=False)
class Sides:
    """What was captured on both sides."""

    ingress: PacketTable
    egress: PacketTable
    are_one: bool
    """Whether one capture serves as both."""
    given: tuple[Capture, Capture | None]
    """As the user named them: tables among them are not ours to change."""

    def forget_heads(self, *others: PacketTable) -> None:
        """Give back the memory that payloads take, of these tables and others that are ours alone."""
        for table in (self.ingress, self.egress, *others):
            if not any(table is each for each in self.given):
                table.forget_heads()


def read_sides(ingress: Capture, egress: Capture | None, tell: Progress) -> Sides:
    """Read both captures, or the one that is both.

    Raises
    ------
    CaptureError
        A capture cannot be read.
    CaseError
        One holds no IP packets.
    """
    outer = _read(ingress, "ingress", tell)
    inner = outer if egress is None or _same_name(ingress, egress) else _read(egress, "egress", tell)
    if not len(outer):
        raise CaseError(f"{name_of(outer, 'ingress')}: no IP packets, so no tunnels")
    if not len(inner):
        raise CaseError(f"{name_of(inner, 'egress')}: no IP packets, so no flows")
    return Sides(outer, inner, _same_bytes(outer, inner), (ingress, egress))


def comparable(sides: Sides) -> tuple[Sides, list[str]]:
    """The sides without the packets that they hold twice, and, where they are one, on a clock that ran on.

    Returns
    -------
    Sides
    list of str
        What was changed, as warnings.
    """
    compared = without_copies(sides.ingress)
    warnings = compared.left_out("ingress")
    ingress = compared.packets
    if sides.are_one:  # no other clock to hold it against
        set_at = capture_steps(ingress)
        ingress = on_one_clock(ingress, set_at)
        warnings += [f"{clock_set(s.at_ns, s.size_ns)}; times are taken as if it had run on" for s in set_at]
        return Sides(ingress, ingress, True, sides.given), warnings
    compared = without_copies(sides.egress)
    return Sides(ingress, compared.packets, False, sides.given), warnings + compared.left_out("egress")


def name_of(packets: PacketTable, role: str) -> str:
    """What to call a capture."""
    return packets.source.path if packets.source else f"the {role} capture"


def _read(capture: Capture, role: str, tell: Progress) -> PacketTable:
    if isinstance(capture, PacketTable):
        return capture
    return read_capture(
        capture, progress=lambda done, total: tell(f"reading {role}", done / total if total else 0.0)
    )


def _same_bytes(outer: PacketTable, inner: PacketTable) -> bool:
    """Whether two captures are one, under two names: their digests are taken only where their sizes agree."""
    if inner is outer:
        return True
    first, second = outer.source, inner.source
    if first is None or second is None or (first.bytes, first.packets) != (second.bytes, second.packets):
        return False
    return first.decap == second.decap and first.sha256 == second.sha256


def _same_name(ingress: Capture, egress: Capture) -> bool:
    if not isinstance(ingress, str | Path) or not isinstance(egress, str | Path):
        return ingress is egress or (isinstance(ingress, list | tuple) and ingress == egress)
    if "-" in (str(ingress), str(egress)):
        return str(ingress) == str(egress)
    try:
        return Path(ingress).samefile(egress)
    except OSError:
        return False  # reading them will say what is wrong
