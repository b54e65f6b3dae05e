"""What no method can decide: flows that have a twin.

Two flows of different tunnels with the same lengths and directions can change places. What tells them apart
is by how much their packets' times differ, measured in the delay's own spread: with D the root of the summed
squares of those differences, each over the standard deviation of the delay in its direction, the likelihood
ratio of the two assignments is normal with mean D squared and variance 2 D squared, so that it errs with
probability Phi(-D / sqrt 2). At D = 5.3 that is one in ten thousand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Bools, Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.evidence.decision import Decision
from vpnforensics.scratch import beside

TWIN_SD = 5.3
_PACKETS_AT_ONCE = 1 << 20
"""Of flows that are compared: in a case that repeats itself, they are the whole case."""
_SPREAD = (0.1587, 0.8413)
"""Quantiles of a normal distribution one standard deviation from its middle."""


def twins(case: Case, decision: Decision) -> int | None:
    """Flows with a like flow of another tunnel within :data:`TWIN_SD` standard deviations of the delay.

    Returns
    -------
    int or None
        None where no delay was estimated: the clocks are not aligned, or the packets were equal on both
        sides. A flow that is not linked counts with its likeliest tunnel; without one it has no twin here.
    """
    if not decision.delay_law:
        return None
    tunnel = likeliest(decision, len(case.flows))
    flows, group = _worth_comparing(case, np.flatnonzero(tunnel >= 0))
    if not len(flows):
        return 0
    sd_ns = np.array([_spread_ns(decision.delay_law, direction) for direction in ("down", "up")])
    begin_ns = int(np.minimum.reduceat(case.egress.ts_ns, case.egress.start[:-1])[flows].min())
    some = _batches(group, np.diff(case.egress.start)[flows])
    return sum(_twins_among(case, flows[these], tunnel, sd_ns, begin_ns) for these in some)


def _twins_among(case: Case, flows: Ints, tunnel: Ints, sd_ns: Floats, begin_ns: int) -> int:
    """Those of some flows that have a twin among them."""
    start, rows = _rows_of(case, flows)
    egress = case.egress
    size, up, ts_ns = egress.inner_bytes[rows], egress.up[rows], egress.ts_ns[rows]
    order = np.lexsort((ts_ns, size, up, np.repeat(np.arange(len(flows)), np.diff(start))))
    # In units of the delay's spread, so that distances of both directions add up.
    at = ((ts_ns - begin_ns) / sd_ns[up.astype(np.int64)])[order]
    kind = _kinds(size[order], up[order], start)
    first = at[start[:-1]]
    by_time = np.lexsort((first, kind))
    like = _Like(
        tunnel[flows[by_time]], kind[by_time], first[by_time], start[:-1][by_time], np.diff(start)[by_time]
    )
    return int(_have_twin(like, at).sum())


def _batches(group: Ints, packets: Ints) -> Iterator[slice]:
    """Whole groups of flows, and not many more packets at once than a block has.

    Parameters
    ----------
    group, packets : ndarray of int64, shape (n,)
        Of each flow; flows of a group stand together.
    """
    ends = np.r_[np.flatnonzero(np.diff(group)) + 1, len(group)]
    through = np.cumsum(packets)[ends - 1]
    begin = done = 0
    while begin < len(group):
        last = int(np.searchsorted(through, done + _PACKETS_AT_ONCE))
        last = min(last, len(ends) - 1)
        yield slice(begin, int(ends[last]))
        begin, done = int(ends[last]), int(through[last])


class _Like(NamedTuple):
    """Flows in order of their kind and of the time of the packet that comes first in it."""

    tunnel: Ints
    kind: Ints
    first: Floats
    start: Ints
    """Where each one's packets begin."""
    packets: Ints


def _have_twin(like: _Like, at: Floats) -> Bools:
    """Which of the flows have one of another tunnel near them."""
    found = np.zeros(len(like.kind), np.bool_)
    for step in range(1, len(found)):
        apart = like.first[step:] - like.first[:-step]
        near = (like.kind[step:] == like.kind[:-step]) & (apart < TWIN_SD)
        if not near.any():
            break
        for i in np.flatnonzero(near & (like.tunnel[step:] != like.tunnel[:-step])).tolist():
            a, b, length = like.start[i], like.start[i + step], like.packets[i]
            if np.sum((at[a : a + length] - at[b : b + length]) ** 2) < TWIN_SD**2:
                found[i] = found[i + step] = True
    return found


def _worth_comparing(case: Case, flows: Ints) -> tuple[Ints, Ints]:
    """Those of the flows that share their packets and bytes, up and down, with another.

    Returns
    -------
    flows, group : ndarray of int64
        Group by group: only those of a group can be alike.
    """
    egress = case.egress
    begin = egress.start[:-1]
    up = np.add.reduceat(egress.up, begin, dtype=np.int64)
    sent = beside(egress.inner_bytes).filled(
        len(egress.up), np.int32, lambda rows: egress.inner_bytes[rows] * egress.up[rows]
    )
    up_bytes = np.add.reduceat(sent, begin, dtype=np.int64)
    every = np.add.reduceat(egress.inner_bytes, begin, dtype=np.int64)
    totals = np.stack([np.diff(egress.start), up, every, up_bytes], axis=1)[flows]
    _, number, count = np.unique(totals, axis=0, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(count[number.ravel()] > 1)
    shared = shared[np.argsort(number.ravel()[shared], kind="stable")]
    return flows[shared], number.ravel()[shared]


def _rows_of(case: Case, flows: Ints) -> tuple[Ints, Ints]:
    """Where the packets of each of these flows begin among those of all, and their rows in EgressRows."""
    sizes = np.diff(case.egress.start)[flows]
    start = np.r_[0, np.cumsum(sizes)]
    rows = np.repeat(case.egress.start[flows] - start[:-1], sizes) + np.arange(start[-1])
    return start, rows


def _kinds(size: npt.NDArray[Any], up: Bools, start: Ints) -> Ints:
    """Number of each flow's kind: the same for flows of the same lengths and directions, in any order."""
    kinds: dict[bytes, int] = {}
    coded = (size.astype(np.int64) << 1) | up
    ends = zip(start[:-1].tolist(), start[1:].tolist(), strict=True)
    return np.array([kinds.setdefault(coded[a:b].tobytes(), len(kinds)) for a, b in ends], np.int64)


def likeliest(decision: Decision, flows: int) -> Ints:
    """Linked tunnel of each flow, else the one with the largest likelihood ratio, else -1."""
    scores = decision.scores
    likeliest = np.full(flows, -1, np.int64)
    order = np.argsort(np.nan_to_num(decision.llr, nan=-np.inf), kind="stable")
    likeliest[scores.flow[order]] = scores.tunnel[order]
    return np.where(decision.tunnel >= 0, decision.tunnel, likeliest)


def _spread_ns(law: dict[str, Any], direction: str) -> float:
    """Standard deviation of the delay of one direction, as if its middle were normal; ns."""
    share = np.cumsum(law[direction])
    low, high = np.searchsorted(share / share[-1], _SPREAD)
    return max(float(high - low), 1.0) * float(law["step_ns"]) / 2
