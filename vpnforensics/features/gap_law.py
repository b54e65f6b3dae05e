"""How far a 16-bit counter moves between two packets that a tap sees.

A host's counter moves by 1 a packet; the tap misses those that are lost, and those that go elsewhere. Steps
of 1 are the rule, long ones are not rare, and their scale differs from host to host: so the law of a step
d >= 1 is heavy-tailed, P(D >= d) = s / (s + d - 1), with a scale s of 1 for a counter seen whole. A few
packets come out of order, a few fields are somebody else's. Against it stands chance: each of the 65,536
values alike.

Sums of step log-probabilities, with 1/65,536 for the first value of each sequence, are the length in which a
pooling of packets describes their IDs: the pooling that describes them shortest is the counter's scope.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.features._kernels import summed_log_p

Floats = npt.NDArray[np.float64]

IDS = 65_536
LOG_CHANCE = -float(np.log(IDS))
SCALES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)
"""Scales tried; the largest still tells a counter from chance."""
_LATE = 32
_P_LATE, _P_SAME, _P_STRANGE = 0.02, 0.005, 0.005


def _table(scale: float) -> Floats:
    d = np.arange(1, IDS, dtype=np.float64)
    law = scale / ((scale + d - 1) * (scale + d))
    law /= law.sum()
    p = np.full(IDS, _P_STRANGE / IDS)
    p[1:] += (1 - _P_LATE - _P_SAME - _P_STRANGE) * law
    p[0] += _P_SAME
    p[-_LATE:] += _P_LATE / _LATE
    log_p: Floats = np.log(p)
    return log_p


LOG_P = np.stack([_table(scale) for scale in SCALES], axis=1)
"""Shape (65536, scales)."""
LOG_SCALES = float(np.log(len(SCALES)))
"""Price of having chosen a scale, nats."""


def step_log_p(steps: npt.NDArray[Any], scale: float) -> Floats:
    """Natural log of the probability of steps, taken modulo 65,536; ``scale`` is one of :data:`SCALES`."""
    log_p: Floats = LOG_P[steps.astype(np.int64) % IDS, SCALES.index(scale)]
    return log_p


def best_scale(steps: npt.NDArray[Any]) -> tuple[float, float]:
    """The likeliest scale of steps, and their summed log-probability, less the price of the choice."""
    if not len(steps):
        return SCALES[0], 0.0
    sums = summed_log_p(steps.astype(np.int64), LOG_P)
    best = int(np.argmax(sums))
    return SCALES[best], float(sums[best]) - LOG_SCALES
