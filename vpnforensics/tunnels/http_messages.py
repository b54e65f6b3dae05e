"""What an HTTP proxy passes on of a message: the request that it repeats, and the answer's first bytes.

A client tells a proxy all of the address (``GET http://host/path``), the proxy tells the host its part
(``GET /path``, ``Host: host``), and either may speak another minor version (RFC 9112, 3.2). Method, host and
path stay, and so do all fields but those of the connection itself and those that proxies write (RFC 9110,
7.6; RFC 9111, 5; RFC 7239), in any order. The body stays byte for byte, but for how it is cut into chunks
(RFC 9112, 7.1).

Two fingerprints are taken of each message: of its core (method, host and path; status and beginning of the
body), which every proxy keeps, and of all of it that a proxy should keep, fields too, which tells apart who
asks for the same at one moment. Bytes in, fingerprints out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

METHODS = (b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH")
"""CONNECT is none of them: what comes after it is kept as it is."""
FINGERPRINT_BYTES = 24
LOOKED_AT_BYTES = 4096
"""From the beginning of a message on: fields and the beginning of the body. Servers take 8 KiB of fields;
browsers send a fourth of that, and fields that are cut off leave the core."""
_BODY_BYTES, _LEAST_BODY_BYTES = 64, 24
"""Of a body, what is compared, and with fewer it is no more than its fields tell."""
_REQUEST = re.compile(rb"(%s) +(?:(?i:http)://([^/?#\s]*))?(\S*) +HTTP/1\.[01]\r?\n" % b"|".join(METHODS))
_STATUS = re.compile(rb"HTTP/1\.[01] +([2-5]\d\d)[^\r\n]*\r?\n")
_END = re.compile(rb"\r?\n\r?\n")
_FIELD = re.compile(rb"([!-9;-~]+):[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_CHUNK = re.compile(rb"[0-9a-fA-F]{1,8}[^\r\n]*\r\n")
_WRITTEN_ANEW = re.compile(
    rb"host|via|forwarded|x-forwarded-.*|x-real-ip|x-cache.*|cache-status|connection|keep-alive|proxy-.*|te"
    rb"|transfer-encoding|trailer|upgrade|max-forwards|age|cache-control|pragma|warning|expect"
)
"""Fields of the connection, of proxies and of caches, Squid's own among them."""


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Of one message; "" where the capture has too little of it."""

    core: bytes
    whole: bytes


NONE = Fingerprints(b"", b"")


def begins_message(head: bytes, *, request: bool) -> bool:
    """Whether a segment that begins so may begin a request, or an answer."""
    return head.startswith(tuple(method + b" " for method in METHODS) if request else b"HTTP/1.")


def fingerprints(octets: bytes, *, request: bool) -> Fingerprints:
    """Of the message that octets begin with; interim answers (1xx) and what is no message have none."""
    line = (_REQUEST if request else _STATUS).match(octets)
    if line is None:
        return NONE
    end = _END.search(octets, line.end() - 2)
    until = end.end() if end else len(octets)
    fields = [(f[1].lower(), f[2]) for f in _FIELD.finditer(octets, line.end(), until)]
    body = octets[until:]
    if any(name == b"transfer-encoding" and b"chunked" in value.lower() for name, value in fields):
        size = _CHUNK.match(body)
        body = body[size.end() :] if size else b""
    body = body[:_BODY_BYTES] if len(body) >= _LEAST_BODY_BYTES else b""
    kept = sorted(f for f in fields if not _WRITTEN_ANEW.fullmatch(f[0]))
    if request:
        host = line[2] or next((value for name, value in fields if name == b"host"), None)
        if host is None:
            return NONE
        core = [line[1], host.rpartition(b"@")[2].lower().removesuffix(b":80"), line[3] or b"/"]
        return Fingerprints(_digest(core), _digest(core, kept, body) if end else b"")
    return Fingerprints(
        _digest([line[1], body]) if body else b"", _digest([line[1]], kept, body) if end else b""
    )


def _digest(core: list[bytes], kept: list[tuple[bytes, bytes]] | None = None, body: bytes = b"") -> bytes:
    """Of parts that no two messages can divide in two ways."""
    parts = [*core, *(part for field in kept or () for part in field), body]
    digest = blake2b(digest_size=FINGERPRINT_BYTES, person=b"core" if kept is None else b"whole")
    for part in parts:
        digest.update(b"%d:" % len(part) + part)
    return digest.digest()
