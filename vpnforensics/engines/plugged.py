"""Engines of other packages, beside ours: entry points of the group ``vpnforensics.engines``.

Such an entry point leads to an :class:`~vpnforensics.engines.registry.Engine` that names the module of its
``score``. It goes the road of our header-field engines: asked of the same pairs, calibrated by the case's
known comparisons, fused, shown, validated. What it returns is checked before it is believed, and one that
fails is left out of the whole case.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from vpnforensics.engines.registry import ENGINES, Engine
from vpnforensics.errors import PlugInError
from vpnforensics.plugins import FAULTS, PlugIns, plug_ins, reason_of

if TYPE_CHECKING:
    from vpnforensics.engines.case import Case
    from vpnforensics.engines.scores import EngineScores, Pairs

GROUP = "vpnforensics.engines"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_TEXTS = ("source", "evidence", "needs", "speaks_when", "silent_when")


def installed() -> PlugIns[Engine]:
    """The engines that other packages bring here."""
    return plug_ins(GROUP, _checked)


def all_engines() -> Mapping[str, Engine]:
    """Ours, and those of other packages that work behind them."""
    return {**ENGINES, **installed().working}


def _checked(name: str, package: str, loaded: object) -> Engine:
    """An engine as an entry point has it, if it can be one."""
    if not isinstance(loaded, Engine):
        raise ValueError(f"its entry point leads to a {type(loaded).__name__}, not to an Engine")
    if not _NAME.fullmatch(name) or name != loaded.name:
        raise ValueError(
            f"its Engine is named {loaded.name!r}; both names have to be the same, of small letters"
        )
    if name in ENGINES:
        raise ValueError("vpnforensics has an engine of this name")
    if not loaded.of_fields:
        raise ValueError("only packets and exact decide with tables of their own: of_fields has to be True")
    empty = [text for text in _TEXTS if not str(getattr(loaded, text)).strip()]
    if empty:
        raise ValueError(f"its Engine does not say: {', '.join(empty)}")
    if not loaded.module or not callable(getattr(import_module(loaded.module), "score", None)):
        raise ValueError(f"its module {loaded.module!r} has no function score(case, only)")
    return replace(loaded, package=package)


def ask(engine: Engine, case: Case, only: Pairs | None) -> EngineScores:
    """Scores of a plug-in, checked.

    Raises
    ------
    PlugInError
        It failed, or what it returned cannot be scores of this case.
    """
    try:
        said = import_module(str(engine.module)).score(case, only)
        return _plain(engine.name, case, only, said)
    except FAULTS as error:
        raise PlugInError(GROUP, engine.name, str(engine.package), reason_of(error)) from error


def _plain(name: str, case: Case, only: Pairs | None, said: object) -> EngineScores:
    """What was returned, in the types of ours, if it can be scores of this case."""
    import numpy as np

    from vpnforensics.engines.scores import EngineScores

    if not isinstance(said, EngineScores):
        raise ValueError(f"score returned a {type(said).__name__}, not EngineScores")
    if said.engine != name:
        raise ValueError(f"its scores are named {said.engine!r}")
    for column, end in (("flow", len(case.flows)), ("tunnel", len(case.tunnels))):
        index = np.asarray(getattr(said, column))
        if index.ndim != 1 or index.dtype.kind not in "iu":
            raise ValueError(f"its {column} column is not one of whole numbers")
        if len(index) and not 0 <= index.min() <= index.max() < end:
            raise ValueError(f"it scored a {column} that is not in the case")
    score = np.asarray(said.score, np.float64)
    if score.ndim != 1 or not np.isfinite(score).all():
        raise ValueError("a score is no finite number; a pair without one is left out")
    flow, tunnel = np.asarray(said.flow, np.int32), np.asarray(said.tunnel, np.int32)
    if len(np.unique(flow.astype(np.int64) * len(case.tunnels) + tunnel)) < len(score):
        raise ValueError("it scored a pair twice")
    plain = EngineScores(
        name, flow, tunnel, score, np.asarray(said.n, np.int32), tuple(map(str, said.note)),
        {str(reason): int(count) for reason, count in said.silence.items()},
    )  # fmt: skip
    if only is None:
        return plain
    asked = only.among(flow, tunnel)
    if asked.all():
        return plain
    kept = np.flatnonzero(asked)
    return EngineScores(
        name, flow[kept], tunnel[kept], score[kept], plain.n[kept],
        tuple(plain.note[i] for i in kept.tolist()), plain.silence,
    )  # fmt: skip
