"""The folder that a case is written to: nothing in it is replaced that was not made here, unchanged since.

A manifest names the files of its case with their SHA-256. A file that a case could write and that no manifest
of ours vouches for is someone's evidence.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vpnforensics.errors import ScenarioError

MANIFEST = "manifest.json"
_NAMES = re.compile(r"(ingress|egress|capture|inner-.+)\.(pcap|pcapng)|truth\.json|manifest\.json", re.DOTALL)
"""Files that a case consists of."""
_MAKERS = ("simulate", "lab")


def claim(folder: Path, *, force: bool = False) -> list[Path]:
    """Whether a case may be written here; nothing is changed yet.

    Parameters
    ----------
    folder : Path
        Need not exist.
    force : bool
        Whatever is there may go.

    Returns
    -------
    list of Path
        The files of an earlier case, which go when the new one is put in their place.

    Raises
    ------
    ScenarioError
        The folder is none, or a file in it would be lost that is not known to be ours.
    """
    if folder.exists() and not folder.is_dir():
        raise ScenarioError(f"{folder}: is not a folder")
    there = [path for path in folder.iterdir() if _NAMES.fullmatch(path.name)] if folder.exists() else []
    if not force and there:
        vouched = _vouched(folder / MANIFEST)
        for path in sorted(there):
            if path.name != MANIFEST and not _same(path, vouched.get(path.name)):
                raise ScenarioError(
                    f"{path}: is there already, and is not, or no longer, what a manifest of `vpnf` beside it"
                    " says; name another folder, or add --force to replace it"
                )
        if not vouched:
            raise ScenarioError(
                f"{folder / MANIFEST}: is there already, and is none of `vpnf`; name another folder, or add"
                " --force to replace it"
            )
    return there


def put(made: Path, folder: Path, earlier: list[Path]) -> None:
    """Move the files of a case to where they belong, the manifest last; those of an earlier one go."""
    names = sorted((path.name for path in made.iterdir()), key=lambda name: (name == MANIFEST, name))
    unguarded = [name for name in names if not _NAMES.fullmatch(name)]
    assert not unguarded, f"{unguarded} could replace anything"
    for path in earlier:
        if path.name not in names:
            path.unlink(missing_ok=True)
    for name in names:
        (made / name).replace(folder / name)


def _vouched(manifest: Path) -> Mapping[str, str]:
    """SHA-256 by file name, as a manifest of ours has them; nothing of any other file."""
    try:
        document: Any = json.loads(manifest.read_bytes())
        if document["made_by"] not in _MAKERS:
            return {}
        return dict(_digests(document))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _digests(document: Any) -> Iterator[tuple[str, str]]:
    """Of the simulator's form, or the lab's."""
    if "files" in document:
        yield from ((str(name), str(file["sha256"])) for name, file in document["files"].items())
    else:
        yield from ((str(name), str(digest)) for name, digest in document["sha256"].items())


def _same(path: Path, sha256: str | None) -> bool:
    """Whether it is a file of these contents; a link is none."""
    if sha256 is None or path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
