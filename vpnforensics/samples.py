"""The sample cases that come with the package: paths and truth.

>>> from vpnforensics import samples
>>> sample = samples.load("wireguard")
>>> sample.truth["tunnels"][0]["protocol"]
'wireguard'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpnforensics.errors import CaptureError

_INSTALLED = Path(__file__).parent / "data" / "samples"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parent.parent / "samples"
"""In a wheel they lie inside the package, in a checkout beside it."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One case: its captures (the same file twice where one holds both sides) and what really happened."""

    name: str
    description: str
    ingress: Path
    egress: Path
    truth: dict[str, Any]


def names() -> list[str]:
    """The samples there are."""
    return sorted(path.parent.name for path in FOLDER.glob("*/truth.json"))


def load(name: str) -> Sample:
    """A sample by name.

    Raises
    ------
    CaptureError
        There is none of that name.
    """
    folder = FOLDER / name
    if name not in names():
        raise CaptureError(folder, None, f"no such sample; there are: {', '.join(names()) or 'none here'}")
    captures = {path.name.split(".")[0]: path for path in sorted(folder.glob("*.pcap*"))}
    both = captures.get("capture")
    scenario = json.loads((folder / "manifest.json").read_text()).get("scenario", {})
    return Sample(
        name,
        str(scenario.get("description", "")),
        both or captures["ingress"],
        both or captures["egress"],
        json.loads((folder / "truth.json").read_text()),
    )
