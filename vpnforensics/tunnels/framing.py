"""Frames out of TCP streams: OpenVPN's lengths (the reference tunnel's too), TLS records, ssh packets.

The chain of length fields is followed from the stream's first byte, or from where a segment begins with a
header that must be one. It breaks where a header was not captured (a snapped capture, several frames in one
segment) or lies in a hole of the capture, and is taken up at the next header that is seen. Counters then tell
how many frames were passed over: a single one is known by both its ends, and so are several that are together
as long as the largest frames are (a bulk transfer).

Known weakness: of a snapped capture, unread frames of mixed sizes are lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from vpnforensics.errors import CaptureError
from vpnforensics.packets.table import PacketTable
from vpnforensics.tunnels import _frame_kernels as k
from vpnforensics.tunnels.reassembly import Pieces
from vpnforensics.tunnels.stream import greets_as_ssh
from vpnforensics.tunnels.stream_bytes import Part, parts_from_file, parts_from_heads, readable

_UNREAD_PIECES, _LEAST_UNREAD, _MOST_UNREAD = 1 << 21, 8, 512
"""Pieces to remember of streams whose chain is lost: of all together, and of each."""

Framing = Literal["openvpn", "tls", "wireguard", "ssh"]
Origin = Literal["file", "heads"]
_FRAMINGS: dict[Framing, int] = {"openvpn": k.OPENVPN, "tls": k.TLS, "wireguard": k.WIREGUARD, "ssh": k.SSH}


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """What became of the bytes of one tunnel's two streams."""

    origin: Origin
    """Payloads read from the file, or only the heads that the packet table keeps."""
    framed_bytes: int
    """In frames whose ends are known."""
    lost_bytes: int
    """Captured, but in frames whose ends are not known."""
    missing_bytes: int
    """Not in the capture."""
    breaks: int
    """How often the chain of frames was lost."""
    inferred: int
    """Frames known by their neighbours only."""

    @property
    def total_bytes(self) -> int:
        """Of both streams."""
        return self.framed_bytes + self.lost_bytes + self.missing_bytes

    @property
    def lost_share(self) -> float:
        """Share of the stream's bytes that could not be told apart into frames."""
        return (self.lost_bytes + self.missing_bytes) / self.total_bytes if self.total_bytes else 0.0

    def __str__(self) -> str:
        return (
            f"{self.lost_share:.1%} of the stream in no known frame ({self.lost_bytes:,} bytes unread,"
            f" {self.missing_bytes:,} missing, {self.breaks} breaks, {self.inferred} frames inferred)"
        )


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames in order of completion."""

    stream: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    """Row of the segment that completed the frame."""
    size: npt.NDArray[np.int32]
    """What the length field says."""
    end: npt.NDArray[np.int64]
    """Position in the stream behind the frame and whatever belongs to it."""
    known_bytes: npt.NDArray[np.int64]
    """How many bytes of ``head`` are known."""
    head: npt.NDArray[np.uint8]
    """shape (n, 18): the frame's first bytes from its length field on, zero-filled."""
    findings: npt.NDArray[np.int64]
    origin: Origin

    def __len__(self) -> int:
        return len(self.row)

    @cached_property
    def _grouped(self) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        conversation = self.stream >> 1
        order = np.argsort(conversation, kind="stable")
        return order, np.searchsorted(conversation[order], np.arange(len(self.findings) // 2 + 1))

    def of_conversation(self, k: int) -> npt.NDArray[np.intp]:
        """Indexes of the frames of both streams of the k-th conversation, in order of completion."""
        order, start = self._grouped
        return order[start[k] : start[k + 1]]

    def health(self, streams: Iterable[int], missing_bytes: npt.NDArray[np.int64]) -> StreamHealth:
        """The findings on some streams, as one."""
        mine = self.findings[list(streams)].sum(axis=0)
        return StreamHealth(
            self.origin,
            int(mine[k.FRAMED_BYTES]),
            int(mine[k.LOST_BYTES]),
            int(missing_bytes[list(streams)].sum()),
            int(mine[k.DESYNCS]),
            int(mine[k.INFERRED]),
        )


def follow_frames(
    packets: PacketTable,
    pieces: Pieces,
    framing_of: list[Framing],
    keys: npt.NDArray[np.int64] | None = None,
    *,
    heads_only: bool = False,
) -> Frames:
    """Frames of some streams.

    Parameters
    ----------
    packets : PacketTable
    pieces : Pieces
    framing_of : list of {"openvpn", "tls", "wireguard", "ssh"}
        One a stream.
    keys : ndarray of int64, shape (streams,), optional
        What a stream shows of its frames beforehand, -1 without: templates of OpenVPN data frames (see
        :func:`vpnforensics.tunnels.openvpn_tcp.data_keys`), for streams that begin in the middle; bytes of
        the tags of ssh (:func:`vpnforensics.tunnels.ssh.tag_bytes`), without which its lengths are sealed.
    heads_only : bool
        Do not read the capture file, also where it could be.
    """
    from_file = not heads_only and readable(packets)
    if from_file:
        try:
            return _follow(packets, pieces, framing_of, keys, parts_from_file(packets, pieces), "file")
        except CaptureError:  # it vanished between the check and now: the heads are still here
            pass
    return _follow(packets, pieces, framing_of, keys, parts_from_heads(packets, pieces), "heads")


def _follow(
    packets: PacketTable,
    pieces: Pieces,
    framing_of: list[Framing],
    keys: npt.NDArray[np.int64] | None,
    parts: Iterable[Part],
    origin: Origin,
) -> Frames:
    framings = np.array([_FRAMINGS[f] for f in framing_of], np.int64)
    state = np.zeros((pieces.streams, k.STATE_COLUMNS), np.int64)
    state[:, k.SYNCED] = pieces.begun
    state[:, [k.BODY_END, k.COUNTER]] = -1
    state[:, k.KEY] = k.NO_KEY if keys is None else keys
    greets = _greets_as_ssh(packets, pieces)
    ssh = framings == k.SSH
    state[ssh, k.SYNCED] = greets[ssh]
    state[ssh & greets, k.PHASE] = k.GREETING
    partial = np.zeros((pieces.streams, k.HEADER_BYTES), np.uint8)
    room = int(np.clip(_UNREAD_PIECES // max(pieces.streams, 1), _LEAST_UNREAD, _MOST_UNREAD))
    unread = np.zeros((pieces.streams, room, 2), np.int64)
    findings = np.zeros((pieces.streams, k.FINDING_COLUMNS), np.int64)
    whole = pieces.skip == 0
    out = [(np.zeros((0, k.FRAME_COLUMNS), np.int64), np.zeros((0, k.HEADER_BYTES), np.uint8))]
    for part in parts if len(whole) else ():
        here = slice(part.first, part.first + len(part.at))
        out.append(
            k.walk_frames(
                framings,
                pieces.stream[here],
                pieces.pos[here],
                pieces.size[here],
                part.at,
                part.got,
                whole[here],
                pieces.done[here],
                part.buf,
                state,
                partial,
                unread,
                findings,
            )
        )
    frames, head = (np.concatenate(column) for column in zip(*out, strict=True))
    stream, row, size, got, end = np.ascontiguousarray(frames.T)
    return Frames(stream, row, size.astype(np.int32), end, got, head, findings, origin)


def _greets_as_ssh(packets: PacketTable, pieces: Pieces) -> npt.NDArray[np.bool_]:
    """Streams whose first byte was captured, and begins ssh's line of text (RFC 4253, 4.2)."""
    greets = np.zeros(pieces.streams, np.bool_)
    first = np.flatnonzero((pieces.pos == 0) & (pieces.skip == 0))
    greets[pieces.stream[first]] = greets_as_ssh(packets.head[pieces.row[first]])
    return greets & pieces.begun
