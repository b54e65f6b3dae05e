"""What a tap wraps each packet in to send it to a collector: numbers, names and ports.

A packet broker, a cloud's traffic mirroring or a switch's remote mirror port does not hand over the packets
but new ones that hold them. Which of these stand on the link layer (VLAN, MPLS, PPPoE) is always passed
over; those below have addresses of their own, and are read through only where the whole capture is so
wrapped:

- 95 % of the packets are in one encapsulation, and hold what parses as an IP packet. What a tap adds, it
  adds to all; the rest is the collector's own traffic, and stays.
- None of the wrapped packets is answered: no destination of one is the source of another, and there are few
  destinations. A tap talks to its collector and hears nothing back. Two ends of a network of its own, whose
  packets may be what a VPN carries, do answer each other, and a VPN's carrier (GRE under PPTP) does, too;
  there the outer packet is the one that was encrypted, and its length the one to compare. GTP-U is exempt:
  it is the inside of a mobile network, which no VPN of a client carries.

What fails this is named and left as it is, unless the reader asks for it by name. Nothing is read through
twice: what is wrapped again inside of the mirrored packets is traffic.
"""

from __future__ import annotations

NONE = 0
VXLAN = 1
"""RFC 7348, 5."""
GENEVE = 2
"""RFC 8926, 3.4."""
GRE = 3
"""RFC 2784 and 2890, of IP, MPLS or Ethernet; not version 1, which PPTP has."""
ERSPAN = 4
"""Types I to III (draft-foschiano-erspan-03)."""
GTPU = 5
"""3GPP TS 29.281, 5."""

NAMES = ("none", "vxlan", "geneve", "gre", "erspan", "gtpu")
"""By number: keys of the health, and choices of ``--decap`` beside ``auto``."""
TITLES = ("", "VXLAN", "GENEVE", "GRE", "ERSPAN", "GTP-U")

VXLAN_PORT = 4789
VXLAN_PORT_LINUX = 8472
"""Linux's default, older than the assigned one."""
GENEVE_PORT = 6081
GTPU_PORT = 2152

WHOLE_SHARE = 0.95
COLLECTORS = 8
"""More destinations than this are no tap's."""
