"""Several engines' likelihood ratios into one, without counting the same thing twice.

What ``packets`` is clear about, by a decimal logarithm either way, stands as it is: it has looked at every
packet, and clients of one case are mostly alike in all that header fields show. Elsewhere, in tunnels that it
cannot look into and where two tunnels fit about as well, header fields are added: the strongest that speaks
for the pair, and the strongest that speaks against it. A second one that says the same adds nothing: how far
engines repeat each other cannot be measured where nothing is known. (A weight for each by its correlation on
known pairs was tried: it came to the same wherever such pairs are, since ``packets`` made them known.)

An engine that is silent on a pair adds nothing to it, and a silent engine is not a ratio of 1.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Floats

CLEAR = 1.0
"""Decimal logarithms, "moderate support", from which on ``packets`` needs nobody else, and a pair is reported
that only a field speaks for."""


def fuse(packets: Floats, fields: Floats) -> Floats:
    """One log10 likelihood ratio a pair.

    Parameters
    ----------
    packets : ndarray of float64, shape (pairs,)
        NaN where silent.
    fields : ndarray of float64, shape (engines, pairs)
        NaN where an engine is silent.

    Returns
    -------
    ndarray of float64, shape (pairs,)
        NaN where all are silent.
    """
    spoken = np.isfinite(fields)
    heard = np.where(spoken, fields, 0.0)
    of_fields = heard.max(axis=0, initial=0.0) + heard.min(axis=0, initial=0.0)
    of_fields = np.where(spoken.any(axis=0), of_fields, np.nan)
    together = np.where(np.isnan(packets), of_fields, packets + np.nan_to_num(of_fields))
    return np.where(np.abs(packets) >= CLEAR, packets, together)
