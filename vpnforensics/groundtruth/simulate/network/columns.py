"""Columns of the arrays that the kernels share, and the events between them.

Numba's cache knows only the file of a kernel: after a change here, remove the ``__pycache__`` folders
under this one, or the kernels go on with the old columns.
"""

from __future__ import annotations

import numpy as np

# Packet columns.
(
    FLOW,
    SIDE,
    SENT_NS,
    TUNNEL_NS,
    IN_NS,
    OUT_NS,
    LENGTH,
    SEQ,
    ACK,
    FLAGS,
    ECHO,
    SACK_LEFT,
    SACK_RIGHT,
    IP_LEN,
) = range(14)
PACKET_COLUMNS = 14
# Flow columns: what the caller sets ...
PROTO, START, FIRST_MESSAGE, END_MESSAGE, CLOSER, CLOSE_WAIT, HAS_TS, DISTANCE, WOBBLE, PS_PER_BYTE, LAN = (
    range(11)
)
# ... and what the kernel keeps.
POINTER, GOAL, PENDING, RETRIES, FAR_UP, FAR_DOWN, OPENED, CLOSED = range(11, 19)
FLOW_COLUMNS = 19
# Endpoint columns: what the caller sets ...
MSS, RWND, ACK_EVERY, GRO, DELACK, QUICK, NAGLE, IW, SYN_OPTIONS, READ = range(10)
# ... and what the kernel keeps. Sequence numbers count from 0, the SYN; data from 1.
STATE, UNA, NXT, END, CWND, SSTHRESH, RECOVER, DUPACKS, RTO, RTO_AT, RTO_EVENT, SRTT, RTTVAR, MIN_RTT = range(
    10, 24
)
BACKOFF, RCV, UNACKED, DELACK_AT, DELACK_EVENT, LAST_ACK, RECENT, FIN, LAST_SENT, HOLES, GRO_EVENT = range(
    24, 35
)
# The round of HyStart: where it ends, samples taken, the least of them.
ROUND_END, ROUND_SAMPLES, ROUND_MIN = range(35, 38)
ENDPOINT_COLUMNS = 38
MAX_HOLES = 24
# Message columns.
TOWARDS, BYTES, WAIT, TIMING = range(4)
# What a wait counts from: the arrival of the message before, the opening of the flow, the sending before.
AFTER_ARRIVAL, SINCE_OPENING, AFTER_SENDING = range(3)
UP, DOWN = 0, 1
CLOSED_STATE, SYN_STATE, OPEN_STATE = range(3)
# Events: kind in the high bits, packet, flow or endpoint in the low ones.
(
    START_FLOW,
    ARRIVE,
    EGRESS,
    APP,
    DELAYED_ACK,
    TIMEOUT,
    GRO_FLUSH,
    TUNNEL_UP,
    TUNNEL_WRITE,
    SERVER_UP,
    RETRY,
    HANG_UP,
) = range(12)
# Counters: events and events ever in the queue, packets, what ran out (1 packets, 2 events), frames a side.
EVENTS, STAMPS, PACKETS, PROBLEM, WRITTEN, _, RELEASED, _ = range(8)
COUNTERS = 8
# The tunnel.
OVERHEAD, PAD_BYTES, PAD_BLOCK, MTU, STREAM_OVERHEAD, TUNNEL_FLOW = range(6)
KIND_BIT = 40
TCP_FIN, TCP_SYN, TCP_RST, TCP_PSH, TCP_ACK = 1, 2, 4, 8, 16
MS = 1_000_000
RTO_MIN_NS, RTO_FIRST_NS = 200 * MS, 1000 * MS
NEVER = np.int64(1) << np.int64(60)
