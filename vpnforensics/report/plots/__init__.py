"""Pictures of a case: each takes axes, or makes some, and returns them with the numbers that it shows.

Nothing is fitted here. Colours are told apart by colour-blind readers; marks, heights and places say the same
without any colour. Needs the ``plot`` extra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpnforensics.report.plots.clocks import draw_alignment, draw_delay_law
from vpnforensics.report.plots.link import draw_link
from vpnforensics.report.plots.overview import draw_nulls, draw_timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from vpnforensics.features.drawing import Drawn
    from vpnforensics.report.result import CaseResult


class CasePlots:
    """Pictures of one case; :attr:`vpnforensics.report.result.CaseResult.plot`.

    Parameters
    ----------
    case : CaseResult
    """

    def __init__(self, case: CaseResult) -> None:
        self.case = case

    def alignment(self, ax: Axes | None = None) -> Drawn:
        """Egress minus ingress time of every matched packet, and the clock line that was estimated.

        See :func:`vpnforensics.report.plots.clocks.draw_alignment`.
        """
        return draw_alignment(self.case, ax)

    def delay_law(self, ax: Axes | None = None) -> Drawn:
        """The delay through the server: of the matched packets, and the law that the engine used.

        See :func:`vpnforensics.report.plots.clocks.draw_delay_law`.
        """
        return draw_delay_law(self.case, ax)

    def link(self, flow: str, ax: Axes | None = None, *, first: int = 40) -> Drawn:
        """A flow's packets, the outer packets that carried them, and which belongs to which.

        See :func:`vpnforensics.report.plots.link.draw_link`.
        """
        return draw_link(self.case, flow, ax, first=first)

    def timeline(self, ax: Axes | None = None) -> Drawn:
        """When each tunnel's flows were.

        See :func:`vpnforensics.report.plots.overview.draw_timeline`.
        """
        return draw_timeline(self.case, ax)

    def nulls(self, flow: str, ax: Axes | None = None) -> Drawn:
        """A flow's likelihood ratios among those of comparisons that are known to be false.

        See :func:`vpnforensics.report.plots.overview.draw_nulls`.
        """
        return draw_nulls(self.case, flow, ax)
