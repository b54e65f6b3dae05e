"""Where a packet table came from: file, hash, format, span, health."""

from __future__ import annotations

from dataclasses import dataclass

from vpnforensics.capture.health import CaptureHealth


@dataclass(frozen=True, slots=True)
class CaptureSource:
    """Provenance of one capture (a file, standard input, or a folder of rotated files)."""

    path: str
    sha256: str
    """Hex digest of the file as stored; of a folder, the digest of its files' digests in order."""
    bytes: int
    """Size as stored."""
    format: str
    """``pcap`` or ``pcapng``, with ``+gzip`` or ``+zstd`` where compressed."""
    linktypes: tuple[str, ...]
    packets: int
    """IP packets in the table."""
    first_ns: int
    last_ns: int
    health: CaptureHealth
