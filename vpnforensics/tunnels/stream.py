"""TCP connections that may be tunnels but have no record boundaries: ssh, Shadowsocks, a proxy.

All that is known of them is when how many bytes came, which is the engine ``volume``'s matter; the engines
that work on records have nothing to say. They are candidates, never sure: nothing in clear tells a tunnel
through ssh from a file copy.
"""

from __future__ import annotations

from vpnforensics.tunnels.protocol import Datagrams, Recognition

SSH, UNKNOWN = "ssh", "stream"

SSH_BANNER = b"SSH-"
_TEXT_SHARE = 0.9
LEAST_SEGMENTS = 40
_LEAST_EACH_WAY = 10
_FIRST_BYTES = 16


def recognise(segments: Datagrams) -> tuple[str, Recognition] | None:
    """The protocol (``ssh`` or ``stream``) of a long two-way connection; ``None`` for what is short or text.

    Parameters
    ----------
    segments : Datagrams
        Segments that carry something new, with their first bytes.
    """
    firsts = [segments.head[side][:1] for side in (segments.up, ~segments.up)]
    if any(first.tobytes().startswith(SSH_BANNER) for first in firsts):
        return SSH, Recognition(0.3)
    each_way = min(int(segments.up.sum()), int((~segments.up).sum()))
    if len(segments) < LEAST_SEGMENTS or each_way < _LEAST_EACH_WAY:
        return None
    opening = segments.head[:4, :_FIRST_BYTES]
    printable = (opening >= 32) & (opening < 127) | (opening == 10) | (opening == 13)
    if printable.mean() > _TEXT_SHARE:  # HTTP, SMTP and the like
        return None
    return UNKNOWN, Recognition(0.1)
