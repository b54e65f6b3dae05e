"""Tor's cells: those that passed the ingress tap, and how many a connection needs.

A relay packs what it reads into cells of 514 bytes with 498 of data (tor-spec, 3 and 6.1). Cells that wait
are handed to TLS together, 4,048 bytes at most a record (tor 0.4.9, src/lib/buf/buffers.c), and each record
has 22 bytes of its own: so bytes tell the cells, and no record need be read.

Besides cells for its data a connection needs single ones: that which asks the exit to open it (RELAY_BEGIN)
passes before its SYN, the answer (RELAY_CONNECTED) after its SYN-ACK, and one ends it (RELAY_END), from
whoever did (tor-spec, 6.2 and 6.3). And of each 31 data cells one is answered (SENDME: proposal 324).
"""

from __future__ import annotations

import numpy as np

from vpnforensics.arrays import Ints
from vpnforensics.tunnels._cell_kernels import count_cells
from vpnforensics.tunnels.needs import Measure
from vpnforensics.tunnels.write_law import CELL_BYTES, CELL_DATA_BYTES

_RECORD_BYTES, _RECORD_ROOM_BYTES = 22, 4048
_PAUSE_NS = 2_000_000
"""Within one record its segments follow each other faster, but where a sender waits for acknowledgements."""
_CELLS_A_SENDME = 31


def _counted(stream: Ints, ts_ns: Ints, size: Ints) -> Ints:
    """Cells that each piece of some streams completes."""
    count = np.zeros(len(stream), np.int64)
    count_cells(stream, ts_ns, size, (CELL_BYTES, _RECORD_BYTES, _RECORD_ROOM_BYTES), _PAUSE_NS, count)
    return count


CELLS = Measure(
    seen=_counted,
    needed=lambda size: -(-size // CELL_DATA_BYTES),
    opens=1,
    answers=1,
    ends=1,
    grain=1,
    spare=0,
    answered=_CELLS_A_SENDME,
)
