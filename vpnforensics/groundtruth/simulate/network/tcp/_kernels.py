"""Kernels: TCP endpoints. NewReno (RFC 6582), delayed acknowledgements, HyStart's exit, RFC 6298 time-outs.

Deliberately left out: recovery by selective acknowledgements (they are sent, but holes are filled one a
round trip), window autotuning, ECN, path-MTU discovery.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.groundtruth.simulate.network import columns as c
from vpnforensics.groundtruth.simulate.network.links._kernels import cross, exponential
from vpnforensics.groundtruth.simulate.network.path._kernels import at, internet, lost
from vpnforensics.kernels import inner_kernel

# Typed: a literal would make Numba compile its callee once more.
_ZERO = np.int64(0)
_ROUND_SAMPLES = 8

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def arm(w: Any, e: Any, now: Any) -> None:
    ep = w.endpoints[e]
    ep[c.RTO_AT] = now + (ep[c.RTO] << min(ep[c.BACKOFF], 6))
    if ep[c.RTO_EVENT] == 0:
        ep[c.RTO_EVENT] = 1
        at(w, ep[c.RTO_AT], c.TIMEOUT, e)


@inner_kernel
def emit(w: Any, e: Any, now: Any, seq: Any, length: Any, flags: Any) -> None:
    p = w.counts[c.PACKETS]
    if p >= len(w.packets):
        w.counts[c.PROBLEM] = 1
        return
    w.counts[c.PACKETS] += 1
    f = e >> 1
    side = e & 1
    ep = w.endpoints[e]
    when = max(now + 3_000 + np.int64(exponential(w.random, 9_000.0)), ep[c.LAST_SENT] + 1_200)
    ep[c.LAST_SENT] = when
    packet = w.packets[p]
    packet[c.FLOW] = f
    packet[c.SIDE] = side
    packet[c.SENT_NS] = when
    packet[c.TUNNEL_NS] = -1
    packet[c.IN_NS] = -1
    packet[c.OUT_NS] = -1
    packet[c.TUN_NS] = -1
    packet[c.LENGTH] = length
    packet[c.SEQ] = seq
    packet[c.FLAGS] = flags
    packet[c.ECHO] = -1
    packet[c.SACK_LEFT] = 0
    packet[c.SACK_RIGHT] = 0
    size = 28 + length
    if w.flows[f, c.PROTO] == 6:
        packet[c.ACK] = ep[c.RCV] if flags & c.TCP_ACK else 0
        packet[c.ECHO] = ep[c.RECENT] if flags & c.TCP_ACK else -1
        ep[c.LAST_ACK] = ep[c.RCV]
        ep[c.UNACKED] = 0
        ep[c.DELACK_AT] = c.NEVER
        has_ts = w.flows[f, c.HAS_TS]
        size = 40 + length
        if flags & c.TCP_SYN:
            size += ep[c.SYN_OPTIONS]
        else:
            if has_ts:
                size += 12
            if ep[c.HOLES] > 0 and length == 0:
                packet[c.SACK_LEFT] = w.holes[e, 0, 0]
                packet[c.SACK_RIGHT] = w.holes[e, 0, 1]
                size += 12
    role = w.flows[f, c.ROLE]
    size += w.tunnel[c.OUTER_HEADER] if role == c.OUTER else w.tunnel[c.INNER_HEADER]
    packet[c.IP_LEN] = size
    if role == c.OUTER:
        packet[c.TUNNEL_NS] = when
        if side == c.UP:
            arrival = cross(w.links[c.UP], w.path[c.UP], when, size, w.random)
            packet[c.IN_NS] = arrival
        else:
            packet[c.IN_NS] = when
            arrival = cross(w.links[c.DOWN], w.path[c.DOWN], when, size, w.random)
        if arrival >= 0:
            at(w, arrival, c.ARRIVE, p)
    elif side == c.UP and role == c.PACKETS_ROLE:
        packet[c.TUN_NS] = when + w.flows[f, c.LAN]
        at(w, packet[c.TUN_NS], c.TUNNEL_UP, p)
    elif side == c.UP:
        packet[c.OUT_NS] = when
        far = internet(w, p, when)
        if far < 0:
            lost(w, p, now)
        else:
            at(w, far, c.ARRIVE, p)
    else:
        far = internet(w, p, when)
        if far < 0:
            lost(w, p, now)
        else:
            at(w, far, c.EGRESS, p)


@inner_kernel
def transmit(w: Any, e: Any, now: Any) -> None:
    """Send what the windows allow, then the FIN if one waits."""
    ep = w.endpoints[e]
    if ep[c.STATE] != c.OPEN_STATE:
        return
    while ep[c.NXT] < ep[c.END]:
        available = ep[c.END] - ep[c.NXT]
        segment = min(ep[c.MSS], available)
        flight = ep[c.NXT] - ep[c.UNA]
        if flight > 0 and flight + segment > min(ep[c.CWND], ep[c.RWND]):
            break
        if ep[c.NAGLE] and segment < ep[c.MSS] and flight > 0:
            break
        flags = c.TCP_ACK | (c.TCP_PSH if segment == available else 0)
        seq = ep[c.NXT]
        ep[c.NXT] += segment
        emit(w, e, now, seq, segment, flags)
        if ep[c.RTO_AT] == c.NEVER:
            arm(w, e, now)
    if ep[c.FIN] == 1 and ep[c.NXT] == ep[c.END]:
        ep[c.FIN] = 2
        ep[c.NXT] += 1
        emit(w, e, now, ep[c.END], _ZERO, c.TCP_FIN | c.TCP_ACK)
        arm(w, e, now)


@inner_kernel
def resend(w: Any, e: Any, now: Any) -> None:
    ep = w.endpoints[e]
    if ep[c.UNA] == 0:
        emit(w, e, now, _ZERO, _ZERO, c.TCP_SYN if e & 1 == 0 else c.TCP_SYN | c.TCP_ACK)
    elif ep[c.UNA] < ep[c.END]:
        segment = min(ep[c.MSS], min(ep[c.END], ep[c.NXT]) - ep[c.UNA])
        emit(w, e, now, ep[c.UNA], segment, c.TCP_ACK | c.TCP_PSH)
    elif ep[c.FIN] == 2:
        emit(w, e, now, ep[c.END], _ZERO, c.TCP_FIN | c.TCP_ACK)


@inner_kernel
def timeout(w: Any, e: Any, now: Any) -> None:
    ep = w.endpoints[e]
    ep[c.RTO_EVENT] = 0
    if ep[c.RTO_AT] == c.NEVER or ep[c.UNA] >= ep[c.NXT]:
        return
    if now < ep[c.RTO_AT]:
        ep[c.RTO_EVENT] = 1
        at(w, ep[c.RTO_AT], c.TIMEOUT, e)
        return
    ep[c.BACKOFF] += 1
    if ep[c.BACKOFF] > 6:
        ep[c.RTO_AT] = c.NEVER
        return
    ep[c.SSTHRESH] = max((ep[c.NXT] - ep[c.UNA]) // 2, 2 * ep[c.MSS])
    ep[c.CWND] = 2 * ep[c.MSS]
    ep[c.RECOVER] = ep[c.NXT]
    ep[c.DUPACKS] = 0
    resend(w, e, now)
    arm(w, e, now)


@inner_kernel
def round_trip(ep: Any, sample: Any) -> None:
    """RFC 6298, and the exit from slow start on growing delay (HyStart, RFC 9406)."""
    if ep[c.SRTT] == 0:
        ep[c.SRTT] = sample
        ep[c.RTTVAR] = sample // 2
        ep[c.MIN_RTT] = sample
    else:
        ep[c.RTTVAR] += (abs(sample - ep[c.SRTT]) - ep[c.RTTVAR]) // 4
        ep[c.SRTT] += (sample - ep[c.SRTT]) // 8
        ep[c.MIN_RTT] = min(ep[c.MIN_RTT], sample)
    ep[c.RTO] = ep[c.SRTT] + max(4 * ep[c.RTTVAR], c.RTO_MIN_NS)
    # Only a round's first samples count: later ones have queued behind the round's own burst.
    if ep[c.UNA] >= ep[c.ROUND_END]:
        ep[c.ROUND_END] = ep[c.NXT]
        ep[c.ROUND_SAMPLES] = 0
        ep[c.ROUND_MIN] = sample
    ep[c.ROUND_SAMPLES] += 1
    if ep[c.ROUND_SAMPLES] > _ROUND_SAMPLES:
        return
    ep[c.ROUND_MIN] = min(ep[c.ROUND_MIN], sample)
    if ep[c.ROUND_SAMPLES] == _ROUND_SAMPLES and ep[c.CWND] < ep[c.SSTHRESH]:
        slack = min(max(ep[c.MIN_RTT] // 8, 4 * c.MS), 16 * c.MS)
        if ep[c.ROUND_MIN] > ep[c.MIN_RTT] + slack:
            ep[c.SSTHRESH] = ep[c.CWND]


@inner_kernel
def acknowledged(w: Any, e: Any, p: Any, now: Any) -> None:
    ep = w.endpoints[e]
    packet = w.packets[p]
    ack = packet[c.ACK]
    if ack > ep[c.UNA] and ack <= ep[c.NXT]:
        newly = ack - ep[c.UNA]
        ep[c.UNA] = ack
        ep[c.DUPACKS] = 0
        ep[c.BACKOFF] = 0
        if packet[c.ECHO] >= 0:
            round_trip(ep, now - w.packets[packet[c.ECHO], c.SENT_NS])
        if ep[c.RECOVER] >= 0:
            if ack >= ep[c.RECOVER]:
                ep[c.RECOVER] = -1
                ep[c.CWND] = max(ep[c.SSTHRESH], 2 * ep[c.MSS])
            else:
                ep[c.CWND] = max(ep[c.CWND] - newly + ep[c.MSS], ep[c.MSS])
                resend(w, e, now)
        elif ep[c.CWND] < ep[c.SSTHRESH]:
            ep[c.CWND] += min(newly, 4 * ep[c.MSS])
        else:
            ep[c.CWND] += max(ep[c.MSS] * newly // ep[c.CWND], 1)
        if ep[c.UNA] < ep[c.NXT]:
            arm(w, e, now)
        else:
            ep[c.RTO_AT] = c.NEVER
    elif ack == ep[c.UNA] and ep[c.NXT] > ep[c.UNA] and packet[c.LENGTH] == 0 and packet[c.FLAGS] & 3 == 0:
        ep[c.DUPACKS] += 1
        if ep[c.DUPACKS] == 3 and ep[c.RECOVER] < 0:
            ep[c.SSTHRESH] = max((ep[c.NXT] - ep[c.UNA]) // 2, 2 * ep[c.MSS])
            ep[c.CWND] = ep[c.SSTHRESH] + 3 * ep[c.MSS]
            ep[c.RECOVER] = ep[c.NXT]
            resend(w, e, now)
            arm(w, e, now)
        elif ep[c.DUPACKS] > 3 and ep[c.RECOVER] >= 0:
            ep[c.CWND] += ep[c.MSS]


@inner_kernel
def hold(w: Any, e: Any, left: Any, right: Any) -> None:
    """Keep out-of-order bytes; the newest interval stands first, as SACK reports it."""
    ep = w.endpoints[e]
    holes = w.holes[e]
    kept = 0
    for i in range(ep[c.HOLES]):
        if holes[i, 1] < left or holes[i, 0] > right:
            holes[kept, 0] = holes[i, 0]
            holes[kept, 1] = holes[i, 1]
            kept += 1
        else:
            left = min(left, holes[i, 0])
            right = max(right, holes[i, 1])
    kept = min(kept, c.MAX_HOLES - 1)
    for i in range(kept, 0, -1):
        holes[i, 0] = holes[i - 1, 0]
        holes[i, 1] = holes[i - 1, 1]
    holes[0, 0] = left
    holes[0, 1] = right
    ep[c.HOLES] = kept + 1


@inner_kernel
def fill(w: Any, e: Any) -> None:
    """Advance over what was held."""
    ep = w.endpoints[e]
    holes = w.holes[e]
    moved = True
    while moved:
        moved = False
        kept = 0
        for i in range(ep[c.HOLES]):
            if holes[i, 0] <= ep[c.RCV]:
                if holes[i, 1] > ep[c.RCV]:
                    ep[c.RCV] = holes[i, 1]
                    moved = True
            else:
                holes[kept, 0] = holes[i, 0]
                holes[kept, 1] = holes[i, 1]
                kept += 1
        ep[c.HOLES] = kept


@inner_kernel
def acknowledge(w: Any, e: Any, now: Any) -> None:
    emit(w, e, now, w.endpoints[e, c.NXT], _ZERO, c.TCP_ACK)
