"""Link types: the registry's numbers, their names, and how the IP packet is found in each.

Numbers: https://www.tcpdump.org/linktypes.html
"""

from __future__ import annotations

NULL = 0
ETHERNET = 1
PPP = 9
RAW_BSD = 12
RAW_OPENBSD = 14
PPP_HDLC = 50
RAW = 101
LOOP = 108
LINUX_SLL = 113
IPV4 = 228
IPV6 = 229
LINUX_SLL2 = 276

KIND_UNSUPPORTED = 0
KIND_ETHERNET = 1
KIND_RAW = 2
KIND_NULL = 3
KIND_SLL = 4
KIND_SLL2 = 5
KIND_PPP = 6
KIND_NOTHING = 7
"""Of no link type: a frame found to carry no IP packet."""

_SUPPORTED = {
    NULL: ("NULL", KIND_NULL),
    ETHERNET: ("ETHERNET", KIND_ETHERNET),
    PPP: ("PPP", KIND_PPP),
    RAW_BSD: ("RAW", KIND_RAW),
    RAW_OPENBSD: ("RAW", KIND_RAW),
    PPP_HDLC: ("PPP_HDLC", KIND_PPP),
    RAW: ("RAW", KIND_RAW),
    LOOP: ("LOOP", KIND_NULL),
    LINUX_SLL: ("LINUX_SLL", KIND_SLL),
    IPV4: ("IPV4", KIND_RAW),
    IPV6: ("IPV6", KIND_RAW),
    LINUX_SLL2: ("LINUX_SLL2", KIND_SLL2),
}

_OTHER_NAMES = {
    6: "IEEE802_5",
    8: "SLIP",
    10: "FDDI",
    51: "PPP_ETHER",
    104: "C_HDLC",
    105: "IEEE802_11",
    107: "FRELAY",
    117: "PFLOG",
    119: "IEEE802_11_PRISM",
    127: "IEEE802_11_RADIOTAP",
    147: "USER0",
    187: "BLUETOOTH_HCI_H4",
    189: "USB_LINUX",
    192: "PPI",
    195: "IEEE802_15_4_WITHFCS",
    197: "ERF",
    220: "USB_LINUX_MMAPPED",
    227: "CAN_SOCKETCAN",
    239: "NFLOG",
    249: "USBPCAP",
    251: "BLUETOOTH_LE_LL",
    252: "WIRESHARK_UPPER_PDU",
    253: "NETLINK",
    258: "PKTAP",
}


def name(linktype: int) -> str:
    """The registry's name of a link type, or its number where that is all there is."""
    if linktype in _SUPPORTED:
        return _SUPPORTED[linktype][0]
    return _OTHER_NAMES.get(linktype, f"LINKTYPE_{linktype}")


def kind(linktype: int) -> int:
    """How the IP packet is found: one of the ``KIND_`` constants."""
    return _SUPPORTED[linktype][1] if linktype in _SUPPORTED else KIND_UNSUPPORTED


def supported_names() -> str:
    """The link types that are decoded, for a message."""
    return ", ".join(sorted({text for text, _ in _SUPPORTED.values()}))


def not_decoded(linktype: int) -> str:
    """What to say of a link type that is not decoded."""
    return f"link type {name(linktype)} ({linktype}) is not decoded; these are: {supported_names()}"
