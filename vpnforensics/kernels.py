"""One decorator for all kernels, and the names under which their machine code is kept between runs.

Numba's own cache asks only whether the file of the compiled function has changed. It does not see that a
function called from another file, or a constant imported from one, is a different one now: the caller goes
on with the old code that was built into it. Here the name under which code is kept is a digest of all that
it was made of: the byte code of the kernel, that of every kernel and intrinsic it calls, the values of the
constants they refer to (which numba freezes into the code), the types of the arguments with the field names
of named tuples, numba's version, Python's, and the processor. What has changed has another name; nothing is
ever overwritten by something different, so processes that compile at the same time do not disturb each other;
where two need the same kernel, one waits for the other's.

Where the code lies is :mod:`vpnforensics.kernel_files`.

Not covered: a kernel that depends on anything but its arguments, constants, and other kernels. The
digest refuses what it cannot describe, with an error that names it.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache, partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import types
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.serialize import dumps

from vpnforensics import kernel_files
from vpnforensics.callees import inside_their_callers

_rebuild: Any = CompileResult._rebuild
_dumps: Any = dumps
_log = logging.getLogger(__name__)
_PACKAGE = __name__.partition(".")[0]
_ELSEWHERE = {"numpy", "numba", "llvmlite", "math", "builtins"}
"""Packages whose versions are in a name; what comes from them is not looked into."""
_PLAIN = (int, float, complex, str, bytes, np.generic, np.dtype, types.Type)


def kernel(function: Any = None, /, **options: Any) -> Any:
    """A function compiled by numba when it is first called, and from then on taken from the cache.

    Parameters
    ----------
    function : callable
        Over arrays, numbers and named tuples; it may call other kernels and refer to constants.
    **options
        Of ``numba.njit``, over ``nogil=True``.
    """

    def compiled(function: Any) -> Any:
        dispatcher: Any = numba.njit(**{"nogil": True, **options})(function)
        if isinstance(dispatcher, Dispatcher):  # not under NUMBA_DISABLE_JIT
            setattr(dispatcher, "_cache", _KernelCache(dispatcher))  # noqa: B010
            setattr(dispatcher, "compile", partial(_compile, dispatcher.compile))  # noqa: B010
        return dispatcher

    return compiled if function is None else compiled(function)


def inner_kernel(function: Any) -> Any:
    """A kernel that only other kernels call: it cannot be called from Python, and divides as numpy does."""
    return kernel(function, no_cpython_wrapper=True, no_cfunc_wrapper=True, error_model="numpy")


def _compile(compile_as_numba: Callable[[Any], Any], signature: Any) -> Any:
    with inside_their_callers():
        return compile_as_numba(signature)


Watcher = Callable[[Any, Any, bool], None]
"""Told of a kernel, the types of its arguments, and whether their compiled form was kept."""
_watchers: list[Watcher] = []


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Be told of each compiled form that is needed and not yet loaded, before it is compiled."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


class _KernelCache(_Cache):
    """Compiled forms of one kernel, a file each."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._on = True

    @property
    def cache_path(self) -> str:
        return str(kernel_files.places()[0])

    def enable(self) -> None:
        self._on = True

    def disable(self) -> None:
        self._on = False

    def flush(self) -> None:
        for place in kernel_files.places():
            for file in place.glob(f"{_name(self._dispatcher)}-*"):
                file.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled form for these argument types, or None where it has to be made."""
        target_context.refresh()  # also to load: code without numba's runtime under it crashes
        if not self._on:
            return None
        name = self._file_name(sig, target_context.codegen())
        payload = kernel_files.load(name)
        if payload is None and kernel_files.claim(name, wait=True):
            payload = kernel_files.load(name)  # another process may just have made it
            if payload is not None:
                kernel_files.release(name)
        for watcher in _watchers:
            watcher(self._dispatcher, sig, payload is not None)
        if payload is not None:
            try:
                return _rebuild(target_context, *payload)
            except Exception as error:  # of whatever numba's parts may raise: compiling is always an answer
                _log.debug("%s cannot be loaded: %r", name, error)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled form; one that cannot be kept is compiled again in the next run."""
        for (
            environment
        ) in data._find_referenced_environments():  # those of its callees are set by nobody else
            data.codegen.set_env(environment.env_name, environment)
        if self._on and not data.lifted and not data.library.has_dynamic_globals:
            name = self._file_name(sig, data.codegen)
            kernel_files.save(name, _dumps(data._reduce()))
            kernel_files.release(name)

    def is_kept(self, signature: Any) -> bool:
        """Whether the form for these argument types need not be compiled."""
        name = self._file_name(signature, self._dispatcher.targetctx.codegen())
        return any((place / name).is_file() for place in filter(kernel_files.is_ours, kernel_files.places()))

    def make(self, signature: Any) -> None:
        """Compile the form for these argument types, unless it is kept or another process is at it."""
        name = self._file_name(signature, self._dispatcher.targetctx.codegen())
        if not self.is_kept(signature) and kernel_files.claim(name, wait=False):
            self._dispatcher.compile(signature)

    def _file_name(self, signature: Any, codegen: Any) -> str:
        made_of = (
            digest(self._dispatcher),
            tuple(map(_type_text, signature)),
            (numba.__version__, llvmlite.__version__, np.__version__, sys.version),
            codegen.magic_tuple(),
        )
        return (
            f"{_name(self._dispatcher)}-{hashlib.blake2b(repr(made_of).encode(), digest_size=16).hexdigest()}"
        )


def _name(dispatcher: Any) -> str:
    return f"{dispatcher.py_func.__module__}.{dispatcher.py_func.__qualname__}".removeprefix(_PACKAGE + ".")


def _type_text(kind: Any) -> str:
    """A type as numba writes it, and the field names of the named tuples in it."""
    items: Any = kind if isinstance(kind, types.BaseTuple) else ()
    return "|".join([str(kind), *getattr(kind, "fields", ()), *map(_type_text, items)])


# --- what code is made of -------------------------------------------------------------------------


@cache
def digest(dispatcher: Any) -> str:
    """Of a kernel: its byte code and options, and all that it refers to, at any depth."""
    lines = _described(dispatcher, [])
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=16).hexdigest()


def _described(value: Any, seen: list[FunctionType]) -> Iterator[str]:
    """Lines that differ where the machine code made with `value` may differ."""
    function = getattr(value, "py_func", getattr(value, "_defn", value))  # of a kernel, of an intrinsic
    if isinstance(function, FunctionType) and function.__module__.partition(".")[0] not in _ELSEWHERE:
        yield f"{type(value).__name__} {function.__module__}.{function.__qualname__}"
        if function in seen:
            yield f"as number {seen.index(function)}"
        else:
            seen.append(function)
            yield repr(sorted(getattr(value, "targetoptions", {}).items()))
            yield from _function_described(function, seen)
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__}"
    elif isinstance(value, type):
        yield f"class {value.__module__}.{value.__qualname__} {getattr(value, '_fields', '')}"
        if issubclass(value, Enum):
            yield repr([(member.name, member.value) for member in value])
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape} {value.tobytes().hex()}"
    elif isinstance(value, tuple | list):
        yield f"{type(value).__qualname__} {getattr(value, '_fields', '')} of {len(value)}"
        for item in value:
            yield from _described(item, seen)
    elif isinstance(value, _PLAIN) or value is None:
        yield f"{type(value).__qualname__} {value!r}"
    elif callable(value) and type(value).__module__.partition(".")[0] in _ELSEWHERE:
        yield f"{type(value).__qualname__} {value.__name__}"
    else:
        raise TypeError(f"a kernel refers to {value!r}, of which no digest can be made")


def _function_described(function: FunctionType, seen: list[FunctionType]) -> Iterator[str]:
    yield from _code_described(function.__code__)
    yield repr(function.__defaults__)
    for cell in function.__closure__ or ():
        yield from _described(cell.cell_contents, seen)
    names = set(_names(function.__code__))
    for name in sorted(names & function.__globals__.keys()):
        value = function.__globals__[name]
        yield name
        yield from _described(value, seen)
        if isinstance(value, ModuleType) and value.__name__.partition(".")[0] not in _ELSEWHERE:
            for attribute in sorted(names & vars(value).keys()):
                yield attribute
                yield from _described(vars(value)[attribute], seen)


def _code_described(code: CodeType) -> Iterator[str]:
    yield f"{code.co_name} {code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_cellvars}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_described(constant)
        elif isinstance(constant, frozenset):  # in the order of its hashes, which differ from run to run
            yield repr(sorted(map(repr, constant)))
        else:
            yield repr(constant)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


# --- where code is kept ---------------------------------------------------------------------------


@kernel
def wider(rows):  # type: ignore[no-untyped-def]
    """Twice as many rows of a matrix, the first half as they were, the others not set.

    Not by ``new[:n] = rows``: the messages of its errors alone take seconds to compile.
    """
    more = np.empty((2 * rows.shape[0], rows.shape[1]), rows.dtype)
    for i in range(rows.shape[0]):
        for k in range(rows.shape[1]):
            more[i, k] = rows[i, k]
    return more
