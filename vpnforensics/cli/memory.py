"""A budget of memory that a command keeps to, or ends with one clear error."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from vpnforensics.cli.errors import MemoryLimitError

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_LEAST_BYTES = 512 << 20
"""Python, numpy, numba and pandas with their kernels take 200 MB before the first packet."""


class MemorySize(click.ParamType[int]):
    """``4GiB``, ``4G``, ``512MiB``, or bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """A number of bytes."""
        if isinstance(value, int):
            return value
        text = value.strip().upper().removesuffix("IB").removesuffix("B")
        number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS else (text, "")
        try:
            wanted = float(number) * _UNITS[unit]
            if not _LEAST_BYTES <= wanted < 1 << 60:
                raise ValueError
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no size of memory: write 4GiB; at least 512MiB", param, ctx)
        # Arrow's own allocator sets a gibibyte aside, unless it is told otherwise before Arrow is loaded.
        os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
        return int(wanted)


@contextmanager
def within(memory: int | None) -> Iterator[None]:
    """Let this process take no more memory of its own than that; threads take some, too.

    The limit is the kernel's, on memory that only swap could hold (RLIMIT_DATA). Pages of files are not in
    that: the kernel drops them when memory is wanted, and this process when it has about so much resident.

    Raises
    ------
    MemoryLimitError
        More was needed.
    """
    if memory is None:
        yield
        return
    from vpnforensics.resident import resident_at_most

    _with_reserves()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        with resident_at_most(memory):
            yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "can't start new thread" not in str(error):
            raise
        raise MemoryLimitError(
            f"needs more than the {memory / (1 << 20):,.0f} MiB that --memory allows: allow more, or read a"
            " part of the captures (--server; --select-in and --select-out 'after TIME and before TIME')"
        ) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _with_reserves() -> None:
    """Have libraries take what they set aside before there is a limit.

    OpenBLAS, of numpy and (which numba loads) of scipy, asks again and again where it gets no buffers.
    """
    import numba.np.arraymath  # noqa: F401
    import numpy as np

    _ = np.ones((512, 512)) @ np.ones((512, 512))  # large enough for all its threads
