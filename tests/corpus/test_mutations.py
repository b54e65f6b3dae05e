"""Damaged specimens through ``correlate``: an answer or a refusal, never another error, never without end."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.corpus.specimen import Specimen
from tests.corpus.table import corpus
from vpnforensics.correlation import correlate
from vpnforensics.errors import VpnForensicsError

_MUTANTS, _EACH = 30, 4
_LIMIT_S = 120
"""What has no end has none after two minutes. Kernels may be compiled meanwhile, on a busy machine."""
_FILE_HEADER, _RECORD_HEADER = 24, 16
Mutation = Callable[[bytes, random.Random], bytes]


def cut(raw: bytes, rng: random.Random) -> bytes:
    """The file ends early."""
    return raw[: rng.randrange(len(raw))]


def flip_bits(raw: bytes, rng: random.Random) -> bytes:
    """Some bits are turned over, anywhere."""
    return _with(raw, ((at, raw[at] ^ 1 << rng.randrange(8)) for at in _places(rng, len(raw), 40)))


def splice(raw: bytes, rng: random.Random) -> bytes:
    """A piece of another specimen, at no border of a record."""
    other = rng.choice(corpus()).ingress
    at, piece = rng.randrange(len(raw)), rng.randrange(len(other) + 1)
    return raw[:at] + other[piece : piece + rng.randrange(1, 600)] + raw[at + rng.randrange(0, 60) :]


def graft(raw: bytes, rng: random.Random) -> bytes:
    """The records of another specimen behind those of this one."""
    return raw + rng.choice(corpus()).ingress[_FILE_HEADER:]


def header_bytes(raw: bytes, rng: random.Random) -> bytes:
    """Bytes of the file's header, of the records' and of the packets' are set to what breaks arithmetic."""
    starts = [start for start, _ in _records(raw)] or [0]
    near = [rng.randrange(min(_FILE_HEADER, len(raw)))] if rng.random() < 0.3 else []
    near += [rng.choice(starts) + rng.randrange(_RECORD_HEADER) for _ in range(4)]
    near += [rng.choice(starts) + _RECORD_HEADER + rng.randrange(60) for _ in range(20)]
    return _with(raw, ((at, rng.choice((0, 1, 0x7F, 0x80, 0xFF))) for at in near if at < len(raw)))


def swap(raw: bytes, rng: random.Random) -> bytes:
    """The records in another order, some of them twice and some not at all."""
    records = [raw[start:end] for start, end in _records(raw)]
    if len(records) < 2:
        return raw
    return raw[:_FILE_HEADER] + b"".join(rng.choices(records, k=len(records)))


def times(raw: bytes, rng: random.Random) -> bytes:
    """Seconds and fractions of some records are anything at all."""
    starts = [start for start, _ in _records(raw)]
    if not starts:
        return raw
    chosen = rng.choices(starts, k=1 + len(starts) // 10)
    return _with(raw, ((s + k, rng.randrange(256)) for s in chosen for k in range(8)))


def wrong_order_of_bytes(raw: bytes, rng: random.Random) -> bytes:
    """A header that claims another form of file."""
    magics = (
        b"\xa1\xb2\xc3\xd4",
        b"\x4d\x3c\xb2\xa1",
        b"\x34\xcd\xb2\xa1",
        b"\x0a\x0d\x0d\x0a",
        b"\x1f\x8b\x08\0",
    )
    return rng.choice(magics) + raw[4:]


MUTATIONS: tuple[Mutation, ...] = (
    cut, flip_bits, splice, graft, header_bytes, swap, times, wrong_order_of_bytes,
)  # fmt: skip


def _with(raw: bytes, changes: Iterator[tuple[int, int]]) -> bytes:
    changed = bytearray(raw)
    for at, value in changes:
        changed[at] = value
    return bytes(changed)


def _places(rng: random.Random, size: int, most: int) -> list[int]:
    return [rng.randrange(size) for _ in range(rng.randrange(1, most))]


def _records(raw: bytes) -> list[tuple[int, int]]:
    """Where the records of a little-endian pcap file begin and end."""
    found, at = [], _FILE_HEADER
    while at + _RECORD_HEADER <= len(raw):
        end = at + _RECORD_HEADER + int.from_bytes(raw[at + 8 : at + 12], "little")
        if end > len(raw):
            break
        found.append((at, end))
        at = end
    return found


class _TooLongError(Exception):
    pass


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(signum, frame):
        raise _TooLongError(f"no answer within {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _survives(*captures):
    """Correlate; a refusal is as good as an answer."""
    with _within(_LIMIT_S), suppress(VpnForensicsError):
        correlate(*captures).to_json()


def _cases() -> list[Specimen]:
    return [s for s in corpus() if s.carried]


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda m: m.__name__)
def test_one_damaged_capture(mutate, tmp_path):
    rng = random.Random(f"one {mutate.__name__}")
    for specimen in rng.sample([s for s in corpus() if s.ingress], _MUTANTS):
        capture = tmp_path / f"{specimen.name}.pcap"
        capture.write_bytes(mutate(specimen.ingress, rng))
        _survives(capture)


@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda m: m.__name__)
def test_two_damaged_captures(mutate, tmp_path):
    rng = random.Random(f"two {mutate.__name__}")
    for specimen in rng.sample(_cases(), _EACH):
        ingress, egress = tmp_path / f"{specimen.name}.pcap", tmp_path / f"{specimen.name}.egress.pcap"
        ingress.write_bytes(mutate(specimen.ingress, rng))
        egress.write_bytes(mutate(specimen.egress or specimen.ingress, rng))
        _survives(ingress, egress)
