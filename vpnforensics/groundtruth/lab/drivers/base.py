"""What a driver gets and what it must do."""

from __future__ import annotations

import subprocess
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from vpnforensics.groundtruth.lab.conntrack import Key, Translations
from vpnforensics.groundtruth.lab.network import Network
from vpnforensics.groundtruth.lab.processes import Processes
from vpnforensics.groundtruth.scenario import Countermeasures

_NONE = Countermeasures()


@dataclass(frozen=True, slots=True)
class Client:
    """One VPN client.

    Parameters
    ----------
    number : int
        From 1.
    name : str
        From the scenario.
    namespace : str
        Where it lives.
    outer : str
        Its address on the access network.
    port : int
        The port that its VPN program sends from, where the program can be told.
    inner : str
        Its address inside the tunnel.
    """

    number: int
    name: str
    namespace: str
    outer: str
    port: int
    inner: str

    @property
    def uid(self) -> int:
        """User that a relay serves this client as, so that the kernel can tell its connections apart."""
        return 20000 + self.number


class Driver(ABC):
    """Starts one kind of VPN.

    Parameters
    ----------
    namespace : str
        The VPN server's.
    clients : tuple of Client
        All clients that will join.
    network, processes
        To build with.
    port, mtu : int or None
        From the scenario; None leaves the usual ones.
    countermeasures : Countermeasures
        From the scenario; refused beforehand where the program has none.
    """

    kind: ClassVar[str]
    """Name in scenarios, and the protocol in truth files."""
    transport: ClassVar[Literal["udp", "tcp", "esp", "gre"]] = "udp"
    usual_port: ClassVar[int]
    programs: ClassVar[tuple[str, ...]]
    """Programs that must be installed; their versions go to the manifest."""
    packages: ClassVar[tuple[str, ...]]
    """Debian packages that hold them."""
    relay: ClassVar[bool] = False
    """True where the server opens the egress connections itself (a proxy) and no tun device exists."""
    relays_lookups: ClassVar[bool] = False
    """True of a relay that passes on its clients' own lookups, as datagrams."""
    told_by_programs: ClassVar[bool] = False
    """True where no socket of the relay is one client's: what programs hand to their own proxies is captured
    too, and a cookie tells equal requests apart."""
    join_s: ClassVar[float] = 0.0
    """What it takes by design until clients have joined, beyond the few seconds of any other."""
    kernel_modules: ClassVar[tuple[str, ...]] = ()
    """What it needs of the kernel beyond what any machine has: then every end runs on a kernel of its own."""

    def __init__(
        self,
        namespace: str,
        clients: tuple[Client, ...],
        network: Network,
        processes: Processes,
        *,
        port: int | None = None,
        mtu: int | None = None,
        countermeasures: Countermeasures = _NONE,
    ) -> None:
        self.namespace = namespace
        self.clients = clients
        self.network = network
        self.processes = processes
        self.folder: Path = processes.state.folder
        self.run_id = processes.state.run_id
        self.port = port or self.usual_port
        self.mtu = mtu
        self.countermeasures = countermeasures

    @abstractmethod
    def start_server(self) -> None:
        """Start the server, and wait until clients can join."""

    @abstractmethod
    def start_client(self, client: Client) -> None:
        """Start one client and wait for nothing: the others start meanwhile."""

    @abstractmethod
    def join(self, client: Client) -> str | None:
        """Wait until a client has joined; return its tun device, up and addressed, or None for a relay."""

    @abstractmethod
    def server_devices(self) -> list[str]:
        """The server's tun devices, once all clients have joined."""

    def proxy(self, client: Client) -> str | None:
        """Where a relay's client programs find their SOCKS proxy."""
        return None

    def openers(self, kernel: Translations, egress: Path, local: Mapping[str, Path]) -> dict[Key, set[int]]:
        """Of a relay: the numbers of the clients behind each upstream connection, once all has been recorded.

        Parameters
        ----------
        kernel : Translations
            The kernel's account: a connection is marked by the user that owns its socket.
        egress : Path
            The Internet-facing capture, whole.
        local : mapping of str to Path
            By client name: what programs handed to their proxies, where `told_by_programs`.
        """
        return kernel.marks

    def device(self, number: int) -> str:
        """An interface name of this run; 0 is the server's.

        Some programs keep one list of names for all namespaces.
        """
        return f"vt{self.run_id}{number}"

    def raise_device(self, namespace: str, dev: str, address: str, mtu: int | None, peer: str = "") -> None:
        """Address a tun device and bring it up."""
        self.processes.run(
            namespace, ["ip", "addr", "add", address, *(["peer", peer] if peer else []), "dev", dev]
        )
        size = ["mtu", str(mtu)] if mtu else []
        self.processes.run(namespace, ["ip", "link", "set", dev, *size, "up"])


def make(*argv: str | Path, given: str = "") -> str:
    """Run a key or certificate tool outside any namespace and return its output."""
    done = subprocess.run(
        [str(a) for a in argv], input=given.encode(), check=True, capture_output=True, timeout=30
    )
    return done.stdout.decode()


def certificates(folder: Path, identities: list[str], server: str) -> Path:
    """A certificate authority and one EC certificate an identity, in ``pki/``; the first is the server."""
    pki = folder / "pki"
    pki.mkdir()
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    make(
        "openssl",
        "req",
        "-x509",
        *curve,
        "-days",
        "30",
        "-subj",
        "/CN=lab-ca",
        "-keyout",
        pki / "ca.key",
        "-out",
        pki / "ca.crt",
    )
    for serial, identity in enumerate(identities, start=1):
        usage = "clientAuth" if serial > 1 else f"serverAuth\nsubjectAltName=IP:{server}"
        extensions = pki / f"{identity}.ext"
        extensions.write_text(
            f"keyUsage=digitalSignature\nbasicConstraints=CA:FALSE\nextendedKeyUsage={usage}\n"
        )
        key, request, certificate = (pki / f"{identity}.{end}" for end in ("key", "csr", "crt"))
        make("openssl", "req", *curve, "-subj", f"/CN={identity}", "-keyout", key, "-out", request)
        make(
            "openssl",
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            pki / "ca.crt",
            "-CAkey",
            pki / "ca.key",
            "-days",
            "30",
            "-set_serial",
            str(serial),
            "-extfile",
            extensions,
            "-out",
            certificate,
        )
    return pki
