"""Data sets that ``make dataset`` writes: sessions with their captures, truths and splits.

Nothing is read but the manifest until a session is used.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from vpnforensics.errors import CaptureError
from vpnforensics.validation.sessions import document

if TYPE_CHECKING:
    import pandas as pd

_KNOWN_VERSION = 1
_TEXTS = ("name", "split", "maker", "protocol")
_NUMBERS = ("seed", "tunnels", "flows")


@dataclass(frozen=True, slots=True)
class Session:
    """One run of one VPN, captured on both sides."""

    name: str
    split: str
    """``train``, ``validation`` or ``test``."""
    maker: str
    """``simulated``, or ``lab``: recorded between real programs."""
    protocol: str
    seed: int
    tunnels: int
    flows: int
    folder: Path
    files: dict[str, str] = field(repr=False)
    """SHA-256 of each file."""

    @property
    def ingress(self) -> Path:
        """Capture of the client-facing side, encrypted."""
        return self._file("ingress")

    @property
    def egress(self) -> Path:
        """Capture of the Internet-facing side, decrypted."""
        return self._file("egress")

    @property
    def truth(self) -> dict[str, Any]:
        """Which client's tunnel carried which flow.

        Raises
        ------
        CaptureError
            It cannot be read.
        """
        return _read(self.folder / "truth.json")

    def changed(self) -> list[str]:
        """Files that are gone, or are not what the manifest says."""
        return [name for name, digest in self.files.items() if _digest(self.folder / name) != digest]

    def _file(self, side: str) -> Path:
        names = [name for name in self.files if name.split(".")[0] == side]
        if not names:
            raise CaptureError(self.folder, None, f"the manifest names no {side} capture")
        return self.folder / names[0]


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set as it lies in a folder."""

    folder: Path
    name: str
    tool: str
    """What made it."""
    seed: int
    sessions: tuple[Session, ...] = field(repr=False)

    def split(self, name: str) -> tuple[Session, ...]:
        """The sessions of a split.

        Raises
        ------
        ValueError
            There is no such split.
        """
        splits = list(dict.fromkeys(session.split for session in self.sessions))
        if name not in splits:
            raise ValueError(f"splits are {', '.join(splits)}; not {name!r}")
        return tuple(session for session in self.sessions if session.split == name)

    @property
    def table(self) -> pd.DataFrame:
        """A row a session."""
        import pandas as pd

        columns = [*_TEXTS, *_NUMBERS]
        return pd.DataFrame(
            [[getattr(s, column) for column in columns] for s in self.sessions], columns=columns
        )

    def changed(self) -> list[str]:
        """Files, by split and session, that are gone or are not what the manifest says."""
        return [f"{s.split}/{s.name}/{name}" for s in self.sessions for name in s.changed()]


def load(folder: str | Path) -> DataSet:
    """Open a data set.

    Parameters
    ----------
    folder : str or Path
        That ``make dataset`` wrote.

    Raises
    ------
    CaptureError
        There is no manifest in it, or it is not one of a data set.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    manifest = _read(path)
    try:
        if (version := manifest["schema_version"]) != _KNOWN_VERSION:
            raise CaptureError(path, None, f"is of version {version!r}, not {_KNOWN_VERSION}")
        sessions = tuple(_session(folder, path, row) for row in manifest["sessions"])
        return DataSet(folder, str(manifest["name"]), str(manifest["tool"]), int(manifest["seed"]), sessions)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CaptureError(path, None, f"is no manifest of a data set: {error!r}") from error


def _session(folder: Path, path: Path, row: dict[str, Any]) -> Session:
    for part in (row["split"], row["name"], *row["files"]):  # a manifest may be from anybody
        if PurePosixPath(part).name != part or part == "..":
            raise CaptureError(path, None, f"names {part!r}, which does not lie in the data set")
    name, split, maker, protocol = (str(row[key]) for key in _TEXTS)
    seed, tunnels, flows = (int(row[key]) for key in _NUMBERS)
    files = {str(each): str(digest) for each, digest in row["files"].items()}
    return Session(name, split, maker, protocol, seed, tunnels, flows, folder / split / name, files)


def _read(path: Path) -> dict[str, Any]:
    try:
        return document(path, path.read_bytes())
    except OSError as error:
        raise CaptureError(path, None, f"cannot be read: {error.strerror}; is this a data set?") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
