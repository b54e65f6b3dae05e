"""The host that the first HTTP/1 request of a connection is for (RFC 9110, 7.2; RFC 9112, 3.2)."""

from __future__ import annotations

import re

from vpnforensics.features.names.tls import Found
from vpnforensics.features.names.wire import MOST_NAME_BYTES, spelled

_REQUEST = re.compile(
    rb"(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|[A-Z-]{3,16}) +([^\s]{1,8192})"
)
_VERSION = re.compile(rb" +HTTP/1\.[01]\r?\n")
_ABSOLUTE = re.compile(rb"[a-z][a-z0-9+.-]*://(?:[^/@?#]*@)?([^/?#]+)", re.IGNORECASE)
_HOST = re.compile(rb"\nHost:([^\r\n]*)\r?\n", re.IGNORECASE)
_END = re.compile(rb"\r?\n\r?\n")
_PORT = re.compile(rb":\d{0,5}$")


def read_request(stream: bytes) -> Found | None:
    """The host of the request that opens a stream; ``None`` if none does."""
    line = _REQUEST.match(stream)
    if line is None:
        return None
    version = _VERSION.match(stream, line.end())
    if version is None:
        return Found(cut=True) if len(stream) == line.end() else None
    absolute = _ABSOLUTE.match(line[1])
    if absolute is not None:  # to a proxy: this one counts (RFC 9112, 3.2.2)
        return Found(_host(absolute[1]))
    end = _END.search(stream)
    host = _HOST.search(stream, version.end() - 1, end.end() if end else len(stream))
    if host is None:
        return Found(cut=end is None)
    return Found(_host(host[1].strip(b" \t")))


def _host(text: bytes) -> str | None:
    """A host without its port; ``None`` for an address, which says nothing new, and for what is too long."""
    name = _PORT.sub(b"", text) if not text.endswith(b"]") else text
    if not 0 < len(name) <= MOST_NAME_BYTES or name.startswith(b"[") or re.fullmatch(rb"[\d.]+", name):
        return None
    return spelled(name)
