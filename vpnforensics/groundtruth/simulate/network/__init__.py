"""One client's network: scripts of messages in, packets with their times at both taps out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.network._kernels import run
from vpnforensics.groundtruth.simulate.network.links import Link, ServerLaw
from vpnforensics.groundtruth.simulate.network.links._kernels import LINK_STATE

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_BYTES_A_PACKET = 600  # scripted bytes a packet, cautious; the table grows when this is wrong
_MOST_PACKETS = 1 << 26


class World(NamedTuple):
    """All that a kernel touches; see `columns`."""

    packets: Ints
    flows: Ints
    endpoints: Ints
    holes: Ints
    messages: Ints
    heap: Ints
    frames: Ints
    counts: Ints
    random: npt.NDArray[np.uint64]
    links: Floats
    path: Ints
    law: Floats
    stalls: Ints
    tunnel: Ints


class Relay(NamedTuple):
    """How a relay carries byte streams."""

    channels: int
    """1: channels of one connection (ssh -D); 0: a connection a flow."""
    chunk_bytes: int
    """Most that one frame carries."""
    confirm_bytes: int
    """Frame that says that the server's connection stands; 0 where the client is not told."""
    close_bytes: int
    """Frames that end a channel."""
    first_down_bytes: int
    """Before the first frame down."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """What lies between one client's devices and the Internet.

    Parameters
    ----------
    up, down : Link
        The access path, towards the server and back.
    server : ServerLaw
        The VPN server's delay.
    crypto_ns : float
        Median time in the client's tunnel process.
    internet_loss : float
        Loss beyond the server, per direction.
    overhead_bytes : int
        What the tunnel adds to an inner packet: it loads the link.
    pad_bytes, pad_block, mtu : int
        Least inner length, the multiple it is padded to, and the length that padding never passes.
    stream_overhead : int
        Frame bytes added to each packet of a tunnel over TCP; -1 for a tunnel of datagrams.
    tunnel_flow : int
        Row of the tunnel's own connection among the flows; -1 without.
    frame_extra, frame_block : int
        A frame's content, with that many bytes more, is filled up to a multiple of the block.
    block_bytes : int
        What a block is on the wire; 0 where it has nothing of its own around it.
    adjust_bytes, adjust_after_bytes : int
        Frame that the receiver of a channel returns each time it has taken so much; 0 for none.
    inner_header, outer_header : int
        Bytes by which an inner, and an outer, IP header is longer than IPv4's.
    relay : Relay or None
        Where byte streams are carried, not packets.
    """

    up: Link
    down: Link
    server: ServerLaw
    crypto_ns: float
    internet_loss: float
    overhead_bytes: int
    pad_bytes: int = 0
    pad_block: int = 1
    mtu: int = 65535
    stream_overhead: int = -1
    tunnel_flow: int = -1
    frame_extra: int = 0
    frame_block: int = 1
    block_bytes: int = 0
    adjust_bytes: int = 0
    adjust_after_bytes: int = 0
    inner_header: int = 0
    outer_header: int = 0
    relay: Relay | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """Packets of one client, in the order they were sent, columns as in `columns`.

    Times are nanoseconds since the start of the simulation; -1 where the packet never got there.
    """

    packets: Ints
    frame_end: tuple[Ints, Ints]
    """Last stream byte of each frame of a tunnel over TCP, up and down."""
    frame_packet: tuple[Ints, Ints]
    """The inner packet in that frame; -1 for the tunnel's own messages."""

    def column(self, index: int) -> Ints:
        """One column."""
        return self.packets[:, index]

    def split(self, tunnel_flow: int) -> tuple[Traffic, Ints]:
        """Inner packets, and those of the tunnel's own connections, which are the flows from that row on.

        Echoes are renumbered within each part; frames go by the new rows of the inner packets.
        """
        own = self.packets[:, k.FLOW] >= tunnel_flow
        row = np.where(own, np.cumsum(own), np.cumsum(~own)) - 1
        packets = self.packets.copy()
        echo = packets[:, k.ECHO]
        packets[:, k.ECHO] = np.where(echo >= 0, row[np.maximum(echo, 0)], -1) if len(row) else echo
        frames = tuple(np.where(f >= 0, row[np.maximum(f, 0)], -1) for f in self.frame_packet)
        return Traffic(packets[~own], self.frame_end, (frames[0], frames[1])), packets[own]


def run_network(
    flows: Ints, endpoints: Ints, messages: Ints, wiring: Wiring, seed: int, end_ns: int
) -> Traffic:
    """Play the scripts of one client's flows through its network.

    Parameters
    ----------
    flows : ndarray of int64, shape (n, FLOW_COLUMNS)
        Rows as in `columns`; the caller's columns filled.
    endpoints : ndarray of int64, shape (2 n, ENDPOINT_COLUMNS)
        Client and Internet end of each flow, in turn.
    messages : ndarray of int64, shape (m, 4)
        Direction, bytes, wait and its kind; each flow's in one run of rows.
    wiring : Wiring
        The path.
    seed : int
        Of the kernel's own generator.
    end_ns : int
        When the simulation stops.

    Returns
    -------
    Traffic
    """
    capacity = int(messages[:, k.BYTES].sum()) // _BYTES_A_PACKET + 8 * len(messages) + 32 * len(flows) + 1024
    heap = 4096 + 8 * len(flows)
    while True:
        world = _world(flows, endpoints, messages, wiring, seed, capacity, heap)
        run(world, end_ns)
        problem = int(world.counts[k.PROBLEM])
        if problem == 0:
            break
        # Same seed, same events: only the room differs.
        if problem == 1:
            capacity *= 2
        else:
            heap *= 4
        if capacity > _MOST_PACKETS:
            raise MemoryError("one client sends more packets than one simulation can hold")
    count = int(world.counts[k.PACKETS])
    up, down = (world.frames[side, : world.counts[k.WRITTEN + side]].copy() for side in (k.UP, k.DOWN))
    return Traffic(world.packets[:count].copy(), (up[:, 0], down[:, 0]), (up[:, 1], down[:, 1]))


def _world(
    flows: Ints, endpoints: Ints, messages: Ints, wiring: Wiring, seed: int, capacity: int, heap: int
) -> World:
    def zeros(*shape: int) -> Any:
        return np.zeros(shape, np.int64)

    streams = capacity if wiring.stream_overhead >= 0 else 0
    law = wiring.server
    return World(
        packets=np.empty((capacity, k.PACKET_COLUMNS), np.int64),
        flows=flows.copy(),
        endpoints=endpoints.copy(),
        holes=zeros(len(endpoints), k.MAX_HOLES, 2),
        messages=messages,
        heap=zeros(heap, 3),
        frames=zeros(2, streams, k.FRAME_COLUMNS),
        counts=zeros(k.COUNTERS),
        random=np.array([seed], np.uint64),
        links=np.array([wiring.up, wiring.down], np.float64),
        path=zeros(2, LINK_STATE),
        law=np.array([*law.scalars, wiring.crypto_ns, wiring.internet_loss], np.float64),
        stalls=np.stack([law.stall_start_ns, law.stall_end_ns]),
        tunnel=np.array(
            [
                wiring.overhead_bytes,
                wiring.pad_bytes,
                wiring.pad_block,
                wiring.mtu,
                wiring.stream_overhead,
                wiring.tunnel_flow,
                wiring.frame_extra,
                wiring.frame_block,
                wiring.adjust_bytes,
                wiring.inner_header,
                wiring.outer_header,
                wiring.block_bytes or wiring.frame_block,
                wiring.adjust_after_bytes,
                *(wiring.relay or (0, 0, 0, 0, 0)),
            ],
            np.int64,
        ),
    )
