"""What the present code gets wrong, and why: expected failures, strictly, until the code is mended."""

from __future__ import annotations

_BY_REASON = {
    "lengths that are learned do not always prove a tunnel": "case-cstp-two-files",
    "a tunnel's other half counts as a flow": """
        tinc-meta-and-data tinc-other-port-meta esp-natt-ike-before esp-ike-before""",
    "a candidate is compared with itself": """
        ptp-v2 radius-accounting tftp memcached quake-like raknet-bedrock raknet-pings utp imap-with-starttls
        turn-on-tls-and-dtls""",
}
KNOWN_WRONG = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
