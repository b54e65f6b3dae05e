"""A folder of rotated captures as one capture, in the order of their first packets."""

from __future__ import annotations

from pathlib import Path


def capture_files(path: str) -> tuple[list[tuple[str, int]], int]:
    """The files to read for a path, with their sizes, and how many of a folder's were skipped."""
    if path != "-" and Path(path).is_file():
        return [(path, Path(path).stat().st_size)], 0
    return [(path, 0)], 0
