"""What a user can choose for a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vpnforensics.engines import registry
from vpnforensics.evidence.policy import Policy

EXPECTED_FALSE_LINKS = Policy().expected_false_links
ENGINES = tuple(registry.ENGINES)


@dataclass(frozen=True, slots=True)
class Options:
    """A user's choices, as plain values; written into the result.

    Raises
    ------
    ValueError
        One is out of its range.
    """

    expected_false_links: float = EXPECTED_FALSE_LINKS
    seed: int = 0
    same_clock: bool = False
    engines: tuple[str, ...] = ENGINES

    @property
    def policy(self) -> Policy:
        """Every threshold that decides."""
        return Policy(expected_false_links=self.expected_false_links)

    def parameters(self) -> dict[str, Any]:
        """The result contract's ``tool.parameters``, as far as the user set them."""
        return {
            "expected_false_links": self.expected_false_links,
            "same_clock": self.same_clock,
            "engines": list(self.engines),
        }

    def __post_init__(self) -> None:
        if not 0 < self.expected_false_links < np.inf:
            raise ValueError("expected_false_links is a positive number")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise ValueError("seed is a whole number, 0 or more")
        # As plain values: numbers of numpy are no JSON.
        object.__setattr__(self, "expected_false_links", float(self.expected_false_links))
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "same_clock", bool(self.same_clock))
        unknown = set(self.engines) - set(ENGINES)
        if unknown or not self.engines:
            raise ValueError(f"engines are some of {', '.join(ENGINES)}; not {', '.join(sorted(unknown))}")
