"""IKE, which sets up IPsec (IKEv2: RFC 7296, 3.1; IKEv1: RFC 2408, 3.1): port 500, or 4500 behind a marker.

It carries keys, no packets: a conversation of nothing else is named, and never a tunnel. Its ESP may travel
as IP protocol 50 beside it, or in the same conversation (:mod:`vpnforensics.tunnels.esp`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.packets.table import PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import LIKENESS, Datagrams, Flags, Recognition, Records, be32, no_handshake

name = "ike"
server_ports = (500, 4500)
copies_ecn = False
handshake = no_handshake

MARKER_BYTES = 4  # four zero bytes where ESP has its SPI (RFC 3948, 2.2)
_HEADER_BYTES = 28
_EXCHANGES = {0x10: (2, 4, 5, 6, 32, 33), 0x20: (*range(34, 39), 43, 44)}
"""Exchange types by version: IKEv1's (RFC 2408, RFC 2409), and IKEv2's with RFC 5723, 9242 and 9370."""
_KNOWN = np.zeros((256, 256), np.bool_)
for _version, _exchanges in _EXCHANGES.items():
    _KNOWN[_version, _exchanges] = True
_IKEV2_FLAGS, _INITIATOR = 0x38, 0x08


def recognise(sample: Datagrams) -> Recognition | None:
    """Nothing but IKE messages and keep-alives."""
    if sample.proto != PROTO_UDP:
        return None
    ike = is_message(sample)
    if not ike.any() or (ike | is_keepalive(sample)).mean() < 0.9:
        return None
    version = "ikev2" if (_field(sample, 17)[ike] == 0x20).mean() > 0.5 else "ikev1"
    return Recognition(LIKENESS, version, initiator_first(sample, ike))


def records(datagrams: Datagrams, variant: str) -> Records:
    """None."""
    return Records(np.zeros(len(datagrams), np.bool_), np.full(len(datagrams), -1, np.int64))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """None."""
    return ()


def is_message(datagrams: Datagrams) -> Flags:
    """Datagrams with an IKE header whose version, exchange, flags and length fit together."""
    head = datagrams.head
    fits = np.asarray(_KNOWN[head[:, 17], head[:, 18]] | _KNOWN[head[:, 21], head[:, 22]])
    if not fits.any():  # nearly always
        return fits
    marked = _marked(datagrams)
    fits = _KNOWN[_field(datagrams, 17), _field(datagrams, 18)]
    fits &= (_field(datagrams, 17) != 0x20) | (_field(datagrams, 19) & ~np.uint8(_IKEV2_FLAGS) == 0)
    length = np.where(marked, be32(head, 28), be32(head, 24))
    behind = datagrams.payload_bytes - MARKER_BYTES * marked
    initiator = np.where(marked, be32(head, 4), be32(head, 0))
    # The length may lie beyond what was captured; zeros then.
    return np.asarray(
        fits & (behind >= _HEADER_BYTES) & ((length == behind) | (length == 0)) & (initiator != 0)
    )


def is_keepalive(datagrams: Datagrams) -> Flags:
    """The single byte 0xff that keeps a NAT open (RFC 3948, 2.3)."""
    first = datagrams.head[:, 0]
    return np.asarray((datagrams.payload_bytes == 1) & ((first == 0xFF) | (first == 0)))


def initiator_first(sample: Datagrams, ike: Flags) -> bool | None:
    """Whether the first datagram's sender set up the association; IKEv1 shows it in the first message."""
    flagged = ike & (_field(sample, 17) == 0x20)
    if flagged.any():
        k = int(np.argmax(flagged))
        initiator_up = bool(sample.up[k]) == bool(_field(sample, 19)[k] & _INITIATOR)
        return initiator_up == bool(sample.up[0])
    at = np.where(_marked(sample), be32(sample.head, 12), be32(sample.head, 8))
    opens = ike & (at == 0)
    return bool(sample.up[np.argmax(opens)] == sample.up[0]) if opens.any() else None


def _marked(datagrams: Datagrams) -> Flags:
    return np.asarray(be32(datagrams.head, 0) == 0)


def _field(datagrams: Datagrams, at: int) -> npt.NDArray[np.uint8]:
    """One byte of the header, behind the marker or without it."""
    head = datagrams.head
    return np.where(_marked(datagrams), head[:, at + MARKER_BYTES], head[:, at])
