"""What a case needs of a client whose packets lie on disk: ends of its flows, and when they were seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.surroundings import ClientRun, Packets
from vpnforensics.groundtruth.simulate.traffic import Conversation


@dataclass(frozen=True, slots=True)
class Talks:
    """Conversations without what is said in them: protocol, Internet host, port there, device, kind."""

    proto: Ints
    host: Ints
    port: Ints
    device: Ints
    kind: tuple[str, ...]

    @classmethod
    def of(cls, talks: list[Conversation]) -> Talks:
        """Their columns."""
        ends = np.array([(t.proto, t.host, t.port, t.device) for t in talks], np.int64).reshape(-1, 4)
        proto, host, port, device = ends.T.copy()
        return cls(proto, host, port, device, tuple(talk.kind for talk in talks))


@dataclass(frozen=True, slots=True)
class Outline:
    """A client that was played: as :class:`ClientRun`, and its generator, which the NAT goes on with.

    ``inner`` says that its tunnel device was captured.
    """

    address: int
    ports: Ints
    carrier: Ints
    inner_address: Ints
    inner_port: Ints
    talks: Talks
    random: np.random.Generator
    inner: bool

    @classmethod
    def of(cls, run: ClientRun, random: np.random.Generator, *, inner: bool) -> Outline:
        """Of a run."""
        talks = Talks.of(run.talks)
        return cls(
            run.address, run.ports, run.carrier, run.inner_address, run.inner_port, talks, random, inner
        )


@dataclass(frozen=True, slots=True)
class Seen:
    """What the taps saw of a client.

    Parameters
    ----------
    ports : ndarray of int64
        Its own ports at the ingress tap.
    first_ns, last_ns, packets : ndarray of int64, shape (flows,)
        Of each of its flows at the egress tap, in true time; nonsense where there are no packets.
    """

    ports: Ints
    first_ns: Ints
    last_ns: Ints
    packets: Ints

    @classmethod
    def of(cls, packets: Packets, flows: int) -> Seen:
        """Of the packets, as they were captured."""
        rows, flow = packets.ingress.rows, packets.egress_flow
        ports = np.unique(np.where(rows["outgoing"], rows["dport"], rows["sport"])).astype(np.int64)
        first, last = np.full(flows, np.iinfo(np.int64).max), np.full(flows, -1)
        times = packets.egress.rows["ts_ns"]
        np.minimum.at(first, flow, times)
        np.maximum.at(last, flow, times)
        return cls(ports, first, last, np.bincount(flow, minlength=flows))
