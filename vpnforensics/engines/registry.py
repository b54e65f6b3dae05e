"""The engines there are: what each goes by, needs, and when it holds its tongue.

The one list of our engines. A new one is a module with a ``score``, and an entry here. The list holds text
only, so that it can be read without loading any of them. Those of other packages are in
:mod:`vpnforensics.engines.plugged`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vpnforensics.engines.case import Case
    from vpnforensics.engines.scores import EngineScores, Pairs


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: what an analyst should know before trusting its scores, and where they come from."""

    name: str
    """Also of its module."""
    source: str
    """Literature."""
    evidence: str
    """What is compared."""
    needs: str
    speaks_when: str
    silent_when: str
    """When it returns no score at all, rather than a weak one."""
    of_fields: bool = True
    """Of header fields: it adds to what ``packets`` says. (``packets`` and ``exact`` decide, each with its
    own tables: see :mod:`vpnforensics.evidence.decision`.)"""
    finds_pairs: bool = False
    """It speaks seldom, only for a pair, and finds those pairs itself, by a join."""
    apart: bool = False
    """What it goes by is neither times nor lengths and differs between clients that are alike: it may confirm
    a tunnel that packets make likeliest, however clear they are."""
    module: str | None = None
    """Of a plug-in: the module whose ``score`` it is, with dots."""
    package: str | None = None
    """Of a plug-in: the package that brings it, with version; filled in when it is found."""

    def score(self, case: Case, only: Pairs | None = None) -> EngineScores:
        """Scores of the pairs wanted, or of all that are worth it; of an engine of header fields.

        A score is the decimal logarithm of a likelihood ratio as the engine has it, and never depends on
        other candidates. A pair without one was not compared.
        """
        from vpnforensics.engines.scores import silent

        if not case.alignment.usable:
            return silent(self.name, {"the two clocks cannot be aligned": len(case.flows)})
        if self.package is not None:
            from vpnforensics.engines.plugged import ask

            return ask(self, case, only)
        scores: EngineScores = import_module(f"{__package__}.{self.name}").score(case, only)
        return scores


ENGINES: Mapping[str, Engine] = MappingProxyType(
    {
        engine.name: engine
        for engine in (
            Engine(
                name="packets",
                source="containment score of this project; "
                "limits of jitter: Donoho et al. 2002 (RAID); by similarity: Nasr et al. 2018 (DeepCorr)",
                evidence="each egress packet has its outer packet, of the right length, within the server's "
                "delay law, in both directions",
                needs="tunnels with one outer packet for each inner one, a known or learned length map, "
                "aligned clocks",
                speaks_when="the tunnel keeps packet boundaries (WireGuard, OpenVPN over UDP, ESP, DTLS, "
                "nebula, tinc)",
                silent_when="no tunnel keeps packet boundaries, no length map is known, or the clocks cannot "
                "be aligned",
                of_fields=False,
            ),
            Engine(
                name="lookups",
                source="connections after lookups: Bermudez et al. 2012 (IMC); as evidence by this project",
                evidence="the tunnel's client goes to what was asked for, as soon after the question as who "
                "asks does",
                needs="egress packets captured whole (answers of DNS), 20 lookups linked by `packets`",
                speaks_when="lookups that lengths and times leave open",
                silent_when="lookups are encrypted, snapped or without an address in their answers; the "
                "tunnels are relays",
                of_fields=False,
            ),
            Engine(
                name="writes",
                source="writes as packets, of this project; stepping stones: Zhang & Paxson 2000 (USENIX "
                "Security), Donoho et al. 2002 (RAID)",
                evidence="each write of one segment has its outer write, of the size that the relay's write "
                "law gives it, within the relay's delay law",
                needs="a relay that its opening or its writes prove, and aligned clocks",
                speaks_when="the ingress capture holds no tunnel with packet boundaries but a relay's "
                "streams (Shadowsocks, ssh, TLS, SOCKS and HTTP proxies)",
                silent_when="none of the flow's writes fits into one segment; never denies a tunnel",
                of_fields=False,
            ),
            Engine(
                name="connections",
                source="onsets of stepping stones: Zhang & Paxson 2000 (USENIX Security); packet counting: "
                "Serjantov & Sewell 2003; one to one by this project",
                evidence="an outer connection begins, goes on and ends with the flow, and carries its bytes "
                "and what the relay's write law adds; each connection carries one flow",
                needs="a relay that opens a connection for each of its client's, flows that `writes` linked "
                "(it learns from them), and aligned clocks",
                speaks_when="Shadowsocks, trojan, TLS around SOCKS",
                silent_when="connections carry many flows (ssh, Tor, a multiplexer), fewer than 20 pairs are "
                "known, or the flow has no bytes; never denies a tunnel",
                of_fields=False,
            ),
            Engine(
                name="volume",
                source="packet counting: Serjantov & Sewell 2003 (ESORICS); stepping stones: Donoho et al. "
                "2002 (RAID); needs served as a queue, less what others would gain, by this project; KIST: "
                "Jansen et al. 2014 (USENIX Security)",
                evidence="what the flow needs (to open, for its bytes, to end) passes in the client's "
                "streams there and then, beside what its other flows need: bytes, or cells of Tor",
                needs="a relay that puts many connections into one stream and flows that `writes` linked, or "
                "clients of Tor with all their guards in the ingress capture; known or aligned clocks",
                speaks_when="`ssh -D` with hidden lengths; clients of Tor and nothing else",
                silent_when="each flow has a connection of its own, fewer than 20 flows are sure of a "
                "client, needs times clients are more than 2,000,000, or the flow is not TCP; never denies a "
                "tunnel",
                of_fields=False,
            ),
            Engine(
                name="exact",
                source="initial sequence numbers: RFC 6528; timestamps: RFC 7323",
                evidence="TCP sequence and acknowledgement numbers, timestamps, flags and lengths, or UDP "
                "payloads, equal on both sides; of relays the first bytes of TCP payloads",
                needs="an ingress capture that can be read: a plain NAT, a tap on the tunnel's inner "
                "interface, decrypted packets; or a relay that keeps bytes (SOCKS, CONNECT)",
                speaks_when="the ingress capture holds no tunnel; its clients, or those of its relays, then "
                "take the tunnels' place",
                silent_when="there is a tunnel, a scrubber rewrote the numbers, datagrams were captured "
                "without payload, or a proxy writes requests and answers anew",
                of_fields=False,
            ),
            Engine(
                name="timestamps",
                source="Kohno, Broido & claffy 2005; Bursztein 2007; Wicherski, Weingarten & Meyer 2013",
                evidence="the clock in the outer TCP timestamps is the clock in the inner ones: one line "
                "for global offsets, rate and tick phase for random ones; flows of one device pool theirs",
                needs="a tunnel over TCP from the host that opened the flow, aligned clocks",
                speaks_when="OpenVPN over TCP and TLS tunnels; links on its own where offsets are global",
                silent_when="the tunnel is UDP or ESP, either side has no timestamps, or no tunnel's line "
                "is near the flow's; never speaks against a pair",
                finds_pairs=True,
            ),
            Engine(
                name="ip_id",
                source="Bellovin 2002; Salutari, Cicalese & Rossi 2018; shared-counter test of this project",
                evidence="outer and inner IP IDs are drawn from one counter and interleave",
                needs="a client whose stack counts IP IDs globally, aligned clocks",
                speaks_when="older Windows and other global counters; links on its own there",
                silent_when="IDs are zero, random, or counted per destination or per flow; IPv6; never "
                "speaks against a pair",
                finds_pairs=True,
            ),
            Engine(
                name="siblings",
                source="Bellovin 2002; counters by destination: RFC 6864, Salutari, Cicalese & Rossi 2018",
                evidence="IP IDs of the flow run on from those of the tunnel's linked flows to the same "
                "destination",
                needs="a client whose stack counts IP IDs by destination, or all, and flows linked by their "
                "packets",
                speaks_when="lookups of Windows clients, and others that count by destination; confirms what "
                "packets make likeliest",
                silent_when="IDs are zero, random, or counted per flow; IPv6; no other linked flow goes to "
                "the same destination; never speaks against a pair",
                apart=True,
            ),
            Engine(
                name="counters",
                source="counter conservation; packet counting: Serjantov & Sewell 2003; RFC 4303, RFC 5288",
                evidence="the tunnel's clear counter advanced by at least the flow's packets in its busiest "
                "windows; over the case, what either capture lacks",
                needs="a clear packet counter (WireGuard, OpenVPN, ESP, DTLS), aligned clocks",
                speaks_when="the flow has ten packets or more; only against a pair",
                silent_when="the counter is encrypted, the flow is short, or the case has too few known "
                "pairs to calibrate it",
            ),
            Engine(
                name="headers",
                source="RFC 6040, RFC 2983 (ECN and DSCP in tunnels); Jin, Wang & Shin 2007 (initial TTL)",
                evidence="initial TTL of both sides, ECN copied to the outer header, packets too long for "
                "the tunnel",
                needs="aligned clocks; known pairs in the case that these fields tell apart",
                speaks_when="the clients of the case differ in them; weak, but for vetoes",
                silent_when="they do not tell the case's known pairs apart, or those are too few",
            ),
            Engine(
                name="rtt",
                source="timestamp echoes: RFC 7323, Veal, Li & Lowenthal 2005; Karn & Partridge 1987",
                evidence="round trips to the client seen at egress are longer than the tunnel's own by "
                "little",
                needs="TCP flows with timestamps, and round trips at ingress (handshakes, outer TCP, "
                "OpenVPN acknowledgements), aligned clocks",
                speaks_when="clients differ in distance",
                silent_when="either side has no round trip, or it does not tell the case's known pairs apart",
            ),
        )
    }
)
"""By name, in the order in which they are shown."""
