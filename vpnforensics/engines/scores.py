"""What a header-field engine says of a case: scored pairs, and why it said nothing of the rest.

Every such engine is a module with ``NAME`` and ``score(case, only) -> EngineScores``. A pair that is not
listed was not compared: flow and tunnel had nothing in common to compare. Silence is not a score of 0. The
pairs wanted are ``only``; without, an engine compares all, or finds those worth it itself. It is asked
through :meth:`vpnforensics.engines.registry.Engine.score`, with the clocks aligned.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Columns, Floats, Int32s


@dataclass(frozen=True, eq=False)
class Pairs(Columns):
    """Flows and tunnels to compare, each pair once."""

    flow: Int32s
    tunnel: Int32s

    def among(self, flow: npt.NDArray[np.integer], tunnel: npt.NDArray[np.integer]) -> Bools:
        """Which of the given pairs are among these."""
        mine, theirs = (f.astype(np.int64) << 32 | t for f, t in ((self.flow, self.tunnel), (flow, tunnel)))
        return np.isin(theirs, mine)


def in_order(only: Pairs | None, flows: int, tunnels: int) -> Pairs:
    """The pairs wanted, by tunnel and flow; without, all: of a large case nobody wants them."""
    if only is not None:
        return only.take(np.lexsort((only.flow, only.tunnel)))
    tunnel, flow = np.indices((tunnels, flows), np.int32).reshape(2, -1)
    return Pairs(flow, tunnel)


@dataclass(frozen=True, eq=False)
class EngineScores:
    """Scores of one engine, one entry a (flow, tunnel) pair.

    Raises
    ------
    ValueError
        The columns differ in length.
    """

    engine: str
    """The engine's ``NAME``."""
    flow: Int32s
    """Flow of the egress side, an index into ``case.flows``."""
    tunnel: Int32s
    """Index into ``case.tunnels.tunnels``."""
    score: Floats
    """Decimal logarithm of the engine's uncalibrated ratio."""
    n: Int32s
    """Packets behind the score."""
    note: tuple[str, ...]
    """What was compared, for each pair."""
    silence: dict[str, int] = field(default_factory=dict)
    """Reason for saying nothing, and of how many flows or tunnels it was said."""

    def __post_init__(self) -> None:
        lengths = {len(self.flow), len(self.tunnel), len(self.score), len(self.n), len(self.note)}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.flow)

    def __repr__(self) -> str:
        silent = "; ".join(f"{count} × {reason}" for reason, count in self.silence.items())
        return f"EngineScores({self.engine}: {len(self):,} pairs{'; silent: ' + silent if silent else ''})"


def silent(engine: str, silence: dict[str, int]) -> EngineScores:
    """An engine that compared no pair, with its reasons."""
    none = np.zeros(0, np.int32)
    return EngineScores(engine, none, none, np.zeros(0), none, (), silence)
