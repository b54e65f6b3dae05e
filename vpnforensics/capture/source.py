"""Where a packet table came from: file, hash, format, span, health."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from vpnforensics.capture.health import CaptureHealth
from vpnforensics.errors import CaptureError

_HASH_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as it was stored when it was read."""

    path: str
    bytes: int
    modified_ns: int = 0
    known_sha256: str | None = None
    """Digest taken when it was read, where the bytes cannot be read again, or need not be for it."""
    first_frame: int = 1
    """Number, in the capture that it is a part of, of its first frame."""

    def is_there(self) -> bool:
        """Whether the file can be read again, unchanged."""
        if not self.modified_ns and self.known_sha256 is not None:  # read from a pipe
            return False
        try:
            status = Path(self.path).stat()
        except (OSError, ValueError):
            return False
        return (status.st_size, status.st_mtime_ns) == (self.bytes, self.modified_ns)

    def sha256(self) -> str:
        """Hex digest of the stored bytes.

        Raises
        ------
        CaptureError
            The file is gone, or is no longer the one that was read.
        """
        if self.known_sha256 is not None:
            return self.known_sha256
        digest = hashlib.sha256()
        try:
            status = Path(self.path).stat()
            if (status.st_size, status.st_mtime_ns) != (self.bytes, self.modified_ns):
                raise CaptureError(
                    self.path, None, "changed since it was read: its digest would be of other bytes"
                )
            with Path(self.path).open("rb", buffering=0) as file:
                while piece := file.read(_HASH_BYTES):
                    digest.update(piece)
        except OSError as error:
            raise CaptureError(self.path, None, f"cannot be read for its digest: {error.strerror}") from error
        return digest.hexdigest()


@dataclass(frozen=True)
class CaptureSource:
    """Provenance of one capture (a file, standard input, or a folder of rotated files)."""

    path: str
    bytes: int
    """Size as stored."""
    format: str
    """``pcap`` or ``pcapng``, with ``+gzip`` or ``+zstd`` where compressed."""
    linktypes: tuple[str, ...]
    packets: int
    """IP packets in the capture, of which the table may have a selection."""
    first_ns: int
    """Earliest capture time of a packet; 0 without packets."""
    last_ns: int
    """Latest capture time of a packet; 0 without packets."""
    health: CaptureHealth
    files: tuple[StoredFile, ...] = field(repr=False)
    """The files read, in order."""
    decap: str = "none"
    """The encapsulation that was read through, of :mod:`vpnforensics.capture.encapsulations`."""
    selection: str = ""
    """Which packets were read, in the words of :mod:`vpnforensics.packets.selection`; empty for all."""

    @cached_property
    def sha256(self) -> str:
        """Hex digest of the file as stored; of a folder, the digest of its files' digests in order.

        Computed when first asked for: hashing a file takes longer than decoding it.
        """
        if len(self.files) == 1:
            return self.files[0].sha256()
        return hashlib.sha256("".join(file.sha256() for file in self.files).encode()).hexdigest()
