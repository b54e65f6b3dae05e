"""Kernel: one client's packets, event by event.

Every conversation is a script of messages; TCP (NewReno with delayed acknowledgements, HyStart exit,
retransmission time-outs) or plain datagrams carry them between the client's device and its Internet peer.
In between lie the tunnel, the access link, the server and the Internet path. Loss, queueing and stalls
act back on the senders, so bursts, self-clocking, duplicate acknowledgements and retransmissions come
from the same causes as in a real capture. A tunnel over TCP is itself a connection of this kernel whose
byte stream carries the inner packets as frames: coalescing and head-of-line blocking follow. So it is with
a relay, whose frames carry the bytes of other connections.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import columns as c
from vpnforensics.groundtruth.simulate.network.links._kernels import exponential, pop
from vpnforensics.groundtruth.simulate.network.path._kernels import (
    at,
    egress_down,
    framed,
    padded,
    server_up,
    tunnel_up,
)
from vpnforensics.groundtruth.simulate.network.relay._kernels import (
    deliver,
    enqueue,
    kick,
    outer_open,
    pump,
    release,
    server_open,
    shut,
    start_relayed,
    unread,
)
from vpnforensics.groundtruth.simulate.network.stream._kernels import unpack, write
from vpnforensics.groundtruth.simulate.network.tcp._kernels import (
    acknowledge,
    acknowledged,
    arm,
    emit,
    fill,
    hold,
    timeout,
    transmit,
)
from vpnforensics.kernels import inner_kernel, kernel

# Typed: a literal would make Numba compile its callee once more.
_ZERO = np.int64(0)

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def _complete(w: Any, f: Any, now: Any) -> None:
    """A message has arrived whole: the next one is due."""
    flow = w.flows[f]
    flow[c.PENDING] = 0
    flow[c.RETRIES] = 0
    flow[c.POINTER] += 1
    if flow[c.POINTER] < flow[c.END_MESSAGE]:
        at(w, now + w.messages[flow[c.POINTER], c.WAIT], c.APP, f)
    elif flow[c.CLOSER] >= 0:
        at(w, now + flow[c.CLOSE_WAIT], c.APP, f)
    elif flow[c.ROLE] == c.OUTER and w.tunnel[c.CHUNK] > 0 and not w.tunnel[c.CHANNELS]:
        outer_open(w, f, now)


@inner_kernel
def _app(w: Any, f: Any, now: Any) -> None:
    flow = w.flows[f]
    m = flow[c.POINTER]
    if m >= flow[c.END_MESSAGE]:
        if flow[c.PROTO] == 6 and flow[c.CLOSER] >= 0 and flow[c.CLOSED] == 0:
            flow[c.CLOSED] = 1
            e = 2 * f + flow[c.CLOSER]
            if e == 2 * f and flow[c.ROLE] == c.RELAYED:
                shut(w, f, np.int64(c.UP), now)
            elif w.endpoints[e, c.FIN] == 0:
                w.endpoints[e, c.FIN] = 1
                transmit(w, e, now)
        return
    message = w.messages[m]
    e = 2 * f + message[c.TOWARDS]
    if flow[c.ROLE] == c.OUTER and w.tunnel[c.CHUNK] > 0:
        enqueue(w, f, message[c.TOWARDS], message[c.BYTES], _ZERO - 1, _ZERO, np.int64(c.CONTROL_FRAME))
        flow[c.GOAL] = w.endpoints[e, c.END]
        transmit(w, e, now)
    elif flow[c.ROLE] == c.RELAYED and message[c.TOWARDS] == c.UP:
        flow[c.SAID] += message[c.BYTES]
        flow[c.GOAL] = 1 + flow[c.SAID]
        kick(w, f, np.int64(c.UP), now)
    elif f == w.tunnel[c.TUNNEL_FLOW]:
        write(w, message[c.TOWARDS], message[c.BYTES], _ZERO - 1, now)
        flow[c.GOAL] = w.endpoints[e, c.END]
    elif flow[c.PROTO] == 6:
        w.endpoints[e, c.END] += message[c.BYTES]
        flow[c.GOAL] = w.endpoints[e, c.END]
        transmit(w, e, now)
    else:
        emit(w, e, now, m, message[c.BYTES], _ZERO)
    # The next message waits for this one to arrive, unless it has a time of its own.
    following = m + 1
    timing = c.AFTER_ARRIVAL
    if following < flow[c.END_MESSAGE]:
        timing = w.messages[following, c.TIMING]
    if timing == c.AFTER_ARRIVAL:
        flow[c.PENDING] = 1
        return
    flow[c.PENDING] = 0
    flow[c.POINTER] = following
    start = flow[c.OPENED] if timing == c.SINCE_OPENING else now
    at(w, start + w.messages[following, c.WAIT], c.APP, f)


@inner_kernel
def _data(w: Any, e: Any, p: Any, now: Any) -> None:
    """Bytes or a FIN arrive at an open endpoint."""
    f = e >> 1
    flow = w.flows[f]
    # Whoever waits for these bytes sits behind the relay, not here.
    relayed_down = flow[c.ROLE] == c.RELAYED and e == 2 * f
    ep = w.endpoints[e]
    packet = w.packets[p]
    left = packet[c.SEQ]
    right = left + packet[c.LENGTH]
    fin = packet[c.FLAGS] & c.TCP_FIN
    if left <= ep[c.LAST_ACK] or ep[c.RECENT] < 0:
        ep[c.RECENT] = p  # RFC 7323, section 4.3
    if left > ep[c.RCV]:
        if packet[c.LENGTH] > 0:
            hold(w, e, left, right)
        acknowledge(w, e, now)
        return
    if right + fin <= ep[c.RCV]:
        acknowledge(w, e, now)
        return
    had_holes = ep[c.HOLES] > 0
    ep[c.RCV] = max(ep[c.RCV], right)
    fill(w, e)
    if fin and ep[c.RCV] == right:
        ep[c.RCV] += 1
        if ep[c.FIN] == 0 and not (relayed_down and w.tunnel[c.CHANNELS]):
            at(w, now + 40_000 + np.int64(exponential(w.random, 150_000.0)), c.HANG_UP, e)
    ep[c.UNACKED] += 1
    if flow[c.ROLE] == c.OUTER:
        if w.tunnel[c.CHUNK] > 0:
            release(w, f, packet[c.SIDE], now)
        else:
            unpack(w, packet[c.SIDE], p, now)
    if relayed_down:
        if fin:
            shut(w, f, np.int64(c.DOWN), now)
        kick(w, f, np.int64(c.DOWN), now)
    elif flow[c.PENDING] == 1 and flow[c.POINTER] < flow[c.END_MESSAGE]:
        message = w.messages[flow[c.POINTER]]
        if message[c.TOWARDS] == packet[c.SIDE] and ep[c.RCV] >= flow[c.GOAL]:
            _complete(w, f, now)
    # While the program does not read, Linux acknowledges late: the window would shrink.
    held_back = relayed_down and unread(w, f, np.int64(c.DOWN)) > 2 * ep[c.MSS]
    if had_holes or fin:
        acknowledge(w, e, now)
    elif (ep[c.UNACKED] >= ep[c.ACK_EVERY] or ep[c.QUICK] > 0) and not held_back:
        if ep[c.GRO] > 0:
            if ep[c.GRO_EVENT] == 0:
                ep[c.GRO_EVENT] = 1
                at(w, now + ep[c.GRO], c.GRO_FLUSH, e)
        else:
            ep[c.QUICK] = max(ep[c.QUICK] - 1, 0)
            acknowledge(w, e, now)
    else:
        # An application that has read a whole message, and answers nothing, has it acknowledged at once.
        ep[c.DELACK_AT] = now + (ep[c.READ] if ep[c.READ] and packet[c.FLAGS] & c.TCP_PSH else ep[c.DELACK])
        if ep[c.DELACK_EVENT] == 0 or ep[c.DELACK_AT] < ep[c.DELACK_EVENT]:
            ep[c.DELACK_EVENT] = ep[c.DELACK_AT]
            at(w, ep[c.DELACK_AT], c.DELAYED_ACK, e)


@inner_kernel
def _arrive(w: Any, p: Any, now: Any) -> None:
    packet = w.packets[p]
    f = packet[c.FLOW]
    flow = w.flows[f]
    e = 2 * f + 1 - packet[c.SIDE]
    if flow[c.PROTO] != 6:
        if flow[c.PENDING] == 1 and packet[c.SEQ] == flow[c.POINTER]:
            _complete(w, f, now)
        return
    ep = w.endpoints[e]
    flags = packet[c.FLAGS]
    if flags & c.TCP_SYN:
        ep[c.RECENT] = p
        ep[c.RCV] = max(ep[c.RCV], 1)
        if e & 1:
            if ep[c.STATE] == c.CLOSED_STATE:
                ep[c.STATE] = c.SYN_STATE
            emit(w, e, now, _ZERO, _ZERO, c.TCP_SYN | c.TCP_ACK)
            ep[c.NXT] = max(ep[c.NXT], 1)
            arm(w, e, now)
        else:
            if ep[c.STATE] == c.SYN_STATE:
                ep[c.STATE] = c.OPEN_STATE
                acknowledged(w, e, p, now)
                ep[c.CWND] = ep[c.IW] * ep[c.MSS]
                acknowledge(w, e, now)
                if flow[c.ROLE] == c.RELAYED:
                    server_open(w, f, now)
                elif flow[c.FIRST_MESSAGE] < flow[c.END_MESSAGE]:
                    at(w, now + w.messages[flow[c.FIRST_MESSAGE], c.WAIT], c.APP, f)
                    flow[c.OPENED] = now
                elif flow[c.ROLE] == c.OUTER and w.tunnel[c.CHUNK] > 0 and not w.tunnel[c.CHANNELS]:
                    outer_open(w, f, now)
                transmit(w, e, now)
            else:
                acknowledge(w, e, now)
        return
    if ep[c.STATE] == c.SYN_STATE and e & 1:
        ep[c.STATE] = c.OPEN_STATE
        ep[c.RTO_AT] = c.NEVER
        acknowledged(w, e, p, now)
        ep[c.CWND] = ep[c.IW] * ep[c.MSS]
    else:
        acknowledged(w, e, p, now)
    if packet[c.LENGTH] > 0 or flags & c.TCP_FIN:
        _data(w, e, p, now)
    elif packet[c.SEQ] <= ep[c.LAST_ACK]:
        ep[c.RECENT] = p
    transmit(w, e, now)


@inner_kernel
def _start(w: Any, f: Any, now: Any) -> None:
    flow = w.flows[f]
    flow[c.OPENED] = now
    if flow[c.ROLE] == c.RELAYED:
        start_relayed(w, f, now)
    elif flow[c.PROTO] == 6:
        e = 2 * f
        w.endpoints[e, c.STATE] = c.SYN_STATE
        w.endpoints[e, c.NXT] = 1
        emit(w, e, now, _ZERO, _ZERO, c.TCP_SYN)
        arm(w, e, now)
    else:
        at(w, now + w.messages[flow[c.FIRST_MESSAGE], c.WAIT], c.APP, f)


@inner_kernel
def _retry(w: Any, f: Any, now: Any) -> None:
    flow = w.flows[f]
    if flow[c.PENDING] == 1 and w.messages[flow[c.POINTER], c.TIMING] == c.AFTER_ARRIVAL:
        while flow[c.POINTER] > flow[c.FIRST_MESSAGE] and w.messages[flow[c.POINTER], c.TOWARDS] != c.UP:
            flow[c.POINTER] -= 1
        _app(w, f, now)


@kernel(error_model="numpy")
def run(w: Any, end_ns: Any) -> None:
    """Run one client's events until ``end_ns`` or until the packet table is full."""
    for e in range(len(w.endpoints)):
        ep = w.endpoints[e]
        ep[c.END] = 1
        ep[c.CWND] = ep[c.IW] * ep[c.MSS]
        ep[c.SSTHRESH] = c.NEVER
        ep[c.RECOVER] = -1
        ep[c.RTO] = c.RTO_FIRST_NS
        ep[c.RTO_AT] = c.NEVER
        ep[c.DELACK_AT] = c.NEVER
        ep[c.RECENT] = -1
    for f in range(len(w.flows)):
        w.flows[f, c.POINTER] = w.flows[f, c.FIRST_MESSAGE]
        w.flows[f, c.ROOM] = w.endpoints[2 * f + 1, c.RWND]
        if w.flows[f, c.START] < end_ns:
            at(w, w.flows[f, c.START], c.START_FLOW, f)
    while w.counts[c.EVENTS] > 0 and w.counts[c.PROBLEM] == 0:
        if w.counts[c.EVENTS] + 64 > len(w.heap):
            w.counts[c.PROBLEM] = 2
            return
        now, value = pop(w.heap, w.counts)
        if now > end_ns:
            return
        kind = value >> c.KIND_BIT
        argument = value & ((np.int64(1) << c.KIND_BIT) - 1)
        if kind == c.ARRIVE:
            _arrive(w, argument, now)
        elif kind == c.TUNNEL_UP:
            tunnel_up(w, argument, now)
        elif kind == c.EGRESS:
            egress_down(w, argument, now)
        elif kind == c.APP:
            _app(w, argument, now)
        elif kind == c.TIMEOUT:
            timeout(w, argument, now)
        elif kind == c.GRO_FLUSH:
            ep = w.endpoints[argument]
            ep[c.GRO_EVENT] = 0
            if ep[c.UNACKED] > 0:
                ep[c.QUICK] = max(ep[c.QUICK] - 1, 0)
                acknowledge(w, argument, now)
        elif kind == c.DELAYED_ACK:
            ep = w.endpoints[argument]
            ep[c.DELACK_EVENT] = 0
            if ep[c.DELACK_AT] <= now:
                acknowledge(w, argument, now)
            elif ep[c.DELACK_AT] < c.NEVER:
                ep[c.DELACK_EVENT] = ep[c.DELACK_AT]
                at(w, ep[c.DELACK_AT], c.DELAYED_ACK, argument)
        elif kind == c.TUNNEL_WRITE:
            side = w.packets[argument, c.SIDE]
            write(w, side, framed(w, padded(w, w.packets[argument, c.IP_LEN])), argument, now)
        elif kind == c.SERVER_UP:
            server_up(w, argument, now)
        elif kind == c.START_FLOW:
            _start(w, argument, now)
        elif kind == c.RETRY:
            _retry(w, argument, now)
        elif kind == c.HANG_UP:
            ep = w.endpoints[argument]
            if ep[c.FIN] == 0:
                ep[c.FIN] = 1
                transmit(w, argument, now)
        elif kind == c.PUMP:
            pump(w, argument >> 1, argument & 1, now)
        elif kind == c.DELIVER:
            done = deliver(w, argument >> 1, argument & 1, now)
            if done >= 0:
                _complete(w, done, now)
