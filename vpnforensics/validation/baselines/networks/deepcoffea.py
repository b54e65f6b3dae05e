"""A DeepCoFFEA-style embedding (Oh et al. 2022, IEEE S&P): windows of either side as points on a sphere.

Theory of operation
-------------------
Time is cut into overlapping windows. One network embeds what a flow did in a window, another what a tunnel
did, on a sphere; a triplet loss draws a flow's window to its own tunnel's and pushes it from those of other
tunnels. Each window is embedded once, so that a pair costs an inner product a window, and several windows of
one flow make the evidence stronger (amplification).

What differs from the paper: windows of 0.2 s each 0.1 s instead of 11 of 5 s, on one clock for all instead of
from each flow's begin; the mean of the windows' cosines instead of votes above a threshold, so that one score
orders all pairs; three convolutions instead of four blocks.

Known weakness: a tunnel's window is one point for all the flows in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpnforensics.arrays import Ints
from vpnforensics.engines.case import Case
from vpnforensics.validation.baselines.networks import layers
from vpnforensics.validation.baselines.networks.layers import Weights
from vpnforensics.validation.baselines.networks.sequences import CHANNELS, Float32s, sequences
from vpnforensics.validation.baselines.sightings import (
    Sightings,
    inner_packets,
    of_pairs,
    outer_packets,
    silent,
)
from vpnforensics.validation.comparisons import Scores
from vpnforensics.validation.labels import Labels

NAME = "deepcoffea"
_STEP_NS, _WINDOW_NS = 100_000_000, 200_000_000
"""Of windows of 0.1 to 5 s, each beginning in the middle of the one before, those with the most hits at a
rate of 0.01 on simulated sessions that are neither trained on nor judged."""
OF_FLOW, OF_TUNNEL = 48, 64
"""Packets of a direction and window that are read."""
POINT = 64
"""Dimensions of the sphere, as in the paper."""
_TAPS, _TAPS_3, _POOL, _FILTERS, _LAST = 8, 5, 4, 32, 64
_MARGIN = 0.3
"""By which the own tunnel's cosine has to exceed others'; better on those sessions than the paper's 0.1."""
_BATCH, _RATE, _AT_ONCE = 128, 1e-3, 256
_PART = 100_000
"""Packets whose windows are in memory as sequences at a time."""


def _shapes(side: str, length: int) -> dict[str, tuple[int, ...]]:
    flat = ((length - 2 * (_TAPS - 1)) // _POOL - _TAPS_3 + 1) // _POOL * _LAST
    return {
        f"{side}1.w": (_TAPS, CHANNELS, _FILTERS), f"{side}1.b": (_FILTERS,),
        f"{side}2.w": (_TAPS, _FILTERS, _FILTERS), f"{side}2.b": (_FILTERS,),
        f"{side}3.w": (_TAPS_3, _FILTERS, _LAST), f"{side}3.b": (_LAST,),
        f"{side}4.w": (flat, POINT), f"{side}4.b": (POINT,),
    }  # fmt: skip


SHAPES = _shapes("flow", OF_FLOW) | _shapes("tunnel", OF_TUNNEL)


@dataclass(frozen=True, eq=False)
class Windows:
    """What senders did in the windows in which they have packets, by sender and window."""

    sender: Ints
    window: Ints
    seen: Float32s
    """Shape (n, length, 4)."""


def windows(packets: Sightings, origin_ns: int, length: int, senders: Iterable[int]) -> Windows:
    """All windows of some senders; window w begins w steps after ``origin_ns``."""
    owners, numbers, seen = [], [], [np.zeros((0, length, CHANNELS), np.float32)]
    for sender in senders:
        ts_ns = packets.ts_ns[packets.start[2 * sender] : packets.start[2 * sender + 2]]
        last = np.unique((ts_ns - origin_ns) // _STEP_NS)
        mine = np.unique(last[:, None] - np.arange(_WINDOW_NS // _STEP_NS))
        begin_ns = origin_ns + mine * _STEP_NS
        owners.append(np.full(len(mine), sender, np.int64))
        numbers.append(mine)
        seen.append(sequences(packets, sender, begin_ns, begin_ns + _WINDOW_NS, length))
    none = np.zeros(0, np.int64)
    return Windows(np.concatenate([none, *owners]), np.concatenate([none, *numbers]), np.concatenate(seen))


def both_sides(case: Case) -> tuple[Sightings, Sightings, int]:
    """The flows, the tunnels, and from when on windows are counted."""
    inner, outer = inner_packets(case), outer_packets(case)
    return inner, outer, int(inner.ts_ns.min())


def points(weights: Weights, side: str, seen: Any) -> Any:
    """Points on the sphere, shape (n, POINT)."""
    import jax.numpy as jnp

    x = layers.convolved(weights, f"{side}2", layers.convolved(weights, f"{side}1", seen))
    x = layers.pooled(layers.convolved(weights, f"{side}3", layers.pooled(x, _POOL)), _POOL)
    x = layers.dense(weights, f"{side}4", x.reshape(x.shape[0], -1))
    return x / jnp.sqrt((x * x).sum(axis=1, keepdims=True) + 1e-9)


def scores(case: Case, weights: Weights) -> Scores:
    """Mean cosine of the flow's windows with the tunnel's; a window without the tunnel counts as -1."""
    import jax

    if not case.alignment.usable:
        return silent()
    inner, outer, origin_ns = both_sides(case)
    made = jax.jit(points, static_argnums=1)

    def embedded(side: str, packets: Sightings, length: int) -> tuple[Ints, Ints, Float32s]:
        """Sender, window and point of all windows, in order of windows; sequences are kept of a part only."""
        parts = []
        for senders in np.array_split(np.arange(len(packets.start) // 2), 1 + len(packets.ts_ns) // _PART):
            some = windows(packets, origin_ns, length, senders.tolist())
            at = layers.in_batches(lambda seen: made(weights, side, seen), _AT_ONCE, some.seen)
            parts.append((some.sender, some.window, at.reshape(-1, POINT)))
        sender, window, point = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(window, kind="stable")
        return sender[order], window[order], point[order]

    f_sender, f_window, f_point = embedded("flow", inner, OF_FLOW)
    t_sender, t_window, t_point = embedded("tunnel", outer, OF_TUNNEL)
    total = np.zeros((len(case.flows), len(case.tunnels)))
    for window in np.unique(f_window).tolist():
        f, t = (slice(*np.searchsorted(column, (window, window + 1))) for column in (f_window, t_window))
        cosine = np.full((f.stop - f.start, len(case.tunnels)), -1.0)
        cosine[:, t_sender[t]] = f_point[f] @ t_point[t].T
        total[f_sender[f]] += cosine  # a flow is once in a window
    mean = total / np.bincount(f_sender, minlength=len(case.flows))[:, None]

    return of_pairs(case, lambda some: lambda mine, tunnel: np.asarray(mean[some[mine], tunnel]))


def trained(cases: list[tuple[Case, Labels]], steps: int, rng: np.random.Generator) -> Weights:
    """Weights after so many batches of windows of true pairs, each of one case; crossed, they are false."""
    import jax.numpy as jnp

    known = [_true_windows(case, labels) for case, labels in cases]

    def batch() -> tuple[npt.NDArray[Any], ...]:
        flows, tunnels, of_flow, of_tunnel, owner = known[int(rng.integers(len(known)))]
        drawn = rng.integers(0, len(of_flow), _BATCH)
        return flows.seen[of_flow[drawn]], tunnels.seen[of_tunnel[drawn]], owner[drawn]

    def loss(weights: Weights, flow: Any, tunnel: Any, owner: Any) -> Any:
        cosine = points(weights, "flow", flow) @ points(weights, "tunnel", tunnel).T
        over = jnp.maximum(0.0, cosine - jnp.diag(cosine)[:, None] + _MARGIN)
        other = owner[:, None] != owner[None, :]
        wrong = other & (over > 0)  # triplets that are right already teach nothing
        return (over * wrong).sum() / jnp.maximum(wrong.sum(), 1)

    return layers.fitted(layers.initial(SHAPES, rng), loss, batch, steps, _RATE)


def _true_windows(case: Case, labels: Labels) -> tuple[Windows, Windows, Ints, Ints, Ints]:
    """Both sides, and the rows of each pair of windows of a flow and its tunnel, with the client."""
    inner, outer, origin_ns = both_sides(case)
    flows = windows(inner, origin_ns, OF_FLOW, range(len(case.flows)))
    tunnels = windows(outer, origin_ns, OF_TUNNEL, range(len(case.tunnels)))
    client = labels.of_tunnel[tunnels.sender]
    row = {key: n for n, key in enumerate(zip(client.tolist(), tunnels.window.tolist(), strict=True))}
    wanted = zip(labels.of_flow[flows.sender].tolist(), flows.window.tolist(), strict=True)
    its = np.array([row.get(key, -1) for key in wanted], np.int64)
    its[labels.of_flow[flows.sender] < 0] = -1
    of_flow = np.flatnonzero(its >= 0)
    return flows, tunnels, of_flow, its[of_flow], client[its[of_flow]]
