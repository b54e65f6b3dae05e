"""A capture with its truth: what the generator wrote, not what anybody recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.corpus.wire import Endpoint, Packet, Wire, pcap

DONE, UNREADABLE = 0, 3


@dataclass(frozen=True, slots=True)
class Vpn:
    """A tunnel that is in a capture."""

    protocol: str
    client: str
    server: str
    variant: str | None = None
    """``None`` where none is claimed."""
    sure: bool = True
    """Whether what was written tells it from everything else; if not, it is to be a candidate."""


@dataclass(frozen=True, slots=True)
class Specimen:
    """One capture (or the two sides of a server), and what is to be said of it."""

    name: str
    family: str
    ingress: bytes
    egress: bytes | None
    tunnels: tuple[Vpn, ...]
    """Every tunnel that is to be named; what else is called one has to be a candidate."""
    exit_code: int
    """Of ``correlate`` with this file alone, or with both sides."""
    carried: Mapping[str, str]
    """Which client each flow's source came from: nothing else may be linked, and none of it denied."""
    least_links: int
    """So many flows at least are plain enough to be linked."""
    says: str
    """What has to stand among the warnings, or in the refusal."""


@dataclass
class Draft:
    """A specimen in the making."""

    name: str
    family: str
    wire: Wire = field(init=False)
    outside: Wire = field(init=False)
    """Frames of the Internet-facing side: the same wire, where one capture saw both."""
    tunnels: list[Vpn] = field(default_factory=list)
    carried: dict[str, str] = field(default_factory=dict)
    apart: bool = False
    least_links: int = 0
    says: str = ""

    def __post_init__(self) -> None:
        self.wire = Wire(self.name)
        self.outside = Wire(self.name + ", outside") if self.apart else self.wire

    def holds(
        self,
        protocol: str,
        client: Endpoint,
        server: Endpoint,
        variant: str | None = None,
        *,
        sure: bool = True,
    ) -> None:
        """Write down that a tunnel is in the capture."""
        self.tunnels.append(Vpn(protocol, str(client), str(server), variant, sure))

    def done(
        self,
        write: Callable[[list[Packet]], bytes] = pcap,
        *,
        write_outside: Callable[[list[Packet]], bytes] | None = None,
        exit_code: int | None = None,
    ) -> Specimen:
        """The finished specimen; a case where it has tunnels that are sure, and flows beside them."""
        if exit_code is None:
            exit_code = DONE if self.carried and any(t.sure for t in self.tunnels) else UNREADABLE
        return Specimen(
            self.name,
            self.family,
            write(self.wire.sorted()),
            (write_outside or write)(self.outside.sorted()) if self.apart else None,
            tuple(self.tunnels),
            exit_code,
            dict(self.carried),
            self.least_links,
            self.says,
        )
