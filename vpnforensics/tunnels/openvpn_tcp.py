"""OpenVPN over TCP: every packet behind its length, two bytes, big-endian and in clear.

https://openvpn.net/community-docs/openvpn-protocol.html. Behind the length stands what a datagram of
:mod:`vpnforensics.tunnels.openvpn` holds. A connection whose start is not in the capture is known by its data
frames: the same version and peer id wherever a segment begins with a frame, and a counter that rises.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.tunnels import openvpn
from vpnforensics.tunnels.framing import Framing
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import U8, Datagrams, Recognition, Records, be16, be32, counts_up

name = openvpn.name
server_ports = (1194, 443)
framing: Framing = "openvpn"
header_bytes = 2
least_frames = 4
length_bytes, counter_bytes = 2, 10

NO_KEY = -1
_LEAST_DATA_BYTES, _MOST_DATA_BYTES = 22, 4096
_LEAST_SEGMENTS, _LEAST_SHARE = 4, 0.005
_STEP = 4096  # frames that a segment may hold beside its first


def recognise(sample: Datagrams, begun: bool) -> Recognition | None:
    """As over UDP."""
    return openvpn.judge(sample)


def records(datagrams: Datagrams, variant: str) -> Records:
    """Data frames."""
    return openvpn.records(datagrams, variant)


def length_maps(datagrams: Datagrams, variant: str) -> tuple[LengthMap, ...]:
    """As over UDP: a record's size does not count the two bytes of length."""
    return openvpn.length_maps(datagrams, variant)


def data_keys(stream: npt.NDArray[np.int64], heads: U8, streams: int) -> npt.NDArray[np.int64]:
    """Template of each stream's data frames, from the segments that begin with one.

    Parameters
    ----------
    stream : ndarray of int64, shape (n,)
    heads : ndarray of uint8, shape (n, 32)
        First bytes of segments, in order.
    streams : int

    Returns
    -------
    ndarray of int64, shape (streams,)
        Version (6 or 9) above three bytes of peer id (0 in version 6); -1 where no template shows.
    """
    length, version = be16(heads, 0), heads[:, 2] >> 3
    shaped = (length >= _LEAST_DATA_BYTES) & (length <= _MOST_DATA_BYTES)
    shaped &= (version == openvpn.DATA_V1) | (version == openvpn.DATA_V2)
    second = version == openvpn.DATA_V2
    key = version.astype(np.int64) << 24 | np.where(second, be32(heads, 2) & 0xFFFFFF, 0)
    counter = np.where(second, be32(heads, 6), be32(heads, 3))
    keys = np.full(streams, NO_KEY, np.int64)
    segments = np.bincount(stream, minlength=streams)
    candidates = np.flatnonzero(shaped)
    candidates = candidates[np.argsort(stream[candidates], kind="stable")]
    bounds = np.searchsorted(stream[candidates], np.arange(streams + 1))
    for s in np.unique(stream[candidates]).tolist():
        mine = candidates[bounds[s] : bounds[s + 1]]
        values, counts = np.unique(key[mine], return_counts=True)
        most = int(np.argmax(counts))
        mine = mine[key[mine] == values[most]]
        enough = max(_LEAST_SEGMENTS, _LEAST_SHARE * segments[s])
        if len(mine) >= enough and counts_up(counter[mine], window=_STEP) > 0.8:
            keys[s] = values[most]
    pairs = keys.reshape(-1, 2)  # both ends use the peer id that the server gave
    return np.where(pairs == NO_KEY, pairs[:, ::-1], pairs).ravel()
