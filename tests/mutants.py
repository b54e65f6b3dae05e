"""Do the tests of the deciding modules fail when a rule of theirs is changed?

    python -m tests.mutants [MODULE]... [--each N] [--show]

Each module is changed in one place at a time (a comparison, a sign, a constant, a statement left out), and
its own tests are run. A mutant that no test notices has survived; some do no harm at all, so the aim is 80 %
killed, not all. Of each module a fixed sample of its mutants is tried. Kernels are left out: they have twins.

A mutant lives in a forked child of a process that has run the tests once, so that nothing is imported or
compiled again: the changed module is executed in the place of the old one, and its tests are imported anew.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import io
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings

ROOT = Path(__file__).parents[1]
MODULES = {
    "evidence.attribution": "evidence/test_attribution_by_hand.py",
    "evidence.calibration": "evidence/test_calibration.py",
    "evidence.class_worth": "evidence/test_class_worth.py",
    "evidence.connections": "evidence/test_connections_by_hand.py",
    "evidence.contended": "evidence/test_connections_by_hand.py",
    "evidence.contest": "evidence/test_contest.py",
    "evidence.decision": "evidence/test_decision.py",
    "evidence.decoys": "evidence/test_decoys.py",
    "evidence.denial": "evidence/test_chance.py",
    "evidence.fields": "evidence/test_fields_road.py evidence/test_fields_links.py",
    "evidence.fusion": "evidence/test_fusion.py",
    "evidence.kept_bytes": "evidence/test_kept_bytes.py",
    "evidence.listing": "evidence/test_listing.py",
    "evidence.lookups": "evidence/test_lookups.py",
    "evidence.observability": "evidence/test_observability.py",
    "evidence.pairing": "evidence/test_pairing.py",
    "evidence.shipped": "evidence/test_shipped.py",
    "evidence.verbal": "evidence/test_verbal.py",
    "evidence.joint.graph": "evidence/joint/test_graph.py evidence/joint/test_kernels.py",
    "evidence.joint.law": "evidence/joint/test_law.py",
    "evidence.joint.model": "evidence/joint/test_model_by_hand.py evidence/joint/test_model.py",
    "evidence.joint.placing": "evidence/joint/test_placing.py",
    "evidence.joint.served_last": "evidence/joint/test_served_last.py",
    "features.conservation": "features/test_conservation.py",
    "features.round_trips": "features/test_round_trips.py",
    "align.asked_hosts": "align/test_asked_hosts.py",
    "align.kept_bytes": "align/test_kept_bytes.py",
    "align.kept_delays": "align/test_kept_bytes.py align/test_http_exchanges.py",
    "align.kept_pairs": "align/test_kept_pairs.py",
    "align.payload_heads": "align/test_payload_heads.py",
    "tunnels.relay_requests": "tunnels/test_relay_requests.py",
    "tunnels.ssh": "tunnels/test_ssh.py",
    "tunnels.ssh_key_exchange": "tunnels/test_ssh_key_exchange.py",
    "engines.case": "engines/test_case.py",
    "engines.circle": "engines/test_circle.py",
    "engines.connections": "engines/test_connections_by_hand.py",
    "engines.containment": "engines/test_containment.py",
    "engines.counters": "engines/test_counters.py",
    "engines.delay_law": "engines/test_delay_law.py",
    "engines.exact": "engines/test_exact.py",
    "engines.grouped": "engines/test_grouped.py",
    "engines.headers": "engines/test_headers.py",
    "engines.holes": "engines/test_holes.py",
    "engines.ip_id": "engines/test_ip_id_by_hand.py",
    "engines.lookups": "engines/test_lookups.py",
    "engines.packets": "engines/test_packets.py",
    "engines.plugged": "engines/test_plugged.py",
    "engines.rtt": "engines/test_rtt.py",
    "engines.scores": "engines/test_scores.py",
    "engines.siblings": "engines/test_siblings.py",
    "engines.streams": "engines/test_streams.py",
    "engines.timestamps": "engines/test_timestamps_by_hand.py",
    "engines.upstream": "engines/test_upstream.py",
    "engines.writes": "engines/test_writes_by_hand.py",
}
"""Deciding modules and the tests of their own."""
AIM = 0.8
_LIMIT_S = 60
"""A mutant that runs on for so long is noticed."""


class Mutant(NamedTuple):
    """One change: of a node, in the order of :func:`_nodes`, one of :func:`_changes`."""

    line: int
    text: str
    place: int
    number: int


_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
_NAMES = {"maximum": "minimum", "minimum": "maximum", "max": "min", "min": "max", "any": "all", "all": "any"}


def mutants(tree: ast.Module) -> list[Mutant]:
    """All that can be changed in a module."""
    return [
        Mutant(getattr(node, "lineno", 0), text, place, number)
        for place, node in enumerate(_nodes(tree))
        for number, (text, _) in enumerate(_changes(node))
    ]


def changed(tree: ast.Module, mutant: Mutant) -> ast.Module:
    """The module with that change."""
    other = copy.deepcopy(tree)
    _changes(_nodes(other)[mutant.place])[mutant.number][1]()
    return ast.fix_missing_locations(other)


def _nodes(tree: ast.Module) -> list[ast.AST]:
    """What may be changed: nothing of annotations, decorators, texts and errors, nor of tables of edges."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            parts += [node.returns, *node.decorator_list]
            parts += [node] if node.name in ("__repr__", "to_pandas") else []
        elif isinstance(node, ast.ClassDef):
            parts += node.decorator_list
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "np.array" and _is_table(node):
            parts.append(node)  # where classes begin: one edge is as good as the next
        elif isinstance(node, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom) or (
            isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        ):
            parts.append(node)
        for part in parts:
            skipped |= {id(inner) for inner in ast.walk(part)} if part is not None else set()
    return [node for node in ast.walk(tree) if id(node) not in skipped]


def _is_table(call: ast.Call) -> bool:
    """Whether it makes an array of more than a few numbers."""
    return bool(call.args) and isinstance(call.args[0], ast.List) and len(call.args[0].elts) > 4


def _changes(node: ast.AST) -> list[tuple[str, Callable[[], None]]]:
    """What can be done to a node: a description, and how."""
    found: list[tuple[str, Callable[[], None]]] = []

    def add(text: str, name: str, value: object) -> None:
        found.append((text, lambda: setattr(node, name, value)))

    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        other = _SWAPS[type(node.ops[0])]
        add(f"{ast.unparse(node)}: {other.__name__}", "ops", [other(), *node.ops[1:]])
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in _SWAPS:
        other = _SWAPS[type(node.op)]
        add(f"{ast.unparse(node)}: {other.__name__}", "op", other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        add(f"{ast.unparse(node)}: without", "op", ast.UAdd())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert | ast.Not):
        twice = ast.UnaryOp(type(node.op)(), node.operand)
        add(f"{ast.unparse(node)}: without", "operand", twice)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        if isinstance(node.value, bool):
            add(f"{node.value}: {not node.value}", "value", not node.value)
        else:
            value = node.value + 1 if isinstance(node.value, int) else node.value * 2 or 1.0
            add(f"{node.value}: {value}", "value", value)
    elif isinstance(node, ast.Attribute) and node.attr in _NAMES:
        add(f"{ast.unparse(node)}: {_NAMES[node.attr]}", "attr", _NAMES[node.attr])
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _NAMES:
        add(
            f"{ast.unparse(node)}: {_NAMES[node.func.id]}", "func", ast.Name(_NAMES[node.func.id], ast.Load())
        )
    body = getattr(node, "body", None)
    if isinstance(node, ast.FunctionDef | ast.For | ast.If | ast.While) and isinstance(body, list):
        for i, statement in enumerate(body):
            if _can_go(statement):
                add(
                    f"{ast.unparse(statement)[:60]}: left out",
                    "body",
                    [*body[:i], ast.Pass(), *body[i + 1 :]],
                )
    return found


def _can_go(statement: ast.stmt) -> bool:
    """Whether leaving a statement out leaves a program: it changes something that is there already."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Call)
    if isinstance(statement, ast.Assign):
        return isinstance(statement.targets[0], ast.Subscript | ast.Attribute)
    return isinstance(statement, ast.AugAssign | ast.If | ast.For | ast.While)


def put_in_place(module: ModuleType, tree: ast.Module) -> None:
    """Execute a changed module in the place of the old one, wherever its names are known."""
    before = dict(vars(module))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(tree, str(module.__file__), "exec"), vars(module))
    new = {id(before[name]): vars(module)[name] for name in before if vars(module)[name] is not before[name]}
    for other in list(sys.modules.values()):
        if other is module or not getattr(other, "__name__", "").startswith("vpnforensics."):
            continue
        for name, value in list(vars(other).items()):
            if id(value) in new and not isinstance(value, int | float | str | tuple):
                setattr(other, name, new[id(value)])


def passes(tests: list[Path]) -> bool:
    """Whether the tests of some files pass, imported anew."""
    for name in [name for name in sys.modules if name.startswith("tests.") and name != __name__]:
        del sys.modules[name]
    known = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of a second run in one process
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return pytest.main(["-x", "-q", "-p", "no:cacheprovider", *known, *map(str, tests)]) == 0


def survives(module: ModuleType, tree: ast.Module, tests: list[Path]) -> bool:
    """Whether no test notices a mutant."""
    child = os.fork()
    if not child:
        signal.alarm(_LIMIT_S)
        survived = False
        with contextlib.suppress(BaseException):  # a mutant that cannot even be imported is noticed
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            put_in_place(module, tree)
            survived = passes(tests)
        os._exit(0 if survived else 1)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"some of {', '.join(MODULES)}")
    parser.add_argument("--each", type=int, default=12, help="mutants tried of a module (default 12)")
    parser.add_argument("--show", action="store_true", help="name the survivors")
    options = parser.parse_args()
    unknown = set(options.modules) - set(MODULES)
    if unknown:
        parser.error(f"no such module: {', '.join(sorted(unknown))}")
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "mutants", database=None, derandomize=True, phases=phases, suppress_health_check=list(HealthCheck)
    )
    settings.load_profile("mutants")
    print(f"{'module':28}{'mutants':>9}{'tried':>7}{'killed':>8}{'share':>8}{'seconds':>9}")
    dead = tried = 0
    for name in options.modules or MODULES:
        began = time.monotonic()
        tests = [ROOT / "tests" / each for each in MODULES[name].split()]
        if not passes(tests):
            sys.exit(f"{MODULES[name]}: does not pass as it is")
        module = import_module(f"vpnforensics.{name}")
        tree = ast.parse(Path(str(module.__file__)).read_text())
        every = mutants(tree)
        chosen = random.Random(name).sample(every, min(options.each, len(every)))
        survivors = [m for m in chosen if survives(module, changed(tree, m), tests)]
        killed = len(chosen) - len(survivors)
        dead, tried = dead + killed, tried + len(chosen)
        share, seconds = killed / len(chosen), time.monotonic() - began
        print(f"{name:28}{len(every):>9}{len(chosen):>7}{killed:>8}{share:>8.0%}{seconds:>9.0f}", flush=True)
        for mutant in sorted(survivors) if options.show else ():
            print(f"    {mutant.line:>4}  {mutant.text}")
    print(f"{'all':28}{'':>9}{tried:>7}{dead:>8}{dead / tried:>8.0%}   (aim {AIM:.0%})")
    sys.exit(dead < AIM * tried)


if __name__ == "__main__":
    main()
