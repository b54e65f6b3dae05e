"""IPsec ESP: IP protocol 50 (RFC 4303), or inside UDP 4500 (RFC 3948), with IKEv2 beside it."""

from __future__ import annotations

import numpy as np

from vpnforensics.packets.table import PROTO_ESP, PROTO_UDP
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Datagrams, Recognition, Records, be32, counts_up_each_way

name = "esp"
server_ports = (4500, 500)

_NON_ESP_MARKER = 0
_HEADER_BYTES = 8
_LEAST_BYTES = 32


def recognise(sample: Datagrams) -> Recognition | None:
    """A constant non-zero SPI each way (few, where keys were renewed) before a sequence that rises by one."""
    native = sample.proto == PROTO_ESP
    if not native and sample.proto != PROTO_UDP:
        return None
    esp = _is_esp(sample)
    spi = be32(sample.head, 0)
    if native:
        return Recognition(0.99)
    if esp.sum() < 6 or esp.sum() < 0.5 * len(sample):
        return None
    few = all(len(np.unique(spi[esp & side])) <= 3 for side in (sample.up, ~sample.up))
    rising = counts_up_each_way(be32(sample.head, 4)[esp], sample.up[esp])
    if not few or rising < 0.9:
        return None
    return Recognition(0.97 if 4500 in sample.ports else 0.8)


def records(datagrams: Datagrams) -> Records:
    """Every ESP packet; IKE and one-byte NAT keep-alives are not."""
    esp = _is_esp(datagrams)
    return Records(esp, np.where(esp, be32(datagrams.head, 4), -1))


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """AES-GCM (IV 8, tag 16, pad to 4) and AES-CBC (IV 16, pad to 16) with the usual integrity checks."""
    gcm = LengthMap(_HEADER_BYTES + 8 + 16, 4, 2)
    cbc = tuple(LengthMap(_HEADER_BYTES + 16 + icv, 16, 2) for icv in (12, 16, 24, 32))
    return (gcm, *cbc)


def _is_esp(datagrams: Datagrams) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    spi = be32(datagrams.head, 0)
    return np.asarray((datagrams.payload_bytes >= _LEAST_BYTES) & (spi != _NON_ESP_MARKER))
