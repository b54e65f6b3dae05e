"""Compiling kernels before they are called: all that a list names, in several processes.

The list (``warm.txt``) has a line for each kernel that Python calls and the types of its arguments, by the
command that first needs it, in the order in which they are needed. It saves time only: what is missing in it
is compiled when it is called, and what is too much is compiled by ``vpnf warm-up`` for nothing.
``python -m vpnforensics.warm list SAMPLES`` makes it anew; a test says when that is due.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

LIST = Path(__file__).with_name("warm.txt")
SECTIONS = ("info", "flows", "tunnels", "correlate", "more")
"""Parts of the list; a command needs those up to its own."""
_MOST_HELPERS = 3
_WORTH_HELP = 6
"""Kernels to compile from which on a second process pays."""


@dataclass(frozen=True)
class Entry:
    """A kernel, and the types of the arguments it is called with."""

    section: str
    text: str
    """As in the list: ``align._kernels.count_offsets(Array(int64, 1, 'C'), ...)``."""

    @property
    def name(self) -> str:
        """Module and name of the kernel."""
        return self.text.partition("(")[0]

    @cached_property
    def exists(self) -> bool:
        """Whether there is a kernel of this name with so many arguments."""
        try:
            return bool(self.kernel.py_func.__code__.co_argcount == len(self.signature))
        except (ImportError, AttributeError):
            return False

    @cached_property
    def kernel(self) -> Any:
        """The kernel itself."""
        module, _, name = self.name.rpartition(".")
        return getattr(import_module(f"{__package__}.{module}"), name)

    @cached_property
    def signature(self) -> tuple[Any, ...]:
        """The types."""
        call = ast.parse(self.text, mode="eval").body
        assert isinstance(call, ast.Call)
        return tuple(map(_type, call.args))


def entries(section: str = SECTIONS[-1], text: str | None = None) -> list[Entry]:
    """What the list has up to and with a section."""
    found, here = [], SECTIONS[0]
    for line in (LIST.read_text() if text is None else text).splitlines():
        if line.startswith("# "):
            here = line.removeprefix("# ")
        elif SECTIONS.index(here) <= SECTIONS.index(section):
            found.append(Entry(here, line))
    return found


def missing(wanted: list[Entry]) -> list[Entry]:
    """Those that a run would have to compile."""
    return [entry for entry in wanted if entry.exists and not entry.kernel._cache.is_kept(entry.signature)]


def make(wanted: list[Entry]) -> None:
    """Compile what no other process is compiling, in this order, but not what is too much in an old list."""
    from numba.core.errors import NumbaError

    for entry in wanted:
        if entry.exists:
            with suppress(NumbaError):
                entry.kernel._cache.make(entry.signature)


@contextmanager
def helpers(section: str, count: int, *arguments: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that compile what a section needs; they end with the block."""
    command = [sys.executable, "-m", f"{__package__}.warm", "make", section, *arguments]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = [subprocess.Popen(command, **quiet) for _ in range(count)]  # type: ignore[call-overload] # noqa: S603
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
            process.wait()


@contextmanager
def first_run(section: str, tell: Callable[[int, int], None]) -> Iterator[None]:
    """Say how far compiling is while the block calls kernels, and let other cores help with it.

    Parameters
    ----------
    section : str
        Of the list: what the block needs.
    tell : callable
        Called with the number of the kernel that is being compiled, and how many there are in all; not at
        all where the few that are missing are no first run.
    """
    from vpnforensics.kernels import watching

    wanted: list[Entry] = []
    left: list[Entry] = []
    helping = ExitStack()
    started = False

    def watch(kernel: Any, signature: Any, kept: bool) -> None:
        nonlocal started
        if kept:
            return
        if not started:
            started = True
            wanted.extend(missing(entries(section)))
            left.extend(wanted)
            if len(wanted) >= _WORTH_HELP:
                helping.enter_context(helpers(section, min(cores() - 1, _MOST_HELPERS), "backwards"))
        if wanted:
            left[:] = missing(left)
            tell(len(wanted) - len(left) + 1, len(wanted))

    with helping, watching(watch):
        yield


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- types as text --------------------------------------------------------------------------------


def type_text(kind: Any) -> str:
    """A type of numba's as it stands in the list."""
    from numba import types

    if isinstance(kind, types.Array):
        flags = "" if kind.mutable else ", readonly=True"
        return f"Array({type_text(kind.dtype)}, {kind.ndim}, {kind.layout!r}{flags})"
    if isinstance(kind, types.BaseTuple):
        made: Any = getattr(kind, "instance_class", tuple)
        of = [] if made is tuple else [repr(f"{made.__module__}:{made.__qualname__}")]
        items: Any = kind
        return f"Tuple({', '.join([*of, *map(type_text, items)])})"
    if isinstance(kind, types.Omitted):
        return f"Omitted({kind.value!r})"
    return "boolean" if kind == types.boolean else str(kind)


def _type(node: ast.expr) -> Any:
    from numba import types

    if isinstance(node, ast.Name):
        return getattr(types, node.id)
    assert isinstance(node, ast.Call)
    assert isinstance(node.func, ast.Name)
    name, items = node.func.id, node.args
    if name == "Array":
        options = {option.arg or "": ast.literal_eval(option.value) for option in node.keywords}
        make_array: Any = types.Array
        return make_array(_type(items[0]), *map(ast.literal_eval, items[1:]), **options)
    if name == "Omitted":
        omitted: Any = types.Omitted
        return omitted(ast.literal_eval(items[0]))
    made = None
    if items and isinstance(items[0], ast.Constant):
        module, _, qualname = ast.literal_eval(items[0]).partition(":")
        made, items = getattr(import_module(module), qualname), items[1:]
    make_tuple: Any = types.BaseTuple.from_types
    return make_tuple(tuple(map(_type, items)), made)


# --- the list -------------------------------------------------------------------------------------


def called(runs: list[list[str]]) -> str:
    """The list for what commands call, each a section and its arguments; kernels that are kept only.

    One that had to be compiled would bring those that it calls, which Python does not.
    """
    from vpnforensics.cli.main import main
    from vpnforensics.kernels import watching

    known: dict[str, str] = {}

    def watch(kernel: Any, signature: Any, kept: bool) -> None:
        name = f"{kernel.py_func.__module__}.{kernel.py_func.__name__}".removeprefix(f"{__package__}.")
        known.setdefault(f"{name}({', '.join(map(type_text, signature))})", section)

    with watching(watch):
        for section, *arguments in runs:  # noqa: B007 - watch uses it
            main([*arguments, "-q"])
    lines = []
    for part in SECTIONS:
        lines += [f"# {part}", *(line for line in known if known[line] == part)]
    return "\n".join(lines) + "\n"


def runs_over(samples: Path) -> list[list[str]]:
    """A command for each section, and all samples for the rest."""
    sides = [str(samples / "wireguard/ingress.pcap"), str(samples / "wireguard/egress.pcap")]
    runs = [["info", "info", sides[0]], ["flows", "flows", sides[1]], ["tunnels", "tunnels", sides[0]]]
    runs.append(["correlate", "correlate", *sides])
    for folder in sorted(path.parent for path in samples.glob("*/manifest.json")):
        captures = sorted(map(str, folder.glob("*.pcap*")), reverse=True)  # ingress, egress; or one of both
        runs.append(["more", "correlate", *captures, "-f", "json"])
    runs.append(["more", "correlate", *sides, "-f", "html"])  # with the packets of each link
    return runs


def _run(verb: str, *arguments: str) -> None:
    if verb == "make":
        wanted = entries(arguments[0])
        make(wanted[::-1] if "backwards" in arguments else wanted)
    elif verb == "called":
        sys.stderr.write(called([list(arguments)]))
    elif verb == "list":
        found = called(runs_over(Path(arguments[0])))
        if "again" not in arguments:  # all that is needed is kept now
            os.execv(sys.executable, [sys.executable, "-m", f"{__package__}.warm", verb, *arguments, "again"])  # noqa: S606
        LIST.write_text(found)


if __name__ == "__main__":
    _run(*sys.argv[1:])
