"""What a driver gets and what it must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from vpnforensics.groundtruth.lab.network import Network
from vpnforensics.groundtruth.lab.processes import Processes


@dataclass(frozen=True, slots=True)
class Client:
    """One VPN client.

    Parameters
    ----------
    number : int
        From 1.
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
    namespace: str
    outer: str
    port: int
    inner: str

    @property
    def name(self) -> str:
        """Name in truth files."""
        return f"client-{self.number}"


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
    """

    name: ClassVar[str]
    protocol: ClassVar[str]
    server_port: ClassVar[int]
    programs: ClassVar[tuple[str, ...]]
    """Programs that must be installed, also asked for their version."""

    def __init__(
        self, namespace: str, clients: tuple[Client, ...], network: Network, processes: Processes
    ) -> None:
        self.namespace = namespace
        self.clients = clients
        self.network = network
        self.processes = processes
        self.folder: Path = processes.state.folder
        self.run_id = processes.state.run_id

    @abstractmethod
    def start_server(self) -> str:
        """Start the server; return the name of its tun device, up and addressed."""

    @abstractmethod
    def start_client(self, client: Client) -> str:
        """Start one client; return the name of its tun device, up and addressed."""
