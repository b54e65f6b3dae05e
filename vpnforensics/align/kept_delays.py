"""How late what a relay keeps comes out again: by payloads that are proved, and by messages of HTTP."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Columns

_SPREAD, _SLACK_NS, _UNKNOWN_NS = 1.5, 5_000_000, 250_000_000
"""How far beyond the delays of 99 % of the proved pairs others may lie: by their distance from the median,
and at least; and how far where too few are proved."""
_LATEST_NS, _MOMENT_NS = 1_500_000_000, 1_000_000
"""Messages are looked for so far from their usual delay: names that have to be looked up took 0.43 s, hosts
that answered a second SYN more than 1 s. Nearer than this counts as no nearer: a quiet relay's jitter."""
_LEAST_PROVED = 12


@dataclass(frozen=True, eq=False)
class KeptDelays(Columns):
    """By how much egress may come after ingress: of payloads and messages, down and up; or of each head."""

    low_ns: npt.NDArray[np.int64]
    high_ns: npt.NDArray[np.int64]
    usual_ns: npt.NDArray[np.int64]
    by_distance: npt.NDArray[np.bool_]
    """Whether it counts how far a pair lies from the usual delay, and not only that it lies in between."""

    @staticmethod
    def of(
        delay_ns: npt.NDArray[np.int64],
        up: npt.NDArray[np.bool_],
        proving: npt.NDArray[np.intp],
        messages: npt.NDArray[np.intp],
    ) -> KeptDelays:
        """By those of the pairs that are proved, and of messages that come once on either side.

        A request waits until its host is looked up and reached, one much longer than another.
        """
        low, high = _window(delay_ns[proving], up[proving])
        mine = [delay_ns[messages][up[messages] == side] for side in (False, True)]
        known = np.array([len(of) >= _LEAST_PROVED for of in mine])
        usual = np.array([int(np.median(of)) if len(of) else 0 for of in mine])
        late = np.where(known, _LATEST_NS, _UNKNOWN_NS)
        return KeptDelays(
            np.r_[low, usual - late],
            np.r_[high, usual + late],
            np.r_[0, 0, usual],
            np.r_[False, False, known],
        )

    def within_ns(
        self, head: npt.NDArray[np.int64], delay_ns: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """How long the time is in which a pair would lie as well as each of these does."""
        nearer = 2 * np.abs(delay_ns - self.usual_ns[head])
        whole = (self.high_ns - self.low_ns)[head]
        return np.where(self.by_distance[head], np.maximum(nearer, _MOMENT_NS), whole)


def _window(
    delay_ns: npt.NDArray[np.int64], up: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Least and most of egress less ingress time, down and up, by the pairs that are proved."""
    low, high = np.full(2, -_UNKNOWN_NS, np.int64), np.full(2, _UNKNOWN_NS, np.int64)
    for side in (False, True):
        mine = delay_ns[up == side]
        if len(mine) >= _LEAST_PROVED:
            least, middle, most = np.quantile(mine, (0.005, 0.5, 0.995))
            low[int(side)] = int(middle - _SPREAD * (middle - least)) - _SLACK_NS
            high[int(side)] = int(middle + _SPREAD * (most - middle)) + _SLACK_NS
    return low, high
