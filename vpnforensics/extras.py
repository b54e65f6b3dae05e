"""Packages that only some commands need, and the line that brings them into this environment.

No package index has vpnforensics, so that its extras cannot be asked for by name where it is installed; what
they consist of can.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from types import MappingProxyType

EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "pyarrow": "parquet",
        "matplotlib": "plot",
        "dpkt": "frames",
        "pyroute2": "lab",
        "cryptography": "tunnel",
        "nacl": "tunnel",
        "jax": "networks",
        "distributed": "scale",
    }
)
"""Modules that come with an extra only."""
_OURS = "vpnforensics"


def how_to_get(module: str) -> str:
    """What to say where a module of :data:`EXTRAS` is missing.

    >>> how_to_get("matplotlib").partition(" -m ")[0].partition(":")[0]
    'this needs matplotlib, which is not installed'
    """
    packages = list(dict.fromkeys(_requirements(EXTRAS[module]))) or [module]
    pip = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None:  # an environment of uv
        pip = ["uv", "pip", "install", "--python", sys.executable]
    return f"this needs {module}, which is not installed: {shlex.join([*pip, *packages])}"


def _requirements(extra: str) -> Iterator[str]:
    """What an extra consists of, with those that it includes."""
    try:
        all_of_them = requires(_OURS) or []
    except PackageNotFoundError:  # run from its sources, never installed
        return
    for each in all_of_them:
        requirement, _, condition = (part.strip() for part in each.partition(";"))
        if not re.search(rf"extra == ['\"]{extra}['\"]", condition):
            continue
        included = re.fullmatch(rf"{_OURS}\[(.+)\]", requirement)
        if included is None:
            yield requirement
        else:
            for name in included[1].split(","):
                yield from _requirements(name.strip())
