"""Loops over the bytes of TCP streams: the chain of frames.

No byte is read beyond what it is told was captured, and the work is bounded a byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vpnforensics.kernels import kernel, wider

OPENVPN, TLS, WIREGUARD, SSH = 0, 1, 2, 3
HEADER_BYTES = 18
"""First bytes of a frame that are kept: the length field and what follows."""
NO_KEY = -1
"""No template of a data frame is known."""
SEALED, IN_CLEAR, GREETING = 0, 1, 2
"""Phases of one direction of ssh: lines of text, packets in clear, and after NEWKEYS packets with a tag."""

# Columns of the state of one direction's framing.
HEADER_AT, HEADER_GOT, BODY_END, SYNCED, EXPECTED, KEY, COUNTER = range(7)
LOST_FROM, LOST_PIECES, HOLE, LARGEST, USUAL, PREVIOUS, PHASE = range(7, 14)
STATE_COLUMNS = 14
# Columns of the frames found.
STREAM, ROW, LENGTH, GOT, END = range(5)
FRAME_COLUMNS = 5
# Findings of one direction's framing.
FRAMES, FRAMED_BYTES, LOST_BYTES, DESYNCS, RESYNCS, INFERRED = range(6)
FINDING_COLUMNS = 6

_TLS_MOST = (1 << 14) + 2048
_MOST_AT_RESYNC = 4096
_COUNTER_WINDOW = 1 << 16
_MOST_PASSED_OVER = 1 << 15
SSH_MOST, SSH_LEAST, SSH_BLOCK = 1 << 18, 8, 8
"""Bytes of an ssh packet behind its length: what OpenSSH takes, and the least and the unit of RFC 4253, 6."""
_SSH_NEWKEYS, _LINE_FEED = 21, 10
_SSH_LEAST_CARRYING = 48
"""Bytes of the shortest packet of ssh with a packet in it, in blocks of 16."""


@kernel
def _length_of(framing: Any, head: Any) -> Any:
    if framing == TLS:
        return np.int64(head[3]) << 8 | np.int64(head[4])
    if framing == SSH:
        high = np.int64(head[0]) << 24 | np.int64(head[1]) << 16
        return high | np.int64(head[2]) << 8 | np.int64(head[3])
    return np.int64(head[0]) << 8 | np.int64(head[1])


@kernel
def _tail_of(framing: Any, state: Any) -> Any:
    """Bytes behind a frame that its length field does not count: the tag of an ssh packet."""
    return max(state[KEY], 0) if framing == SSH and state[PHASE] == SEALED else np.int64(0)


@kernel
def _key_of(head: Any) -> Any:
    """What all OpenVPN data frames of a direction share: version, and with version 2 the peer id."""
    if head[2] >> 3 == 9:
        return np.int64(9) << 24 | np.int64(head[3]) << 16 | np.int64(head[4]) << 8 | np.int64(head[5])
    return np.int64(head[2] >> 3) << 24


@kernel
def _counter_of(head: Any) -> Any:
    k = 6 if head[2] >> 3 == 9 else 3
    high = np.int64(head[k]) << 24 | np.int64(head[k + 1]) << 16
    return high | np.int64(head[k + 2]) << 8 | np.int64(head[k + 3])


@kernel
def _sound(framing: Any, head: Any, got: Any, state: Any) -> Any:
    """Whether a header where one is due can be one."""
    length = _length_of(framing, head)
    if framing == SSH:
        if state[PHASE] == IN_CLEAR:  # the length field is part of the blocks
            return SSH_LEAST <= length <= SSH_MOST and (length + 4) % SSH_BLOCK == 0
        return state[KEY] != NO_KEY and SSH_LEAST <= length <= SSH_MOST and length % SSH_BLOCK == 0
    if framing == TLS:
        return 20 <= head[0] <= 24 and head[1] == 3 and head[2] <= 4 and 0 < length <= _TLS_MOST
    if framing == WIREGUARD:
        zeros = head[3] == 0 and head[4] == 0 and head[5] == 0  # as is what was not captured
        return length >= 32 and (got < 3 or (1 <= head[2] <= 4 and zeros))
    if length < 9:
        return False
    return got < 3 or 1 <= head[2] >> 3 <= 11


@kernel
def _may_begin(framing: Any, buf: Any, at: Any, state: Any) -> Any:
    """A quick look at the first six bytes of what may be a header, for most are none."""
    if framing == TLS:
        return (buf[at] == 23 or buf[at] == 22) and buf[at + 1] == 3
    if framing == WIREGUARD:
        return 1 <= buf[at + 2] <= 4 and buf[at + 3] == 0 and buf[at + 4] == 0
    if framing == SSH:
        return state[KEY] != NO_KEY and buf[at] == 0 and buf[at + 1] == 0 and buf[at + 3] % SSH_BLOCK == 0
    return state[KEY] != NO_KEY and np.int64(buf[at + 2]) >> 3 == state[KEY] >> 24


@kernel
def _convincing(framing: Any, head: Any, got: Any, state: Any, likely: Any) -> Any:
    """Whether a header must be one where none was expected; ``likely`` where a segment begins."""
    if not _sound(framing, head, got, state):
        return False
    if framing == SSH:  # four bytes of a bulk transfer's packets, all as long as the largest, are no chance
        length = _length_of(framing, head)
        return length >= 2 * SSH_BLOCK and (likely or length == state[LARGEST] or length == state[PREVIOUS])
    if framing == TLS:
        return head[0] == 23 or (head[0] == 22 and head[2] <= 3)
    if framing == WIREGUARD:
        return got >= 6 and _length_of(framing, head) <= _MOST_AT_RESYNC
    if state[KEY] == NO_KEY or got < 10 or _length_of(framing, head) > _MOST_AT_RESYNC:
        return False
    if _key_of(head) != state[KEY]:
        return False
    ahead = _counter_of(head) - state[COUNTER]
    return state[KEY] >> 24 == 9 or (0 < ahead < _COUNTER_WINDOW if state[COUNTER] >= 0 else likely)


@kernel
def _chained(framing: Any, head: Any, state: Any, buf: Any, at: Any, seen: Any, room: Any) -> Any:
    """Whether a packet of ssh ends where its segment does, or where the next one's length can be seen."""
    if framing != SSH:
        return False
    ahead = 4 + _length_of(framing, head) + _tail_of(framing, state)
    if ahead + 4 > seen:
        return ahead == room
    return buf[at + ahead] == 0 and buf[at + ahead + 1] == 0 and buf[at + ahead + 3] % SSH_BLOCK == 0


@kernel
def _nonce_of(head: Any) -> Any:
    """The explicit nonce of a TLS 1.2 record, less its upper bits."""
    value = np.int64(0)
    for b in range(8):
        value = (value & 0x1FFFFFFFFFFFFF) << 8 | np.int64(head[5 + b])
    return value


@kernel
def _infer_header(framing: Any, head: Any, state: Any) -> Any:
    """The header of the data frame that follows the last one known; its length is not filled in."""
    for b in range(HEADER_BYTES):
        head[b] = 0
    counter = state[COUNTER] + 1
    if framing == SSH:
        return
    if framing == TLS:
        head[0], head[1], head[2] = 23, 3, 3
        if state[COUNTER] >= 0:
            for b in range(8):
                head[5 + b] = np.uint8(counter >> (56 - 8 * b) & 255)
        return
    head[2] = np.uint8(state[KEY] >> 24 << 3)
    at = 3
    if state[KEY] >> 24 == 9:
        at = 6
        for b in range(3):
            head[3 + b] = np.uint8(state[KEY] >> (16 - 8 * b) & 255)
    for b in range(4):
        head[at + b] = np.uint8(counter >> (24 - 8 * b) & 255)


@kernel
def _note_unread(state: Any, unread: Any, end: Any, done: Any) -> Any:
    """Remember where a piece ended that was passed over, and by which segment it was delivered."""
    m = state[LOST_PIECES]
    if m < len(unread):
        unread[m, 0], unread[m, 1] = end, done
    state[LOST_PIECES] = min(m + 1, len(unread) + 1)


@kernel
def _passed_over(framing: Any, state: Any, room: Any, head: Any, got: Any, hit: Any, prefix: Any) -> Any:
    """How many frames of which length stood, unread, before the header found: (0, 0) if that is not certain.

    A single one, by the counters on both sides of it, has known ends. Several are known if together they are
    as long as the largest frames are, for then each is one of these; they are taken for known if by number
    and length they are as the last two equal ones were (a train of bare acknowledgements). Packets of ssh
    are not counted, but with tags of 16 bytes or a multiple of it each adds 4 to a multiple of 16: what is
    one or five, and too short for five, is one.

    ``prefix`` is all that a frame has beside the bytes that its length field counts.
    """
    lost = hit - state[LOST_FROM]
    if state[HOLE] or state[LOST_PIECES] < 1 or state[LOST_PIECES] > room or lost <= prefix:
        return 0, 0
    largest = prefix + state[LARGEST]
    counted = True
    if framing == OPENVPN and state[COUNTER] >= 0:
        missing = _counter_of(head) - state[COUNTER] - 1
    elif framing == TLS:
        # Nonces that count tell; ciphers without leave the lengths.
        missing = np.int64(-1)
        if got >= 13 and head[0] == 23 and state[COUNTER] >= 0:
            missing = _nonce_of(head) - state[COUNTER] - 1
        if missing < 0 or missing > _MOST_PASSED_OVER:
            missing = lost // largest if lost % largest == 0 else np.int64(0)
            state[COUNTER] = -1
            counted = False
    elif framing == SSH:
        few = prefix % 16 == 4 and lost % 16 == 4 and lost < 5 * (prefix + _SSH_LEAST_CARRYING)
        missing = np.int64(few)
        if lost >= 2 * largest and state[LARGEST] and lost % largest == 0:
            missing = lost // largest
        counted = False
    else:
        return 0, 0
    if missing == 1 and 9 <= lost - prefix <= max(state[LARGEST], _MOST_AT_RESYNC):
        return 1, lost - prefix
    if missing > 1 and missing * largest == lost:
        return missing, state[LARGEST]
    if missing > 1 and counted and state[USUAL] and missing * (prefix + state[USUAL]) == lost:
        return missing, state[USUAL]
    return 0, 0


@kernel
def walk_frames(
    framings: Any,
    stream: Any,
    pos: Any,
    size: Any,
    at: Any,
    got: Any,
    whole: Any,
    done: Any,
    buf: Any,
    state: Any,
    partial: Any,
    unread: Any,
    findings: Any,
) -> Any:
    """Follow the chain of length fields through pieces of streams.

    Parameters
    ----------
    framings : ndarray of int64, shape (streams,)
        ``OPENVPN``, ``TLS``, ``WIREGUARD`` (as the reference tunnel puts it on TCP) or ``SSH``.
    stream, pos, size : ndarray, shape (n,)
        Pieces in the order of delivery: which stream, where in it, how many bytes.
    at, got : ndarray, shape (n,)
        Where the piece lies in ``buf``, and how many of its first bytes are there (not negative).
    whole : ndarray of bool, shape (n,)
        The piece begins its segment: where senders like to begin a frame.
    done : ndarray of int64, shape (n,)
        Row of the segment that delivered the piece.
    state, partial, unread, findings : ndarray, shape (streams, ...)
        What is carried from call to call; ``unread`` has room for the pieces over which a chain may be lost
        and frames still be inferred.

    Returns
    -------
    frames : ndarray of int64, shape (m, FRAME_COLUMNS)
        Frames that ended: stream, row that completed it, length field, how many of its first bytes are known,
        position in the stream behind it.
    headers : ndarray of uint8, shape (m, HEADER_BYTES)
        These first bytes.
    """
    room = 1024
    out = np.empty((room, FRAME_COLUMNS), np.int64)
    out_head = np.empty((room, HEADER_BYTES), np.uint8)
    found = 0
    head = np.zeros(HEADER_BYTES, np.uint8)
    for i in range(len(pos)):
        s = stream[i]
        st = state[s]
        framing = framings[s]
        prefix = 5 if framing == TLS else (4 if framing == SSH else 2)
        keep = HEADER_BYTES
        if framing == TLS:
            keep = 13
        elif framing == OPENVPN:
            keep = 12
        begin, end = pos[i], pos[i] + size[i]
        have = begin + min(got[i], size[i])
        if begin > st[EXPECTED]:  # a hole in the capture
            st[HOLE] = 1
            if st[SYNCED] and st[BODY_END] < begin:  # and a header in it
                st[SYNCED] = 0
                findings[s, DESYNCS] += 1
                st[LOST_FROM], st[LOST_PIECES] = begin, 0
        st[EXPECTED] = end
        cursor = begin
        while True:
            if st[SYNCED] and st[PHASE] == GREETING:
                while cursor < have and buf[at[i] + cursor - begin] != _LINE_FEED:
                    cursor += 1
                ended = cursor < have
                cursor = cursor + 1 if ended else end
                findings[s, FRAMED_BYTES] += cursor - begin
                if ended or have < end:  # a line is written alone: it ends with its segment
                    st[PHASE], st[HEADER_AT] = IN_CLEAR, cursor
                if cursor >= end:
                    break
            if not st[SYNCED]:
                if st[PHASE] != SEALED:  # clear packets of ssh are no more than the first few
                    st[PHASE], st[HOLE] = SEALED, 1
                # Frames begin where their segments do, or anywhere: there the header has to say more.
                hit, seen = -1, 0
                k = cursor
                while k <= have - 6 and hit < 0:
                    if _may_begin(framing, buf, at[i] + k - begin, st):
                        seen = min(have - k, HEADER_BYTES)
                        for b in range(HEADER_BYTES):
                            head[b] = buf[at[i] + k - begin + b] if b < seen else 0
                        likely = k == begin and whole[i]
                        likely = likely or _chained(
                            framing, head, st, buf, at[i] + k - begin, have - k, end - k
                        )
                        if _convincing(framing, head, seen, st, likely):
                            hit = k
                    k += 1
                if hit < 0:
                    findings[s, LOST_BYTES] += end - cursor
                    _note_unread(st, unread[s], end, done[i])
                    break
                findings[s, LOST_BYTES] += hit - cursor
                findings[s, RESYNCS] += 1
                beside = prefix + _tail_of(framing, st)
                passed, each = _passed_over(framing, st, len(unread[s]), head, seen, hit, beside)
                piece = 0
                for f in range(passed):
                    if found == room:
                        out, out_head, room = wider(out), wider(out_head), 2 * room
                    stop = st[LOST_FROM] + (f + 1) * (beside + each)
                    while piece < st[LOST_PIECES] and unread[s, piece, 0] < stop:
                        piece += 1
                    out[found, ROW] = unread[s, piece, 1] if piece < st[LOST_PIECES] else done[i]
                    out[found, STREAM], out[found, LENGTH], out[found, END] = s, each, stop
                    out[found, GOT] = HEADER_BYTES if st[COUNTER] >= 0 else prefix
                    _infer_header(framing, out_head[found], st)
                    if st[COUNTER] >= 0:
                        st[COUNTER] += 1
                    found += 1
                findings[s, INFERRED] += passed
                findings[s, FRAMED_BYTES] += passed * (beside + each)
                findings[s, LOST_BYTES] -= passed * (beside + each)
                st[SYNCED] = 1
                st[HEADER_AT] = hit
                st[HEADER_GOT] = 0
                st[BODY_END] = -1
                st[HOLE] = 0
                cursor = hit
            # Synchronised: the header at HEADER_AT is gathered, then the body passed over.
            if st[HEADER_GOT] < keep and cursor == st[HEADER_AT] + st[HEADER_GOT]:
                limit = st[HEADER_AT] + keep
                if st[BODY_END] >= 0:
                    limit = min(limit, st[BODY_END])
                while cursor < min(limit, have):
                    partial[s, st[HEADER_GOT]] = buf[at[i] + cursor - begin]
                    st[HEADER_GOT] += 1
                    cursor += 1
                    if st[HEADER_GOT] == prefix:
                        st[BODY_END] = st[HEADER_AT] + prefix + _length_of(framing, partial[s])
                        st[BODY_END] += _tail_of(framing, st)
                        limit = min(limit, st[BODY_END])
            if st[BODY_END] < 0:
                if cursor >= end:
                    break  # the rest of the header is in the next segment
                st[SYNCED] = 0  # it was not captured
                findings[s, DESYNCS] += 1
                st[LOST_FROM], st[LOST_PIECES] = st[HEADER_AT], 0
                _note_unread(st, unread[s], end, done[i])
                findings[s, LOST_BYTES] += end - cursor
                break
            if not _sound(framing, partial[s], st[HEADER_GOT], st):
                st[SYNCED] = 0
                findings[s, DESYNCS] += 1
                st[LOST_FROM], st[LOST_PIECES], st[HOLE] = st[HEADER_AT], 0, 1
                findings[s, LOST_BYTES] += st[HEADER_GOT]
                cursor = max(begin, min(cursor, end))
                if cursor >= end:
                    break
                continue
            if st[BODY_END] > end:
                break
            findings[s, FRAMED_BYTES] += st[BODY_END] - st[HEADER_AT]
            if framing == SSH and st[PHASE] == IN_CLEAR:
                if st[HEADER_GOT] > 5 and partial[s, 5] == _SSH_NEWKEYS:
                    st[PHASE] = SEALED
                cursor = st[BODY_END]
                st[HEADER_AT], st[HEADER_GOT], st[BODY_END] = cursor, 0, -1
                if cursor >= end:
                    break
                continue
            if found == room:
                out, out_head, room = wider(out), wider(out_head), 2 * room
            length = _length_of(framing, partial[s])
            out[found, STREAM], out[found, ROW], out[found, LENGTH] = s, done[i], length
            out[found, END] = st[BODY_END]
            for b in range(HEADER_BYTES):
                out_head[found, b] = partial[s, b] if b < st[HEADER_GOT] else 0
            if framing == OPENVPN:
                version = st[KEY] >> 24 if st[HEADER_GOT] < 3 else partial[s, 2] >> 3
                if version == 9 or version == 6:
                    if st[HEADER_GOT] >= 10:
                        st[KEY], st[COUNTER] = _key_of(partial[s]), _counter_of(partial[s])
                    elif st[COUNTER] >= 0 and version == st[KEY] >> 24:  # not captured, but next in turn
                        _infer_header(framing, out_head[found], st)
                        st[COUNTER] += 1
                        st[HEADER_GOT] = 10
                    else:
                        st[COUNTER] = -1
            elif framing == TLS:
                st[COUNTER] = _nonce_of(partial[s]) if st[HEADER_GOT] >= 13 and partial[s, 0] == 23 else -1
            st[LARGEST] = max(st[LARGEST], length)
            if length == st[PREVIOUS] and length != st[LARGEST]:
                st[USUAL] = length
            st[PREVIOUS] = length
            out[found, GOT] = st[HEADER_GOT]
            found += 1
            findings[s, FRAMES] += 1
            st[HOLE] = 0
            cursor = st[BODY_END]
            st[HEADER_AT], st[HEADER_GOT], st[BODY_END] = cursor, 0, -1
            if cursor >= end:
                break
    return out[:found], out_head[:found]
