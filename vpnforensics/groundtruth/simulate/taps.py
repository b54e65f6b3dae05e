"""The clocks of the two capturing machines."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.spec import Capture, SimulationSpec
from vpnforensics.groundtruth.simulate.truth import AlignmentTruth


class Clocks:
    """The two capture clocks, which start to drift at the first ingress packet.

    Parameters
    ----------
    spec : SimulationSpec
    first_ns : int
        True time of that packet; 0 where there is none.
    """

    def __init__(self, spec: SimulationSpec, first_ns: int) -> None:
        self._epoch_ns = spec.epoch_s * 1_000_000_000
        self._first_ns = first_ns
        self._spec = spec

    def shown(self, true_ns: Ints, capture: Capture) -> Ints:
        """Capture times (ns since the epoch) of true times."""
        elapsed = true_ns - self._first_ns
        drift = np.rint(elapsed * (capture.drift_ppm * 1e-6)).astype(np.int64)
        shown: Ints = self._epoch_ns + true_ns + round(capture.offset_s * 1e9) + drift
        return shown // capture.resolution_ns * capture.resolution_ns

    @property
    def alignment(self) -> AlignmentTruth:
        """Egress against ingress: both lines meet true time at the first ingress packet."""
        ingress, egress = self._spec.ingress, self._spec.egress
        rate = (1 + egress.drift_ppm * 1e-6) / (1 + ingress.drift_ppm * 1e-6) - 1
        return AlignmentTruth(
            round(egress.offset_s * 1e9) - round(ingress.offset_s * 1e9),
            round(rate * 1e6, 9),
            int(self.shown(np.array([self._first_ns]), egress)[0]),
        )
