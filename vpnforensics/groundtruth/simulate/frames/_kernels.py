"""Kernel: records to the bytes of pcap frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.kernels import inner_kernel, kernel

_HALF = (1 << 17) - 1  # the filler is stored twice, so that no copy needs to wrap

# Called from kernels only: without the wrappers for Python it compiles in half the time.


@inner_kernel
def _put16(out: Any, at: Any, value: Any) -> None:
    out[at] = (value >> 8) & 0xFF
    out[at + 1] = value & 0xFF


@inner_kernel
def _put32(out: Any, at: Any, value: Any) -> None:
    out[at] = (value >> 24) & 0xFF
    out[at + 1] = (value >> 16) & 0xFF
    out[at + 2] = (value >> 8) & 0xFF
    out[at + 3] = value & 0xFF


@inner_kernel
def _little32(out: Any, at: Any, value: Any) -> None:
    out[at] = value & 0xFF
    out[at + 1] = (value >> 8) & 0xFF
    out[at + 2] = (value >> 16) & 0xFF
    out[at + 3] = (value >> 24) & 0xFF


@inner_kernel
def _sum16(data: Any, start: Any, end: Any, total: Any) -> Any:
    """One's-complement sum, not yet folded (RFC 1071)."""
    high = np.int64(0)
    low = np.int64(0)
    last = start + ((end - start) & ~1)
    for i in range(start, last, 2):
        high += data[i]
        low += data[i + 1]
    if last < end:
        high += data[last]
    return total + (high << 8) + low


@inner_kernel
def _folded(total: Any) -> Any:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@inner_kernel
def _timestamps(out: Any, at: Any, tsval: Any, tsecr: Any) -> None:
    out[at] = 8
    out[at + 1] = 10
    _put32(out, at + 2, tsval)
    _put32(out, at + 6, tsecr)


@inner_kernel
def _scale(out: Any, at: Any, shift: Any) -> None:
    out[at] = 3
    out[at + 1] = 3
    out[at + 2] = shift


@inner_kernel
def _options(out: Any, at: Any, r: Any) -> Any:
    """TCP options in the order of the stack's layout; returns their length."""
    layout = r.layout
    end = at
    if layout >= 2:
        out[at] = 2
        out[at + 1] = 4
        _put16(out, at + 2, r.mss)
    if layout == 1:
        out[at] = 1
        out[at + 1] = 1
        _timestamps(out, at + 2, r.tsval, r.tsecr)
        end = at + 12
    elif layout == 2:  # Linux: MSS, SACK permitted, timestamps, no-op, scale
        out[at + 4] = 4
        out[at + 5] = 2
        _timestamps(out, at + 6, r.tsval, r.tsecr)
        out[at + 16] = 1
        _scale(out, at + 17, r.scale)
        end = at + 20
    elif layout == 3:  # Linux without: MSS, no-ops, SACK permitted, no-op, scale
        out[at + 4] = 1
        out[at + 5] = 1
        out[at + 6] = 4
        out[at + 7] = 2
        out[at + 8] = 1
        _scale(out, at + 9, r.scale)
        end = at + 12
    elif layout == 4:  # Windows: MSS, no-op, scale, no-ops, SACK permitted
        out[at + 4] = 1
        _scale(out, at + 5, r.scale)
        out[at + 8] = 1
        out[at + 9] = 1
        out[at + 10] = 4
        out[at + 11] = 2
        end = at + 12
    elif layout == 5:  # Apple: MSS, no-op, scale, no-ops, timestamps, SACK permitted, end
        out[at + 4] = 1
        _scale(out, at + 5, r.scale)
        out[at + 8] = 1
        out[at + 9] = 1
        _timestamps(out, at + 10, r.tsval, r.tsecr)
        out[at + 20] = 4
        out[at + 21] = 2
        out[at + 22] = 0
        out[at + 23] = 0
        end = at + 24
    elif layout == 6:  # Apple without
        out[at + 4] = 1
        _scale(out, at + 5, r.scale)
        out[at + 8] = 4
        out[at + 9] = 2
        out[at + 10] = 0
        out[at + 11] = 0
        end = at + 12
    if r.sack_right != r.sack_left:
        out[end] = 1
        out[end + 1] = 1
        out[end + 2] = 5
        out[end + 3] = 10
        _put32(out, end + 4, r.sack_left)
        _put32(out, end + 8, r.sack_right)
        end += 12
    return end - at


@inner_kernel
def _usual_filler(r: Any) -> Any:
    mixed = (np.int64(r.sport) * 40503 + np.int64(r.dport) * 30011 + np.int64(r.src)) * 2654435761
    if r.proto == 6:
        return ((mixed >> 7) + np.int64(r.seq)) & _HALF
    return ((mixed + r.ts_ns * 40503) >> 9) & _HALF


@inner_kernel
def _fill(out: Any, at: Any, r: Any, content: Any, filler: Any, text: Any, want: Any) -> None:
    """The first `want` payload bytes: stored content, then filler that a retransmission repeats."""
    stored = np.int64(min(r.content_length, want))
    for i in range(stored):
        out[at + i] = content[r.content + i]
    if r.filler:
        begin = r.filler - 1
    else:
        begin = _usual_filler(r)
    if r.proto == 6:
        out[at + stored : at + want] = text[begin + stored : begin + want]
        return
    out[at + stored : at + want] = filler[begin + stored : begin + want]
    if r.proto == 17 and r.flags and want > 1 and stored == 0:
        # The first byte tells QUIC's short header (0x40) and RTP (0x80, then its payload type).
        out[at] = r.flags | (out[at] & 0x3F if r.flags == 0x40 else 0)
        if r.flags == 0x80:
            out[at + 1] = 111


@inner_kernel
def _link_header(out: Any, at: Any, link_bytes: Any, r: Any) -> None:
    if link_bytes == 14:
        for i in range(12):
            out[at + i] = 0
        out[at] = 2
        out[at + 6] = 2
        out[at + 5] = 1 if r.outgoing else 2
        out[at + 11] = 2 if r.outgoing else 1
        _put16(out, at + 12, 0x86DD if r.version == 6 else 0x0800)
    elif link_bytes == 20:
        for i in range(20):
            out[at + i] = 0
        _put16(out, at, 0x86DD if r.version == 6 else 0x0800)
        out[at + 7] = 2  # interface index
        out[at + 9] = 1  # ARPHRD_ETHER
        out[at + 10] = 4 if r.outgoing else 0
        out[at + 11] = 6
        out[at + 12] = 2
        out[at + 17] = 2 if r.outgoing else 1


@inner_kernel
def _ipv4(out: Any, ip: Any, r: Any, length: Any) -> Any:
    """Header; returns the sum over its addresses, for the transport's checksum."""
    out[ip] = 0x45
    out[ip + 1] = r.tos
    _put16(out, ip + 2, length)
    _put16(out, ip + 4, r.ip_id)
    _put16(out, ip + 6, 0x4000 if r.df else 0)
    out[ip + 8] = r.ttl
    out[ip + 9] = r.proto
    _put16(out, ip + 10, 0)
    _put32(out, ip + 12, r.src)
    _put32(out, ip + 16, r.dst)
    _put16(out, ip + 10, _folded(_sum16(out, ip, ip + 20, 0)))
    return _sum16(out, ip + 12, ip + 20, np.int64(0))


@inner_kernel
def _ipv6_address(out: Any, at: Any, low: Any) -> None:
    _put32(out, at, 0x20010DB8)
    _put32(out, at + 4, 0)
    _put32(out, at + 8, 0)
    _put32(out, at + 12, low)


@inner_kernel
def _ipv6(out: Any, ip: Any, r: Any, length: Any) -> Any:
    """The same; the flow label is a hash of the flow, as Linux makes it (RFC 6437)."""
    mixed = (
        np.int64(r.sport) * 40503 + np.int64(r.dport) * 30011 + np.int64(r.src) + np.int64(r.dst)
    ) * 2654435761
    _put32(out, ip, (6 << 28) | (np.int64(r.tos) << 20) | ((mixed >> 12) & 0xFFFFF))
    _put16(out, ip + 4, length - 40)
    out[ip + 6] = 58 if r.proto == 1 else r.proto
    out[ip + 7] = r.ttl
    _ipv6_address(out, ip + 8, r.src)
    _ipv6_address(out, ip + 24, r.dst)
    return _sum16(out, ip + 8, ip + 40, np.int64(0))


@kernel(error_model="numpy")
def assemble(
    records: Any,
    rows: Any,
    shown_ns: Any,
    content: Any,
    filler: Any,
    text: Any,
    unit_ns: Any,
    link_bytes: Any,
    snaplen: Any,
    out: Any,
    frame: Any,
) -> Any:
    """Write frames one after the other into `out`; returns the bytes used."""
    used = 0
    for k in range(len(rows)):
        r = records[rows[k]]
        ip = link_bytes
        _link_header(frame, 0, link_bytes, r)
        six = r.version == 6
        transport = ip + (40 if six else 20)
        length = np.int64(r.length)
        if r.proto == 6:
            options = _options(frame, transport + 20, r)
            payload = transport + 20 + options
        elif r.proto == 50:
            options = 0
            payload = transport
        else:
            options = 0
            payload = transport + 8
        end = payload + length
        kept = min(end, snaplen)
        _fill(frame, payload, r, content, filler, text, max(min(length, snaplen - payload), 0))

        addresses = _ipv6(frame, ip, r, end - ip) if six else _ipv4(frame, ip, r, end - ip)

        if r.proto == 6:
            _put16(frame, transport, r.sport)
            _put16(frame, transport + 2, r.dport)
            _put32(frame, transport + 4, r.seq)
            _put32(frame, transport + 8, r.ack)
            frame[transport + 12] = ((20 + options) // 4) << 4
            frame[transport + 13] = r.flags
            _put16(frame, transport + 14, r.window)
            _put32(frame, transport + 16, 0)
            check = transport + 16
        elif r.proto == 17:
            _put16(frame, transport, r.sport)
            _put16(frame, transport + 2, r.dport)
            _put16(frame, transport + 4, end - transport)
            _put16(frame, transport + 6, 0)
            check = transport + 6
        elif r.proto == 1:
            # Echo: the source's port is the identifier; the type travels in the flags.
            frame[transport] = (128 if r.flags == 8 else 129) if six else r.flags
            frame[transport + 1] = 0
            _put16(frame, transport + 2, 0)
            _put16(frame, transport + 4, r.sport if r.flags == 8 else r.dport)
            _put16(frame, transport + 6, r.seq)
            check = transport + 2
        else:
            check = 0
        if check:
            if kept == end:
                total = np.int64(0)
                if six or r.proto != 1:
                    total = addresses + (58 if r.proto == 1 else np.int64(r.proto)) + (end - transport)
                total = _folded(_sum16(frame, transport, end, total))
            else:
                # Cut short: nobody can check it, so any value stands for the real one.
                total = (np.int64(r.seq) + r.ts_ns) & 0xFFFF
            _put16(frame, check, 0xFFFF if total == 0 and r.proto == 17 else total)

        _little32(out, used, shown_ns[k] // 1_000_000_000)
        _little32(out, used + 4, shown_ns[k] % 1_000_000_000 // unit_ns)
        _little32(out, used + 8, kept)
        _little32(out, used + 12, end)
        out[used + 16 : used + 16 + kept] = frame[:kept]
        used += 16 + kept
    return used
