"""What other packages bring: found by their entry points, loaded when asked for, and never trusted to work.

A package names an entry point in a group of ours. It is loaded when a case is made, not when this package is
imported. One that cannot be loaded, or that is not what the group asks for, is set aside with one sentence
that says whose it is and what is wrong; all else goes on as if it were not installed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Generic, TypeVar

from vpnforensics.errors import PlugInError

T = TypeVar("T")
Check = Callable[[str, str, object], T]
"""Takes a name, the package it is from, and what was loaded; returns the plug-in.

Raises
------
ValueError
    It is none; what is wrong.
"""
FAULTS = (Exception, SystemExit)
"""What other people's code may raise: it may end itself, not us."""


@dataclass(frozen=True, eq=False)
class PlugIns(Generic[T]):
    """The plug-ins of one group."""

    working: Mapping[str, T]
    """By name."""
    broken: Mapping[str, PlugInError]
    """Likewise: those that were set aside."""


def plug_ins(group: str, check: Check[T]) -> PlugIns[T]:
    """The plug-ins of a group, loaded and checked, in order of their names.

    Parameters
    ----------
    group : str
        Of entry points.
    check : callable
        Makes the plug-in of what was loaded. The same function for the same group.
    """
    return _read(group, check, tuple(sys.path))


@cache
def _read(group: str, check: Check[T], path: tuple[str, ...]) -> PlugIns[T]:
    """Once for each search path: what is installed does not change while a process runs."""
    working: dict[str, T] = {}
    broken: dict[str, PlugInError] = {}
    for point in sorted(entry_points(group=group), key=lambda p: (p.name, p.value, package_of(p))):
        name, package = point.name, package_of(point)
        try:
            if name in working or name in broken:
                raise ValueError("another package has one of this name")
            working[name] = check(name, package, point.load())
        except FAULTS as error:
            working.pop(name, None)  # of two with one name, neither: which came first is chance
            broken[name] = PlugInError(group, name, package, reason_of(error))
    return PlugIns(MappingProxyType(working), MappingProxyType(broken))


def package_of(point: EntryPoint) -> str:
    """Name and version of the package that brings an entry point."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else "no package"


def reason_of(fault: BaseException) -> str:
    """In one line, what somebody else's code raised."""
    text = " ".join(str(fault).split())[:200]
    if type(fault) is ValueError and text:
        return text
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
