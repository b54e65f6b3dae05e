"""The TUN interface: where inner packets leave and enter the kernel.

Every packet crosses the device behind a 10-byte ``virtio_net_hdr`` (``IFF_VNET_HDR``,
https://docs.kernel.org/networking/tuntap.html and section 5.1.6 of
https://docs.oasis-open.org/virtio/virtio/v1.2/virtio-v1.2.html). With offloads on, the kernel hands over TCP
super-segments of up to 64 KiB with the checksum left to do, and takes such back: one system call then
moves what would be some forty packets. ``_kernels`` cuts and joins them, losing nothing: what is on the
wire is the same packets that the kernel would have made itself.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
from pathlib import Path

from vpnforensics.errors import TunnelError

VNET_HEADER_BYTES = 10
vnet_header = struct.Struct("<BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""

VNET_NEEDS_CSUM = 1
VNET_GSO_NONE = 0
VNET_GSO_TCPV4 = 1
VNET_GSO_TCPV6 = 4
VNET_GSO_ECN = 0x80

MAX_FRAME_BYTES = VNET_HEADER_BYTES + 65_535

_DEVICE = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_TUN_F_CSUM = 0x01
_TUN_F_TSO4 = 0x02
_TUN_F_TSO6 = 0x04
_INTERFACE_NAME_BYTES = 16


class Tun:
    """An open TUN interface, non-blocking; it vanishes when closed, and when the process dies.

    Parameters
    ----------
    name : str
        Interface name, at most 15 characters.
    offload : bool
        Whether TCP super-segments may cross it.

    Raises
    ------
    TunnelError
        There is no such device here, the name is taken, or the process may not.
    """

    def __init__(self, name: str, *, offload: bool = True) -> None:
        encoded = os.fsencode(name)
        # A percent sign would be the kernel's to fill in: wg%d becomes wg0.
        if not 0 < len(encoded) < _INTERFACE_NAME_BYTES or re.search(r"[\s/:%]|^\.\.?$", name):
            raise TunnelError(
                f"{name!r} is no interface name (1 to 15 characters, no space, slash, colon or percent sign)"
            )
        try:
            self.fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise TunnelError(f"cannot open {_DEVICE}: {error.strerror} (root needed?)") from error
        try:
            flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
            fcntl.ioctl(self.fd, _TUNSETIFF, struct.pack("16sH22x", encoded, flags))
            wanted = _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6 if offload else 0
            fcntl.ioctl(self.fd, _TUNSETOFFLOAD, wanted)
        except OSError as error:
            os.close(self.fd)
            raise TunnelError(f"cannot make the interface {name}: {error.strerror}") from error
        self.name = name

    def close(self) -> None:
        """Remove the interface, and with it its addresses and routes."""
        os.close(self.fd)
