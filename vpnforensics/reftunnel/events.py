"""What a device has to say: datagrams to send, packets to deliver, and things worth telling."""

from __future__ import annotations

from dataclasses import dataclass

from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.peers import Peer


@dataclass(frozen=True, slots=True)
class Transmit:
    """A datagram to be sent; `packet` is the inner packet, if it carries one."""

    peer: Peer | None
    datagram: bytes
    endpoint: Endpoint
    packet: bytes = b""


@dataclass(frozen=True, slots=True)
class Deliver:
    """An inner packet that came, for the operating system; counter and size are of the message around it."""

    peer: Peer
    packet: bytes
    counter: int
    outer_bytes: int


@dataclass(frozen=True, slots=True)
class Refused:
    """An authentic message whose content, padded as it came, is not for the operating system."""

    peer: Peer
    padded: bytes
    counter: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A session with a peer may carry data from now on."""

    peer: Peer
    is_rekey: bool


@dataclass(frozen=True, slots=True)
class Moved:
    """A peer was heard from another endpoint."""

    peer: Peer
    old: Endpoint | None
    new: Endpoint


@dataclass(frozen=True, slots=True)
class Disconnected:
    """All keys of a peer were erased."""

    peer: Peer


Output = Transmit | Deliver | Refused | Connected | Moved | Disconnected
