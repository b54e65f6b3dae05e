"""What the present code gets wrong, and why: expected failures, strictly, until the code is mended."""

from __future__ import annotations

_BY_REASON = {
    "lengths that are learned do not always prove a tunnel": "case-cstp-two-files",
    "a tunnel's other half counts as a flow": """
        tinc-meta-and-data tinc-other-port-meta esp-natt-ike-before esp-ike-before""",
    "a candidate is compared with itself": """
        ptp-v2 radius-accounting tftp memcached quake-like raknet-bedrock raknet-pings utp imap-with-starttls
        turn-on-tls-and-dtls""",
    "what a tap wraps is not read through": """
        tap-vxlan tap-geneve tap-gtp-u tap-gre tap-gre-ethernet tap-erspan-1 tap-erspan-2 tap-erspan-3
        tap-mpls tap-vxlan-of-both""",
}
KNOWN_WRONG = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
