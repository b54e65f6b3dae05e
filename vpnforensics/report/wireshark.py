"""A link for Wireshark: display filters that show its packets in each capture.

Syntax: https://www.wireshark.org/docs/man-pages/wireshark-filter.html
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpnforensics.report.dataframes import plain_rows
from vpnforensics.report.endpoints import parted
from vpnforensics.report.result import CaseResult

_WITH_PORTS = {"tcp": "tcp", "udp": "udp", "sctp": "sctp"}


@dataclass(frozen=True, slots=True)
class DisplayFilter:
    """How to see one side of a flow in one capture."""

    flow: str
    role: str
    file: str
    """The capture to open; empty where the packets were in no file."""
    frames: str
    """By the numbers of its frames; empty for a flow that is not linked."""
    stream: str
    """By endpoints: all that ever was between them."""


def display_filters(case: CaseResult, flow: str) -> list[DisplayFilter]:
    """Filters for each capture that holds packets of a flow, or of the tunnel that carried it.

    Parameters
    ----------
    case : CaseResult
    flow : str
        Its id.

    Raises
    ------
    KeyError
        No such flow.
    """
    row = next((row for row in plain_rows(case.beside) if row["flow"] == flow), None)
    if row is None:
        raise KeyError(f"no flow {flow!r}")
    sides = [("egress", conversation(row["proto"], row["src"], row["dst"]))]
    packets = None
    if row["tunnel"] is not None:
        tunnel = next(each for each in plain_rows(case.tunnels) if each["id"] == row["tunnel"])
        sides.append(("ingress", conversation(tunnel["transport"], tunnel["client"], tunnel["server"])))
        packets = case.explain(flow)
    found = []
    for role, stream in sides:
        files = next(side["files"] for side in case.inputs if side["role"] == role)
        if packets is None:
            found += [DisplayFilter(flow, role, file["path"], "", stream) for file in files]
            continue
        for name, mine in packets.groupby(f"{role}_file", observed=True):
            numbers = mine[f"{role}_frame"].dropna().to_numpy(np.int64)
            found.append(DisplayFilter(flow, role, str(name), numbered(numbers.tolist()), stream))
        if not files:
            numbers = packets[f"{role}_frame"].dropna().to_numpy(np.int64)
            found.append(DisplayFilter(flow, role, "", numbered(numbers.tolist()), stream))
    return found


def numbered(frames: Iterable[int]) -> str:
    """A filter for frames by their numbers; runs of them as ranges.

    >>> numbered([9, 3, 4, 5])
    'frame.number in {3..5, 9}'
    """
    runs: list[list[int]] = []
    for frame in sorted(set(frames)):
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    texts = [str(first) if first == last else f"{first}..{last}" for first, last in runs]
    return f"frame.number in {{{', '.join(texts)}}}"


def conversation(proto: str, one: str, other: str) -> str:
    """A filter for all packets between two endpoints; endpoints of port 0 have none.

    >>> conversation("tcp", "192.0.2.1:4000", "192.0.2.80:443")
    'ip.addr == 192.0.2.1 && ip.addr == 192.0.2.80 && tcp.port == 4000 && tcp.port == 443'
    """
    (first, port), (second, other_port) = parted(one), parted(other)
    parts = [
        f"{'ipv6' if ipaddress.ip_address(address).version == 6 else 'ip'}.addr == {address}"
        for address in (first, second)
        if not ipaddress.ip_address(address).is_unspecified  # a server that is none: readable clients
    ]
    if proto in _WITH_PORTS:
        parts += [f"{_WITH_PORTS[proto]}.port == {each}" for each in (port, other_port) if each > 0]
    return " && ".join(parts)


def filter_text(filters: Iterable[DisplayFilter]) -> str:
    """The filters to copy, each below what it is of."""
    lines = []
    for each in filters:
        where = f" ({Path(each.file).name})" if each.file else ""
        lines.append(f"# {each.flow}, {each.role}{where}")
        lines += [text for text in (each.frames, each.stream) if text]
    return "".join(f"{line}\n" for line in lines)
