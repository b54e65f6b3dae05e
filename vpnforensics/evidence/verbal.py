"""The words of a likelihood ratio."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

_ENFSI = (
    (2.0, "no support"),
    (10.0, "weak support"),
    (100.0, "moderate support"),
    (1_000.0, "moderately strong support"),
    (10_000.0, "strong support"),
    (1_000_000.0, "very strong support"),
    (np.inf, "extremely strong support"),
)
"""Verbal scale of the ENFSI Guideline for Evaluative Reporting in Forensic Science (2015)."""
_ENFSI_LLR = tuple(float(np.log10(limit)) for limit, _ in _ENFSI)


def verbal(llr: float) -> str:
    """The ENFSI wording of a log10 likelihood ratio, naming the proposition that is supported."""
    words = _ENFSI[bisect_right(_ENFSI_LLR, abs(llr))][1]
    if words == "no support":
        return "no support for either"
    return f"{words} for {'H1' if llr > 0 else 'H2'}"
