"""Configuration files: wg-quick's format, and a few keys of our own.

The format is that of wg-quick(8) (https://man7.org/linux/man-pages/man8/wg-quick.8.html). What this program
does not do, it says: shell commands (``PostUp`` and its kin) are reported and never run, and so are ``DNS``
and ``SaveConfig``. Our own keys, all in ``[Interface]``:

``Transport = udp | tcp``, ``Offload = on | off``, ``Nat = INTERFACE`` (masquerade what leaves there),
``Journal = PATH`` (``.parquet``, else JSON Lines; ``{start}`` becomes the time), ``UsageLog = FILE``,
``Pad``, ``Cover = N`` (datagrams/s), ``BatchMs = N`` (``shaping``),
``ScrubTimestamps = on``, ``ScrubIpId = zero | random``, ``NormaliseTtl = N`` (``scrub``).

No error here repeats a value of a key that is secret.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Transport
from vpnforensics.reftunnel.files import refuse_one_file_for_two
from vpnforensics.reftunnel.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
    read_private,
)
from vpnforensics.reftunnel.lookup import resolve
from vpnforensics.reftunnel.peers import PeerConfig
from vpnforensics.reftunnel.scrub import NO_SCRUB, IpIdPolicy, Scrub
from vpnforensics.reftunnel.sections import Section, sections
from vpnforensics.reftunnel.shaping import DEFAULT_SHAPING, WIREGUARD_PADDING, Shaping, parse_padding

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

DEFAULT_MTU = 1420
"""1500 less IPv6, UDP and transport message overhead: what WireGuard uses."""

_MAX_MTU = 9000


@dataclass(frozen=True, slots=True)
class TunnelConfig:
    """One interface and its peers, checked.

    Parameters
    ----------
    name : str
        Interface name: that of the file.
    private_key : PrivateKey
        Who we are.
    peers : tuple of PeerConfig
        Whom we know.
    addresses : tuple of interface addresses
        Inner addresses of this end.
    listen_port : int
        0 lets the kernel choose.
    mtu : int
        Of the TUN interface; 0 for what fits the way to the peers.
    table : int or None
        Routing table for the peers' networks; 0 is wg-quick's ``auto``, None its ``off``.
    mark : int
        Firewall mark of outer packets; 0 for none.
    transport : {"udp", "tcp"}
        What carries the messages.
    offload : bool
        Super-segments on the TUN and on UDP.
    nat : str or None
        Interface behind which clients are masqueraded.
    journal, usage_log : Path or None
        Where to write; None writes nothing.
    shaping : Shaping
        Countermeasures on outer packets.
    scrub : Scrub
        Countermeasures on packets that leave the tunnel.
    notes : tuple of str
        What the file asks for and is not done.
    """

    name: str
    private_key: PrivateKey
    peers: tuple[PeerConfig, ...] = ()
    addresses: tuple[IPInterface, ...] = ()
    listen_port: int = 0
    mtu: int = 0
    table: int | None = 0
    mark: int = 0
    transport: Transport = "udp"
    offload: bool = True
    nat: str | None = None
    journal: Path | None = None
    usage_log: Path | None = None
    shaping: Shaping = DEFAULT_SHAPING
    scrub: Scrub = NO_SCRUB
    notes: tuple[str, ...] = ()


def _networks(section: Section, key: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in section.many(key))
    except ValueError as error:
        raise TunnelError(f"{key}: {error}") from None


def _addresses(section: Section) -> tuple[IPInterface, ...]:
    try:
        return tuple(ipaddress.ip_interface(text) for text in section.many("address"))
    except ValueError as error:
        raise TunnelError(f"Address: {error}") from None


def _peer(section: Section, transport: Transport) -> PeerConfig:
    key = PublicKey.from_text(section.required("publickey"))
    preshared = section.one("presharedkey")
    endpoint = section.one("endpoint")
    keepalive = section.one("persistentkeepalive", "off")
    section.add("persistentkeepalive", "0" if keepalive == "off" else str(keepalive))
    return PeerConfig(
        public_key=key,
        preshared_key=NO_PRESHARED_KEY if preshared is None else PresharedKey.from_text(preshared),
        allowed_ips=_networks(section, "allowedips"),
        endpoint=None if endpoint is None else resolve(endpoint, transport),
        persistent_keepalive_s=section.whole("persistentkeepalive", 1, 65535),
    )


def _table(section: Section) -> int | None:
    text = (section.one("table", "auto") or "auto").lower()
    if text in ("auto", "off"):
        return 0 if text == "auto" else None
    section.add("table", text)
    return section.whole("table", 1, 2**32 - 1)


def _shaping(section: Section) -> Shaping:
    pad = section.one("pad")
    return Shaping(
        padding=WIREGUARD_PADDING if pad is None else parse_padding(pad),
        cover_hz=section.number("cover", 0.1, 20_000),
        batch_s=section.number("batchms", 0.1, 10_000) / 1000,
    )


def _scrub(section: Section) -> Scrub:
    ip_id = (section.one("scrubipid", "off") or "off").lower()
    if ip_id not in ("off", "zero", "random"):
        raise TunnelError(f"ScrubIpId = {ip_id!r}: expected off, zero or random")
    return Scrub(
        timestamps=section.switch("scrubtimestamps", "off"),
        ip_id=cast("IpIdPolicy", ip_id),
        ttl=section.whole("normalisettl", 2, 255),
    )


def parse_config(text: str, name: str) -> TunnelConfig:
    """Configuration from the text of a file.

    Raises
    ------
    TunnelError
        Something is missing, unknown or wrong; secrets are not repeated.
    """
    found = sections(text)
    interfaces = [section for section in found if section.title == "interface"]
    peers = [section for section in found if section.title == "peer"]
    if len(interfaces) != 1 or len(interfaces) + len(peers) != len(found):
        raise TunnelError("expected one [Interface] section and [Peer] sections, and no others")
    section = interfaces[0]
    transport = (section.one("transport", "udp") or "udp").lower()
    if transport not in ("udp", "tcp"):
        raise TunnelError(f"Transport = {transport!r}: expected udp or tcp")
    carrier = cast("Transport", transport)
    journal, usage_log = section.one("journal"), section.one("usagelog")
    mark = section.one("fwmark", "off")
    section.add("fwmark", "0" if mark == "off" else str(mark))
    config = TunnelConfig(
        name=name,
        private_key=PrivateKey.from_text(section.required("privatekey")),
        peers=tuple(_peer(peer, carrier) for peer in peers),
        addresses=_addresses(section),
        listen_port=section.whole("listenport", 1, 65535),
        mtu=section.whole("mtu", 576, _MAX_MTU),
        table=_table(section),
        mark=section.whole("fwmark", 1, 2**32 - 1),
        transport=carrier,
        offload=section.switch("offload", "on"),
        nat=section.one("nat"),
        journal=None if journal is None else Path(journal),
        usage_log=None if usage_log is None else Path(usage_log),
        shaping=_shaping(section),
        scrub=_scrub(section),
    )
    config = replace(config, notes=tuple(section.reported()))
    for used in (section, *peers):
        used.finish()
    return config


def read_config(path: Path) -> TunnelConfig:
    """Configuration from a file that only its owner can read.

    Raises
    ------
    TunnelError
        It cannot be read, others can read it, it is somebody else's, or its content is wrong.
    """
    try:
        text = read_private(path).decode("utf-8")
    except UnicodeDecodeError:
        raise TunnelError(f"{path} is not text") from None
    try:
        config = parse_config(text, path.stem)
        refuse_one_file_for_two(
            {"the configuration": path, "Journal": config.journal, "UsageLog": config.usage_log}
        )
    except TunnelError as error:
        raise TunnelError(f"{path}: {error}") from None
    return config
