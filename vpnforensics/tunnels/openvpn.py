"""OpenVPN, over UDP. Wire format: https://openvpn.net/community-docs/openvpn-protocol.html.

An opcode stands in the upper five bits of the first byte. Data of an AEAD cipher carries its packet
counter in clear; with CBC and HMAC it is hidden, and only the handshake tells the protocol.
"""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import U8, Datagrams, Recognition, Records, be32, counts_up_each_way

name = "openvpn"
server_ports = (1194,)

DATA_V1, DATA_V2 = 6, 9
_RESETS = (1, 2, 7, 8, 10)
_LEAST_HANDSHAKE = 6
_CONTROL = (1, 2, 3, 4, 5, 7, 8, 10, 11)
CLIENT_RESETS, SERVER_RESETS = (1, 7, 10), (2, 8)
_PING_PLAIN_BYTES = 16  # the keep-alive's fixed string, sealed like an inner packet of this length


def recognise(sample: Datagrams) -> Recognition | None:
    """Known opcodes only; a reset first, or an AEAD packet counter that rises under a constant peer id."""
    return judge(sample) if sample.proto == PROTO_UDP else None


def judge(sample: Datagrams) -> Recognition | None:
    """:func:`recognise` of packets, however they travel."""
    if len(sample) < 2:
        return None
    opcode: U8 = sample.head[:, 0] >> np.uint8(3)
    data = (opcode == DATA_V1) | (opcode == DATA_V2)
    control = np.isin(opcode, _CONTROL) & (sample.payload_bytes >= 14)
    if (data | control).mean() < 0.95:
        return None
    variant = "data_v2" if (opcode == DATA_V2).sum() >= (opcode == DATA_V1).sum() else "data_v1"
    aead = counts_up_each_way(_counter(sample)[data], sample.up[data])
    steady_key = data.any() and all(
        len(np.unique(sample.head[data & side][:, 0])) <= 4 for side in (sample.up, ~sample.up)
    )
    # Chance gives a short exchange (a DNS query and its answer) known opcodes; a handshake is longer.
    if (
        len(sample) >= _LEAST_HANDSHAKE
        and _resets_first(sample, opcode)
        and _one_session_each_way(sample, opcode)
    ):
        opens = sample.up[np.isin(opcode, CLIENT_RESETS)]
        client_first = bool(opens[0] == sample.up[0]) if len(opens) else None
        return Recognition(0.95, variant if aead > 0.7 else f"{variant}_cbc", client_first)
    if data.sum() >= 6 and steady_key and aead > 0.8 and _peer_id_constant(sample, opcode):
        return Recognition(0.85, variant)
    return None


def _resets_first(sample: Datagrams, opcode: U8) -> bool:
    """Each side speaks, and begins with a reset, one of them as a client."""
    firsts = [int(opcode[side][0]) for side in (sample.up, ~sample.up) if side.any()]
    return len(firsts) == 2 and all(f in _RESETS for f in firsts) and any(f in CLIENT_RESETS for f in firsts)


def records(datagrams: Datagrams) -> Records:
    """Data packets; the 16-byte keep-alives among them look like (impossibly short) inner packets."""
    opcode = datagrams.head[:, 0] >> 3
    carries = (opcode == DATA_V1) | (opcode == DATA_V2)
    return Records(carries, np.where(carries, _counter(datagrams), -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """AEAD: opcode, peer id (V2), counter 4, tag 16. CBC: HMAC, IV, and padding after a 4-byte counter."""
    header = 4 if variant.startswith("data_v2") else 1
    aead = LengthMap(header + 20)
    aead_framed = LengthMap(header + 21)  # compression stub byte
    cbc = tuple(LengthMap(header + hmac + 16, 16, 4 + stub + 1) for hmac in (20, 32, 64) for stub in (0, 1))
    return (*cbc, aead, aead_framed) if variant.endswith("_cbc") else (aead, aead_framed, *cbc)


def _counter(datagrams: Datagrams) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    version_2 = datagrams.head[:, 0] >> 3 == DATA_V2
    return np.where(version_2, be32(datagrams.head, 4), be32(datagrams.head, 1))


def _one_session_each_way(sample: Datagrams, opcode: U8) -> bool:
    """Control packets name their sender's random session id: one a direction, two after a renegotiation."""
    control = np.isin(opcode, _CONTROL)
    for side in (sample.up, ~sample.up):
        sessions = np.unique(sample.head[control & side][:, 1:9], axis=0)
        if len(sessions) > 2:
            return False
    return True


def _peer_id_constant(sample: Datagrams, opcode: U8) -> bool:
    version_2 = opcode == DATA_V2
    peer = be32(sample.head, 0) & 0xFFFFFF
    return all(len(np.unique(peer[version_2 & side])) <= 1 for side in (sample.up, ~sample.up))
