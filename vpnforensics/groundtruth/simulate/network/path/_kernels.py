"""Kernels: what a packet passes between a device and its Internet peer."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import columns as c
from vpnforensics.groundtruth.simulate.network.links._kernels import (
    CRYPTO,
    INTERNET_LOSS,
    REORDER,
    SENT,
    SLOT_DOWN,
    SLOT_UP,
    cross,
    exponential,
    lognormal,
    push,
    serve,
    slotted,
    uniform,
)
from vpnforensics.kernels import inner_kernel

_BEHIND_NS, _BEHIND_MORE_NS = 5_800, 6_000.0
"""Between packets that were held up together, and the mean of what comes on top, as on the lab's links."""

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def at(w: Any, when: Any, kind: Any, argument: Any) -> None:
    push(w.heap, w.counts, when, (np.int64(kind) << c.KIND_BIT) | argument)


@inner_kernel
def lost(w: Any, p: Any, now: Any) -> None:
    """Ask again later for what a datagram protocol lost; TCP finds out by itself."""
    f = w.packets[p, c.FLOW]
    flow = w.flows[f]
    if flow[c.PROTO] != 6 and flow[c.PENDING] == 1 and flow[c.RETRIES] < 2:
        flow[c.RETRIES] += 1
        at(w, now + 2_000 * c.MS * flow[c.RETRIES], c.RETRY, f)


@inner_kernel
def internet(w: Any, p: Any, now: Any) -> Any:
    """Arrival at the far end of the Internet path (order kept per flow and direction); -1 where lost."""
    flow = w.flows[w.packets[p, c.FLOW]]
    side = w.packets[p, c.SIDE]
    start = max(now, flow[c.FAR_UP + side])
    busy = start + (flow[c.PS_PER_BYTE] * w.packets[p, c.IP_LEN]) // 1000
    flow[c.FAR_UP + side] = busy
    if w.law[INTERNET_LOSS] > 0.0 and uniform(w.random) < w.law[INTERNET_LOSS]:
        return np.int64(-1)
    # The wobble delays what follows, too: a queue, not a lottery.
    busy += np.int64(exponential(w.random, float(flow[c.WOBBLE])))
    flow[c.FAR_UP + side] = busy
    arrival = busy + flow[c.DISTANCE]
    if flow[c.FAR_JITTER] > 0:
        # Whoever is late holds up those behind it, which then come in one burst.
        arrival += np.int64(exponential(w.random, float(flow[c.FAR_JITTER])))
        earliest = flow[c.FAR_LAST + side] + _BEHIND_NS
        if arrival < earliest:
            arrival = earliest + np.int64(exponential(w.random, _BEHIND_MORE_NS))
        flow[c.FAR_LAST + side] = arrival
    return arrival


@inner_kernel
def padded(w: Any, ip_len: Any) -> Any:
    size = max(
        (ip_len + w.tunnel[c.PAD_BLOCK] - 1) // w.tunnel[c.PAD_BLOCK] * w.tunnel[c.PAD_BLOCK],
        w.tunnel[c.PAD_BYTES],
    )
    return max(min(size, w.tunnel[c.MTU]), ip_len)


@inner_kernel
def framed(w: Any, size: Any) -> Any:
    """Stream bytes of a frame that carries ``size``."""
    block = w.tunnel[c.FRAME_BLOCK]
    blocks = (size + w.tunnel[c.FRAME_EXTRA] + block - 1) // block
    return blocks * w.tunnel[c.BLOCK_BYTES] + w.tunnel[c.STREAM_OVERHEAD]


@inner_kernel
def server_up(w: Any, p: Any, now: Any) -> None:
    out = serve(w.law, w.stalls, w.path[c.UP], now, w.random)
    w.packets[p, c.OUT_NS] = out
    if out < 0:
        lost(w, p, now)
        return
    far = internet(w, p, out)
    if far < 0:
        lost(w, p, now)
        return
    at(w, far, c.ARRIVE, p)


@inner_kernel
def tunnel_up(w: Any, p: Any, now: Any) -> None:
    """The client's tunnel process takes an inner packet."""
    when = now + np.int64(lognormal(w.random, w.law[CRYPTO], 0.5))
    when = max(when, w.path[c.UP][SENT] + 1500)
    if w.law[SLOT_UP] > 0.0:
        when = slotted(w.law[SLOT_UP], w.path[c.UP], when)
    w.path[c.UP][SENT] = when
    w.packets[p, c.TUNNEL_NS] = when
    if w.tunnel[c.STREAM_OVERHEAD] >= 0:
        at(w, when, c.TUNNEL_WRITE, p)
        return
    size = padded(w, w.packets[p, c.IP_LEN]) + w.tunnel[c.OVERHEAD]
    arrival = cross(w.links[c.UP], w.path[c.UP], when, size, w.random)
    w.packets[p, c.IN_NS] = arrival
    if arrival < 0:
        lost(w, p, now)
    elif w.links[c.UP, REORDER] > 0.0:
        at(w, arrival, c.SERVER_UP, p)
    else:
        server_up(w, p, arrival)


@inner_kernel
def down_link(w: Any, p: Any, now: Any) -> None:
    size = padded(w, w.packets[p, c.IP_LEN]) + w.tunnel[c.OVERHEAD]
    arrival = cross(w.links[c.DOWN], w.path[c.DOWN], now, size, w.random)
    if arrival < 0:
        lost(w, p, now)
    else:
        w.packets[p, c.TUN_NS] = arrival
        at(w, arrival + w.flows[w.packets[p, c.FLOW], c.LAN], c.ARRIVE, p)


@inner_kernel
def egress_down(w: Any, p: Any, now: Any) -> None:
    """A packet from the Internet stands at the egress tap."""
    w.packets[p, c.OUT_NS] = now
    if w.flows[w.packets[p, c.FLOW], c.ROLE] != c.PACKETS_ROLE:
        at(w, now + 4_000, c.ARRIVE, p)  # the server's own
        return
    when = serve(w.law, w.stalls, w.path[c.DOWN], now, w.random)
    if when < 0:
        lost(w, p, now)
        return
    if w.law[SLOT_DOWN] > 0.0:
        when = slotted(w.law[SLOT_DOWN], w.path[c.DOWN], when)
    w.packets[p, c.TUNNEL_NS] = when
    if w.tunnel[c.STREAM_OVERHEAD] >= 0:
        at(w, when, c.TUNNEL_WRITE, p)
        return
    w.packets[p, c.IN_NS] = when
    down_link(w, p, when)
