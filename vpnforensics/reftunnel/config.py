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
import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Endpoint, Transport, parse_endpoint, unmapped
from vpnforensics.reftunnel.files import refuse_one_file_for_two
from vpnforensics.reftunnel.keys import (
    NO_PRESHARED_KEY,
    PresharedKey,
    PrivateKey,
    PublicKey,
    read_private,
)
from vpnforensics.reftunnel.peers import PeerConfig
from vpnforensics.reftunnel.scrub import NO_SCRUB, IpIdPolicy, Scrub
from vpnforensics.reftunnel.shaping import DEFAULT_SHAPING, WIREGUARD_PADDING, Shaping, parse_padding

IPInterface = ipaddress.IPv4Interface | ipaddress.IPv6Interface

DEFAULT_MTU = 1420
"""1500 less IPv6, UDP and transport message overhead: what WireGuard uses."""

_MAX_MTU = 9000

_REPORTED = {
    "dns": "is not applied: set the resolver yourself",
    "preup": "is a shell command and is not run",
    "postup": "is a shell command and is not run",
    "predown": "is a shell command and is not run",
    "postdown": "is a shell command and is not run",
    "saveconfig": "is ignored: this program never writes its configuration",
}


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


class _Section:
    """Keys of one section, each asked for once; what nobody asked for is an error."""

    def __init__(self, title: str, line: int) -> None:
        self.title = title
        self.line = line
        self._values: dict[str, list[str]] = {}

    def add(self, key: str, value: str) -> None:
        self._values.setdefault(key, []).append(value)

    def one(self, key: str, default: str | None = None) -> str | None:
        values = self._values.pop(key, None)
        if values is None:
            return default
        if len(values) > 1:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} stands twice")
        if not values[0]:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} has no value")
        return values[0]

    def required(self, key: str) -> str:
        value = self.one(key)
        if value is None:
            raise TunnelError(f"[{self.title}] in line {self.line}: {key} is missing")
        return value

    def many(self, key: str) -> list[str]:
        lines = self._values.pop(key, [])
        return [part.strip() for line in lines for part in line.split(",") if part.strip()]

    def number(self, key: str, low: float, high: float) -> float:
        """0 where the key is missing."""
        text = self.one(key, "0") or ""
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if value != 0 and not low <= value <= high:
            raise TunnelError(f"{key} = {text[:40]!r}: expected a number from {low:g} to {high:g}")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        """0 where the key is missing; hexadecimal if it begins with 0x, as `wg` has marks."""
        text = self.one(key, "0") or ""
        try:
            value = int(text, 0)
        except ValueError:
            value = -1
        if value != 0 and not low <= value <= high:
            raise TunnelError(f"{key} = {text[:40]!r}: expected a whole number from {low} to {high}")
        return value

    def switch(self, key: str, default: str) -> bool:
        text = (self.one(key, default) or default).lower()
        if text not in ("on", "off", "true", "false"):
            raise TunnelError(f"{key} = {text!r}: expected on or off")
        return text in ("on", "true")

    def reported(self) -> Iterator[str]:
        for key, why in _REPORTED.items():
            if key in self._values:
                del self._values[key]
                yield f"{key} {why}"

    def finish(self) -> None:
        if self._values:
            raise TunnelError(f"[{self.title}] in line {self.line}: unknown key {min(self._values)!r}")


def _sections(text: str) -> list[_Section]:
    sections: list[_Section] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            sections.append(_Section(line[1:-1].strip().lower(), number))
            continue
        key, separator, value = line.partition("=")
        if not separator or not sections:
            # The line is not shown: it may be a private key whose name was mistyped.
            raise TunnelError(f"line {number} is neither a section nor a key with a value")
        sections[-1].add(key.strip().lower(), value.strip())
    return sections


def resolve(text: str, transport: Transport) -> Endpoint:
    """Endpoint from an address or a name, and a port.

    Raises
    ------
    TunnelError
        It is neither, or has no port.
    """
    try:
        return parse_endpoint(text, transport)
    except TunnelError:
        host, _, port = text.rpartition(":")
    try:
        # The resolver takes a port modulo 65536; an address with a wrong port is no name to look up either.
        if not 0 < int(port) < 65536:
            raise ValueError
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)
    except (OSError, ValueError, UnicodeError):
        raise TunnelError(f"Endpoint {text!r} is not an address, and no name that resolves") from None
    # A name may have addresses of a family that this machine does not reach.
    address = next((each[4] for each in found if _is_routed(each)), found[0][4])
    return Endpoint(unmapped(str(address[0])), int(address[1]), transport)


def _is_routed(found: tuple[Any, ...]) -> bool:
    """Whether the kernel knows a way to what `getaddrinfo` found."""
    try:
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.connect(found[4])  # sends nothing
    except OSError:
        return False
    return True


def _networks(section: _Section, key: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(text, strict=False) for text in section.many(key))
    except ValueError as error:
        raise TunnelError(f"{key}: {error}") from None


def _addresses(section: _Section) -> tuple[IPInterface, ...]:
    try:
        return tuple(ipaddress.ip_interface(text) for text in section.many("address"))
    except ValueError as error:
        raise TunnelError(f"Address: {error}") from None


def _peer(section: _Section, transport: Transport) -> PeerConfig:
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


def _table(section: _Section) -> int | None:
    text = (section.one("table", "auto") or "auto").lower()
    if text in ("auto", "off"):
        return 0 if text == "auto" else None
    section.add("table", text)
    return section.whole("table", 1, 2**32 - 1)


def _shaping(section: _Section) -> Shaping:
    pad = section.one("pad")
    return Shaping(
        padding=WIREGUARD_PADDING if pad is None else parse_padding(pad),
        cover_hz=section.number("cover", 0.1, 20_000),
        batch_s=section.number("batchms", 0.1, 10_000) / 1000,
    )


def _scrub(section: _Section) -> Scrub:
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
    sections = _sections(text)
    interfaces = [section for section in sections if section.title == "interface"]
    peers = [section for section in sections if section.title == "peer"]
    if len(interfaces) != 1 or len(interfaces) + len(peers) != len(sections):
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
