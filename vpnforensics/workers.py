"""The workers of a Dask cluster, as a place where arrays lie and parts of a case are computed.

Nothing else changes: a function that computes something part by part asks the arrays that it computes it from
(:meth:`vpnforensics.scratch.Scratch.each`), and where these lie in a folder that the workers see, the parts
are tasks. Parts depend on the case alone, and what is made of them is put together in their order, so that
the result does not depend on how many workers there are.

A task is a function's name, and where what it is given lies (:mod:`vpnforensics.shared`); so is its result.
It changes nothing, so that Dask may run it anew when a worker is lost.

Assumptions: all workers run this version, and see the scratch folder under its name. A file that was written
and closed, or flushed, here is seen by who opens it then; more is not asked of the file system.
"""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from vpnforensics._version import __version__
from vpnforensics.errors import WorkersError
from vpnforensics.shared import Packed, SharedScratch, pack, unpack

_PATIENCE_S = 30.0
"""For a scheduler to answer, and for a worker to be there."""
_RETURN_S = 120.0
"""For a worker to come back when all have gone: a process takes seconds to start, a job may have to wait."""
_LOOK_S = 1.0
"""Between two looks at what has been done."""
_TASKS_A_THREAD = 3
"""Of a call, at most: enough for the fast to help out the slow."""

_Part = TypeVar("_Part")
_Result = TypeVar("_Result")


class Workers(SharedScratch):
    """A scratch folder whose parts the workers of a cluster compute.

    Parameters
    ----------
    client : distributed.Client
    folder : str or Path
        Seen by all workers under this name.
    progress : callable, optional
        Called with the name of a step and the share of it done: see :meth:`tell`.

    Raises
    ------
    WorkersError
        There are no workers, or one is of another version, or does not see the folder.
    """

    def __init__(
        self, client: Any, folder: str | Path, progress: Callable[[str, float], None] | None = None
    ) -> None:
        super().__init__(Path(folder).absolute())
        self._client = client
        self._progress, self._step = progress or (lambda step, share: None), ""
        self._numbers = count()
        try:
            self._elsewhere = self._known()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def dashboard(self) -> str:
        """Address of the page on which Dask shows what its workers do; nothing where there is none."""
        return str(self._client.dashboard_link or "")

    def tell(self, step: str, share: float) -> None:
        """What is being done; where its parts take long, the share of them done is told meanwhile."""
        self._step = step
        self._progress(step, share)

    def _known(self) -> bool:
        """Whether any worker is on another machine, once all are known to be of use."""
        assert self.path is not None
        with _as_errors():
            self._client.wait_for_workers(1, timeout=_PATIENCE_S)
            told = self._client.run(_introduced, str(self.path))
        for worker, (version, sees, _) in told.items():
            if version != __version__:
                raise WorkersError(
                    f"the worker {worker} has vpnforensics {version}, not {__version__} as here: results"
                    " might differ"
                )
            if not sees:
                raise WorkersError(
                    f"the worker {worker} does not see {self.path.parent}, or may not write there: name a"
                    " folder (--scratch) that is the same on all machines"
                )
        return any(host != socket.gethostname() for _, _, host in told.values())

    def each(
        self, function: Callable[..., _Result], parts: Sequence[_Part], *given: object
    ) -> Iterator[_Result]:
        """As of any scratch, by the workers.

        Raises
        ------
        WorkersError
            There are no more workers, or one after the other is lost over it; a file has gone.
        OSError
            The disk is full.
        """
        if len(parts) < 2 or self.path is None:
            yield from super().each(function, parts, *given)
            return
        with _as_errors():
            made = self._made(function, parts, given, self.path / str(next(self._numbers)))
        for each in made:
            with _as_errors():
                results = unpack(each)
            _remove(each)
            yield from results

    def _made(
        self, function: Callable[..., Any], parts: Sequence[Any], given: tuple[object, ...], path: Path
    ) -> list[Packed]:
        """What the workers make of the parts, of several at once where they are many."""
        if self._elsewhere:
            self.flush()
        packed = pack(given, path)
        threads = sum(self._client.nthreads().values()) or 1
        some = -(-len(parts) // (_TASKS_A_THREAD * threads))
        batches = [parts[first : first + some] for first in range(0, len(parts), some)]
        paths = [f"{path}-{number}" for number in range(len(batches))]
        name = f"{function.__name__.strip('_')}-{path.name}"
        futures = self._client.map(run, batches, paths, key=name, function=function, given=packed, pure=False)
        try:
            self._wait(futures)
            made: list[Packed] = self._client.gather(futures)
        except BaseException:
            self._client.cancel(futures)
            raise
        _remove(packed)
        return made

    def _wait(self, futures: list[Any]) -> None:
        from distributed import TimeoutError, wait

        since = monotonic()
        while True:
            try:
                with self._client.as_current():
                    wait(futures, timeout=_LOOK_S)
            except TimeoutError:
                pass
            else:
                return
            self._progress(self._step, sum(future.done() for future in futures) / len(futures))
            if self._client.status != "running":
                raise WorkersError("the scheduler has gone")
            if self._client.nthreads():
                since = monotonic()
            elif monotonic() - since > _RETURN_S:
                raise WorkersError(f"all workers have gone, and none came back within {_RETURN_S:.0f} s")


def _remove(packed: Packed) -> None:
    if packed.path:
        with suppress(OSError):
            Path(packed.path).unlink()


def run(parts: Sequence[Any], path: str, *, function: Callable[..., Any], given: Packed) -> Packed:
    """A task: what a function makes of some parts."""
    arguments = unpack(given)
    return pack([function(part, *arguments) for part in parts], Path(path))


@contextmanager
def workers_at(
    address: str, folder: str | Path, progress: Callable[[str, float], None] | None = None
) -> Iterator[Workers]:
    """The workers of the scheduler at an address, as ``tcp://127.0.0.1:8786``.

    For a command: what Dask would log of lost connections, with tracebacks, is one error of ours.

    Raises
    ------
    ModuleNotFoundError
        Dask is not installed (extra ``scale``).
    WorkersError
        No scheduler answers there, or its workers are of no use.
    """
    from distributed import Client

    for name in [*logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions that differ: Dask's, which do not matter here
        try:
            client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise WorkersError(f"no Dask scheduler answers at {address}: {error}") from error
    try:
        with Workers(client, folder, progress) as workers:
            yield workers
    finally:
        with suppress(Exception):  # it may have gone
            client.close(timeout=2)


def _introduced(folder: str) -> tuple[str, bool, str]:
    """What a worker says of itself."""
    return __version__, os.access(folder, os.R_OK | os.W_OK | os.X_OK), socket.gethostname()


@contextmanager
def _as_errors() -> Iterator[None]:
    """What Dask says of lost workers and schedulers, as one error."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker, TimeoutError
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        raise WorkersError(
            f"several workers were lost one after the other over the same part ({error.task}); was it"
            " more than their memory?"
        ) from error
    except FileNotFoundError as error:
        raise WorkersError(f"{error.filename} has gone, which is still needed") from error
    except TimeoutError as error:
        raise WorkersError("the scheduler has no workers, or they do not answer") from error
    except (CommClosedError, CancelledError) as error:
        raise WorkersError("the connection to the scheduler was lost") from error
