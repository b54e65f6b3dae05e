"""Kernel: one client's packets, event by event.

Every conversation is a script of messages; TCP (NewReno with delayed acknowledgements, HyStart exit,
retransmission time-outs) or plain datagrams carry them between the client's device and its Internet peer.
In between lie the tunnel, the access link, the server and the Internet path. Loss, queueing and stalls
act back on the senders, so bursts, self-clocking, duplicate acknowledgements and retransmissions come
from the same causes as in a real capture. A tunnel over TCP is itself a connection of this kernel whose
byte stream carries the inner packets as frames: coalescing and head-of-line blocking follow.

Deliberately left out: selective-acknowledgement recovery (holes are filled one a round trip),
window scaling by autotuning, ECN, path-MTU discovery.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from vpnforensics.groundtruth.simulate.network.links._kernels import (
    LAST,
    SENT,
    cross,
    exponential,
    lognormal,
    pop,
    push,
    serve,
    slotted,
    uniform,
)

# Packet columns.
FLOW, SIDE, SENT_NS, TUNNEL_NS, IN_NS, OUT_NS, LENGTH, SEQ, ACK, FLAGS, ECHO, SACK_LEFT, SACK_RIGHT, IP_LEN = (
    range(14)
)
PACKET_COLUMNS = 14
# Flow columns: what the caller sets ...
PROTO, START, FIRST_MESSAGE, END_MESSAGE, CLOSER, CLOSE_WAIT, HAS_TS, DISTANCE, WOBBLE, PS_PER_BYTE, LAN = range(11)
# ... and what the kernel keeps.
POINTER, GOAL, PENDING, RETRIES, FAR_UP, FAR_DOWN, OPENED, CLOSED = range(11, 19)
FLOW_COLUMNS = 19
# Endpoint columns: what the caller sets ...
MSS, RWND, ACK_EVERY, GRO, DELACK, QUICK, NAGLE, IW, SYN_OPTIONS = range(9)
# ... and what the kernel keeps. Sequence numbers count from 0, the SYN; data from 1.
STATE, UNA, NXT, END, CWND, SSTHRESH, RECOVER, DUPACKS, RTO, RTO_AT, RTO_EVENT, SRTT, RTTVAR, MIN_RTT = range(9, 23)
BACKOFF, RCV, UNACKED, DELACK_AT, DELACK_EVENT, LAST_ACK, RECENT, FIN, LAST_SENT, HOLES, GRO_EVENT = range(23, 34)
ENDPOINT_COLUMNS = 34
MAX_HOLES = 24
# Message columns.
TOWARDS, BYTES, WAIT, ABSOLUTE = range(4)
UP, DOWN = 0, 1
CLOSED_STATE, SYN_STATE, OPEN_STATE = range(3)
# Events: kind in the high bits, packet, flow or endpoint in the low ones.
START_FLOW, ARRIVE, EGRESS, APP, DELAYED_ACK, TIMEOUT, GRO_FLUSH, TUNNEL_UP, TUNNEL_WRITE, SERVER_UP, RETRY, HANG_UP = (
    range(12)
)
_KIND_BIT = 40
_TCP_FIN, _TCP_SYN, _TCP_RST, _TCP_PSH, _TCP_ACK = 1, 2, 4, 8, 16
_MS = 1_000_000
_RTO_MIN, _RTO_FIRST = 200 * _MS, 1000 * _MS
_NEVER = np.int64(1) << np.int64(60)


@njit(cache=True)
def _at(w: Any, when: int, kind: int, argument: int) -> None:
    push(w.heap_ns, w.heap_order, w.heap_value, w.heap_count, when, (np.int64(kind) << _KIND_BIT) | argument)


@njit(cache=True)
def _arm(w: Any, e: int, now: int) -> None:
    ep = w.endpoints[e]
    ep[RTO_AT] = now + (ep[RTO] << min(ep[BACKOFF], 6))
    if ep[RTO_EVENT] == 0:
        ep[RTO_EVENT] = 1
        _at(w, ep[RTO_AT], TIMEOUT, e)


@njit(cache=True)
def _lost(w: Any, p: int, now: int) -> None:
    """Ask again later for what a datagram protocol lost; TCP finds out by itself."""
    f = w.packets[p, FLOW]
    flow = w.flows[f]
    if flow[PROTO] != 6 and flow[PENDING] == 1 and flow[RETRIES] < 2:
        flow[RETRIES] += 1
        _at(w, now + 2_000 * _MS * flow[RETRIES], RETRY, f)


@njit(cache=True)
def _internet(w: Any, p: int, now: int) -> Any:
    """Arrival at the far end of the Internet path (order kept per flow and direction); -1 where lost."""
    flow = w.flows[w.packets[p, FLOW]]
    side = w.packets[p, SIDE]
    start = max(now, flow[FAR_UP + side])
    busy = start + (flow[PS_PER_BYTE] * w.packets[p, IP_LEN]) // 1000
    flow[FAR_UP + side] = busy
    if w.internet_loss > 0.0 and uniform(w.random) < w.internet_loss:
        return np.int64(-1)
    # The wobble delays what follows, too: a queue, not a lottery.
    busy += np.int64(exponential(w.random, float(flow[WOBBLE])))
    flow[FAR_UP + side] = busy
    return busy + flow[DISTANCE]


@njit(cache=True)
def _server_up(w: Any, p: int, now: int) -> None:
    out = serve(w.server, w.up_state, now, w.random)
    w.packets[p, OUT_NS] = out
    if out < 0:
        _lost(w, p, now)
        return
    far = _internet(w, p, out)
    if far < 0:
        _lost(w, p, now)
        return
    _at(w, far, ARRIVE, p)


@njit(cache=True)
def _tunnel_up(w: Any, p: int, now: int) -> None:
    """The client's tunnel process takes an inner packet."""
    when = now + np.int64(lognormal(w.random, w.crypto_ns, 0.5))
    when = max(when, w.up_state[SENT] + 1500)
    if w.server.slot_up_ns > 0.0:
        when = slotted(w.server.slot_up_ns, w.up_state, when)
    w.up_state[SENT] = when
    w.packets[p, TUNNEL_NS] = when
    if w.stream_overhead >= 0:
        _at(w, when, TUNNEL_WRITE, p)
        return
    size = max(w.packets[p, IP_LEN], w.pad_bytes) + w.overhead_bytes
    arrival = cross(w.up, w.up_state, when, size, w.random)
    w.packets[p, IN_NS] = arrival
    if arrival < 0:
        _lost(w, p, now)
    elif w.up.reorder > 0.0:
        _at(w, arrival, SERVER_UP, p)
    else:
        _server_up(w, p, arrival)


@njit(cache=True)
def _down_link(w: Any, p: int, now: int) -> None:
    size = max(w.packets[p, IP_LEN], w.pad_bytes) + w.overhead_bytes
    arrival = cross(w.down, w.down_state, now, size, w.random)
    if arrival < 0:
        _lost(w, p, now)
    else:
        _at(w, arrival + w.flows[w.packets[p, FLOW], LAN], ARRIVE, p)


@njit(cache=True)
def _egress_down(w: Any, p: int, now: int) -> None:
    """A packet from the Internet stands at the egress tap."""
    w.packets[p, OUT_NS] = now
    when = serve(w.server, w.down_state, now, w.random)
    if when < 0:
        _lost(w, p, now)
        return
    if w.server.slot_down_ns > 0.0:
        when = slotted(w.server.slot_down_ns, w.down_state, when)
    w.packets[p, TUNNEL_NS] = when
    if w.stream_overhead >= 0:
        _at(w, when, TUNNEL_WRITE, p)
        return
    w.packets[p, IN_NS] = when
    _down_link(w, p, when)


@njit(cache=True)
def _emit(w: Any, e: int, now: int, seq: int, length: int, flags: int) -> None:
    p = w.packet_count[0]
    if p >= len(w.packets):
        w.packet_count[1] = 1
        return
    w.packet_count[0] += 1
    f = e >> 1
    side = e & 1
    ep = w.endpoints[e]
    when = max(now + 3_000 + np.int64(exponential(w.random, 9_000.0)), ep[LAST_SENT] + 1_200)
    ep[LAST_SENT] = when
    packet = w.packets[p]
    packet[FLOW] = f
    packet[SIDE] = side
    packet[SENT_NS] = when
    packet[TUNNEL_NS] = -1
    packet[IN_NS] = -1
    packet[OUT_NS] = -1
    packet[LENGTH] = length
    packet[SEQ] = seq
    packet[FLAGS] = flags
    packet[ECHO] = -1
    packet[SACK_LEFT] = 0
    packet[SACK_RIGHT] = 0
    size = 28 + length
    if w.flows[f, PROTO] == 6:
        packet[ACK] = ep[RCV] if flags & _TCP_ACK else 0
        packet[ECHO] = ep[RECENT] if flags & _TCP_ACK else -1
        ep[LAST_ACK] = ep[RCV]
        ep[UNACKED] = 0
        ep[DELACK_AT] = _NEVER
        has_ts = w.flows[f, HAS_TS]
        size = 40 + length
        if flags & _TCP_SYN:
            size += ep[SYN_OPTIONS]
        else:
            if has_ts:
                size += 12
            if ep[HOLES] > 0 and length == 0:
                packet[SACK_LEFT] = w.holes[e, 0, 0]
                packet[SACK_RIGHT] = w.holes[e, 0, 1]
                size += 12
    packet[IP_LEN] = size
    if f == w.tunnel_flow:
        packet[TUNNEL_NS] = when
        if side == UP:
            arrival = cross(w.up, w.up_state, when, size, w.random)
            packet[IN_NS] = arrival
        else:
            packet[IN_NS] = when
            arrival = cross(w.down, w.down_state, when, size, w.random)
        if arrival >= 0:
            _at(w, arrival, ARRIVE, p)
    elif side == UP:
        _at(w, when + w.flows[f, LAN], TUNNEL_UP, p)
    else:
        far = _internet(w, p, when)
        if far < 0:
            _lost(w, p, now)
        else:
            _at(w, far, EGRESS, p)


@njit(cache=True)
def _transmit(w: Any, e: int, now: int) -> None:
    """Send what the windows allow, then the FIN if one waits."""
    ep = w.endpoints[e]
    if ep[STATE] != OPEN_STATE:
        return
    while ep[NXT] < ep[END]:
        available = ep[END] - ep[NXT]
        segment = min(ep[MSS], available)
        flight = ep[NXT] - ep[UNA]
        if flight > 0 and flight + segment > min(ep[CWND], ep[RWND]):
            break
        if ep[NAGLE] and segment < ep[MSS] and flight > 0:
            break
        flags = _TCP_ACK | (_TCP_PSH if segment == available else 0)
        seq = ep[NXT]
        ep[NXT] += segment
        _emit(w, e, now, seq, segment, flags)
        if ep[RTO_AT] == _NEVER:
            _arm(w, e, now)
    if ep[FIN] == 1 and ep[NXT] == ep[END]:
        ep[FIN] = 2
        ep[NXT] += 1
        _emit(w, e, now, ep[END], 0, _TCP_FIN | _TCP_ACK)
        _arm(w, e, now)


@njit(cache=True)
def _resend(w: Any, e: int, now: int) -> None:
    ep = w.endpoints[e]
    if ep[UNA] == 0:
        _emit(w, e, now, 0, 0, _TCP_SYN if e & 1 == 0 else _TCP_SYN | _TCP_ACK)
    elif ep[UNA] < ep[END]:
        segment = min(ep[MSS], min(ep[END], ep[NXT]) - ep[UNA])
        _emit(w, e, now, ep[UNA], segment, _TCP_ACK | _TCP_PSH)
    elif ep[FIN] == 2:
        _emit(w, e, now, ep[END], 0, _TCP_FIN | _TCP_ACK)


@njit(cache=True)
def _timeout(w: Any, e: int, now: int) -> None:
    ep = w.endpoints[e]
    ep[RTO_EVENT] = 0
    if ep[RTO_AT] == _NEVER or ep[UNA] >= ep[NXT]:
        return
    if now < ep[RTO_AT]:
        ep[RTO_EVENT] = 1
        _at(w, ep[RTO_AT], TIMEOUT, e)
        return
    ep[BACKOFF] += 1
    if ep[BACKOFF] > 6:
        ep[RTO_AT] = _NEVER
        return
    ep[SSTHRESH] = max((ep[NXT] - ep[UNA]) // 2, 2 * ep[MSS])
    ep[CWND] = 2 * ep[MSS]
    ep[RECOVER] = ep[NXT]
    ep[DUPACKS] = 0
    _resend(w, e, now)
    _arm(w, e, now)


@njit(cache=True)
def _round_trip(ep: Any, sample: int) -> None:
    """RFC 6298, and the exit from slow start on growing delay (HyStart, RFC 9406)."""
    if ep[SRTT] == 0:
        ep[SRTT] = sample
        ep[RTTVAR] = sample // 2
        ep[MIN_RTT] = sample
    else:
        ep[RTTVAR] += (abs(sample - ep[SRTT]) - ep[RTTVAR]) // 4
        ep[SRTT] += (sample - ep[SRTT]) // 8
        ep[MIN_RTT] = min(ep[MIN_RTT], sample)
    ep[RTO] = ep[SRTT] + max(4 * ep[RTTVAR], _RTO_MIN)
    if ep[CWND] < ep[SSTHRESH] and ep[CWND] >= 16 * ep[MSS]:
        slack = min(max(ep[MIN_RTT] // 8, 4 * _MS), 16 * _MS)
        if sample > ep[MIN_RTT] + slack:
            ep[SSTHRESH] = ep[CWND]


@njit(cache=True)
def _acknowledged(w: Any, e: int, p: int, now: int) -> None:
    ep = w.endpoints[e]
    packet = w.packets[p]
    ack = packet[ACK]
    if ack > ep[UNA] and ack <= ep[NXT]:
        newly = ack - ep[UNA]
        ep[UNA] = ack
        ep[DUPACKS] = 0
        ep[BACKOFF] = 0
        if packet[ECHO] >= 0:
            _round_trip(ep, now - w.packets[packet[ECHO], SENT_NS])
        if ep[RECOVER] >= 0:
            if ack >= ep[RECOVER]:
                ep[RECOVER] = -1
                ep[CWND] = max(ep[SSTHRESH], 2 * ep[MSS])
            else:
                ep[CWND] = max(ep[CWND] - newly + ep[MSS], ep[MSS])
                _resend(w, e, now)
        elif ep[CWND] < ep[SSTHRESH]:
            ep[CWND] += min(newly, 4 * ep[MSS])
        else:
            ep[CWND] += max(ep[MSS] * newly // ep[CWND], 1)
        if ep[UNA] < ep[NXT]:
            _arm(w, e, now)
        else:
            ep[RTO_AT] = _NEVER
    elif ack == ep[UNA] and ep[NXT] > ep[UNA] and packet[LENGTH] == 0 and packet[FLAGS] & 3 == 0:
        ep[DUPACKS] += 1
        if ep[DUPACKS] == 3 and ep[RECOVER] < 0:
            ep[SSTHRESH] = max((ep[NXT] - ep[UNA]) // 2, 2 * ep[MSS])
            ep[CWND] = ep[SSTHRESH] + 3 * ep[MSS]
            ep[RECOVER] = ep[NXT]
            _resend(w, e, now)
            _arm(w, e, now)
        elif ep[DUPACKS] > 3 and ep[RECOVER] >= 0:
            ep[CWND] += ep[MSS]


@njit(cache=True)
def _hold(w: Any, e: int, left: int, right: int) -> None:
    """Keep out-of-order bytes; the newest interval stands first, as SACK reports it."""
    ep = w.endpoints[e]
    holes = w.holes[e]
    kept = 0
    for i in range(ep[HOLES]):
        if holes[i, 1] < left or holes[i, 0] > right:
            holes[kept, 0] = holes[i, 0]
            holes[kept, 1] = holes[i, 1]
            kept += 1
        else:
            left = min(left, holes[i, 0])
            right = max(right, holes[i, 1])
    kept = min(kept, MAX_HOLES - 1)
    for i in range(kept, 0, -1):
        holes[i, 0] = holes[i - 1, 0]
        holes[i, 1] = holes[i - 1, 1]
    holes[0, 0] = left
    holes[0, 1] = right
    ep[HOLES] = kept + 1


@njit(cache=True)
def _fill(w: Any, e: int) -> None:
    """Advance over what was held."""
    ep = w.endpoints[e]
    holes = w.holes[e]
    moved = True
    while moved:
        moved = False
        kept = 0
        for i in range(ep[HOLES]):
            if holes[i, 0] <= ep[RCV]:
                if holes[i, 1] > ep[RCV]:
                    ep[RCV] = holes[i, 1]
                    moved = True
            else:
                holes[kept, 0] = holes[i, 0]
                holes[kept, 1] = holes[i, 1]
                kept += 1
        ep[HOLES] = kept


@njit(cache=True)
def _release(w: Any, side: int, p: int, now: int) -> None:
    """Inner packets whose last byte has arrived leave the tunnel's stream."""
    received = w.endpoints[2 * w.tunnel_flow + 1 - side, RCV]
    while w.frame_count[2 + side] < w.frame_count[side]:
        k = w.frame_count[2 + side]
        if w.frame_end[side, k] > received:
            break
        w.frame_count[2 + side] += 1
        inner = w.frame_packet[side, k]
        if inner < 0:
            continue
        w.packets[inner, IN_NS] = w.packets[p, IN_NS]
        if side == UP:
            _server_up(w, inner, now + 4_000)
        else:
            when = now + np.int64(lognormal(w.random, w.crypto_ns, 0.5)) + w.flows[w.packets[inner, FLOW], LAN]
            _at(w, when, ARRIVE, inner)


@njit(cache=True)
def _write(w: Any, side: int, frame_bytes: int, inner: int, now: int) -> None:
    """Append a frame to the tunnel's stream."""
    e = 2 * w.tunnel_flow + side
    ep = w.endpoints[e]
    if inner >= 0 and ep[END] - ep[UNA] > 400_000:
        return  # the tunnel's device queue is full
    ep[END] += frame_bytes
    k = w.frame_count[side]
    w.frame_end[side, k] = ep[END]
    w.frame_packet[side, k] = inner
    w.frame_count[side] += 1
    _transmit(w, e, now)


@njit(cache=True)
def _complete(w: Any, f: int, now: int) -> None:
    """A message has arrived whole: the next one is due."""
    flow = w.flows[f]
    flow[PENDING] = 0
    flow[RETRIES] = 0
    flow[POINTER] += 1
    if flow[POINTER] < flow[END_MESSAGE]:
        _at(w, now + w.messages[flow[POINTER], WAIT], APP, f)
    elif flow[CLOSER] >= 0:
        _at(w, now + flow[CLOSE_WAIT], APP, f)


@njit(cache=True)
def _app(w: Any, f: int, now: int) -> None:
    flow = w.flows[f]
    m = flow[POINTER]
    if m >= flow[END_MESSAGE]:
        if flow[PROTO] == 6 and flow[CLOSER] >= 0 and flow[CLOSED] == 0:
            flow[CLOSED] = 1
            e = 2 * f + flow[CLOSER]
            if w.endpoints[e, FIN] == 0:
                w.endpoints[e, FIN] = 1
                _transmit(w, e, now)
        return
    message = w.messages[m]
    e = 2 * f + message[TOWARDS]
    absolute = message[ABSOLUTE] == 1
    flow[PENDING] = 0 if absolute else 1
    if f == w.tunnel_flow:
        _write(w, message[TOWARDS], message[BYTES], -1, now)
        flow[GOAL] = w.endpoints[e, END]
    elif flow[PROTO] == 6:
        w.endpoints[e, END] += message[BYTES]
        flow[GOAL] = w.endpoints[e, END]
        _transmit(w, e, now)
    else:
        _emit(w, e, now, m, message[BYTES], 0)
    if absolute:
        flow[POINTER] += 1
        if flow[POINTER] < flow[END_MESSAGE]:
            _at(w, flow[OPENED] + w.messages[flow[POINTER], WAIT], APP, f)
        elif flow[CLOSER] >= 0:
            _at(w, now + flow[CLOSE_WAIT], APP, f)


@njit(cache=True)
def _acknowledge(w: Any, e: int, now: int) -> None:
    _emit(w, e, now, w.endpoints[e, NXT], 0, _TCP_ACK)


@njit(cache=True)
def _data(w: Any, e: int, p: int, now: int) -> None:
    """Bytes or a FIN arrive at an open endpoint."""
    f = e >> 1
    ep = w.endpoints[e]
    packet = w.packets[p]
    left = packet[SEQ]
    right = left + packet[LENGTH]
    fin = packet[FLAGS] & _TCP_FIN
    if left <= ep[LAST_ACK] or ep[RECENT] < 0:
        ep[RECENT] = p  # RFC 7323, section 4.3
    if left > ep[RCV]:
        if packet[LENGTH] > 0:
            _hold(w, e, left, right)
        _acknowledge(w, e, now)
        return
    if right + fin <= ep[RCV]:
        _acknowledge(w, e, now)
        return
    had_holes = ep[HOLES] > 0
    ep[RCV] = max(ep[RCV], right)
    _fill(w, e)
    if fin and ep[RCV] == right:
        ep[RCV] += 1
        if ep[FIN] == 0:
            _at(w, now + 40_000 + np.int64(exponential(w.random, 150_000.0)), HANG_UP, e)
    ep[UNACKED] += 1
    if f == w.tunnel_flow:
        _release(w, packet[SIDE], p, now)
    flow = w.flows[f]
    if flow[PENDING] == 1 and flow[POINTER] < flow[END_MESSAGE]:
        message = w.messages[flow[POINTER]]
        if message[TOWARDS] == packet[SIDE] and ep[RCV] >= flow[GOAL]:
            _complete(w, f, now)
    if had_holes or fin:
        _acknowledge(w, e, now)
    elif ep[UNACKED] >= ep[ACK_EVERY] or ep[QUICK] > 0:
        if ep[GRO] > 0:
            if ep[GRO_EVENT] == 0:
                ep[GRO_EVENT] = 1
                _at(w, now + ep[GRO], GRO_FLUSH, e)
        else:
            ep[QUICK] = max(ep[QUICK] - 1, 0)
            _acknowledge(w, e, now)
    else:
        ep[DELACK_AT] = now + ep[DELACK]
        if ep[DELACK_EVENT] == 0:
            ep[DELACK_EVENT] = 1
            _at(w, ep[DELACK_AT], DELAYED_ACK, e)


@njit(cache=True)
def _arrive(w: Any, p: int, now: int) -> None:
    packet = w.packets[p]
    f = packet[FLOW]
    flow = w.flows[f]
    e = 2 * f + 1 - packet[SIDE]
    if flow[PROTO] != 6:
        if flow[PENDING] == 1 and packet[SEQ] == flow[POINTER]:
            _complete(w, f, now)
        return
    ep = w.endpoints[e]
    flags = packet[FLAGS]
    if flags & _TCP_SYN:
        ep[RECENT] = p
        ep[RCV] = max(ep[RCV], 1)
        if e & 1:
            if ep[STATE] == CLOSED_STATE:
                ep[STATE] = SYN_STATE
            _emit(w, e, now, 0, 0, _TCP_SYN | _TCP_ACK)
            ep[NXT] = max(ep[NXT], 1)
            _arm(w, e, now)
        else:
            if ep[STATE] == SYN_STATE:
                ep[STATE] = OPEN_STATE
                _acknowledged(w, e, p, now)
                ep[CWND] = ep[IW] * ep[MSS]
                _acknowledge(w, e, now)
                if flow[FIRST_MESSAGE] < flow[END_MESSAGE]:
                    _at(w, now + w.messages[flow[FIRST_MESSAGE], WAIT], APP, f)
                    flow[OPENED] = now
                _transmit(w, e, now)
            else:
                _acknowledge(w, e, now)
        return
    if ep[STATE] == SYN_STATE and e & 1:
        ep[STATE] = OPEN_STATE
        ep[RTO_AT] = _NEVER
        _acknowledged(w, e, p, now)
        ep[CWND] = ep[IW] * ep[MSS]
    else:
        _acknowledged(w, e, p, now)
    if packet[LENGTH] > 0 or flags & _TCP_FIN:
        _data(w, e, p, now)
    elif packet[SEQ] <= ep[LAST_ACK]:
        ep[RECENT] = p
    _transmit(w, e, now)


@njit(cache=True)
def _start(w: Any, f: int, now: int) -> None:
    flow = w.flows[f]
    flow[OPENED] = now
    if flow[PROTO] == 6:
        e = 2 * f
        w.endpoints[e, STATE] = SYN_STATE
        w.endpoints[e, NXT] = 1
        _emit(w, e, now, 0, 0, _TCP_SYN)
        _arm(w, e, now)
    else:
        _at(w, now + w.messages[flow[FIRST_MESSAGE], WAIT], APP, f)


@njit(cache=True)
def _retry(w: Any, f: int, now: int) -> None:
    flow = w.flows[f]
    if flow[PENDING] == 1:
        while flow[POINTER] > flow[FIRST_MESSAGE] and w.messages[flow[POINTER], TOWARDS] != UP:
            flow[POINTER] -= 1
        _app(w, f, now)


@njit(cache=True)
def run(w: Any, end_ns: int) -> None:
    """Run one client's events until ``end_ns`` or until the packet table is full."""
    for e in range(len(w.endpoints)):
        ep = w.endpoints[e]
        ep[END] = 1
        ep[CWND] = ep[IW] * ep[MSS]
        ep[SSTHRESH] = _NEVER
        ep[RECOVER] = -1
        ep[RTO] = _RTO_FIRST
        ep[RTO_AT] = _NEVER
        ep[DELACK_AT] = _NEVER
        ep[RECENT] = -1
    for f in range(len(w.flows)):
        w.flows[f, POINTER] = w.flows[f, FIRST_MESSAGE]
        if w.flows[f, START] < end_ns:
            _at(w, w.flows[f, START], START_FLOW, f)
    while w.heap_count[0] > 0 and w.packet_count[1] == 0:
        if w.heap_count[0] + 64 > len(w.heap_ns):
            w.packet_count[1] = 2
            return
        now, value = pop(w.heap_ns, w.heap_order, w.heap_value, w.heap_count)
        if now > end_ns:
            return
        kind = value >> _KIND_BIT
        argument = value & ((np.int64(1) << _KIND_BIT) - 1)
        if kind == ARRIVE:
            _arrive(w, argument, now)
        elif kind == TUNNEL_UP:
            _tunnel_up(w, argument, now)
        elif kind == EGRESS:
            _egress_down(w, argument, now)
        elif kind == APP:
            _app(w, argument, now)
        elif kind == TIMEOUT:
            _timeout(w, argument, now)
        elif kind == GRO_FLUSH:
            ep = w.endpoints[argument]
            ep[GRO_EVENT] = 0
            if ep[UNACKED] > 0:
                ep[QUICK] = max(ep[QUICK] - 1, 0)
                _acknowledge(w, argument, now)
        elif kind == DELAYED_ACK:
            ep = w.endpoints[argument]
            ep[DELACK_EVENT] = 0
            if ep[DELACK_AT] <= now:
                _acknowledge(w, argument, now)
            elif ep[DELACK_AT] < _NEVER:
                ep[DELACK_EVENT] = 1
                _at(w, ep[DELACK_AT], DELAYED_ACK, argument)
        elif kind == TUNNEL_WRITE:
            side = w.packets[argument, SIDE]
            _write(w, side, w.packets[argument, IP_LEN] + w.stream_overhead, argument, now)
        elif kind == SERVER_UP:
            _server_up(w, argument, now)
        elif kind == START_FLOW:
            _start(w, argument, now)
        elif kind == RETRY:
            _retry(w, argument, now)
        elif kind == HANG_UP:
            ep = w.endpoints[argument]
            if ep[FIN] == 0:
                ep[FIN] = 1
                _transmit(w, argument, now)
