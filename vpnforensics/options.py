"""What a user can choose for a case."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpnforensics.engines import plugged, registry
from vpnforensics.evidence.policy import Policy
from vpnforensics.tunnels import plugged as tunnels_of_others

EXPECTED_FALSE_LINKS = Policy().expected_false_links


@dataclass(frozen=True, slots=True)
class Options:
    """A user's choices, as plain values; written into the result.

    Raises
    ------
    ValueError, TypeError
        One is out of its range, or of another type.
    """

    expected_false_links: float = EXPECTED_FALSE_LINKS
    seed: int = 0
    same_clock: bool = False
    engines: tuple[str, ...] = field(default_factory=lambda: tuple(plugged.all_engines()))
    """Ours and those of other packages, unless some are chosen."""

    @property
    def policy(self) -> Policy:
        """Every threshold that decides."""
        return Policy(expected_false_links=self.expected_false_links)

    def parameters(self) -> dict[str, Any]:
        """The result contract's ``tool.parameters``, as far as the user set them."""
        there = plugged.installed().working
        plugins = {name: there[name].package for name in self.engines if name in there}
        protocols = {name: each.package for name, each in tunnels_of_others.installed().working.items()}
        return {
            "expected_false_links": self.expected_false_links,
            "same_clock": self.same_clock,
            "engines": list(self.engines),
            **({"plugins": plugins} if plugins else {}),
            **({"protocols": protocols} if protocols else {}),
        }

    def __post_init__(self) -> None:
        number = self.expected_false_links
        if not isinstance(number, int | float | np.number) or isinstance(number, bool):
            raise TypeError(f"expected_false_links is a number, not {number!r}")
        if not 0 < number < np.inf:
            raise ValueError(f"expected_false_links is a positive number, not {number!r}")
        if not isinstance(self.seed, int | np.integer) or self.seed < 0:
            raise ValueError(f"seed is a whole number, 0 or more, not {self.seed!r}")
        if not isinstance(self.same_clock, bool | np.bool_):
            raise TypeError(f"same_clock is True or False, not {self.same_clock!r}")
        # As plain values: numbers of numpy are no JSON.
        object.__setattr__(self, "expected_false_links", float(self.expected_false_links))
        object.__setattr__(self, "seed", int(self.seed))
        object.__setattr__(self, "same_clock", bool(self.same_clock))
        if self.engines and all(engine in registry.ENGINES for engine in self.engines):
            return  # no other package is asked
        there = plugged.all_engines()
        unknown = [engine for engine in self.engines if engine not in there]
        for engine in unknown:
            if (broken := plugged.installed().broken.get(engine)) is not None:
                raise ValueError(str(broken))
        if unknown or not self.engines:
            given = ", ".join(map(repr, unknown)) or "none"
            raise ValueError(f"engines are some of {', '.join(there)}; not {given}")
