"""WireGuard's datagrams (https://www.wireguard.com/protocol/, Donenfeld 2017)."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.outer.datagrams import (
    CONTROL,
    DATA,
    DOWN,
    HEAD_BYTES,
    KEEPALIVE,
    UP,
    Datagrams,
    Endpoint,
    Framed,
    Ints,
    idle_gaps,
    put,
    ranks,
    silence,
    tap_times,
)

INITIATION_BYTES, RESPONSE_BYTES, DATA_OVERHEAD_BYTES = 148, 92, 32
KEEPALIVE_NS = 10_000_000_000
REKEY_NS = 120_000_000_000
MTU = 1420


def data_bytes(inner: Ints, mtu: int = MTU) -> Ints:
    """UDP payload of a data message: padded to 16, but not beyond the MTU."""
    return DATA_OVERHEAD_BYTES + np.maximum(np.minimum(-(-inner // 16) * 16, mtu), inner)


def frame(datagrams: Datagrams, end: Endpoint) -> tuple[Datagrams, Framed]:
    """Add handshakes and keep-alives, then number and size every message.

    The client renews its session when it sends 120 s after the last handshake; counters restart and both
    receiver indexes change.
    """
    up = datagrams.side == UP
    up_sent = np.sort(datagrams.sent_ns[up])
    # A handshake at the start, then at the first data of the client after each 120 s.
    renewals = [end.start_ns]
    while True:
        later = np.searchsorted(up_sent, renewals[-1] + REKEY_NS)
        if later >= len(up_sent):
            break
        renewals.append(int(up_sent[later]) + 30_000)
    asked = np.array(renewals, np.int64)
    answered = asked + end.delay_ns + end.random.integers(150_000, 600_000, len(asked))
    ready = answered + end.delay_ns + 200_000
    datagrams = datagrams.with_own(UP, asked, asked + end.delay_ns, CONTROL, INITIATION_BYTES)
    datagrams = datagrams.with_own(DOWN, answered, answered, CONTROL, RESPONSE_BYTES)
    # The initiator confirms the first session with an empty packet, for it has nothing else to say yet.
    datagrams = datagrams.with_own(UP, ready[:1], tap_times(end, UP, ready[:1]), KEEPALIVE, 0)
    datagrams = _keepalives(datagrams, end)
    datagrams = datagrams.ordered()

    indexes = end.random.integers(0, 1 << 32, (2, len(asked)))
    # The client uses a session once the answer is in; the server once it saw the client use it.
    switch = np.where(datagrams.side == UP, 0, end.delay_ns)
    epoch = np.maximum(np.searchsorted(ready, datagrams.sent_ns - switch, side="right") - 1, 0)
    n = len(datagrams)
    head = np.zeros((n, HEAD_BYTES), np.uint8)
    control = datagrams.kind == CONTROL
    initiation = control & (datagrams.side == UP)
    response = control & ~initiation
    counter = np.zeros(n, np.int64)
    for i in range(len(asked)):
        session = ~control & (epoch == i)
        counter[session] = ranks(session, datagrams.side)[session]
    own = indexes[datagrams.side, epoch]
    peers = indexes[1 - datagrams.side, epoch]
    head[:, 0] = np.where(initiation, 1, np.where(response, 2, 4))
    put(head, 4, peers, 4)
    put(head, 8, counter, 8)
    number = ranks(control, datagrams.side)[control]
    own[control] = indexes[datagrams.side[control], np.minimum(number, len(asked) - 1)]
    peers[control] = indexes[1 - datagrams.side[control], np.minimum(number, len(asked) - 1)]
    handshake = np.zeros((int(control.sum()), HEAD_BYTES), np.uint8)
    handshake[:, 0] = head[control, 0]
    put(handshake, 4, own[control], 4)
    put(handshake, 8, peers[control], 4)
    head[control] = handshake
    length = np.where(control, datagrams.size, data_bytes(datagrams.size, end.mtu))
    head_length = np.where(initiation, 8, np.where(response, 12, 16))
    return datagrams, Framed(length, head, head_length)


def _keepalives(datagrams: Datagrams, end: Endpoint) -> Datagrams:
    """Passive keep-alives 10 s after data that nothing answered, and persistent ones if asked for."""
    data = datagrams.kind == DATA
    arrived = data & (datagrams.tap_ns >= 0)
    up, down = datagrams.side == UP, datagrams.side == DOWN
    sent = {side: np.sort(datagrams.sent_ns[data & mine]) for side, mine in ((UP, up), (DOWN, down))}
    received = {
        UP: np.sort(datagrams.tap_ns[arrived & down] + end.delay_ns),
        DOWN: np.sort(datagrams.tap_ns[arrived & up]),
    }
    for side in (UP, DOWN):
        when = silence(sent[side], received[side], KEEPALIVE_NS, end.end_ns)
        if side == UP and end.keepalive_ns:
            busy = np.union1d(sent[side], when)
            when = np.union1d(when, idle_gaps(busy, end.keepalive_ns, end.start_ns, end.end_ns))
        datagrams = datagrams.with_own(side, when, tap_times(end, side, when), KEEPALIVE, 0)
    return datagrams
