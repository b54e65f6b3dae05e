"""What all clients of a case share, and what one of them leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.network.links import ServerLaw
from vpnforensics.groundtruth.simulate.population import Population
from vpnforensics.groundtruth.simulate.spec import Capture, SimulationSpec
from vpnforensics.groundtruth.simulate.traffic import Conversation

UP, DOWN = 0, 1
ICMP, TCP, UDP, ESP = 1, 6, 17, 50


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Server, Internet and span of a case. Nothing here changes while clients run."""

    spec: SimulationSpec
    population: Population
    law: ServerLaw
    server_clock: TimestampClock
    server_address: int
    egress_address: int
    end_ns: int


def captured(at_ns: Ints, capture: Capture, client: str, end_ns: int, random: np.random.Generator) -> Ints:
    """Rows that a tap holds of what one client sent by it (-1: never came there)."""
    caught = random.random(len(at_ns)) >= capture.loss
    caught &= (at_ns >= max(int(capture.start_s * 1e9), 0)) & (at_ns < end_ns)
    return np.flatnonzero(caught & (client not in capture.without))


@dataclass(frozen=True, slots=True)
class Records:
    """Packets at one tap (rows of `frames.RECORD`), and the content they point into."""

    rows: npt.NDArray[np.void]
    content: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ClientRun:
    """What one client left at both taps.

    Parameters
    ----------
    address, port : int
        The tunnel's outer endpoint.
    inner_address : ndarray of int64
        Of each device.
    inner_port : ndarray of int64, shape (n,)
        Source ports behind the NAT (the identifier of a ping), one a conversation.
    talks : list of Conversation
        One per inner flow.
    ingress, egress : Records
        The egress rows bear the inner port: the NAT comes later, because it is shared.
    egress_flow : ndarray of int64
        The conversation of each egress row.
    """

    address: int
    port: int
    inner_address: Ints
    inner_port: Ints
    talks: list[Conversation]
    ingress: Records
    egress: Records
    egress_flow: Ints
