"""The parts of a case, in one process or in several: clients, visitors, the server's own conversations.

A part is played (its packets to the taps), then settled (with the ports that the NAT gave it, and the
delays of the capturing machines). Between the two its packets lie on disk. Each part has random numbers of
its own, so that its packets are the same whoever plays it, and when.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.background import own_traffic, visit
from vpnforensics.groundtruth.simulate.client import carry
from vpnforensics.groundtruth.simulate.clocks import TimestampClock
from vpnforensics.groundtruth.simulate.frames import RECORD, write_frames, write_header
from vpnforensics.groundtruth.simulate.inner import write_inner
from vpnforensics.groundtruth.simulate.nat import translate_rows
from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outer import PROTOCOLS, Protocol
from vpnforensics.groundtruth.simulate.outlines import Outline, Seen
from vpnforensics.groundtruth.simulate.population import make_population, server_law
from vpnforensics.groundtruth.simulate.spec import Capture, Client, SimulationSpec
from vpnforensics.groundtruth.simulate.surroundings import (
    InnerRun,
    Packets,
    Records,
    Surroundings,
)
from vpnforensics.groundtruth.simulate.tape import Tape
from vpnforensics.groundtruth.simulate.taps import Clocks
from vpnforensics.groundtruth.simulate.truth import address_number

_SERVER, _INTERNET, _CLIENTS, _FILLER, _VISITS, _OWN = range(6)


@dataclass(frozen=True, slots=True)
class Settled:
    """A part whose packets are on the tapes.

    Parameters
    ----------
    first_ns : int or None
        True time of its first packet at the ingress tap.
    seen : Seen
    ingress_bytes, egress_bytes : ndarray of int64, shape (BINS,)
        What its packets of each bin take in the captures.
    """

    first_ns: int | None
    seen: Seen
    ingress_bytes: Ints
    egress_bytes: Ints


class Player:
    """Plays parts of one case; any process makes the same of the same arguments.

    Parameters
    ----------
    spec : SimulationSpec
    seed : int
    folder : Path
        Where captures are written.
    work : Path
        For what lies on disk meanwhile.
    """

    def __init__(self, spec: SimulationSpec, seed: int, folder: Path, work: Path) -> None:
        self._spec, self._seed, self._folder, self._work = spec, seed, folder, work
        self.around = _surroundings(spec, seed)
        self.clients, self.visits, self.own = (
            len(spec.clients),
            spec.background.ingress,
            spec.background.egress,
        )
        self.parts = self.clients + self.visits + self.own
        self.tapes = {
            side: Tape(work / side, self.parts, self.around.end_ns) for side in ("ingress", "egress")
        }

    def play(self, part: int) -> Outline:
        """Simulate a part, and leave its packets on disk."""
        number = part - self.clients
        if part < self.clients:
            client = self._spec.clients[part]
            random = generator(self._seed, _CLIENTS, part)
            run = carry(client, part, protocol_of(client, self._spec), self.around, random)
        elif number < self.visits:
            random = generator(self._seed, _VISITS, number)
            run = visit(number, self.around, random).run
        else:
            random = generator(self._seed, _OWN, number - self.visits)
            run = own_traffic(number - self.visits, self.around, random)
        with self._played(part).open("wb") as file:
            _save(file, run.packets)
        return Outline.of(run, random, inner=run.packets.inner is not None)

    def settle(self, part: int, run: Outline, public: Ints) -> Settled:
        """Put the packets of a part that was played on the tapes.

        Parameters
        ----------
        part : int
        run : Outline
            What came of playing it, its generator as the NAT left it.
        public : ndarray of int64, shape (flows,)
            Ports that the NAT gave its flows.
        """
        path = self._played(part)
        with path.open("rb") as file:
            packets = _load(file, inner=run.inner)
        path.unlink()
        translate_rows(packets, public)
        late(packets.ingress, self._spec.ingress, run.random)
        late(packets.egress, self._spec.egress, run.random)
        if packets.inner is not None:
            name = f"inner-{self._spec.clients[part].name}.pcap"
            write_inner(self._folder / name, packets, public, self.around, filler_seed(self._seed))
        times = packets.ingress.rows["ts_ns"]
        return Settled(
            int(times.min()) if len(times) else None,
            Seen.of(packets, len(public)),
            self.tapes["ingress"].put(part, packets.ingress, self._spec.ingress),
            self.tapes["egress"].put(part, packets.egress, self._spec.egress),
        )

    def begin(self, side: str) -> int:
        """Begin a capture file; returns its bytes."""
        with self._capture(side).open("wb") as file:
            write_header(file, self._tap(side))
            return file.tell()

    def write(self, side: str, span: tuple[int, int], offset: int, first_ns: int) -> None:
        """Write the frames of a span of time into their place in a capture that is there already.

        Parameters
        ----------
        side : str
            ``ingress`` or ``egress``.
        span : (int, int)
            First bin, and the one after the last.
        offset : int
            Where in the file, bytes.
        first_ns : int
            As for :class:`Clocks`.
        """
        capture = self._tap(side)
        records = self.tapes[side].read(*span)
        times = records.rows["ts_ns"]
        # Stable: frames of one instant stand in the order of the parts.
        order = np.argsort(times, kind="stable")
        shown = Clocks(self._spec, first_ns).shown(times[order], capture)
        with self._capture(side).open("r+b") as file:
            file.seek(offset)
            seed = filler_seed(self._seed)
            write_frames(file, records.rows, records.content, order, shown, capture, seed)

    def _tap(self, side: str) -> Capture:
        return self._spec.ingress if side == "ingress" else self._spec.egress

    def _capture(self, side: str) -> Path:
        return self._folder / f"{side}.pcap"

    def _played(self, part: int) -> Path:
        return self._work / f"{part}.played"


def generator(seed: int, *key: int) -> np.random.Generator:
    """An independent stream: the same for the same key whatever else a case holds."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def filler_seed(seed: int) -> int:
    """Seed of the payload that means nothing."""
    return int(generator(seed, _FILLER).integers(1 << 62))


def late(records: Records, capture: Capture, random: np.random.Generator) -> None:
    """Delay time stamps as a slow capturing machine does."""
    if capture.jitter_s:
        delay = random.exponential(capture.jitter_s * 1e9, len(records.rows))
        records.rows["ts_ns"] += delay.astype(np.int64)


def protocol_of(client: Client, spec: SimulationSpec) -> Protocol:
    """A client's protocol, with the case's port and MTU."""
    protocol = PROTOCOLS[client.protocol or spec.protocol]
    return dataclasses.replace(protocol, port=spec.port or protocol.port, mtu=spec.mtu or protocol.mtu)


def _surroundings(spec: SimulationSpec, seed: int) -> Surroundings:
    end_ns = int(spec.duration_s * 1e9)
    random = generator(seed, _SERVER)
    return Surroundings(
        spec,
        make_population(spec, end_ns, generator(seed, _INTERNET)),
        server_law(spec.server, spec.countermeasures, end_ns, random),
        TimestampClock(spec.server.stack.clock, end_ns, random),
        address_number(spec.server.address),
        address_number(spec.server.egress_address),
        end_ns,
    )


_BYTE, _NUMBER = np.dtype(np.uint8), np.dtype(np.int64)
_TAPS: tuple[np.dtype[Any], ...] = (RECORD, _BYTE, RECORD, _BYTE, _NUMBER, _NUMBER)
_INNER: tuple[np.dtype[Any], ...] = (RECORD, _BYTE, _NUMBER, _NUMBER, _NUMBER)


def _save(file: IO[bytes], packets: Packets) -> None:
    inner = packets.inner
    arrays: list[npt.NDArray[Any]] = [
        packets.ingress.rows,
        packets.ingress.content,
        packets.egress.rows,
        packets.egress.content,
        packets.egress_flow,
        packets.egress_packet,
    ]
    if inner is not None:
        arrays += [inner.records.rows, inner.records.content, inner.flow, inner.packet, inner.out_ns]
    file.write(np.array([len(array) for array in arrays]).data)
    for array, dtype in zip(arrays, _TAPS + _INNER, strict=False):
        assert array.dtype == dtype
        file.write(np.ascontiguousarray(array).view(np.uint8).data)


def _load(file: IO[bytes], *, inner: bool) -> Packets:
    dtypes = _TAPS + _INNER if inner else _TAPS
    lengths = np.fromfile(file, _NUMBER, len(dtypes)).tolist()
    a = [np.fromfile(file, dtype, n) for dtype, n in zip(dtypes, lengths, strict=True)]
    tun = InnerRun(Records(a[6], a[7]), a[8], a[9], a[10]) if inner else None
    return Packets(Records(a[0], a[1]), Records(a[2], a[3]), a[4], a[5], tun)
