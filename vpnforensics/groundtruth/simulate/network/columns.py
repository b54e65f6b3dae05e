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
    TUN_NS,
) = range(15)
PACKET_COLUMNS = 15
# Flow columns: what the caller sets ...
PROTO, START, FIRST_MESSAGE, END_MESSAGE, CLOSER, CLOSE_WAIT, HAS_TS, DISTANCE, WOBBLE, PS_PER_BYTE, LAN = (
    range(11)
)
# ... also, where a relay plays: role, partner (see `relay`), bytes of the request to open.
ROLE, PARTNER, OPEN_BYTES = range(11, 14)
# ... and what the kernel keeps.
POINTER, GOAL, PENDING, RETRIES, FAR_UP, FAR_DOWN, OPENED, CLOSED = range(14, 22)
# A relayed flow: bytes said by the client and received by it; a side: bytes put into frames, bytes taken
# out of them, whether a read is due, whether the end is wanted (1) or sent (2). A tunnel: its unread frames.
SAID, GOT, ROOM, PUMPED, _, TAKEN, _, PUMPING, _, SHUT, _, HEAD, _, TAIL, _, LAST_DELIVERY, _ = range(22, 39)
# The outer connection of one flow keeps there whether it has asked for the host.
ASKED = SAID
# Beyond the server: mean delay by chance of each packet (the caller's), and the last arrival each way.
FAR_JITTER, FAR_LAST, _ = range(39, 42)
FLOW_COLUMNS = 42
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
    PUMP,
    DELIVER,
) = range(14)
# Counters: events and events ever in the queue, packets, what ran out (1 packets, 2 events), frames a side.
EVENTS, STAMPS, PACKETS, PROBLEM, WRITTEN, _, RELEASED, _ = range(8)
COUNTERS = 8
# The tunnel; the last ones in the order of Relay's fields.
OVERHEAD, PAD_BYTES, PAD_BLOCK, MTU, STREAM_OVERHEAD, TUNNEL_FLOW, FRAME_EXTRA, FRAME_BLOCK = range(8)
ADJUST_BYTES, INNER_HEADER, OUTER_HEADER = range(8, 11)
BLOCK_BYTES, ADJUST_AFTER = range(11, 13)
CHANNELS, CHUNK, CONFIRM_BYTES, CLOSE_BYTES, FIRST_DOWN_BYTES = range(13, 18)
# Roles of flows: packets in a tunnel, or the tunnel over TCP that carries them; a byte stream that a relay
# carries, a conversation of the relay itself, an outer connection of the relay.
PACKETS_ROLE, RELAYED, RELAYS_OWN, OUTER = range(4)
# Frames of streams: the stream's length after it; the inner packet or flow (-1 for set-up); bytes for that
# flow, kind, and the tunnel's next frame (plus 1).
FRAME_END, FRAME_FOR, FRAME_SIZE, FRAME_KIND, FRAME_NEXT = range(5)
FRAME_COLUMNS = 5
DATA_FRAME, OPEN_FRAME, CONFIRM_FRAME, CLOSE_FRAME, CONTROL_FRAME = range(5)
KIND_BIT = 40
TCP_FIN, TCP_SYN, TCP_RST, TCP_PSH, TCP_ACK = 1, 2, 4, 8, 16
MS = 1_000_000
RTO_MIN_NS, RTO_FIRST_NS = 200 * MS, 1000 * MS
NEVER = np.int64(1) << np.int64(60)
