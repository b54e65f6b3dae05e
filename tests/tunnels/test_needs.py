"""What connections need of a stream that carries many, and what passed there."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tables import table, tcp
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels._cell_kernels import count_cells
from vpnforensics.tunnels.cells import CELLS
from vpnforensics.tunnels.needs import (
    ANSWERS,
    DATA_DOWN,
    DATA_UP,
    ENDS_DOWN,
    OPENS,
    bytes_of,
    needs_of,
    passed,
)
from vpnforensics.tunnels.write_law import WriteLaw

MS = 1_000_000
SSH = bytes_of(WriteLaw("ssh", frame=20, unit=8, room=8, extra=14))
CLIENT, SERVER = ("10.0.0.2", 40000), ("10.0.0.1", 22)


@pytest.mark.parametrize(
    ("pieces", "cells"),
    [
        ([536], [1]),
        ([536, 536, 536], [1, 1, 1]),
        ([1448, 1448, 210], [2, 3, 1]),  # one record of six
        ([1448, -1144], [2, 3]),  # one record of five, within which the sender waited
        ([33, -536], [0, 1]),  # something else, then a cell
        ([4070, 4070], [7, 8]),  # 4,048 bytes of cells in each
    ],
)
def test_bytes_tell_cells(pieces, cells):
    size = np.abs(np.array(pieces, np.int64))
    ts_ns = np.cumsum(np.where(np.array(pieces) < 0, 15 * MS, 1000))
    count = np.zeros(len(size), np.int64)
    count_cells(np.zeros(len(size), np.int64), ts_ns, size, (514, 22, 4048), 2 * MS, count)
    assert count.tolist() == cells
    assert CELLS.seen(np.zeros(len(size), np.int64), ts_ns, size).tolist() == cells


def conversation():
    """Opened, asked in one segment, answered in bursts of 2,000 and 300 bytes, and ended by the server."""
    rows = [
        tcp(0.0, *CLIENT, *SERVER, 0x02, seq=99),
        tcp(0.020, *SERVER, *CLIENT, 0x12, seq=499),
        tcp(0.030, *CLIENT, *SERVER, 0x18, seq=100, payload_bytes=120),
        tcp(0.050, *SERVER, *CLIENT, 0x10, seq=500, payload_bytes=1448),
        tcp(0.052, *SERVER, *CLIENT, 0x18, seq=1948, payload_bytes=552),
        tcp(0.090, *SERVER, *CLIENT, 0x18, seq=2500, payload_bytes=300),
        tcp(0.095, *SERVER, *CLIENT, 0x11, seq=2800),
        tcp(0.096, *CLIENT, *SERVER, 0x11, seq=220),
    ]
    return assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)


@pytest.mark.parametrize(
    ("measure", "amounts", "parts"),
    [
        (CELLS, [1, 1, 1, 5, 1, 1], [1, 1, 1, 3, 2, 1, 1]),  # 1,448 bytes begin a third cell
        # Channel messages of 59, 17 and 5 bytes; data in blocks of 8 with 14 bytes more, and 20.
        (SSH, [84, 44, 156, 2036, 340, 36], [84, 44, 156, 1484, 552, 340, 36]),
    ],
)
def test_a_connection_needs_what_opens_and_ends_it_and_its_bursts(measure, amounts, parts):
    flows = conversation()
    needs, of = needs_of(flows, flows.packets.ts_ns, measure)
    assert needs.kind.tolist() == [OPENS, ANSWERS, DATA_UP, DATA_DOWN, DATA_DOWN, ENDS_DOWN]
    assert needs.down.tolist() == [0, 1, 0, 1, 1, 1]
    assert (needs.begin_ns // MS).tolist() == [0, 20, 30, 50, 90, 95]
    assert (needs.end_ns // MS).tolist() == [0, 20, 30, 52, 90, 95]
    assert needs.amount.tolist() == amounts
    order = np.argsort(of.ts_ns, kind="stable")
    assert of.amount[order].tolist() == parts
    assert (np.bincount(of.need, of.amount) == needs.amount).all()


def test_without_known_messages_only_bursts_are_needed():
    flows = conversation()
    needs, _ = needs_of(flows, flows.packets.ts_ns, bytes_of(WriteLaw("shadowsocks", frame=34)))
    assert needs.kind.tolist() == [DATA_UP, DATA_DOWN, DATA_DOWN]
    assert needs.amount.tolist() == [154, 2034, 334]


@pytest.mark.parametrize("forward", [True, False])
def test_what_passed_is_by_client_direction_and_time(forward):
    flows = conversation()
    found = passed(flows, np.array([3]), np.array([forward]), SSH)
    up, down = (6, 7) if forward else (7, 6)
    want = sorted([(up, 30, 120), (down, 50, 1448), (down, 52, 552), (down, 90, 300)])
    assert list(zip(found.stream, found.ts_ns // MS, found.amount, strict=True)) == want
    assert len(passed(flows, np.array([-1]), np.array([forward]), SSH)) == 0
