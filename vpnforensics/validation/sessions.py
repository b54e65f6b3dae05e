"""Capture sessions with known truth: what was recorded together is never on both sides of a split.

A folder holds ``ingress`` and ``egress`` (or ``capture``) as pcap or pcapng, plain, gzip or zstd, and
``truth.json`` in the lab's form (``groundtruth/lab/truth.schema.json``; needed are ``tunnels[].client`` and
``flows[]`` with ``src``, ``dst``, ``first_ns``, ``last_ns``, ``client``). ``manifest.json`` is optional.

Copies of one recording, damaged or under another clock, tell of the same packets. Folders whose flows have
mostly the same endpoints are therefore one session, whatever they are called.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpnforensics.errors import CaptureError

_ENDS = (".pcap", ".pcapng", ".pcap.zst", ".pcap.gz", ".pcapng.zst", ".pcapng.gz")
_SHARED = 0.5
"""Share of the smaller folder's flows from which on two folders are one session. Client ports are drawn anew
in each recording: by chance a few in a hundred agree."""
_OWN = "the server's own"
"""How the truth says, of a flow that it attributes to nobody, that no tunnel carried it."""
_NEEDED = {"flows": ("src", "dst", "first_ns", "last_ns", "client"), "tunnels": ("client",)}


@dataclass(frozen=True, slots=True)
class Session:
    """One folder with truth; several may be of one ``session``."""

    folder: Path
    name: str
    session: int
    """Number of the capture session."""
    ingress: Path
    egress: Path
    truth: dict[str, Any]
    truth_sha256: str
    manifest: dict[str, Any]


def open_sessions(folders: Sequence[Path]) -> list[Session]:
    """The folders, each with the session it belongs to.

    Parameters
    ----------
    folders : sequence of Path
        Folders with truth, or folders of such.

    Raises
    ------
    CaptureError
        No folder has truth, or one that has it lacks a capture, or its truth is in no known form.
    """
    found: list[Path] = []
    for folder in folders:
        inside = sorted(p.parent for p in folder.glob("*/truth.json"))
        mine = [folder] if (folder / "truth.json").is_file() else inside
        if not mine:
            raise CaptureError(folder, None, "no truth.json in it, nor in a folder of it")
        found += [each for each in mine if each.resolve() not in {f.resolve() for f in found}]
    opened = [_open(folder) for folder in found]
    numbers = together([_flow_keys(truth) for _, _, truth, _, _ in opened])
    return [
        Session(folder, folder.resolve().name, number, *rest)
        for folder, number, rest in zip(found, numbers, opened, strict=True)
    ]


def endpoints(tunnel: Mapping[str, Any]) -> list[str]:
    """The client's ends of a tunnel of the truth: what names it, then those of its other conversations.

    >>> endpoints({"client": "192.0.2.7:400", "also": ["tcp 192.0.2.7:401 192.0.2.1:1080"]})
    ['192.0.2.7:400', '192.0.2.7:401']
    """
    return [tunnel["client"], *(end for text in tunnel.get("also", ()) for end in text.split(" ")[1:2])]


def sent_by_the_server(truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The truth's flows that no tunnel carried."""
    return [
        row
        for row in truth.get("unattributed", ())
        if _OWN in str(row.get("reason")) and {"src", "dst"} <= row.keys()
    ]


def together(keys: Sequence[set[tuple[str, ...]]]) -> list[int]:
    """Number of the session of each folder, from the endpoints of its flows; numbers ascend from 0.

    >>> a = {("f1",), ("f2",), ("f3",)}
    >>> together([a, {("x",)}, a - {("f1",)}])
    [0, 1, 0]
    """
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    first = list(range(len(keys)))
    for number, mine in enumerate(keys):
        shared = Counter(other for key in mine for other in holders[key])
        for key in mine:
            holders[key].append(number)
        for other, count in shared.items():
            if count > _SHARED * min(len(mine), len(keys[other])):
                low, high = sorted((first[number], first[other]))
                first = [low if each == high else each for each in first]
    order = {each: n for n, each in enumerate(dict.fromkeys(first))}
    return [order[each] for each in first]


def _flow_keys(truth: dict[str, Any]) -> set[tuple[str, ...]]:
    return {(str(f.get("proto", "")), f["src"], f["dst"], f["client"]) for f in truth["flows"]}


def _open(folder: Path) -> tuple[Path, Path, dict[str, Any], str, dict[str, Any]]:
    sides = [_capture(folder, "ingress"), _capture(folder, "egress")]
    both = _capture(folder, "capture")
    if None in sides and both is None:
        raise CaptureError(
            folder, None, "no ingress and egress capture beside its truth.json, and no capture"
        )
    ingress, egress = (side or both for side in sides)
    assert ingress is not None
    assert egress is not None
    text = (folder / "truth.json").read_bytes()
    truth = document(folder / "truth.json", text)
    _require(folder / "truth.json", truth)
    beside = folder / "manifest.json"
    manifest = document(beside, beside.read_bytes()) if beside.is_file() else {}
    return ingress, egress, truth, hashlib.sha256(text).hexdigest(), manifest


def _capture(folder: Path, name: str) -> Path | None:
    return next((folder / f"{name}{end}" for end in _ENDS if (folder / f"{name}{end}").is_file()), None)


def document(path: Path, text: bytes) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises
    ------
    CaptureError
        Its text is none.
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CaptureError(path, getattr(error, "pos", None), f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise CaptureError(path, None, "is no JSON object")
    return found


def _require(path: Path, truth: dict[str, Any]) -> None:
    for name, keys in _NEEDED.items():
        rows = truth.get(name)
        if not isinstance(rows, list):
            raise CaptureError(path, None, f"has no list {name!r}; is it a ground truth?")
        for number, row in enumerate(rows):
            missing = [k for k in keys if not isinstance(row, dict) or k not in row]
            wrong = [
                k for k in keys if not missing and not isinstance(row[k], int if k.endswith("_ns") else str)
            ]
            if missing or wrong:
                raise CaptureError(path, None, f"{name}[{number}] has no valid {(missing or wrong)[0]!r}")
