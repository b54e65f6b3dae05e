"""Kernels: inner packets into the stream of a tunnel over TCP, and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import columns as c
from vpnforensics.groundtruth.simulate.network.links._kernels import CRYPTO, lognormal
from vpnforensics.groundtruth.simulate.network.path._kernels import at, server_up
from vpnforensics.groundtruth.simulate.network.tcp._kernels import transmit
from vpnforensics.kernels import inner_kernel

# Typed: a literal would make Numba compile its callee once more.
_ZERO = np.int64(0)

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def write(w: Any, side: Any, frame_bytes: Any, inner: Any, now: Any) -> None:
    """Append a frame to the tunnel's stream."""
    e = 2 * w.tunnel[c.TUNNEL_FLOW] + side
    ep = w.endpoints[e]
    if inner >= 0 and ep[c.END] - ep[c.UNA] > 400_000:
        return  # the tunnel's device queue is full
    ep[c.END] += frame_bytes
    k = w.counts[c.WRITTEN + side]
    w.frames[side, k, c.FRAME_END] = ep[c.END]
    w.frames[side, k, c.FRAME_FOR] = inner
    w.counts[c.WRITTEN + side] += 1
    transmit(w, e, now)


@inner_kernel
def _adjust(w: Any, side: Any, size: Any, now: Any) -> None:
    """The receiver of a channel grants as much as it has taken, now and then."""
    tunnel = w.flows[w.tunnel[c.TUNNEL_FLOW]]
    tunnel[c.TAKEN + side] += size
    if w.tunnel[c.ADJUST_BYTES] and tunnel[c.TAKEN + side] > w.tunnel[c.ADJUST_AFTER]:
        tunnel[c.TAKEN + side] = 0
        write(w, 1 - side, w.tunnel[c.ADJUST_BYTES], _ZERO - 1, now)


@inner_kernel
def unpack(w: Any, side: Any, p: Any, now: Any) -> None:
    """Inner packets whose last byte has arrived leave the tunnel's stream."""
    received = w.endpoints[2 * w.tunnel[c.TUNNEL_FLOW] + 1 - side, c.RCV]
    while w.counts[c.RELEASED + side] < w.counts[c.WRITTEN + side]:
        k = w.counts[c.RELEASED + side]
        if w.frames[side, k, c.FRAME_END] > received:
            break
        w.counts[c.RELEASED + side] += 1
        inner = w.frames[side, k, c.FRAME_FOR]
        if inner < 0:
            continue
        w.packets[inner, c.IN_NS] = w.packets[p, c.IN_NS]
        if side == c.UP:
            server_up(w, inner, now + 4_000)
        else:
            when = now + np.int64(lognormal(w.random, w.law[CRYPTO], 0.5))
            w.packets[inner, c.TUN_NS] = when
            at(w, when + w.flows[w.packets[inner, c.FLOW], c.LAN], c.ARRIVE, inner)
        _adjust(w, side, w.packets[inner, c.IP_LEN], now)
