"""Length maps learned from the case.

Of size-incompatible pairs nothing can be said, so a tunnel of unknown protocol needs its length map first.
It is found in the pairs (egress packet, record) of one direction that stand close in time: right pairs agree
on the map, wrong ones on nothing. For every map of the family (block and extra, see
:mod:`vpnforensics.tunnels.length_map`) the overhead that most pairs agree on is counted, less what the same
count gives when the egress side is shifted by some seconds; the map with the largest excess wins.

Acknowledgements and full-size packets are most of any traffic and agree on a wrong map too, so every size
counts only up to a fixed number of times.

The search covers thousands of maps, so a map is believed only if its excess is far beyond what the shifted
sides reach with *their* best map, and explains a fair share of the conversation. A record cannot be shorter
than the packet in it: a conversation that is itself NATed to the egress side (its overhead is negative) is
no tunnel.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.align._kernels import pairs_within
from vpnforensics.tunnels.find import RecordTable
from vpnforensics.tunnels.length_map import UNCAPPED, LengthMap

_NEAR_NS = 20_000_000
_SAME_SIZE = 60
_PAIRS = 120_000
_BLOCKS = (1, 4, 8, 16, 32, 64, 128)
_LEAST_OVERHEAD = 8
_MOST_OVERHEAD = 400
_NULL_SHIFTS_NS = (3_100_000_000, -4_700_000_000, 7_300_000_000)
_LEAST_PAIRS = 15
_CLEAR_OF_NULL = 4.0
_LEAST_SHARE = 0.25
_ONE_SIZE_SHARE = 0.9
_VOLUME_BIN_NS = 50_000_000


@dataclass(frozen=True, slots=True)
class Learned:
    """A length map with the evidence for it."""

    length_map: LengthMap
    share: float
    """Of the records (or of the egress packets, where those are fewer) that agree on it, less chance."""


@dataclass(frozen=True, eq=False)
class EgressLengths:
    """Egress packets on the ingress clock (or near it), ascending in time."""

    ts_ns: npt.NDArray[np.int64]
    inner_bytes: npt.NDArray[np.int32]
    up: npt.NDArray[np.bool_]

    def take(self, index: npt.NDArray[np.intp]) -> EgressLengths:
        """The packets at ``index``."""
        return EgressLengths(self.ts_ns[index], self.inner_bytes[index], self.up[index])


def learn_length_map(
    records: RecordTable,
    egress: EgressLengths,
    rng: np.random.Generator,
    *,
    near_ns: int = _NEAR_NS,
) -> Learned | None:
    """The length map of some records that one protocol made, or ``None`` where nothing is proved.

    Parameters
    ----------
    records : RecordTable
    egress : EgressLengths
    rng : numpy.random.Generator
        Thins the common sizes.
    near_ns : int
        How far apart the two packets of a pair may stand.
    """
    if len(records) < _LEAST_PAIRS or not len(egress.ts_ns):
        return None
    counts = np.bincount(records.size)
    if hides_lengths(records, egress.inner_bytes):
        return _one_size(int(np.argmax(counts)), records, egress)
    largest_inner = int(egress.inner_bytes.max())
    records = records.take(_even(records.size, records.up, rng))
    egress = egress.take(_even(egress.inner_bytes, egress.up, rng))
    outer, inner = _pairs(records, egress, 0, near_ns)
    if len(outer) < _LEAST_PAIRS:
        return None
    nulls = [_pairs(records, egress, shift, near_ns) for shift in _NULL_SHIFTS_NS]
    null_best = max(_agreement(o, i)[0] for o, i in nulls)
    found, (block, extra, overhead) = _agreement(outer, inner)
    share = (found - null_best) / min(len(records), len(egress.ts_ns))
    if found < _CLEAR_OF_NULL * max(null_best, 4) or share < _LEAST_SHARE:
        return None
    largest = len(counts) - 1 - overhead
    reached = -(-(largest_inner + extra) // block) * block
    cap = largest if block > 1 and largest < reached else UNCAPPED
    return Learned(LengthMap(overhead, block, extra, cap, "learned"), min(1.0, share))


def hides_lengths(records: RecordTable, inner_bytes: npt.NDArray[np.int32]) -> bool:
    """Whether nearly all records have one size while the egress packets have many: padding."""
    if not len(records) or not len(inner_bytes):
        return False
    return bool(
        np.bincount(records.size).max() > _ONE_SIZE_SHARE * len(records)
        and np.bincount(inner_bytes).max() <= _ONE_SIZE_SHARE * len(inner_bytes)
    )


def share_obeying(
    length_map: LengthMap, records: RecordTable, egress: EgressLengths, rng: np.random.Generator
) -> float:
    """Share of the records with an egress packet nearby that obeys a known map, less chance.

    All sizes count alike.
    """
    records = records.take(_even(records.size, records.up, rng))
    egress = egress.take(_even(egress.inner_bytes, egress.up, rng))

    def obeying(shift_ns: int) -> float:
        outer, inner = _pairs(records, egress, shift_ns, _NEAR_NS)
        return float(np.sum(length_map.outer(inner) == outer))

    chance = float(np.mean([obeying(shift) for shift in _NULL_SHIFTS_NS]))
    return (obeying(0) - chance) / max(1, min(len(records), len(egress.ts_ns)))


def volume_offsets(records: RecordTable, egress: EgressLengths, wanted: int) -> list[int]:
    """Clock offsets (egress minus ingress) at which the two sides' packet counts vary together, best first.

    Cross-correlation of packets per 50 ms, both directions, by the fast Fourier transform.
    """
    low_in, low_out = int(records.ts_ns.min()), int(egress.ts_ns.min())
    bins_in = int((records.ts_ns.max() - low_in) // _VOLUME_BIN_NS) + 1
    bins_out = int((egress.ts_ns.max() - low_out) // _VOLUME_BIN_NS) + 1
    length = 1 << int(np.ceil(np.log2(bins_in + bins_out)))
    total = np.zeros(length)
    for side in (True, False):
        a = np.bincount((records.ts_ns[records.up == side] - low_in) // _VOLUME_BIN_NS, minlength=bins_in)
        b = np.bincount((egress.ts_ns[egress.up == side] - low_out) // _VOLUME_BIN_NS, minlength=bins_out)
        # Square roots keep one bulk transfer from drowning everything else.
        a, b = np.sqrt(a), np.sqrt(b)
        spectrum = np.conj(np.fft.rfft(a - a.mean(), length)) * np.fft.rfft(b - b.mean(), length)
        total += np.fft.irfft(spectrum, length)
    offsets = []
    for _ in range(wanted):
        lag = int(np.argmax(total))
        if total[lag] <= 0:
            break
        signed = lag if lag < bins_out else lag - length
        offsets.append(low_out - low_in + signed * _VOLUME_BIN_NS)
        for near in range(-4, 5):
            total[(lag + near) % length] = -np.inf
    return offsets


def _even(
    sizes: npt.NDArray[np.int32], up: npt.NDArray[np.bool_], rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """A choice in which no size of a direction stands much more than ``_SAME_SIZE`` times."""
    which = sizes * 2 + up
    kept = np.float32(_SAME_SIZE) / np.maximum(np.bincount(which), 1).astype(np.float32)
    return np.flatnonzero(rng.random(len(sizes), np.float32) <= kept[which])


def _pairs(
    records: RecordTable, egress: EgressLengths, shift_ns: int, near_ns: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Outer and inner lengths of pairs of one direction within ``near_ns``."""
    order = np.argsort(egress.up, kind="stable")  # down first, then up; time order is kept in each
    start = np.array([0, int((~egress.up).sum()), len(egress.up)], np.int64)
    left, right = pairs_within(
        records.ts_ns + shift_ns,
        records.up.astype(np.int32),
        start,
        egress.ts_ns[order],
        -near_ns,
        near_ns,
        _PAIRS,
    )
    return records.size[left].astype(np.int64), egress.inner_bytes[order][right].astype(np.int64)


def _agreement(
    outer: npt.NDArray[np.int64], inner: npt.NDArray[np.int64]
) -> tuple[int, tuple[int, int, int]]:
    """Most pairs that agree on a map, and the map: block, extra, overhead."""
    best = (0, (1, 0, _LEAST_OVERHEAD))
    for block in _BLOCKS:
        step = max(1, block // 16)
        for extra in range(0, block, step):
            count, overhead = _most_agreed(outer, inner, block, extra)
            # A larger block fits more by chance and must do clearly better than a smaller one.
            if count > best[0] * (1.05 if block > best[1][0] else 1.0):
                best = (count, (block, extra, overhead))
    block, near, _ = best[1]
    step = max(1, block // 16)
    for extra in range(max(0, near - step + 1), min(block, near + step)):
        count, overhead = _most_agreed(outer, inner, block, extra)
        if count > best[0]:
            best = (count, (block, extra, overhead))
    return best


def _most_agreed(
    outer: npt.NDArray[np.int64], inner: npt.NDArray[np.int64], block: int, extra: int
) -> tuple[int, int]:
    """The overhead that most pairs have under one block and extra: how many, and it."""
    overhead = outer - -(-(inner + extra) // block) * block
    plausible = overhead[(overhead >= _LEAST_OVERHEAD) & (overhead <= _MOST_OVERHEAD)]
    if not len(plausible):
        return 0, _LEAST_OVERHEAD
    counts = np.bincount(plausible)
    top = int(np.argmax(counts))
    return int(counts[top]), top


def _one_size(size: int, records: RecordTable, egress: EgressLengths) -> Learned | None:
    """Padding to one size leaves only that nearly every egress packet has a record beside it."""
    near = len(_pairs(records, egress, 0, _NEAR_NS)[0])
    far = float(np.mean([len(_pairs(records, egress, shift, _NEAR_NS)[0]) for shift in _NULL_SHIFTS_NS]))
    share = (near - far) / min(len(records), len(egress.ts_ns), _PAIRS)
    if share < _LEAST_SHARE:
        return None
    return Learned(LengthMap(size - 1, 2048, 0, 1, "learned"), min(1.0, share))
