"""Kernels: byte streams through a relay.

A relayed flow is two things at once. Its packets are those of the server's own connection to the Internet
host: the near endpoint is the server's socket. Its bytes cross the access path as frames in the stream of an
outer connection, with many others (ssh -D, Tor: channels) or alone (Shadowsocks, SOCKS). A program reads what
has come in at one side and writes it to the other, and reads no further while the other side's send buffer is
full: so the receive window towards the host closes, and the egress side runs at the pace of the access line.

Simplified: the buffer is twice the congestion window, as Linux's autotuning has it, and the program looks
again after a pause instead of being woken; the host learns of a window half a round trip too early, and
the window that packets advertise does not show it. Datagrams (SOCKS UDP ASSOCIATE) are not relayed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import columns as c
from vpnforensics.groundtruth.simulate.network.links._kernels import CRYPTO, lognormal, serve
from vpnforensics.groundtruth.simulate.network.path._kernels import at, framed
from vpnforensics.groundtruth.simulate.network.tcp._kernels import acknowledge, arm, emit, transmit
from vpnforensics.kernels import inner_kernel

# Typed: a literal would make Numba compile its callee once more.
_ZERO = np.int64(0)
_LEAST_BUFFER = 65_536
_LOOK_AGAIN_NS = 400_000

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def enqueue(w: Any, g: Any, side: Any, size: Any, f: Any, carried: Any, kind: Any) -> None:
    """Append a frame of ``size`` bytes to one direction of outer connection ``g``."""
    k = w.counts[c.WRITTEN + side]
    if k >= w.frames.shape[1]:
        w.counts[c.PROBLEM] = 1
        return
    w.counts[c.WRITTEN + side] += 1
    ep = w.endpoints[2 * g + side]
    ep[c.END] += size
    frame = w.frames[side, k]
    # An end without bytes of its own is the FIN, which takes one sequence number.
    frame[c.FRAME_END] = ep[c.END] + (1 if size == 0 else 0)
    frame[c.FRAME_FOR] = f
    frame[c.FRAME_SIZE] = carried
    frame[c.FRAME_KIND] = kind
    frame[c.FRAME_NEXT] = 0
    outer = w.flows[g]
    if outer[c.HEAD + side] == 0:
        outer[c.HEAD + side] = k + 1
    else:
        w.frames[side, outer[c.TAIL + side] - 1, c.FRAME_NEXT] = k + 1
    outer[c.TAIL + side] = k + 1


@inner_kernel
def kick(w: Any, f: Any, side: Any, now: Any) -> None:
    """Let the program of one side read, if it is not about to."""
    flow = w.flows[f]
    if flow[c.PUMPING + side]:
        return
    flow[c.PUMPING + side] = 1
    if side == c.UP:
        when = now + np.int64(lognormal(w.random, w.law[CRYPTO], 0.5))
    else:
        when = max(serve(w.law, w.stalls, w.path[c.DOWN], now, w.random), now)
    at(w, when, c.PUMP, 2 * f + side)


@inner_kernel
def unread(w: Any, f: Any, side: Any) -> Any:
    """Bytes that have come in and are not yet in frames."""
    flow = w.flows[f]
    if side == c.UP:
        return flow[c.SAID] - flow[c.PUMPED]
    near = w.endpoints[2 * f]
    # The host's FIN has a number in the sequence, too.
    ended = 1 if w.endpoints[2 * f + 1, c.FIN] == 2 and near[c.RCV] > w.endpoints[2 * f + 1, c.END] else 0
    return max(near[c.RCV] - 1 - ended, 0) - flow[c.PUMPED + 1]


@inner_kernel
def _open_window(w: Any, f: Any, now: Any) -> None:
    """After a read: acknowledge what was held back; the host may send what fits beside the unread bytes."""
    host = w.endpoints[2 * f + 1]
    before = host[c.RWND]
    host[c.RWND] = max(w.flows[f, c.ROOM] - unread(w, f, np.int64(c.DOWN)), 0)
    near = w.endpoints[2 * f]
    if near[c.UNACKED] >= near[c.ACK_EVERY] or before < 2 * host[c.MSS] <= host[c.RWND]:
        acknowledge(w, 2 * f, now)


@inner_kernel
def _ask(w: Any, g: Any, f: Any) -> None:
    """The request for a host, as a frame of its own outer connection."""
    w.flows[g, c.ASKED] = 1
    enqueue(w, g, np.int64(c.UP), w.flows[f, c.OPEN_BYTES], f, _ZERO, np.int64(c.OPEN_FRAME))


@inner_kernel
def pump(w: Any, f: Any, side: Any, now: Any) -> None:
    """Read once: one frame into the outer connection, or the end."""
    flow = w.flows[f]
    flow[c.PUMPING + side] = 0
    g = flow[c.PARTNER]
    ep = w.endpoints[2 * g + side]
    waiting = unread(w, f, side)
    if ep[c.FIN] > 0 or flow[c.SHUT + side] == 2:
        flow[c.PUMPED + side] += waiting  # nobody listens any more
        _open_window(w, f, now)
        return
    if waiting > 0:
        if ep[c.END] - ep[c.UNA] > 2 * ep[c.CWND] + _LEAST_BUFFER:
            if side == c.DOWN:
                w.endpoints[2 * f + 1, c.RWND] = max(flow[c.ROOM] - waiting, 0)
            flow[c.PUMPING + side] = 1
            at(w, now + _LOOK_AGAIN_NS, c.PUMP, 2 * f + side)
            return
        if w.tunnel[c.CHANNELS] == 0 and w.tunnel[c.CONFIRM_BYTES] == 0:
            # A connection of its own begins with a salt, and upwards with the address asked for.
            if side == c.DOWN and flow[c.PUMPED + side] == 0:
                ep[c.END] += w.tunnel[c.FIRST_DOWN_BYTES]
            elif side == c.UP and not w.flows[g, c.ASKED]:
                _ask(w, g, f)
        size = min(waiting, w.tunnel[c.CHUNK])
        flow[c.PUMPED + side] += size
        enqueue(w, g, side, framed(w, size), f, size, np.int64(c.DATA_FRAME))
        transmit(w, 2 * g + side, now)
        if side == c.DOWN:
            _open_window(w, f, now)
        waiting -= size
    if waiting > 0:
        flow[c.PUMPING + side] = 1
        at(w, now + 12_000, c.PUMP, 2 * f + side)
    elif flow[c.SHUT + side] == 1:
        flow[c.SHUT + side] = 2
        enqueue(w, g, side, w.tunnel[c.CLOSE_BYTES], f, _ZERO, np.int64(c.CLOSE_FRAME))
        if w.tunnel[c.CHANNELS] == 0:
            ep[c.FIN] = 1
        transmit(w, 2 * g + side, now)


@inner_kernel
def shut(w: Any, f: Any, side: Any, now: Any) -> None:
    """One side has no more to say."""
    if w.flows[f, c.SHUT + side] == 0:
        w.flows[f, c.SHUT + side] = 1
        kick(w, f, side, now)


@inner_kernel
def start_relayed(w: Any, f: Any, now: Any) -> None:
    """The client's program asks for a connection."""
    flow = w.flows[f]
    g = flow[c.PARTNER]
    if w.tunnel[c.CHANNELS] == 0:
        return  # its own outer connection starts at the same time
    if w.flows[g, c.POINTER] < w.flows[g, c.END_MESSAGE]:
        at(w, now + 20_000_000, c.START_FLOW, f)  # the tunnel is still being set up
    else:
        enqueue(w, g, np.int64(c.UP), flow[c.OPEN_BYTES], f, _ZERO, np.int64(c.OPEN_FRAME))
        transmit(w, 2 * g, now)


@inner_kernel
def outer_open(w: Any, g: Any, now: Any) -> None:
    """A connection for one flow stands: its program is told so at once, or once the server's stands."""
    f = w.flows[g, c.PARTNER]
    flow = w.flows[f]
    if w.tunnel[c.CONFIRM_BYTES]:
        _ask(w, g, f)
        transmit(w, 2 * g, now)
        return
    flow[c.OPENED] = now
    first = w.messages[flow[c.FIRST_MESSAGE]]
    at(w, now + first[c.WAIT], c.APP, f)
    if first[c.TOWARDS] == c.DOWN:
        _ask(w, g, f)
        transmit(w, 2 * g, now)


@inner_kernel
def server_open(w: Any, f: Any, now: Any) -> None:
    """The server's connection to the host stands."""
    if w.tunnel[c.CONFIRM_BYTES]:
        g = w.flows[f, c.PARTNER]
        enqueue(w, g, np.int64(c.DOWN), w.tunnel[c.CONFIRM_BYTES], f, _ZERO, np.int64(c.CONFIRM_FRAME))
        transmit(w, 2 * g + 1, now)


@inner_kernel
def release(w: Any, g: Any, side: Any, now: Any) -> None:
    """Frames whose last byte has arrived leave the outer connection's stream, in order."""
    outer = w.flows[g]
    received = w.endpoints[2 * g + 1 - side, c.RCV]
    while outer[c.HEAD + side] > 0:
        k = outer[c.HEAD + side] - 1
        frame = w.frames[side, k]
        if frame[c.FRAME_END] > received:
            return
        outer[c.HEAD + side] = frame[c.FRAME_NEXT]
        if frame[c.FRAME_KIND] == c.CONTROL_FRAME:
            continue
        if side == c.UP:
            when = serve(w.law, w.stalls, w.path[c.UP], now, w.random)
        else:
            when = now + np.int64(lognormal(w.random, w.law[CRYPTO], 0.5))
        # A stream loses nothing at the server, and keeps its order.
        when = max(max(when, now), outer[c.LAST_DELIVERY + side])
        outer[c.LAST_DELIVERY + side] = when
        at(w, when, c.DELIVER, 2 * k + side)


@inner_kernel
def _take(w: Any, f: Any, side: Any, size: Any, now: Any) -> None:
    """Count what came out of a channel; its receiver grants as much again, now and then."""
    flow = w.flows[f]
    flow[c.TAKEN + side] += size
    if w.tunnel[c.ADJUST_BYTES] and flow[c.TAKEN + side] > w.tunnel[c.ADJUST_AFTER]:
        flow[c.TAKEN + side] = 0
        g = flow[c.PARTNER]
        enqueue(w, g, 1 - side, w.tunnel[c.ADJUST_BYTES], f, _ZERO, np.int64(c.CONTROL_FRAME))
        transmit(w, 2 * g + 1 - side, now)


@inner_kernel
def deliver(w: Any, k: Any, side: Any, now: Any) -> Any:
    """A frame is read at its far side; returns the flow whose pending message is now complete, or -1."""
    frame = w.frames[side, k]
    f = frame[c.FRAME_FOR]
    flow = w.flows[f]
    kind = frame[c.FRAME_KIND]
    near = w.endpoints[2 * f]
    if kind == c.OPEN_FRAME:
        near[c.STATE] = c.SYN_STATE
        near[c.NXT] = 1
        emit(w, 2 * f, now, _ZERO, _ZERO, c.TCP_SYN)
        arm(w, 2 * f, now)
    elif kind == c.CONFIRM_FRAME:
        flow[c.OPENED] = now
        if flow[c.FIRST_MESSAGE] < flow[c.END_MESSAGE]:
            at(w, now + w.messages[flow[c.FIRST_MESSAGE], c.WAIT], c.APP, f)
    elif kind == c.CLOSE_FRAME:
        if side == c.UP and near[c.FIN] == 0:
            near[c.FIN] = 1
            transmit(w, 2 * f, now)
        shut(w, f, 1 - side, now)
    elif side == c.UP:
        if near[c.FIN] == 0:
            near[c.END] += frame[c.FRAME_SIZE]
            transmit(w, 2 * f, now)
        _take(w, f, side, frame[c.FRAME_SIZE], now)
    else:
        flow[c.GOT] += frame[c.FRAME_SIZE]
        _take(w, f, side, frame[c.FRAME_SIZE], now)
        if flow[c.PENDING] == 1 and flow[c.POINTER] < flow[c.END_MESSAGE]:
            down = w.messages[flow[c.POINTER], c.TOWARDS] == c.DOWN
            if down and 1 + flow[c.GOT] >= flow[c.GOAL]:
                return f
    return np.int64(-1)
