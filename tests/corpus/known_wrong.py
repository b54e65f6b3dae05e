"""What the present code gets wrong, and why: expected failures, strictly, until the code is mended."""

from __future__ import annotations

_BY_REASON = {
    "client and server are told apart by how many conversations each has": """
        wireguard-one-client-three-servers wireguard-one-client-three-servers-mid""",
    "only the lengths and zero bytes of the original client's messages are known": """
        wireguard-204-100 wireguard-204-100-short warp-handshake warp-mid tailscale""",
    "a packet id of eight bytes is not known": "openvpn-plain-epoch openvpn-mid-epoch",
    "an OpenVPN handshake needs six packets": """
        openvpn-plain-four-packets openvpn-tls-auth-four-packets openvpn-tls-crypt-four-packets
        openvpn-tls-crypt-v2-four-packets""",
    "an OpenVPN handshake needs both sides": """
        openvpn-tls-auth-only-up openvpn-cbc-only-up openvpn-cbc-only-down""",
    "IKE has no name, and does not belong to its ESP": """
        esp-natt-ike-before esp-natt-idle esp-natt-auth-only esp-ike-before ike-two-messages ike-alone
        ike-v1-main-mode""",
    "more than three SPIs are too many": "esp-natt-six-sas esp-natt-renewed",
    "a tunnel's other half counts as a flow": "tinc-meta-and-data tinc-other-port-meta",
    "TLS and DTLS on one port are called a VPN": """
        anyconnect-dtls1.2 anyconnect-prestandard case-anyconnect-two-files turn-on-tls-and-dtls""",
    "a first byte and eight constant bytes are called OpenVPN": """
        gquic-q043 gquic-q035-reserved-flag gquic-short sip-register ntp-v1 ptp-signalling
        dns-same-id-repeated dns-id-answers-alike afs-rx afs-rx-renewal vxlan-between-hosts""",
    "a constant word and one that counts are called ESP": """
        turn-channel-data-mid dhcp-counting-xid dhcp-relay-counting ipfix-5-records ipfix-1-records
        epgm-tagged game-tag-counter-32-be game-tag-counter-one-way raknet-pings""",
    "a candidate is compared with itself": """
        ptp-v2 radius-accounting tftp memcached quake-like raknet-bedrock utp imap-with-starttls""",
    "the flows of a capture in descending order are cut to pieces": "clock-file-backwards",
}
KNOWN_WRONG = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}
