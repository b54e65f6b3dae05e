"""The two sides of a VPN server as they were captured: read, told apart, and fit to be compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.capture.stream import Stored
from vpnforensics.errors import CaseError
from vpnforensics.features.capture_clock import capture_steps, on_one_clock
from vpnforensics.flows.copies import without_copies
from vpnforensics.packets.column_files import release
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PacketTable
from vpnforensics.report.findings import clock_set
from vpnforensics.scratch import Scratch

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
    given: tuple[Capture | None, Capture | None]
    """As the user named them: tables among them are not ours to change. None where they are to be used up."""

    def forget_heads(self, *others: PacketTable) -> None:
        """Give back the memory that payloads take, of these tables and others that are ours alone."""
        for table in (self.ingress, self.egress, *others):
            if not any(table is each for each in self.given):
                table.forget_heads()

    def release(self) -> None:
        """Let go of what memory holds of tables in scratch files."""
        for table in (self.ingress, self.egress):
            release(table)


def read_sides(
    ingress: Capture,
    egress: Capture | None,
    tell: Progress,
    *,
    select: tuple[str, str] = ("", ""),
    scratch: Scratch | None = None,
    use_up: bool = False,
) -> Sides:
    """Read both captures, or the one that is both.

    Parameters
    ----------
    ingress, egress : Capture
    tell : callable
    select : tuple of str
        Which packets of each side to read, as :func:`vpnforensics.read_capture` takes it.
    scratch : Scratch, optional
        Where their columns are put instead of into memory.
    use_up : bool
        Tables that are given need not be kept as they are.

    Raises
    ------
    CaptureError
        A capture cannot be read.
    CaseError
        One holds no IP packets.
    """
    outer = _read(ingress, "ingress", select[0], scratch, tell)
    if select[0] == select[1] and (egress is None or _same_name(ingress, egress)):
        inner = outer
    else:
        inner = _read(ingress if egress is None else egress, "egress", select[1], scratch, tell)
    if not len(outer):
        raise CaseError(f"{name_of(outer, 'ingress')}: no IP packets{_selected(outer)}, so no tunnels")
    if not len(inner):
        raise CaseError(f"{name_of(inner, 'egress')}: no IP packets{_selected(inner)}, so no flows")
    return Sides(outer, inner, _same_bytes(outer, inner), (None, None) if use_up else (ingress, egress))


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


def _selected(packets: PacketTable) -> str:
    return f" that are {packets.source.selection}" if packets.source and packets.source.selection else ""


def _read(capture: Capture, role: str, select: str, scratch: Scratch | None, tell: Progress) -> PacketTable:
    if isinstance(capture, PacketTable):
        if select:
            raise ValueError(f"the {role} packets are read already; select among them when they are read")
        return capture if scratch is None else capture.copied(scratch)
    return read_capture(
        capture,
        select=select,
        scratch=scratch,
        progress=lambda done, total: tell(f"reading {role}", done / total if total else 0.0),
    )


def _same_bytes(outer: PacketTable, inner: PacketTable) -> bool:
    """Whether two captures are one, under two names: their digests are taken only where their sizes agree."""
    if inner is outer:
        return True
    first, second = outer.source, inner.source
    if first is None or second is None or (first.bytes, first.packets) != (second.bytes, second.packets):
        return False
    if (first.decap, first.selection) != (second.decap, second.selection):
        return False
    return first.sha256 == second.sha256


def _same_name(ingress: Capture, egress: Capture) -> bool:
    if not isinstance(ingress, str | Path) or not isinstance(egress, str | Path):
        return ingress is egress or (isinstance(ingress, list | tuple) and ingress == egress)
    if "-" in (str(ingress), str(egress)):
        return str(ingress) == str(egress)
    try:
        return Path(ingress).samefile(egress)
    except OSError:
        return False  # reading them will say what is wrong
