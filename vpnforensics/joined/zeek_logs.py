"""A case's flows beside logs that Zeek made of the same side: names, and the uids to look them up by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from vpnforensics.features.names.find import FlowNames, Lookup
from vpnforensics.features.names.wire import MOST_NAME_BYTES, spelled
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.logs.zeek import ZeekLog, ZeekRow
from vpnforensics.report.escaping import visible
from vpnforensics.report.quantities import many, span
from vpnforensics.report.rows import PROTOCOL_NAMES

_SLACK_NS = 5_000_000_000
"""A row and its flow are no further apart: Zeek and this program end a flow at other silences."""
_LEAST_ROWS = 5
"""Rows that have to agree before another clock is believed: a port that was used again agrees by chance."""
_MOST_UIDS = 20


@dataclass(eq=False)
class JoinedZeek:
    """What the logs add to a case, beside the names."""

    uids: list[list[str]]
    """Of each flow, in order of the logs."""
    findings: list[str] = field(default_factory=list)
    told: dict[str, Any] | None = None
    """The result contract's ``zeek``; None without a log."""


def join_zeek(flows: FlowTable, names: FlowNames, paths: Sequence[str | Path]) -> JoinedZeek:
    """Join logs of Zeek to flows; names that they have and the capture did not go into ``names``.

    A row belongs to a flow of its Community ID or, without, of its endpoints and protocol, at its time.

    Parameters
    ----------
    flows : FlowTable
    names : FlowNames
        Of these flows.
    paths : sequence of str or Path

    Raises
    ------
    LogError
        One cannot be opened.
    """
    joined = JoinedZeek([[] for _ in range(len(flows))])
    if not paths:
        return joined
    keys = _Keys(flows)
    files, known = [], set()
    for path in paths:
        log = ZeekLog(path)
        rows = [(row, mine) for row in log if (mine := keys.flows_of(row))]
        offset_ns = _offset_ns(rows, flows)
        matched = 0
        for row, mine in rows:
            flow = _at_its_time(row.ts_ns - offset_ns, mine, flows)
            if flow is None:
                continue
            matched += 1
            known.add(flow)
            _tell(row, flow, row.ts_ns - offset_ns, names, joined)
        files.append(_file_row(log, str(path), matched, offset_ns))
        joined.findings += _findings(log, files[-1])
    names.lookups.sort(key=lambda lookup: lookup.ts_ns)
    joined.told = {"files": files, "flows": len(known)}
    return joined


class _Keys:
    """Flows by Community ID, and by endpoints and protocol in either direction."""

    def __init__(self, flows: FlowTable) -> None:
        self._flows: defaultdict[Any, list[int]] = defaultdict(list)
        for flow, name in enumerate(flows.community_ids):
            proto = PROTOCOL_NAMES.get(int(flows.proto[flow]), "")
            ends = flows.source(flow), flows.destination(flow)
            self._flows[name].append(flow)
            if proto in ("tcp", "udp"):
                self._flows[frozenset((proto, *ends))].append(flow)

    def flows_of(self, row: ZeekRow) -> list[int]:
        """Flows that a row may be of."""
        by_id = self._flows.get(row.community_id, []) if row.community_id else []
        # Another seed makes other Community IDs.
        for proto in () if by_id else (row.proto,) if row.proto else ("tcp", "udp"):
            by_id = by_id or self._flows.get(frozenset((proto, row.originator, row.responder)), [])
        return by_id


def _offset_ns(rows: Sequence[tuple[ZeekRow, list[int]]], flows: FlowTable) -> int:
    """By how much Zeek's clock is ahead of the capture's, where enough rows say so; else 0."""
    apart = [row.ts_ns - int(flows.first_ns[mine[0]]) for row, mine in rows if len(mine) == 1]
    if len(apart) < _LEAST_ROWS:
        return 0
    middle = int(median(apart))
    agree = sum(abs(each - middle) <= _SLACK_NS for each in apart)
    return middle if abs(middle) > _SLACK_NS and 2 * agree > len(apart) and agree >= _LEAST_ROWS else 0


def _at_its_time(ts_ns: int, candidates: Sequence[int], flows: FlowTable) -> int | None:
    def away_ns(flow: int) -> int:
        return max(int(flows.first_ns[flow]) - ts_ns, ts_ns - int(flows.last_ns[flow]), 0)

    nearest = min(candidates, key=away_ns)
    return nearest if away_ns(nearest) <= _SLACK_NS else None


def _tell(row: ZeekRow, flow: int, ts_ns: int, names: FlowNames, joined: JoinedZeek) -> None:
    uids = joined.uids[flow]
    if row.uid and row.uid not in uids and len(uids) < _MOST_UIDS:
        uids.append(row.uid)
    for octets in row.names:
        name = _name(octets)
        if name is None:
            continue
        if name not in {known for known, _ in names.own.get(flow, ())}:
            names.add(flow, name, "zeek")
        for address, ttl_s in row.answers:
            names.lookups.append(Lookup(flow, ts_ns, name, address, ttl_s, "zeek_dns"))


def _name(octets: bytes) -> str | None:
    """A host's name, spelled as those that the capture has; without the port of an HTTP host."""
    host, _, port = octets.rpartition(b":")
    if host and port.isdigit() and b":" not in host:
        octets = host
    octets = octets.rstrip(b".")
    return spelled(octets) if 0 < len(octets) <= MOST_NAME_BYTES else None


def _file_row(log: ZeekLog, path: str, matched: int, offset_ns: int) -> dict[str, Any]:
    return {
        "path": path,
        "sha256": log.stored.sha256,
        "bytes": log.stored.bytes,
        "kinds": sorted(log.kinds),
        "rows": log.rows,
        "unknown": log.unknown,
        "matched": matched,
        "offset_ns": offset_ns,
    }


def _findings(log: ZeekLog, row: dict[str, Any]) -> Iterator[str]:
    name = visible(row["path"])
    if log.stored.fault:
        yield f"{name}: its end cannot be read: {visible(log.stored.fault)}"
    if row["unknown"]:
        yield f"{name}: {many(row['unknown'], 'line')} in no form of Zeek's"
    if not row["rows"]:
        yield f"{name}: no log of Zeek with connections (conn, ssl, dns, http or quic, as TSV or JSON)"
    elif not row["matched"]:
        yield f"{name}: no row is of a flow of the egress capture; is it of this side, and of its time?"
    if row["offset_ns"]:
        way = "ahead of" if row["offset_ns"] > 0 else "behind"
        yield (
            f"{name}: its clock is {span(abs(row['offset_ns']))} {way} the egress capture's;"
            " rows are compared without that"
        )
