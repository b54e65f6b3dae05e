"""What a kernel calls is compiled into it, and for nothing else.

Numba makes a library of its own of every function that a kernel calls, its own ``np.empty`` among them:
with entry points for Python and for C, optimised, turned into machine code, and that code is never run: a
caller takes the intermediate form, and optimises it once more with its own. Here a callee stays in that form,
which saves a good part of a first run.

This goes into numba's inner parts, while a kernel is being compiled and not otherwise. With a numba in which
it was not tried, callees are compiled as numba does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
from numba.core import codegen, compiler, dispatcher, errors, sigutils
from numba.core import typing as numba_typing
from numba.core.compiler_lock import global_compiler_lock

_compiler: Any = compiler
_typing: Any = numba_typing
_normal: Any = sigutils.normalize_signature
_TRIED = ((0, 61), (0, 68))
"""Oldest and newest release of numba in which all this was tried."""
_FORMS = "_vpnforensics_callee_forms"
_depth = 0
"""Kernels that are being compiled now, one inside of the other; under numba's compiler lock."""


@contextmanager
def inside_their_callers() -> Iterator[None]:
    """Keep what is called in intermediate form, in what the block compiles."""
    global _depth
    with global_compiler_lock:
        _depth += 1
        try:
            yield
        finally:
            _depth -= 1


class _CalleeLibrary(codegen.JITCodeLibrary):
    """The intermediate form of a callee and of what it calls in turn."""

    def finalize(self) -> None:
        """Link, and leave the rest to the caller's library."""
        for library in dict.fromkeys(self._linking_libraries):
            if hasattr(library, "_reload_init"):  # from 0.62 on
                self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True


class _Key:
    """Stands where the address of the compiled function would."""


def _callee_form(self: Any, arguments: tuple[Any, ...]) -> Any:
    forms = vars(self).setdefault(_FORMS, {})
    if arguments not in forms:
        work = self._compiler
        flags = _compiler.Flags()
        work.targetdescr.options.parse_as_flags(flags, work.targetoptions)
        flags = work._customize_flags(flags)
        flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
        with self._compiling_counter:
            made = _compiler.compile_extra(
                work.targetdescr.typing_context,
                work.targetdescr.target_context,
                work._get_implementation(arguments, {}),
                args=arguments,
                return_type=None,
                flags=flags,
                locals=work.locals,
                pipeline_class=work.pipeline_class,
            )
        if made.typing_error is not None:
            raise made.typing_error
        made.library.__class__ = _CalleeLibrary
        made = made._replace(entry_point=_Key())
        made.target_context.insert_user_function(made.entry_point, made.fndesc, [made.library])
        forms[arguments] = made
    return forms[arguments]


def _patched(get_call_template: Any, get_overload: Any) -> tuple[Any, Any]:
    def template(self: Any, args: Any, kws: Any) -> Any:
        # Of functions that call themselves numba takes special care.
        if not _depth or self._compiling_counter:
            return get_call_template(self, args, kws)
        signature, arguments = self._compiler.fold_argument_types(args, kws)
        try:
            _callee_form(self, tuple(arguments))
        except errors.ForceLiteralArg as error:
            raise error.bind_fold_arguments(
                lambda a, k: self._compiler.fold_argument_types(a, k)[1]
            ) from None
        name = self.py_func.__name__
        signatures = [form.signature for form in vars(self)[_FORMS].values()]
        made = _typing.make_concrete_template(f"CallTemplate({name})", key=name, signatures=signatures)
        return made, signature, arguments, {}

    def overload(self: Any, sig: Any) -> Any:
        form = vars(self).get(_FORMS, {}).get(tuple(_normal(sig)[0]))
        return form.entry_point if _depth and form is not None else get_overload(self, sig)

    return template, overload


def _install() -> None:
    base: Any = dispatcher._DispatcherBase
    major, minor = (int(part) for part in numba.__version__.split(".")[:2])
    if _TRIED[0] <= (major, minor) <= _TRIED[1]:
        base.get_call_template, base.get_overload = _patched(base.get_call_template, base.get_overload)


_install()
