"""The kernel's own account of who stands behind a translated port.

Lines come from ``conntrack -E -e NEW``. A line holds the connection as its opener sees it and, reversed,
as the far side sees it; where they differ, the difference is the translation. A mark, where there is one,
is the number of the client whose relay process opened the connection.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

_TUPLE = re.compile(r"src=(\S+) dst=(\S+) (?:sport=(\d+) dport=(\d+)|type=\d+ code=\d+ id=(\d+))")
_MARK = re.compile(r"\bmark=(\d+)")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and port (for ICMP echo, the identifier)."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


Key = tuple[str, Endpoint, Endpoint]
"""Protocol, near endpoint after translation, far endpoint."""


@dataclass(frozen=True, slots=True)
class Translations:
    """All that the kernel logged in one namespace.

    Parameters
    ----------
    inner : mapping of Key to set of Endpoint
        Who stood behind the near endpoint, over the whole run.
    marks : mapping of Key to set of int
        Marks of the connections, 0 left out.
    openings : mapping of Key to list of int
        The same one by one, in the order in which the connections were opened.
    """

    inner: dict[Key, set[Endpoint]] = field(default_factory=lambda: defaultdict(set))
    marks: dict[Key, set[int]] = field(default_factory=lambda: defaultdict(set))
    openings: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))


def read_translations(path: Path) -> Translations:
    """Parse a log; what is not a new TCP, UDP or ICMP connection is skipped."""
    found = Translations()
    for line in path.read_text(errors="replace").splitlines():
        halves = _TUPLE.findall(line)
        proto = next((p for p in ("tcp", "udp", "icmp") if f" {p} " in line), None)
        if len(halves) != 2 or proto is None or "[NEW]" not in line:
            continue
        (source, _, source_port, _, echo), (far, near, far_port, near_port, reply_echo) = halves
        key = (
            proto,
            Endpoint(near, int(near_port or reply_echo)),
            Endpoint(far, int(far_port or reply_echo)),
        )
        found.inner[key].add(Endpoint(source, int(source_port or echo)))
        mark = _MARK.search(line)
        if mark and mark[1] != "0":
            found.marks[key].add(int(mark[1]))
            found.openings[key].append(int(mark[1]))
    return found
