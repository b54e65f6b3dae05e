"""Imports go one way, and importing the package stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import vpnforensics

ROOT = Path(vpnforensics.__file__).parent
ORDER = ["capture", "packets", "flows", "tunnels", "features", "align", "engines", "evidence", "report"]
# The pipeline itself, in the order of its steps; the command line and the package may use everything.
TOP = [
    "options",
    "sides",
    "case",
    "weighing",
    "joined",
    "correlation",
    "saved",
    "validation",
    "audit",
]
ASIDE = {
    "groundtruth": {
        "capture",
        "packets",
        "errors",
        "_version",
        "groundtruth",
        "kernels",
        "tunnels",
    },  # packets: to compare
    "reftunnel": {"errors", "extras", "_version", "kernels", "reftunnel", "tunnels"},
    "logs": {"errors", "_version", "logs"},
}
FOUNDATION = {"arrays", "errors", "extras", "kernels", "plugins", "scratch", "shared", "workers", "_version"}


def _imports(path: Path) -> set[str]:
    """First parts, below the package, of what a module imports at any level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [node.module]
                if node.module != "vpnforensics"
                else [f"vpnforensics.{a.name}" for a in node.names]
            )
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("vpnforensics.")}
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path: Path) -> None:
    relative = path.relative_to(ROOT)
    part = relative.parts[0] if len(relative.parts) > 1 else relative.stem
    if part == "capture" or part in ORDER:
        # The capture sources carry health only; type-only imports of the next folder are allowed there.
        allowed = set(ORDER[: ORDER.index(part) + 1]) | FOUNDATION
    elif part in ASIDE:
        allowed = ASIDE[part]
    elif part in TOP:
        allowed = set(ORDER) | FOUNDATION | set(TOP[: TOP.index(part) + 1]) | {"logs"}
    else:
        return  # the command line and the package itself may use everything
    assert _imports(path) <= allowed, f"{relative} imports {_imports(path) - allowed}"


def test_only_one_module_compiles() -> None:
    """All kernels go through one decorator, so that all of them are kept and found in the same way."""
    compilers = {"njit", "jit", "vectorize", "guvectorize", "cfunc", "stencil", "generated_jit"}
    guilty = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named: set[str] = set()
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "numba":
                named = {alias.name for alias in node.names}
            elif (
                isinstance(node, ast.Attribute) and ast.unparse(node.value) != "jax"
            ):  # keeps nothing on disk
                named = {node.attr}
            if named & compilers:
                guilty.add(str(path.relative_to(ROOT)))
    assert guilty == {"kernels.py"}


def test_import_is_light() -> None:
    heavy = "[m for m in ('numpy', 'pandas', 'numba') if m in sys.modules]"
    code = f"import sys, vpnforensics, vpnforensics.cli.main; print({heavy})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
