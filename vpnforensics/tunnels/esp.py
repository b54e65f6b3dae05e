"""IPsec ESP: IP protocol 50 (RFC 4303), or inside UDP (RFC 3948), where IKE and keep-alives travel beside it.

An SPI is chosen by the receiver, 256 or more, so the two directions' differ. The sequence number behind it
counts by one in every association, however many a direction has; all else is ciphertext, padded to four
bytes. A tag and a counter alone are ordinary (games, DHCP, NetFlow): off its port all of it together, both
ways, makes a candidate.

L2TP over IPsec (RFC 3193) is ESP in transport mode, with UDP, L2TP and PPP before each packet: a larger
overhead, and nothing else that shows. Ends that leave bytes of PPP out, or write L2TP's length, have their
map learned.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpnforensics.packets.table import PROTO_ESP, PROTO_UDP
from vpnforensics.tunnels import ike
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import (
    LIKENESS,
    OWN_PORT,
    OWN_SHAPE,
    Datagrams,
    Flags,
    Recognition,
    Records,
    be32,
    looks_sealed,
    no_handshake,
    steps_within,
    used_both_ways,
)

name = "esp"
server_ports = (4500, 500)
copies_ecn = True  # Linux, as RFC 4301, 5.1.2 has it
handshake = no_handshake

_NATT_PORT = 4500
_HEADER_BYTES = 8
_LEAST_BYTES, _ALIGNED_BYTES = 32, 4
_FIRST_SPI = 256  # those below are reserved (RFC 4303, 2.1)
_CIPHERTEXT_AT = 16  # behind an IV of eight bytes, which may be a counter
_LEAST_STEPS, _LEAST_STEPS_ELSEWHERE = 4, 16
_LEAST_SIZES = 3
_MOST_STRAYS = 0.1
_L2TP_BYTES = 8 + 6 + 4
"""UDP, L2TP and PPP before an IP packet (RFC 3193, 2; RFC 2661, 3.1), as Linux sends them."""


def recognise(sample: Datagrams) -> Recognition | None:
    """Associations whose sequence numbers rise by one; more has to fit where neither port nor IKE tells."""
    if sample.proto == PROTO_ESP:
        return Recognition(OWN_SHAPE)
    if sample.proto != PROTO_UDP:
        return None
    esp = _is_esp(sample)
    if not esp.any() or (len(sample) <= _LEAST_STEPS_ELSEWHERE and _NATT_PORT not in sample.ports):
        return None
    messages = ike.is_message(sample)
    if (esp | messages | ike.is_keepalive(sample)).mean() < 0.9:
        return None
    mine = sample.take(esp)
    spi = be32(mine.head, 0)
    if not messages.any() and _NATT_PORT not in sample.ports and len(np.unique(spi)) > len(spi) / 2:
        return None  # no association has enough
    steps = steps_within(be32(mine.head, 4), spi << 1 | mine.up)
    sealed = looks_sealed(mine, _CIPHERTEXT_AT)
    counted = len(steps) > 0 and steps.mean() >= 0.9
    opened = ike.initiator_first(sample, messages) if messages.any() else None
    if _NATT_PORT in sample.ports or messages.any():
        # Few packets are enough beside IKE; each association has to have counted, by and large.
        enough = len(steps) >= (1 if messages.any() else _LEAST_STEPS) and 2 * len(steps) >= len(mine)
        counted = counted and enough and (sealed is not False or bool(messages.any()))
        return Recognition(OWN_PORT, client_first=opened) if counted else None
    apart = used_both_ways(spi, mine.up) < _MOST_STRAYS
    varied = len(np.unique(mine.payload_bytes)) >= _LEAST_SIZES
    if counted and sealed and apart and varied and mine.two_way and len(steps) >= _LEAST_STEPS_ELSEWHERE:
        return Recognition(LIKENESS)  # a game's packets may be all of that, and RFC 3948 knows one port
    return None


def records(datagrams: Datagrams, variant: str) -> Records:
    """Every ESP packet; IKE and one-byte NAT keep-alives are not."""
    esp = _is_esp(datagrams)
    return Records(esp, np.where(esp, be32(datagrams.head, 4), -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """AES-GCM (IV 8, tag 16, pad to 4) and AES-CBC (IV 16, pad to 16) with the usual integrity checks.

    Last, those of L2TP with the most usual of them.
    """
    gcm = LengthMap(_HEADER_BYTES + 8 + 16, 4, 2)
    cbc = tuple(LengthMap(_HEADER_BYTES + 16 + icv, 16, 2) for icv in (12, 16, 24, 32))
    return (gcm, *cbc, *(replace(m, extra=m.extra + _L2TP_BYTES) for m in (cbc[0], cbc[1], gcm)))


def _is_esp(datagrams: Datagrams) -> Flags:
    size = datagrams.payload_bytes
    shaped = (size >= _LEAST_BYTES) & (be32(datagrams.head, 0) >= _FIRST_SPI)
    return np.asarray(shaped if datagrams.proto == PROTO_ESP else shaped & (size % _ALIGNED_BYTES == 0))
