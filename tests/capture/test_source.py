"""Digests of stored files, and health as data."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from vpnforensics.capture.health import CaptureHealth
from vpnforensics.capture.source import CaptureSource, StoredFile
from vpnforensics.errors import CaptureError


def stored(path: Path) -> StoredFile:
    status = path.stat()
    return StoredFile(str(path), status.st_size, status.st_mtime_ns)


def source(*files: StoredFile) -> CaptureSource:
    return CaptureSource("x", 0, "pcap", (), 0, 0, 0, CaptureHealth(), files)


def test_digest_of_a_file_and_of_several(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    digests = [hashlib.sha256(data).hexdigest() for data in (b"one", b"two")]
    assert source(stored(tmp_path / "a")).sha256 == digests[0]
    both = source(stored(tmp_path / "a"), stored(tmp_path / "b"))
    assert both.sha256 == hashlib.sha256("".join(digests).encode()).hexdigest()


def test_a_digest_taken_while_reading_is_kept() -> None:
    assert source(StoredFile("-", 3, known_sha256="abc")).sha256 == "abc"


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    file = stored(tmp_path / "a")
    (tmp_path / "a").unlink()
    with pytest.raises(CaptureError, match="cannot be read for its digest"):
        file.sha256()


def test_health() -> None:
    assert not CaptureHealth(snapped=5, non_ip=2).damaged
    assert CaptureHealth(cut_tail_bytes=1).damaged
    assert CaptureHealth(damaged_records=1).damaged
    assert CaptureHealth(snapped=5).to_dict()["snapped"] == 5
