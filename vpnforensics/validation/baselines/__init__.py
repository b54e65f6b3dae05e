"""Baselines to be beaten: what others do, on the same pairs, the same splits and in the same run.

None of them is part of a verdict. Each is a :data:`vpnforensics.validation.comparisons.Scorer`: it is given
tunnels, flows and clocks as the engines are, so that what is compared is the method alone.

The data's way: :mod:`sightings` (packets of both sides by tunnel, flow and direction) -> :mod:`volume`,
:mod:`counts`, :mod:`fields`, and :mod:`networks` where they have been trained -> :mod:`table`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from vpnforensics.validation.baselines import counts, fields, volume
from vpnforensics.validation.comparisons import Scorer

CLASSICAL: Mapping[str, Scorer] = MappingProxyType(
    {
        "spearman (RAPTOR)": volume.spearman,
        "pearson": volume.pearson,
        "cosine": volume.cosine,
        "count containment": counts.contained,
        "fields (CapMaster-like)": fields.matched,
    }
)
"""Those that need no training, by the name they have in a report."""
