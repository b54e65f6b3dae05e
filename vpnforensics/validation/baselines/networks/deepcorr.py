"""A DeepCorr-style network (Nasr, Bahramali, Houmansadr 2018, CCS): both ends of a pair convolved together.

Theory of operation
-------------------
Gaps and sizes of flow and tunnel, each direction, stand as pairs of rows. A first convolution goes over each
pair of rows, with the same filters for all; a second one over all of them; dense layers tell how alike they
are. Trained on true pairs and on the same flows with other tunnels of the case, by cross-entropy.

What differs from the paper: 64 packets of a direction instead of 300, 32 and 64 filters instead of 2,000 and
1,000, one dense layer of 128 instead of three, gaps in logarithms. The tunnel's sequence begins where the
flow does, less what jitter may hide: a tunnel has no end of its own to compare.

Known weakness: other flows in the tunnel stand between the flow's packets, so that places no longer agree. A
pair costs a whole pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.engines.case import Case
from vpnforensics.validation.baselines.networks import layers
from vpnforensics.validation.baselines.networks.layers import Weights
from vpnforensics.validation.baselines.networks.sequences import CHANNELS, Float32s, sequences
from vpnforensics.validation.baselines.sightings import inner_packets, of_pairs, outer_packets, silent
from vpnforensics.validation.comparisons import Scores
from vpnforensics.validation.labels import Labels

NAME = "deepcorr"
LENGTH = 64
_FIRST, _SECOND, _TAPS, _TAPS_2, _POOL, _DENSE = 32, 64, 20, 5, 5, 128
_FLAT = ((LENGTH - _TAPS + 1) // _POOL - _TAPS_2 + 1) * _SECOND
SHAPES = {
    "first.w": (_TAPS, 2, _FIRST), "first.b": (_FIRST,),
    "second.w": (_TAPS_2, CHANNELS * _FIRST, _SECOND), "second.b": (_SECOND,),
    "dense.w": (_FLAT, _DENSE), "dense.b": (_DENSE,),
    "out.w": (_DENSE, 1), "out.b": (1,),
}  # fmt: skip
_EARLY_NS = 5_000_000
"""By which the tunnel's sequence begins before the flow: upwards, its records come first."""
_BATCH, _TRUE_SHARE = 256, 0.25
_RATE = 1e-3
_AT_ONCE = 512
"""Pairs scored in one pass."""


class Pairs:
    """A case's sequences, made when asked for."""

    def __init__(self, case: Case) -> None:
        self.outer, inner = outer_packets(case), inner_packets(case)
        self.begin_ns = case.begin_ns
        self.flows = np.concatenate([
            np.zeros((0, LENGTH, CHANNELS), np.float32),
            *(sequences(inner, f, self.begin_ns[f : f + 1], None, LENGTH) for f in range(len(case.flows))),
        ])  # fmt: skip

    def tunnel(self, number: int, flows: Ints) -> Float32s:
        """A tunnel's sequences from where each of the flows begins."""
        return sequences(self.outer, number, self.begin_ns[flows] - _EARLY_NS, None, LENGTH)


def alike(weights: Weights, flow: Any, tunnel: Any) -> Any:
    """Logit of each pair, from sequences of shape (n, LENGTH, 4)."""
    import jax.numpy as jnp
    from jax import nn

    n = flow.shape[0]
    rows = jnp.stack([flow, tunnel], axis=-1)  # (n, length, 4, 2)
    rows = rows.transpose(0, 2, 1, 3).reshape(n * CHANNELS, LENGTH, 2)
    first = layers.pooled(layers.convolved(weights, "first", rows), _POOL)
    together = first.reshape(n, CHANNELS, -1, _FIRST).transpose(0, 2, 1, 3).reshape(n, -1, CHANNELS * _FIRST)
    second = layers.convolved(weights, "second", together).reshape(n, -1)
    return layers.dense(weights, "out", nn.relu(layers.dense(weights, "dense", second)))[:, 0]


def scores(case: Case, weights: Weights) -> Scores:
    """Logits of all pairs."""
    import jax

    if not case.alignment.usable:
        return silent()
    pairs, made = Pairs(case), jax.jit(alike)

    def score(flows: Ints, tunnel: int) -> Floats:
        found = layers.in_batches(
            lambda *two: made(weights, *two), _AT_ONCE, pairs.flows[flows], pairs.tunnel(tunnel, flows)
        )
        return found.astype(np.float64)

    return of_pairs(case, lambda some: lambda mine, tunnel: score(some[mine], tunnel))


def trained(cases: list[tuple[Case, Labels]], steps: int, rng: np.random.Generator) -> Weights:
    """Weights after so many batches of pairs, a quarter of them true, each of one case."""
    import jax.numpy as jnp

    known = [(Pairs(case), labels) for case, labels in cases]
    carried = [np.flatnonzero(labels.there) for _, labels in known]

    def batch() -> tuple[Float32s, Float32s, Float32s]:
        at = int(rng.integers(len(known)))
        pairs, labels = known[at]
        flow = rng.choice(carried[at], _BATCH)
        tunnel = rng.integers(0, len(labels.of_tunnel), _BATCH)
        own = rng.random(_BATCH) < _TRUE_SHARE
        order = np.argsort(labels.of_tunnel)
        its = order[np.searchsorted(labels.of_tunnel, labels.of_flow[flow], sorter=order)]
        tunnel = np.where(own, its, tunnel)
        theirs = np.empty((_BATCH, LENGTH, CHANNELS), np.float32)
        for number in np.unique(tunnel).tolist():
            mine = tunnel == number
            theirs[mine] = pairs.tunnel(number, flow[mine])
        return pairs.flows[flow], theirs, labels.true(flow, tunnel).astype(np.float32)

    def loss(weights: Weights, flow: Any, tunnel: Any, true: Any) -> Any:
        logit = alike(weights, flow, tunnel)
        return jnp.mean(jnp.logaddexp(0.0, logit) - true * logit)

    return layers.fitted(layers.initial(SHAPES, rng), loss, batch, steps, _RATE)
