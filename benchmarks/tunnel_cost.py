"""What a full packet costs the reference tunnel in its own process, part by part; no root, no network.

``python benchmarks/tunnel_cost.py`` cuts, seals and sends super-segments into nothing, and opens, joins and
writes them into nothing, with and without a journal, and prints processor time a packet: the least of many
short runs, since other work on the machine only adds. What the kernel does is not in it.
"""

from __future__ import annotations

import argparse
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.reftunnel.pair import UP, Node, Wire, make_pair
from vpnforensics.reftunnel import _kernels
from vpnforensics.reftunnel.carrier import ALL_TAKEN
from vpnforensics.reftunnel.inbound import Inbound
from vpnforensics.reftunnel.journal import Journal
from vpnforensics.reftunnel.outbound import Outbound
from vpnforensics.reftunnel.tun import VNET_HEADER_BYTES, vnet_header

SEGMENT_BYTES, SEGMENTS = 1368, 46
PACKET_BYTES = SEGMENT_BYTES + 52
ROW_BYTES = 1516


class Nowhere:
    """A carrier that takes everything, and keeps it if told to."""

    port = 0

    def __init__(self) -> None:
        self.kept: list[tuple[memoryview, int]] | None = None

    def send(self, data: memoryview, segment: int, endpoint: object) -> object:
        """Take all."""
        if self.kept is not None:
            self.kept.append((memoryview(bytes(data)), segment))
        return ALL_TAKEN

    def queue(self, endpoint: object) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """There is nothing to close."""


def super_segment() -> bytes:
    """What the kernel hands over: a virtio header and one TCP packet of 46 segments."""
    payload = os.urandom(SEGMENT_BYTES * SEGMENTS)
    addresses = bytes((10, 0, 0, 2, 10, 0, 0, 1))
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 52 + len(payload), 1, 0x4000, 64, 6, 0) + addresses
    tcp = struct.pack(">HHIIBBHHH", 5000, 5201, 1, 1, 8 << 4, 0x10, 1000, 0, 0) + bytes(12)
    return vnet_header.pack(1, 1, 52, SEGMENT_BYTES, 20, 16) + ip + tcp + payload


def least_us(action: Callable[[], int], runs: int) -> float:
    """Least processor time a packet, of runs that each return how many packets they moved."""
    least = float("inf")
    for _ in range(runs):
        before = time.thread_time()
        packets = action()
        least = min(least, (time.thread_time() - before) / packets * 1e6)
    return least


def cipher_us(runs: int) -> tuple[float, float]:
    """Sealing and opening alone."""
    cipher, nonce = ChaCha20Poly1305(os.urandom(32)), bytes(12)
    plain = memoryview(bytearray(PACKET_BYTES))
    sealed = memoryview(bytearray(PACKET_BYTES + 16))

    def repeat(call: Callable[[], object]) -> Callable[[], int]:
        def action() -> int:
            for _ in range(1000):
                call()
            return 1000

        return action

    seal = least_us(repeat(lambda: cipher.encrypt_into(nonce, plain, None, sealed)), runs)
    return seal, least_us(repeat(lambda: cipher.decrypt_into(nonce, sealed, None, plain)), runs)


def path_us(runs: int, folder: Path | None) -> dict[str, float]:
    """The whole way out and in, and the two compiled loops in it."""
    wire, client, server = make_pair()
    wire.send(client, UP)
    journals = [] if folder is None else [Journal(folder / f"{name}.parquet") for name in ("out", "in")]
    out, inbound, carrier = _directions(client, server, *journals)
    frame = super_segment()

    def outs(times: int = 20) -> int:
        for _ in range(times):
            out._read_ns = 1
            out._take_frame(len(frame), wire.now)
            out._flush(wire.now)
        return times * SEGMENTS

    out._frame[: len(frame)] = frame
    outs()
    found = {"out": least_us(outs, runs)}
    found["cut"] = least_us(
        lambda: _kernels.cut(
            out._frame_bytes, VNET_HEADER_BYTES, len(frame), 20, SEGMENT_BYTES, 0, out._rows, out._lengths
        ),
        runs,
    )
    carrier.kept = []
    outs(20 * (runs + 1))
    sent = iter(carrier.kept)
    found["in"] = least_us(lambda: _take(inbound, sent, client, wire), runs)
    for journal in journals:
        journal.close()
    return found


def _directions(client: Node, server: Node, *journals: Journal) -> tuple[Outbound, Inbound, Nowhere]:
    carrier = Nowhere()
    first, second = journals or (None, None)
    nothing = SimpleNamespace(fd=os.open(os.devnull, os.O_WRONLY))
    out = Outbound(nothing, client.device, carrier, row_bytes=ROW_BYTES, journal=first)  # type: ignore[arg-type]
    inbound = Inbound(nothing, server.device, row_bytes=ROW_BYTES, offload=True, journal=second)  # type: ignore[arg-type]
    return out, inbound, carrier


def _take(inbound: Inbound, sent: object, client: Node, wire: Wire) -> int:
    packets = 0
    for _ in range(20):
        data, segment = next(sent)  # type: ignore[call-overload]
        inbound.take(data, segment, client.endpoint, wire.now)
        inbound.flush()
        packets += -(-len(data) // segment)
    return packets


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    seal, open_ = cipher_us(runs)
    plain = path_us(runs, None)
    with tempfile.TemporaryDirectory() as folder:
        journal = path_us(runs, Path(folder))
    print(f"us a packet of {PACKET_BYTES} bytes, least of {runs} runs; load {os.getloadavg()[0]:.1f}")
    print(f"{'':6}{'all':>8}{'cipher':>9}{'with journal':>14}")
    print(f"{'out':6}{plain['out']:8.2f}{seal:9.2f}{journal['out']:14.2f}")
    print(f"{'in':6}{plain['in']:8.2f}{open_:9.2f}{journal['in']:14.2f}")
    print(f"of out, cutting super-segments: {plain['cut']:.2f}")
    for name, figures in (("without", plain), ("with", journal)):
        mbit_s = SEGMENT_BYTES * 8 / max(figures["out"], figures["in"])
        print(f"one core an end, {name} journals, and a kernel that costs nothing: {mbit_s:.0f} Mbit/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
