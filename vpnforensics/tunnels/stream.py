"""TCP connections that may be tunnels but have no record boundaries: ssh, Shadowsocks, a proxy.

All that is known of them is when how many bytes came, which is the engine ``volume``'s matter; the engines
that work on records have nothing to say. They are candidates, never sure: nothing in clear tells a tunnel
through ssh from a file copy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.protocol import U8, Datagrams, Recognition

SSH, UNKNOWN = "ssh", "stream"

SSH_BANNER = b"SSH-"
"""RFC 4253, 4.2."""
_TEXT_SHARE = 0.9
LEAST_SEGMENTS = 40
_LEAST_EACH_WAY = 10
_FIRST_BYTES = 16


def greets_as_ssh(head: U8) -> npt.NDArray[np.bool_]:
    """Whether each payload begins ssh's line of text."""
    return np.asarray((head[:, : len(SSH_BANNER)] == np.frombuffer(SSH_BANNER, np.uint8)).all(axis=1))


def recognise(segments: Datagrams) -> tuple[str, Recognition] | None:
    """The protocol (``ssh`` or ``stream``) of a long two-way connection; ``None`` for what is short or text.

    Parameters
    ----------
    segments : Datagrams
        Segments that carry something new, with their first bytes.
    """
    if any(greets_as_ssh(segments.head[side][:1]).any() for side in segments.sides):
        return SSH, Recognition(0.3)
    each_way = min(int(segments.up.sum()), int((~segments.up).sum()))
    if len(segments) < LEAST_SEGMENTS or each_way < _LEAST_EACH_WAY:
        return None
    opening = segments.head[:4, :_FIRST_BYTES]
    printable = (opening >= 32) & (opening < 127) | (opening == 10) | (opening == 13)
    if printable.mean() > _TEXT_SHARE:  # HTTP, SMTP and the like
        return None
    return UNKNOWN, Recognition(0.1)
