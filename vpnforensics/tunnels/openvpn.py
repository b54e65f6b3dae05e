"""OpenVPN, over UDP. Wire format: https://openvpn.net/community-docs/openvpn-protocol.html.

The first byte is an opcode and a key number. A control packet names its sender's session and the packets of
the peer that it acknowledges, with the peer's session; it has a number of its own and may be wrapped::

    plain       opcode, session 8, acknowledged (count 1, numbers 4 each, peer's session 8), number 4
    tls-auth    opcode, session 8, HMAC, replay number 4, time 4, acknowledged, number
    tls-crypt   opcode, session 8, replay number 4, time 4, HMAC 32, ciphertext

All of it has to fit together: ordinary protocols begin with these opcodes, too. A wrapping adds the same
length to every control packet, and what has no content (a reset, an acknowledgement) has a known length.
Data of an AEAD cipher carries its packet counter in clear, since 2.7 below the number of an epoch; with CBC
and HMAC it is hidden, and only the handshake tells the protocol.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    CONSISTENT,
    COUNTED_LOOSELY,
    LIKENESS,
    SHAPED,
    U8,
    Datagrams,
    Flags,
    Handshake,
    Recognition,
    Records,
    be32,
    counts_up_each_way,
    handshake_of,
    looks_sealed,
    steps_within,
)

name = "openvpn"
server_ports = (1194,)
copies_ecn = False

DATA_V1, DATA_V2 = 6, 9
CLIENT_RESETS, SERVER_RESETS = (1, 7, 10), (2, 8)
_RESETS = (*CLIENT_RESETS, *SERVER_RESETS)
_ACKNOWLEDGEMENT, _RESET_WITH_KEY = 5, 10
_CONTROL = (1, 2, 3, 4, 5, 7, 8, 10, 11)

_AMONG = {
    opcodes: np.isin(np.arange(32), opcodes) for opcodes in (_CONTROL, CLIENT_RESETS, SERVER_RESETS, _RESETS)
}
"""Which opcodes are of a kind, to look them up by."""

_SESSION_END = 9
_RESET_BYTES, _ACKNOWLEDGEMENT_BYTES = 14, 18  # beside the wrapping and, of the second, the numbers
_ANSWERED_BYTES = 12  # a number and the peer's session, in the server's reset
_MOST_ACKNOWLEDGED = 8
_MOST_RESET_EXTRA = 16  # early negotiation, since 2.6
_CRYPT_WRAP = 40
_WRAPS = (0, *(hmac + 8 for hmac in (16, 20, 28, 32, 48, 64)))
"""Bytes of a wrapping: none, or HMAC (MD5 to SHA-512; tls-crypt's is SHA-256), replay number and time."""
_SAMPLE_CONTROL, _LEAST_CONTROL = 64, 4
_MOST_SECONDS = 86_400  # a session does not try to open for longer
_LEAST_DISTINCT = 5  # of eight random bytes; fewer come once in two million
_LEAST_DATA = 6
_KEYS = 4  # first bytes of a direction's data: one a key

CLASSIC, EPOCH, HIDDEN = "", "_epoch", "_cbc"
_EPOCH_OVERHEAD = 8 + 16


def recognise(sample: Datagrams) -> Recognition | None:
    """Known opcodes only; control packets that fit together, or a counter under a constant peer id."""
    return judge(sample) if sample.proto == PROTO_UDP else None


def judge(sample: Datagrams) -> Recognition | None:
    """:func:`recognise` of packets, however they travel."""
    if len(sample) < _LEAST_CONTROL:
        return None
    opcode: U8 = sample.head[:, 0] >> np.uint8(3)
    data = (opcode == DATA_V1) | (opcode == DATA_V2)
    control = _AMONG[_CONTROL][opcode] & (sample.payload_bytes >= _RESET_BYTES)
    if (data | control).mean() < 0.95:
        return None
    form = _data_form(sample, data)
    variant = f"data_v{2 if (opcode == DATA_V2).sum() >= (opcode == DATA_V1).sum() else 1}"
    hidden = HIDDEN if form is None else form
    seen = f"{variant}{hidden}" if data.any() else ""
    by_control = _weigh_control(sample.take(np.flatnonzero(control)[:_SAMPLE_CONTROL]))
    if not by_control and control.sum() >= _LEAST_CONTROL:
        return None
    confidence = max(by_control, _weigh_data(sample.take(data), variant, form))
    return Recognition(confidence, seen, _client_first(sample, opcode)) if confidence else None


def _on_own_port(sample: Datagrams) -> bool:
    return any(port in server_ports for port in sample.ports)


def _client_first(sample: Datagrams, opcode: U8) -> bool | None:
    """By who sends which reset."""
    asks, answers = _AMONG[CLIENT_RESETS][opcode], _AMONG[SERVER_RESETS][opcode]
    if not (asks | answers).any():
        return None
    k = int(np.argmax(asks | answers))
    return bool(asks[k]) == bool(sample.up[k] == sample.up[0])


def records(datagrams: Datagrams, variant: str) -> Records:
    """Data packets; the 16-byte keep-alives among them look like (impossibly short) inner packets."""
    opcode = datagrams.head[:, 0] >> 3
    carries = (opcode == DATA_V1) | (opcode == DATA_V2)
    counter = _counter(datagrams)
    if variant.endswith(EPOCH):
        counter = np.full(len(datagrams), -1) if _cut_in_counter(datagrams) else _epoch_counter(datagrams)
    return Records(carries, np.where(carries, counter, -1))


def handshake(opening: Datagrams) -> Handshake:
    """A client answers the server's reset with an acknowledgement or its next control message."""
    opcode = opening.head[:, 0] >> 3
    offers, resets = _AMONG[SERVER_RESETS][opcode], _AMONG[CLIENT_RESETS][opcode]
    return handshake_of(offers & ~opening.up, ~resets & opening.up)


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """AEAD: opcode, peer id (V2), counter 4 or 8, tag 16. CBC: HMAC, IV, padding after a 4-byte counter."""
    header = _header_bytes(variant)
    if variant.endswith(EPOCH):
        return (LengthMap(header + _EPOCH_OVERHEAD), LengthMap(header + _EPOCH_OVERHEAD + 1))
    aead = LengthMap(header + 20)
    aead_framed = LengthMap(header + 21)  # compression stub byte
    cbc = tuple(LengthMap(header + hmac + 16, 16, 4 + stub + 1) for hmac in (20, 32, 64) for stub in (0, 1))
    return (*cbc, aead, aead_framed) if variant.endswith(HIDDEN) else (aead, aead_framed, *cbc)


def _header_bytes(variant: str) -> int:
    return 1 if variant.startswith("data_v1") else 4


def _data_form(sample: Datagrams, data: Flags) -> str | None:
    """How data packets are counted; ``None`` where no counter shows."""
    mine = sample.take(data)
    if counts_up_each_way(_counter(mine), mine.up) > 0.7:
        return CLASSIC
    few = all(len(np.unique(_epoch(mine)[side])) <= _KEYS for side in mine.sides)
    if not few or not len(mine) or (mine.head[:, 0] >> 3 != DATA_V2).any():
        return None
    if _cut_in_counter(mine):  # as frames on TCP are: one small number, where CBC has random bytes
        return EPOCH if (_counter(mine) & 0xFFFF == 0).all() and _epoch(mine).all() else None
    if counts_up_each_way(_epoch_counter(mine), mine.up) > 0.7:
        return EPOCH
    return None


def _behind_key(datagrams: Datagrams, at: int) -> npt.NDArray[np.int64]:
    """The word ``at`` bytes behind opcode and peer id."""
    version_2 = datagrams.head[:, 0] >> 3 == DATA_V2
    return np.where(version_2, be32(datagrams.head, 4 + at), be32(datagrams.head, 1 + at))


def _counter(datagrams: Datagrams) -> npt.NDArray[np.int64]:
    return _behind_key(datagrams, 0)


def _epoch(datagrams: Datagrams) -> npt.NDArray[np.int64]:
    """16 bits of epoch, above 48 of counter."""
    return _behind_key(datagrams, 0) >> 16


def _epoch_counter(datagrams: Datagrams) -> npt.NDArray[np.int64]:
    return (_behind_key(datagrams, 0) & 0xFFFF) << 32 | _behind_key(datagrams, 4)


def _cut_in_counter(datagrams: Datagrams) -> bool:
    """Whether nothing was captured of the lower half of an epoch's counter."""
    return not datagrams.head[:, 10:].any()


def _weigh_data(data: Datagrams, variant: str, form: str | None) -> float:
    """How sure data packets alone make it; 0 without a counter, or with fields where ciphertext should be."""
    if form is None or len(data) < _LEAST_DATA or not _steady_key(data):
        return 0.0
    if form == EPOCH and _cut_in_counter(data):
        return 0.0
    if looks_sealed(data, _header_bytes(variant) + (8 if form == EPOCH else 4)) is False:
        return 0.0
    # Version 1 has no peer id: one steady byte and a counter.
    return COUNTED_LOOSELY if variant == "data_v2" or _on_own_port(data) else LIKENESS


def _steady_key(data: Datagrams) -> bool:
    """Few keys, and one peer id, which the server gave."""
    first = data.head[:, 0]
    peer = be32(data.head, 0)[first >> 3 == DATA_V2] & 0xFFFFFF
    return all(len(np.unique(first[side])) <= _KEYS for side in data.sides) and len(np.unique(peer)) <= 1


def _weigh_control(control: Datagrams) -> float:
    """How sure control packets make it that they are OpenVPN's; 0 where they do not fit together."""
    opcode: U8 = control.head[:, 0] >> np.uint8(3)
    reset = _AMONG[_RESETS][opcode]
    if len(control) < _LEAST_CONTROL or (control.head[reset, 0] & 7).any():  # a new session has key 0
        return 0.0
    asking, answering = (control.up[_AMONG[kind][opcode]] for kind in (CLIENT_RESETS, SERVER_RESETS))
    if len(np.unique(np.concatenate([asking, ~answering]))) > 1:  # one end is the client
        return 0.0
    session = be32(control.head, 1) << 32 | be32(control.head, 5)
    mine, peers = (_sessions(session, control.head, side) for side in control.sides)
    if mine is None or peers is None or np.intersect1d(mine, peers).size:
        return 0.0
    wraps = [wrap for wrap in _WRAPS if _lengths_fit(control, opcode, wrap)]
    if 0 in wraps and _plain_fits(control, opcode, mine, peers):
        return CONSISTENT
    crypt = _CRYPT_WRAP in wraps and _replay_numbers_count(control)
    wrapped = any(wraps) and looks_sealed(control, _SESSION_END) is not False
    fixed = np.unique(control.payload_bytes[reset | (opcode == _ACKNOWLEDGEMENT)])
    if crypt or (wrapped and reset.any() and len(fixed) > 1):
        return CONSISTENT
    if not wraps or not reset.any() or not _on_own_port(control):
        return 0.0
    return SHAPED if wrapped else LIKENESS


def _sessions(session: npt.NDArray[np.int64], head: U8, side: Flags) -> npt.NDArray[np.int64] | None:
    """A direction's session ids: random, and each used for some packets, for the handshake has several."""
    own, first = np.unique(session[side], return_index=True)
    random = np.sort(head[side][first, 1:_SESSION_END], axis=1)
    distinct = 1 + np.count_nonzero(np.diff(random, axis=1), axis=1)
    few = len(own) <= 1 + np.count_nonzero(side) // 3
    return own if few and (distinct >= _LEAST_DISTINCT).all() else None


def _lengths_fit(control: Datagrams, opcode: U8, wrap: int) -> bool:
    """Whether nearly all lengths are possible under a wrapping of so many bytes."""
    rest = control.payload_bytes - wrap
    extra = rest - _RESET_BYTES
    numbers = rest - _ACKNOWLEDGEMENT_BYTES
    fits = extra >= 0
    fits &= (opcode != _RESET_WITH_KEY) | (wrap == _CRYPT_WRAP)
    bare = _AMONG[CLIENT_RESETS][opcode] & (opcode != _RESET_WITH_KEY)
    fits &= ~bare | (extra == 0)
    answered = (extra >= _ANSWERED_BYTES) & (extra <= _ANSWERED_BYTES + _MOST_RESET_EXTRA)
    fits &= ~_AMONG[SERVER_RESETS][opcode] | (extra == 0) | answered
    acknowledges = (numbers % 4 == 0) & (numbers >= 4) & (numbers <= 4 * _MOST_ACKNOWLEDGED)
    fits = np.where(opcode == _ACKNOWLEDGEMENT, acknowledges, fits)
    return bool(fits.mean() >= 0.9)


def _replay_numbers_count(control: Datagrams) -> bool:
    """Number and time of tls-crypt, of all wrappings the ones that stand where they are always captured."""
    steps = steps_within(be32(control.head, _SESSION_END), control.up.astype(np.int64))
    seconds = be32(control.head, _SESSION_END + 4)
    return len(steps) > 0 and bool(steps.mean() > 0.9) and int(np.ptp(seconds)) <= _MOST_SECONDS


def _plain_fits(
    control: Datagrams, opcode: U8, mine: npt.NDArray[np.int64], peers: npt.NDArray[np.int64]
) -> bool:
    """Acknowledgements that name the peer's session, and packets numbered from zero, as far as captured."""
    head = control.head
    captured = int(np.flatnonzero(head.any(axis=0))[-1]) + 1
    count = head[:, _SESSION_END].astype(np.int64)
    behind = _SESSION_END + 1 + np.where(count > 0, 4 * count + 8, 0)
    fits = (count <= _MOST_ACKNOWLEDGED) & ((opcode != _ACKNOWLEDGEMENT) | (count > 0))
    fits &= behind + 4 * (opcode != _ACKNOWLEDGEMENT) <= control.payload_bytes
    row = np.arange(len(head))
    shown = int(_AMONG[_RESETS][opcode].any())
    echoes = (count > 0) & (behind <= captured)
    for side, others in ((control.up, peers), (~control.up, mine)):
        at = behind[echoes & side] - 8
        rows = row[echoes & side]
        echo = _gather(head, rows, at) << 32 | _gather(head, rows, at + 4)
        fits[rows] &= np.isin(echo, others) if len(others) else echo == (echo[0] if len(echo) else 0)
        shown += len(np.unique(echo[fits[rows]]))
        numbered = side & (opcode != _ACKNOWLEDGEMENT) & (behind + 4 <= captured)
        number = np.unique(_gather(head, row[numbered], behind[numbered]))
        # From zero, or wherever the capture began, without large gaps.
        fits[numbered] &= len(number) == 0 or int(number[-1] - number[0]) <= 2 * len(number) + 8
        shown += len(number) > 2
    return shown > 0 and bool(fits.mean() >= 0.9)


def _gather(head: U8, rows: npt.NDArray[np.int64], at: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Big-endian words at a place of its own in each row."""
    value = np.zeros(len(rows), np.int64)
    for byte in range(4):
        value = value << 8 | head[rows, at + byte]
    return value
