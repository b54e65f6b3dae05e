"""What made a result: the tool, and what it was told."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from vpnforensics._version import __version__
from vpnforensics.evidence.policy import Policy


def tool_row(parameters: dict[str, Any], policy: Policy, seed: int, argv: Sequence[str]) -> dict[str, Any]:
    """The result contract's ``tool``."""
    return {
        "name": "vpnforensics",
        "version": __version__,
        "argv": list(argv),
        "parameters": {
            **parameters,
            "python": ".".join(map(str, sys.version_info[:3])),
            "numpy": np.__version__,
        },
        "policy": policy.to_dict(),
        "seed": seed,
    }
