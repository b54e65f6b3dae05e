"""Tunnels in TLS: AnyConnect and ocserv (CSTP), SSTP, OpenVPN behind stunnel.

All look alike from outside: application data records (RFC 8446, 5.2; RFC 5246, 6.2), one an inner packet. So
does a chatty web application: TLS alone makes a candidate, and only if no record is larger than a packet can
be. AnyConnect's DTLS beside it makes it sure (which :mod:`vpnforensics.tunnels.find` checks), or a length map
learned from the case.

What goes into a record: CSTP puts 8 bytes before the packet (draft-mavrogiannopoulos-openconnect, 2.2), SSTP
4 bytes ([MS-SSTP] 2.2.3) and a PPP header of 4, or of 2 or 1 when compressed, OpenVPN 2 + 24.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels.framing import Framing
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, Records, be32, counts_up_each_way

name = "tls"
server_ports = (443,)
framing: Framing = "tls"
header_bytes = 0
least_frames = 20
length_bytes, counter_bytes = 5, 13

CHANGE_CIPHER_SPEC, HANDSHAKE, APPLICATION_DATA = 20, 22, 23
CSTP_BYTES = 8
_OPENVPN_BYTES = 2 + 24
_SSTP_COMPRESSED_BYTES = (6, 5)
_TAG_BYTES, _NONCE_BYTES, _TYPE_BYTES = 16, 8, 1
_CBC_MACS = (20, 32, 48)

_LOG_IN_RECORDS = 12
_MOST_PACKET_BYTES = 2048
_MOST_LARGE_SHARE = 0.02


def recognise(sample: Datagrams, begun: bool) -> Recognition | None:
    """Application data both ways in records no larger than packets, once the log-in is over."""
    data = sample.head[:, 0] == APPLICATION_DATA
    if begun and (not len(sample) or sample.head[0, 0] != HANDSHAKE):
        return None
    if data.sum() < least_frames:
        return None
    for side in (sample.up, ~sample.up):
        sizes = sample.payload_bytes[data & side][_LOG_IN_RECORDS if begun else 0 :]
        if len(sizes) < 3 or (sizes > _MOST_PACKET_BYTES).mean() > _MOST_LARGE_SHARE:
            return None
    return Recognition(0.3, _variant(sample, data), client_first=True if begun else None)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Application data; where the nonce is in clear (TLS 1.2 with GCM, RFC 5288) it counts the records."""
    data = datagrams.head[:, 0] == APPLICATION_DATA
    nonce = _nonce(datagrams)
    seen = data & (nonce != 0)
    counted = counts_up_each_way(nonce[seen], datagrams.up[seen]) > 0.9
    return Records(data, np.where(seen & counted, nonce, -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """CSTP (and SSTP, which is as long) first, by what the records say about the cipher."""
    bodies = (CSTP_BYTES, _OPENVPN_BYTES, *_SSTP_COMPRESSED_BYTES)
    if variant == "tls1.2_cbc":
        encrypted_mac = [LengthMap(16 + mac, 16, body + 1) for body in bodies[:2] for mac in _CBC_MACS]
        plain_mac = [LengthMap(16, 16, body + mac + 1) for body in bodies[:2] for mac in _CBC_MACS]
        return (*plain_mac, *encrypted_mac)
    sealed = {
        "tls1.3": _TAG_BYTES + _TYPE_BYTES,
        "tls1.2_gcm": _TAG_BYTES + _NONCE_BYTES,
        "tls1.2": _TAG_BYTES,
    }
    own = sealed.pop(variant)
    likely = [LengthMap(body + own) for body in bodies]
    return (*likely, *(LengthMap(CSTP_BYTES + other) for other in sealed.values()))


def _variant(sample: Datagrams, data: npt.NDArray[np.bool_]) -> str:
    """Version and kind of cipher, from what is in clear."""
    nonce = _nonce(sample)
    if counts_up_each_way(nonce[data], sample.up[data]) > 0.9:
        return "tls1.2_gcm"
    sizes = sample.payload_bytes[data]
    if any(((sizes - mac) % 16 == 0).all() for mac in (0, *_CBC_MACS)):
        return "tls1.2_cbc"
    # After ChangeCipherSpec, version 1.2 has an encrypted handshake record; 1.3 disguises it as data.
    for side in (sample.up, ~sample.up):
        kinds = sample.head[side][:, 0]
        change = np.flatnonzero(kinds[:-1] == CHANGE_CIPHER_SPEC)
        if len(change) and kinds[change[0] + 1] == HANDSHAKE:
            return "tls1.2"
    return "tls1.3"


def _nonce(datagrams: Datagrams) -> npt.NDArray[np.int64]:
    return (be32(datagrams.head, 5) & 0x7FFFFFFF) << 32 | be32(datagrams.head, 9)
