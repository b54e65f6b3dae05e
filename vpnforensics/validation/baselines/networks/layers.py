"""What both networks are made of, over plain arrays by name: convolution, pooling, dense layers, and Adam.

jax is imported where it is used: importing this package must not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = dict[str, Any]
"""Arrays by name, numpy's or jax's."""
Shapes = Mapping[str, tuple[int, ...]]

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8
"""Adam's, as published (Kingma & Ba 2015)."""


def initial(shapes: Shapes, rng: np.random.Generator) -> Weights:
    """Weights to begin with: He's for rectified layers; offsets, of one dimension, 0."""
    return {
        name: np.zeros(shape, np.float32)
        if len(shape) == 1
        else (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)
        for name, shape in shapes.items()
    }


def convolved(weights: Weights, name: str, x: Any) -> Any:
    """Rectified convolution along the sequence: (n, length, channels) to (n, length - taps + 1, filters)."""
    from jax import lax, nn

    kernel = weights[f"{name}.w"]
    y = lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC"))
    return nn.relu(y + weights[f"{name}.b"])


def pooled(x: Any, by: int) -> Any:
    """Largest of each ``by`` places, the rest cut off."""
    n, length, channels = x.shape
    return x[:, : length // by * by].reshape(n, length // by, by, channels).max(axis=2)


def dense(weights: Weights, name: str, x: Any) -> Any:
    """(n, inputs) to (n, outputs), not rectified."""
    return x @ weights[f"{name}.w"] + weights[f"{name}.b"]


def fitted(
    weights: Weights,
    loss: Callable[..., Any],
    batches: Callable[[], tuple[npt.NDArray[Any], ...]],
    steps: int,
    rate: float,
) -> Weights:
    """Weights after so many steps of Adam.

    Parameters
    ----------
    weights : dict
    loss : callable
        From weights and a batch to what is to be small.
    batches : callable
        Draws a batch: arrays of the same shapes each time.
    steps : int
    rate : float
        The step's size; it falls to 0 towards the end (a cosine's half).
    """
    import jax
    import jax.numpy as jnp

    def step(state: tuple[Weights, Weights, Weights], number: Any, rate: Any, *batch: Any) -> Any:
        now, mean, square = state
        gradient = jax.grad(loss)(now, *batch)
        mean = {k: _BETA_1 * mean[k] + (1 - _BETA_1) * g for k, g in gradient.items()}
        square = {k: _BETA_2 * square[k] + (1 - _BETA_2) * g * g for k, g in gradient.items()}
        unbiased = jnp.sqrt(1 - _BETA_2**number) / (1 - _BETA_1**number)
        now = {k: w - rate * unbiased * mean[k] / (jnp.sqrt(square[k]) + _EPSILON) for k, w in now.items()}
        return now, mean, square

    one = jax.jit(step)
    zero = {k: jnp.zeros_like(w) for k, w in weights.items()}
    state = ({k: jnp.asarray(w) for k, w in weights.items()}, zero, zero)
    for number in range(1, steps + 1):
        falling = rate * 0.5 * (1 + np.cos(np.pi * (number - 1) / steps))
        state = one(state, float(number), falling, *batches())
    return {k: np.asarray(w) for k, w in state[0].items()}


def in_batches(made: Callable[..., Any], size: int, *arrays: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """What a compiled function makes of arrays, ``size`` rows at a time: of one shape it is compiled once."""
    parts = []
    for at in range(0, len(arrays[0]), size):
        rows = [array[at : at + size] for array in arrays]
        short = size - len(rows[0])
        whole = [np.concatenate([r, np.zeros((short, *r.shape[1:]), r.dtype)]) if short else r for r in rows]
        parts.append(np.asarray(made(*whole))[: size - short])
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)
