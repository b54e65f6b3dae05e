"""Who plays the parts of a case: this process, or several beside it."""

from __future__ import annotations

import os
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import cycle
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any, Protocol, TypeVar

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.simulate.player import Player
from vpnforensics.groundtruth.simulate.spec import SimulationSpec

_R = TypeVar("_R")
_player: Player | None = None
"""Of a process that was started to play; nobody else's."""


class Workers(Protocol):
    """Does work of a player, soon or at once; what it raised is raised where the result is asked for."""

    def submit(self, work: Callable[..., _R], *args: Any) -> Future[_R]:
        """Have ``work(player, ...)`` done."""


@contextmanager
def workers(
    jobs: int, player: Player, spec: SimulationSpec, seed: int, folders: tuple[Path, Path]
) -> Iterator[Workers]:
    """Workers of a case.

    Parameters
    ----------
    jobs : int
        1 for this process alone; else so many others.
    player : Player
        Of this process.
    spec, seed, folders
        What it was made of.

    Raises
    ------
    ScenarioError
        One of the processes was ended from outside.
    """
    if jobs == 1:
        yield _Here(player)
        return
    # A fresh process has no threads to be copied half-way. Each is a pool of its own: a pool of several that
    # loses a process while it begins the next waits for that one for ever (CPython 3.11).
    fresh = get_context("spawn")
    pools = [ProcessPoolExecutor(1, fresh, _begin, (spec, seed, *folders)) for _ in range(jobs)]
    try:
        yield _Beside(pools)
    except BrokenProcessPool as error:
        raise ScenarioError(
            "a process of the simulation was ended from outside, perhaps for want of memory; nothing"
            f" was written (fewer than {jobs} --jobs need less)"
        ) from error
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


class _Here:
    def __init__(self, player: Player) -> None:
        self._player = player

    def submit(self, work: Callable[..., _R], *args: Any) -> Future[_R]:
        done: Future[_R] = Future()
        done.set_result(work(self._player, *args))
        return done


class _Beside:
    def __init__(self, pools: list[ProcessPoolExecutor]) -> None:
        self._turns: dict[Callable[..., Any], Iterator[ProcessPoolExecutor]] = defaultdict(
            lambda: cycle(pools)
        )

    def submit(self, work: Callable[..., _R], *args: Any) -> Future[_R]:
        return next(self._turns[work]).submit(_with_player, work, *args)


def _begin(spec: SimulationSpec, seed: int, folder: Path, work: Path) -> None:
    global _player  # a process plays one case
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends what it began
    _player = Player(spec, seed, folder, work)
    parent = parent_process()
    assert parent is not None
    Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A parent that was killed can tell nobody."""
    connection.wait([parent])
    os._exit(1)


def _with_player(work: Callable[..., _R], *args: Any) -> _R:
    assert _player is not None
    return work(_player, *args)
