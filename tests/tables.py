"""Packet tables made by hand: what a test says about packets, and defaults for the rest."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from vpnforensics.packets.table import AddressTable, PacketTable


def table(packets: Iterable[Mapping[str, Any]]) -> PacketTable:
    """Rows from dictionaries; ``src`` and ``dst`` as text, any column may be left out."""
    rows = list(packets)
    names: dict[str, int] = {}
    columns: dict[str, Any] = {}
    for spec in PacketTable.schema():
        if spec.name in ("src", "dst"):
            values = [names.setdefault(str(row[spec.name]), len(names)) for row in rows]
        elif spec.name == "head":
            heads = [bytes(row.get("head", b""))[:32].ljust(32, b"\0") for row in rows]
            columns["head"] = np.frombuffer(b"".join(heads), np.uint8).reshape(-1, 32).copy()
            continue
        elif spec.name == "frame":
            values = [row.get("frame", n + 1) for n, row in enumerate(rows)]
        elif spec.name == "ip_version":
            values = [row.get("ip_version", 6 if ":" in str(row["src"]) else 4) for row in rows]
        else:
            default = {"ip_id": -1, "proto": 6, "ttl": 64, "ip_len_bytes": 40}.get(spec.name, 0)
            values = [row.get(spec.name, default) for row in rows]
        columns[spec.name] = np.array(values, spec.dtype)
    packed = np.zeros((len(names), 16), np.uint8)
    version = np.zeros(len(names), np.uint8)
    for text, number in names.items():
        address = ipaddress.ip_address(text)
        packed[number, 16 - len(address.packed) :] = np.frombuffer(address.packed, np.uint8)
        version[number] = address.version
    return PacketTable(**columns, addresses=AddressTable(packed, version))


def tcp(
    ts_s: float, src: str, sport: int, dst: str, dport: int, flags: int = 0x10, **more: Any
) -> dict[str, Any]:
    """One TCP packet."""
    return {
        "ts_ns": round(ts_s * 1e9),
        "src": src,
        "sport": sport,
        "dst": dst,
        "dport": dport,
        "tcp_flags": flags,
        **more,
    }


def udp(
    ts_s: float, src: str, sport: int, dst: str, dport: int, payload_bytes: int = 40, **more: Any
) -> dict[str, Any]:
    """One UDP packet."""
    return {
        "ts_ns": round(ts_s * 1e9),
        "proto": 17,
        "src": src,
        "sport": sport,
        "dst": dst,
        "dport": dport,
        "payload_bytes": payload_bytes,
        "ip_len_bytes": payload_bytes + 28,
        **more,
    }
