"""What delays and loses a packet: links with queues, the server's process, chance."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

JITTER_LAWS = ("exponential", "normal", "uniform", "pareto")


class Link(NamedTuple):
    """One direction of an access path, as the kernels take it.

    Cross traffic is a Poisson stream of bursts into one first-in-first-out queue: what a packet
    waits for it is the virtual waiting time of an M/G/1 queue, so waits come in correlated sawteeth
    as they do behind a real bottleneck, not as independent noise.
    """

    ns_per_byte: float
    """Serialisation; 0 for an infinitely fast link."""
    delay_ns: float
    jitter_ns: float
    """Mean of a per-packet delay."""
    law: int
    """Of that delay: index into JITTER_LAWS."""
    loss: float
    queue_ns: float
    """Longest wait for one's own earlier packets; beyond it the tail is dropped."""
    burst_hz: float
    burst_ns: float
    """Mean length of a cross-traffic burst (exponential)."""
    reorder: float
    """Share of packets that leave the queue's order."""
    reorder_ns: float
    """Mean extra delay of those (exponential)."""


class ServerLaw(NamedTuple):
    """How long the VPN server holds a packet."""

    service_ns: float
    """Median of the log-normal handling time."""
    sigma: float
    gap_ns: float
    """Least time between two packets of one direction: the work of one packet."""
    loss: float
    batch_ns: float
    """Packets leave only at multiples of this; 0 for at once."""
    slot_up_ns: float
    """Constant-rate cover traffic: the client sends one datagram a slot; 0 for off."""
    slot_down_ns: float
    stall_start_ns: npt.NDArray[np.int64]
    """Moments at which the process is not scheduled, ascending, and their ends."""
    stall_end_ns: npt.NDArray[np.int64]

    @property
    def scalars(self) -> tuple[float, ...]:
        """All but the stalls, in the order of the kernels' columns."""
        return self[:7]
