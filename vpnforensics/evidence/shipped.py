"""Calibration for a case too small to calibrate itself: measured on captures with truth, and shipped.

A case bounds its likelihood ratios by its own comparisons known to be false. A handful of flows has few, and
the bound is low whatever the packets show. ``shipped.json`` beside this file has what small cases with known
truth allow (`python benchmarks/shipped_calibration.py` makes it): the share of the model's ratios to believe,
how many independent comparisons are behind that, the captures by SHA-256, and the range of their conditions.

It is lent to a small case within that range. Outside of it (more jitter, a delay that so few packets do not
show, another protocol) the case keeps its own bounds, its ratios are taken by what was measured there, which
is little, and it says why. Links and errors never depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from vpnforensics.arrays import Floats
from vpnforensics.engines import packets as packets_engine
from vpnforensics.engines.case import Case
from vpnforensics.evidence.calibration import Calibration, bounds
from vpnforensics.evidence.decision import Decision
from vpnforensics.evidence.voices import Voice

SMALL = 300
"""False comparisons below which a case cannot show a ratio of 100 to be wrong: none among fewer would not
exclude one in a hundred ("rule of three")."""


@dataclass(frozen=True, slots=True)
class Shipped:
    """What was measured, and where it holds."""

    id: str
    """First digits of the SHA-256 over the captures' digests and the figures."""
    slope_for: float
    slope_against: float
    false_comparisons: int
    """Independent ones."""
    true_comparisons: int
    protocols: tuple[str, ...]
    spread_ms: float
    """Largest 95 % point of the delay, less its median, up to which it holds: jitter and a busy server."""
    slope_for_outside: float
    """What may be believed beyond that spread."""
    slope_against_outside: float
    captures: int

    @property
    def calibration(self) -> Calibration:
        """To be applied to what the model claims."""
        lower, upper = bounds(self.false_comparisons, self.true_comparisons)
        return Calibration(self.slope_for, self.slope_against, lower, upper)

    def why_not(self, protocols: set[str], spread_ms: float) -> str:
        """Why it does not hold for a case; empty where it does."""
        unknown = sorted(protocols - set(self.protocols))
        if unknown:
            return f"it was made without {', '.join(unknown)}"
        if spread_ms > self.spread_ms:
            return (
                f"as far as so few packets show, delays spread by {spread_ms:.2g} ms, and by at most"
                f" {self.spread_ms:.2g} ms there"
            )
        return ""


@cache
def shipped() -> Shipped:
    """The calibration that comes with the program."""
    text = files("vpnforensics.evidence").joinpath("shipped.json").read_text(encoding="utf-8")
    return from_document(json.loads(text))


def from_document(document: Mapping[str, Any]) -> Shipped:
    """Of the file's form."""
    within = document["range"]
    return Shipped(
        document["id"],
        document["slope_for"],
        document["slope_against"],
        document["false_comparisons"],
        document["true_comparisons"],
        tuple(within["protocols"]),
        within["spread_ms"],
        document["outside"]["slope_for"],
        document["outside"]["slope_against"],
        len(document["captures"]),
    )


def spread_ms(decision: Decision) -> float:
    """By how much the larger of both directions' 95 % delays exceeds its median."""
    law = decision.delay_law
    off = (p95 - median for p95, median in zip(law["p95_ns"], law["median_ns"], strict=True))
    return float(max(off)) / 1e6


def lend(case: Case, decision: Decision, calibration: Shipped | None = None) -> Decision:
    """The decision with likelihood ratios that a small case can be lent; of any other, as it is.

    Parameters
    ----------
    case : Case
    decision : Decision
        By the joint model, header fields included.
    calibration : Shipped, optional
        The one that comes with the program by default.
    """
    own = decision.null_comparisons
    voice = next((v for v in decision.voices if v.engine == packets_engine.NAME), None)
    if own >= SMALL or voice is None or voice.claim is None or not decision.delay_law:
        return decision
    lender = calibration or shipped()
    if own >= lender.false_comparisons:
        return decision
    small = f"the case is too small to calibrate itself ({own:,} comparisons known to be false)"
    why_not = lender.why_not({t.protocol for t in case.tunnels.tunnels}, spread_ms(decision))
    if why_not:
        lower, upper = bounds(own, int((decision.tunnel >= 0).sum()))
        worth = Calibration(lender.slope_for_outside, lender.slope_against_outside, lower, upper)
        lent = (
            f"{small}, and shipped calibration {lender.id} does not hold for it: {why_not}; its likelihood"
            " ratios are shrunk to what held on such cases, and bounded by its own comparisons"
        )
        return _weighed_anew(decision, voice, voice.claim, worth, lent)
    lent = (
        f"{small}: its likelihood ratios are by shipped calibration {lender.id}, of {lender.captures}"
        f" captures with known truth and {lender.false_comparisons:,} independent false comparisons"
    )
    weighed = _weighed_anew(decision, voice, voice.claim, lender.calibration, lent)
    return replace(weighed, null_comparisons=lender.false_comparisons)


def _weighed_anew(
    decision: Decision, voice: Voice, claim: Floats, calibration: Calibration, lent: str
) -> Decision:
    """With the joint model's part by another calibration; what header fields added stays."""
    llr = np.where(np.isnan(claim), voice.llr, calibration.llr(claim))
    fused = np.clip(decision.llr + llr - voice.llr, calibration.lower, calibration.upper)
    return replace(
        decision,
        llr=np.where(np.isnan(voice.llr), decision.llr, fused),
        voices=tuple(replace(v, llr=llr) if v is voice else v for v in decision.voices),
        lent=lent,
    )
