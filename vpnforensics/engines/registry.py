"""The engines there are: what each goes by, needs, and when it holds its tongue.

The one list of engines, for choosing among them and for telling an analyst what they mean. It holds text
only, so that it can be read without loading any of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an analyst should know of an engine before trusting its scores."""

    name: str
    citation: str
    evidence: str
    """What is compared."""
    needs: str
    speaks_when: str
    silent_when: str
    """When it returns no score at all, rather than a weak one."""


ENGINES: Mapping[str, EngineInfo] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            EngineInfo(
                name="packets",
                citation="containment score of this project; "
                "limits of jitter: Donoho et al. 2002 (RAID); by similarity: Nasr et al. 2018 (DeepCorr)",
                evidence="each egress packet has its outer packet, of the right length, within the server's "
                "delay law, in both directions",
                needs="tunnels with one outer packet for each inner one, a known or learned length map, "
                "aligned clocks",
                speaks_when="the tunnel keeps packet boundaries (WireGuard, OpenVPN over UDP, ESP, DTLS, "
                "nebula, tinc)",
                silent_when="no tunnel keeps packet boundaries, no length map is known, or the clocks cannot "
                "be aligned",
            ),
            EngineInfo(
                name="exact",
                citation="initial sequence numbers: RFC 6528; timestamps: RFC 7323",
                evidence="TCP sequence and acknowledgement numbers, timestamps, flags and lengths, or UDP "
                "payloads, equal on both sides",
                needs="an ingress capture that can be read: a plain NAT, a tap on the tunnel's inner "
                "interface, decrypted packets",
                speaks_when="the ingress capture holds no tunnel; its clients then take the tunnels' place",
                silent_when="there is a tunnel, a proxy or scrubber rewrote the numbers, or datagrams were "
                "captured without payload",
            ),
        )
    }
)
"""By name, in the order in which they are shown."""
