"""What all clients of a case share, and what one of them leaves behind."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.frames import RECORD
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


def joined(parts: list[Records]) -> Records:
    """Records one after the other."""
    offset = 0
    for part in parts:
        part.rows["content"] += offset
        offset += len(part.content)
    if not parts:
        return Records(np.empty(0, RECORD), np.empty(0, np.uint8))
    return Records(np.concatenate([p.rows for p in parts]), np.concatenate([p.content for p in parts]))


@dataclass(frozen=True, slots=True)
class InnerRun:
    """Packets at a client's tunnel device.

    Parameters
    ----------
    records : Records
        With inner addresses and ports.
    flow, packet : ndarray of int64, shape (n,)
        Each row's conversation, and its packet's number.
    out_ns : ndarray of int64, shape (n,)
        When the same packet stood at the egress tap; -1 for never.
    """

    records: Records
    flow: Ints
    packet: Ints
    out_ns: Ints


@dataclass(frozen=True, slots=True)
class Packets:
    """What one client left at the taps.

    Parameters
    ----------
    ingress, egress : Records
        The egress rows bear the inner port: the NAT comes later, because it is shared.
    egress_flow, egress_packet : ndarray of int64
        The conversation of each egress row, and its packet's number.
    inner : InnerRun or None
        What the client's tunnel device saw, where that is asked for.
    """

    ingress: Records
    egress: Records
    egress_flow: Ints
    egress_packet: Ints
    inner: InnerRun | None = None


@dataclass(frozen=True, slots=True)
class ClientRun:
    """One client's conversations, and their packets.

    Parameters
    ----------
    address : int
        The client's outer address.
    ports : ndarray of int64
        Of its outer connections: one, unless a relay opens one a flow.
    carrier : ndarray of int64, shape (n,)
        The outer connection of each conversation, an index into `ports`.
    inner_address : ndarray of int64
        Of each device.
    inner_port : ndarray of int64, shape (n,)
        Source ports behind the NAT (the identifier of a ping), one a conversation.
    talks : list of Conversation
        One per inner flow.
    packets : Packets
    """

    address: int
    ports: Ints
    carrier: Ints
    inner_address: Ints
    inner_port: Ints
    talks: list[Conversation]
    packets: Packets
