"""A case that lasts: opened again from its JSON, and held against its captures.

What is as large as the captures, which packet was carried by which, is not in the file: it is made again from
the captures when it is asked for.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpnforensics.engines.plugged import installed
from vpnforensics.errors import SavedCaseError
from vpnforensics.options import Options
from vpnforensics.report.contract import contract_of
from vpnforensics.report.escaping import visible
from vpnforensics.report.result import CaseResult, result_of
from vpnforensics.tunnels.plugged import installed as protocols_of_others

if TYPE_CHECKING:
    import pandas as pd

    from vpnforensics.packets.table import PacketTable
    from vpnforensics.sides import Progress

_CONCLUSIONS = ("alignment", "delay_law", "comparisons", "null_comparisons", "expected_false_links",
                "allowed_false_links", "decoys", "limit", "usage", "zeek", "warnings")  # fmt: skip
_LISTS = {"tunnels": ("id",), "flows": ("id",), "scores": ("flow", "tunnel"), "links": ("flow",)}
_HASH_BYTES = 1 << 20
_LOGS = {"log": "usage", "zeek": "zeek"}
"""Roles of logs among a case's files, and the part of the contract that has them."""


def open_case(path: str | Path) -> CaseResult:
    """A saved result as the object that it was.

    Parameters
    ----------
    path : str or Path
        What ``vpnf correlate -f json`` or :meth:`CaseResult.to_json` wrote; ``-`` for standard input.

    Returns
    -------
    CaseResult
        Equal to the one that was saved. ``pairings`` and ``explain`` read the captures again, which have to
        be where they were, beside the current folder or the case's, and unchanged.

    Raises
    ------
    SavedCaseError
        It cannot be read, is cut, edited, of another version, or something else.
    """
    name = str(path)
    try:
        stored = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        text = stored.decode()
    except (OSError, ValueError) as error:
        why = "not UTF-8, so no JSON" if isinstance(error, UnicodeDecodeError) else str(error)
        raise SavedCaseError(name, getattr(error, "strerror", None) or why) from error
    contract = contract_of(text, name)
    folder = Path() if name == "-" else Path(name).parent

    def pairings() -> pd.DataFrame:
        return recomputed(contract, found_files(contract, folder)).lists.make_pairings()

    return result_of(contract, pairings)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of a saved case, and what became of it."""

    role: str
    recorded: Mapping[str, Any]
    """Its row in the contract."""
    path: Path
    """Where it was looked for last."""
    state: str
    """``unchanged``, or in words what is wrong."""

    @property
    def unchanged(self) -> bool:
        """True where its bytes are those that the case was made from."""
        return self.state == "unchanged"


def found_files(
    contract: Mapping[str, Any],
    folder: Path,
    moved: Mapping[str, Sequence[str]] = {},
) -> list[FoundFile]:
    """The files of a case's inputs, each with its digest taken anew.

    Parameters
    ----------
    contract : mapping
    folder : Path
        Where the case is: names in it are looked for there, too.
    moved : mapping, optional
        Files of a role, in their order, where they are not where they were.
    """
    found = []
    logs = [
        {"role": role, "files": contract[part]["files"]} for role, part in _LOGS.items() if contract[part]
    ]
    for side in [*contract["inputs"], *logs]:
        names = list(moved.get(side["role"], ())) or [file["path"] for file in side["files"]]
        for number, file in enumerate(side["files"]):
            path = _place(names[number] if number < len(names) else file["path"], folder)
            found.append(FoundFile(side["role"], file, path, _state(path, file)))
    return found


def recomputed(
    contract: Mapping[str, Any], files: Sequence[FoundFile], progress: Progress | None = None
) -> CaseResult:
    """The case made again, with the options that are written in it.

    Raises
    ------
    SavedCaseError
        It was made from packet tables, or a capture is gone or changed.
    """
    from vpnforensics.correlation import correlate  # with all that compiles, which seldom is needed here

    for file in files:
        if not file.unchanged:
            raise SavedCaseError(file.path, f"{file.state}; the case cannot be made again from it")
    if not {file.role for file in files} - _LOGS.keys():
        raise SavedCaseError("the case", "made from packets that were in no file: it cannot be made again")
    tables: dict[str, PacketTable] = {}
    for side in contract["inputs"]:
        mine = [file for file in files if file.role == side["role"]]
        if not mine:
            raise SavedCaseError("the case", f"its {side['role']} packets were in no file")
        same = [
            role
            for role, table in tables.items()
            if _packets_of(contract, role) == _packets_of(contract, side["role"])
        ]
        tables[side["role"]] = tables[same[0]] if same else _read(mine, side, progress)
    for name, package in contract["tool"]["parameters"].get("plugins", {}).items():
        if name not in installed().working:
            raise SavedCaseError("the case", f"made with the engine {name!r} of {package}, which is not here")
    for name, package in contract["tool"]["parameters"].get("protocols", {}).items():
        if name not in protocols_of_others().working:
            raise SavedCaseError(
                "the case", f"made with the protocol {name!r} of {package}, which is not here"
            )
    known = {each.name for each in fields(Options)}
    chosen = {key: value for key, value in contract["tool"]["parameters"].items() if key in known}
    if usage := contract["usage"]:
        chosen |= {"log_zone": usage["zone"], "log_year": usage["year"]}
    logs = {role: [file.path for file in files if file.role == role] for role in _LOGS}
    case = correlate(
        tables["ingress"],
        tables["egress"],
        logs=logs["log"],
        zeek=logs["zeek"],
        seed=contract["tool"]["seed"],
        progress=progress,
        **chosen,
    )
    return _as_named(case, files)


def _as_named(case: CaseResult, files: Sequence[FoundFile]) -> CaseResult:
    """The case with its logs named as they were, wherever they are now."""
    moved = {str(file.path): file.recorded["path"] for file in files if file.role in _LOGS}

    def named(part: dict[str, Any] | None) -> dict[str, Any] | None:
        if part is None:
            return None
        return {
            **part,
            "files": [{**row, "path": moved.get(row["path"], row["path"])} for row in part["files"]],
        }

    said = case.warnings
    for now, then in moved.items():
        said = [
            visible(then) + each.removeprefix(visible(now)) if each.startswith(visible(now)) else each
            for each in said
        ]
    return replace(case, usage=named(case.usage), zeek=named(case.zeek), warnings=said)


def excerpt_of(case: CaseResult, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The contract of a case, of the flows only that a saved excerpt of it has."""
    contract = case.to_dict()
    if "excerpt" not in saved["tool"]["parameters"]:
        return contract
    kept = {row["id"] for row in saved["flows"]}
    lists = {
        key: [row for row in contract[key] if row["id" if key == "flows" else "flow"] in kept]
        for key in ("flows", "scores", "links")
    }
    same = {key: saved[key] for key in ("expected_false_links", "warnings")}  # the excerpt's own
    return contract | lists | same


def differences(saved: Mapping[str, Any], anew: Mapping[str, Any]) -> Iterator[str]:
    """In what two contracts conclude differently, one sentence a row."""
    for key in _CONCLUSIONS:
        if saved[key] != anew[key]:
            yield f"{key} is {anew[key]!r}, not {saved[key]!r}"
    for key, names in _LISTS.items():
        before, after = (_by_name(rows[key], names) for rows in (saved, anew))
        for name in before.keys() - after.keys():
            yield f"{key}: {name} is there no more"
        for name in after.keys() - before.keys():
            yield f"{key}: {name} is new"
        for name, row in before.items():
            for part, value in row.items():
                now = after.get(name, row)[part]
                if now != value:
                    yield f"{key}: {part} of {name} is {now!r}, not {value!r}"


def _by_name(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {" ".join(row[name] for name in names): row for row in rows}


def _packets_of(contract: Mapping[str, Any], role: str) -> list[list[str]]:
    """What tells an input's packets: the digests of its files, and which were read."""
    return [
        [_which(side), *(file["sha256"] for file in side["files"])]
        for side in contract["inputs"]
        if side["role"] == role
    ]


def _read(files: Sequence[FoundFile], side: Mapping[str, Any], progress: Progress | None) -> PacketTable:
    from vpnforensics.packets.read import read_capture

    def tell(done: int, total: int) -> None:
        if progress is not None:
            progress(f"reading {side['role']}", done / total if total else 0.0)

    return read_capture(
        [file.path for file in files], decap=side["decap"], select=_which(side), progress=tell
    )


def _which(side: Mapping[str, Any]) -> str:
    """Which packets of an input were read; empty for all."""
    selection = side.get("selection")
    return selection["which"] if selection else ""


def _place(name: str, folder: Path) -> Path:
    """Where a file is: as it was named, or beside the case."""
    path = Path(name)
    beside = folder / path.name
    inside = folder / path
    return next((place for place in (path, inside, beside) if name != "-" and _is_file(place)), path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _state(path: Path, recorded: Mapping[str, Any]) -> str:
    if str(path) == "-":
        return "read from standard input, which cannot be read again"
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb", buffering=0) as file:
            while piece := file.read(_HASH_BYTES):
                size += len(piece)
                digest.update(piece)
    except (OSError, ValueError) as error:
        return f"cannot be read: {getattr(error, 'strerror', None) or error}"
    if digest.hexdigest() == recorded["sha256"]:
        return "unchanged"
    grown = size - recorded["bytes"]
    what = (
        "other bytes of the same number"
        if not grown
        else f"{abs(grown):,} bytes {'more' if grown > 0 else 'fewer'}"
    )
    return f"changed: {what}, its SHA-256 is {digest.hexdigest()}"
