"""Both sides of a server as an audit takes them."""

from __future__ import annotations

from dataclasses import dataclass

from vpnforensics.packets.table import PacketTable
from vpnforensics.sides import Capture, Progress, Sides, comparable, read_sides


@dataclass(frozen=True, eq=False)
class Recording:
    """Two packet tables, in order of time."""

    ingress: PacketTable
    egress: PacketTable
    are_one: bool = False
    """Whether one capture is both sides."""

    @property
    def sides(self) -> Sides:
        """The two as the case's steps take them; the tables stay whole."""
        return Sides(self.ingress, self.egress, self.are_one, (self.ingress, self.egress))


def read_recording(
    ingress: Capture, egress: Capture | None, progress: Progress
) -> tuple[Recording, list[str]]:
    """Read both sides, without the packets that they hold twice.

    Parameters
    ----------
    ingress, egress
        As :func:`vpnforensics.correlate` takes them.
    progress : callable

    Returns
    -------
    Recording
    list of str
        What was changed, as warnings.

    Raises
    ------
    CaptureError, CaseError
        A capture cannot be read, or holds no IP packets.
    """
    sides, warnings = comparable(read_sides(ingress, egress, progress))
    return Recording(sides.ingress, sides.egress, sides.are_one), warnings
