"""Frames that a tap wrapped: what is inside, found before it is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.capture._loads import be16, be32, be64
from vpnforensics.capture.encapsulations import NONE
from vpnforensics.kernels import kernel
from vpnforensics.packets._address_kernels import mix
from vpnforensics.packets._counters import ANSWERED, CUT_WRAPPED, UNTOLD_WRAPPED, WRAPPED
from vpnforensics.packets._layers import CUT, NOT_IP, UNTOLD, link_payload, wrapped_in


@kernel
def _count_wrapped(buf: Any, l3: Any, encapsulation: Any, collectors: Any, counters: Any) -> Any:
    """Count a wrapped packet, and look whether it answers another."""
    counters[WRAPPED + encapsulation] += 1
    if buf[l3] >> 4 == 4:
        src, dst = np.uint64(be32(buf, l3 + 12)), np.uint64(be32(buf, l3 + 16))
    else:
        src, dst = mix(be64(buf, l3 + 8)) ^ be64(buf, l3 + 16), mix(be64(buf, l3 + 24)) ^ be64(buf, l3 + 32)
    known = np.int64(collectors[0])
    is_known = False
    for k in range(1, known + 1):
        if collectors[k] == src:
            counters[ANSWERED] = 1
        is_known |= collectors[k] == dst
    if not is_known:
        if known + 1 == len(collectors):
            counters[ANSWERED] = 1
        else:
            collectors[known + 1] = dst
            collectors[0] = known + 1


@kernel
def unwrap_frames(
    buf: Any, n: Any, records: Any, if_kind: Any, decap: Any, collectors: Any, counters: Any
) -> Any:
    """Count what taps wrapped, and let the records of one encapsulation point at the packets inside.

    Parameters
    ----------
    buf, n, records, if_kind
        As for :func:`decode_frames`, of which this is the step before. A record that is unwrapped is of
        another interface, as many further as there are: of kind ``KIND_RAW``, or twice as many further, of
        ``KIND_NOTHING``, where no IP packet is inside.
    decap : int
        The encapsulation that is read through; ``NONE`` for none.
    collectors : ndarray of uint64
        How many destinations of wrapped packets are known, and digests of their addresses.
    counters : ndarray of int64
    """
    rec_at, rec_caplen, rec_wire, _, rec_iface = records
    for i in range(n):
        start = rec_at[i]
        end, wire_end = start + rec_caplen[i], start + rec_wire[i]
        l3 = link_payload(buf, start, end, if_kind[rec_iface[i]])
        if l3 < 0 or l3 >= end:
            continue
        encapsulation, inner, inner_end = wrapped_in(buf, l3, end, wire_end)
        if encapsulation == NONE:
            continue
        if encapsulation == UNTOLD:
            counters[UNTOLD_WRAPPED] += 1
            continue
        if inner != NOT_IP:
            _count_wrapped(buf, l3, encapsulation, collectors, counters)
        if encapsulation != decap:
            if inner == NOT_IP:
                counters[UNTOLD_WRAPPED] += 1
            continue
        rec_iface[i] += len(if_kind)
        if inner == NOT_IP:
            rec_iface[i] += len(if_kind)
        elif inner == CUT:
            counters[CUT_WRAPPED] += 1
            rec_caplen[i] = 0
        else:
            size = 0
            if end - inner >= 6:
                size = be16(buf, inner + 2) if buf[inner] >> 4 == 4 else be16(buf, inner + 4) + 40
            rec_at[i] = inner
            rec_caplen[i] = min(end, inner_end) - inner
            # A tap sends on the first bytes only, where the whole does not fit: a packet cut short.
            rec_wire[i] = max(inner_end - inner, size)
