"""What the present code gets wrong, and why: expected failures, strictly, until the code is mended."""

from __future__ import annotations

_BY_REASON: dict[str, str] = {}
KNOWN_WRONG = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
