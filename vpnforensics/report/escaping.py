"""What hostile text must not do: drive a terminal, break JSON, or run as a formula in a spreadsheet.

Paths, and one day comments and host names, come from whoever made the capture.
"""

from __future__ import annotations

import json
import re
from typing import Any

# C1 controls, invisible and direction-changing characters, line separators, lone surrogates (bytes of a
# file name that are not UTF-8). JSON escapes the C0 controls itself.
_DECEPTIVE = "\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb"
_UNSAFE = re.compile(f"[\x00-\x1f{_DECEPTIVE}]")
_UNSAFE_IN_JSON = re.compile(f"[{_DECEPTIVE}]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def visible(text: object) -> str:
    r"""Text with every character that could drive a terminal spelled out, and bytes that are no UTF-8.

    >>> visible("in\x1b[2J.pcap"), visible("in\udcff.pcap")
    ('in\\x1b[2J.pcap', 'in\\xff.pcap')
    """
    return _UNSAFE.sub(_spelled, str(text))


def json_text(value: Any, *, indent: int | None = None, compact: bool = False) -> str:
    r"""JSON of plain values: safe to print, no NaN, and text that any reader takes.

    Bytes of a file name that are no UTF-8, for which JSON has no form, are spelled as :func:`visible` does.

    >>> json_text({"t": "16⌈L/16⌉", "path": "a\u202eb\udcff"})
    '{"t": "16⌈L/16⌉", "path": "a\\u202eb\\\\xff"}'
    """
    apart = (",", ":") if compact else None
    text = json.dumps(value, indent=indent, separators=apart, ensure_ascii=False, allow_nan=False)
    # Such characters stand only inside strings, where an escape means the same.
    return _UNSAFE_IN_JSON.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    lone_surrogate = "\ud800" <= found[0] <= "\udfff"
    return "\\" + _spelled(found) if lone_surrogate else f"\\u{ord(found[0]):04x}"


def csv_text(text: str) -> str:
    """Text for a CSV cell, which no spreadsheet takes for a formula.

    >>> csv_text("=1+1")
    "'=1+1"
    """
    safe = _UNSAFE.sub(_spelled, text)
    return f"'{safe}" if text.startswith(_FORMULA_STARTS) else safe


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
