"""The server's source NAT."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.surroundings import ClientRun

_LOW, _HIGH = 1024, 65536


class Nat:
    """Port translation as Linux masquerading does it: keep the port unless the 5-tuple is taken.

    Tuples are never given twice in a case, so that a flow's endpoints name it.

    Parameters
    ----------
    random_ports : bool
        Draw every port anew (`masquerade fully-random`).
    """

    def __init__(self, random_ports: bool) -> None:
        self._random_ports = random_ports
        self._taken: set[tuple[int, int, int, int]] = set()

    def translate(self, run: ClientRun, addresses: Ints, random: np.random.Generator) -> Ints:
        """Rewrite the ports in a client's egress records.

        Parameters
        ----------
        run : ClientRun
            Its records are changed in place.
        addresses : ndarray of int64
            Of the Internet hosts.
        random : numpy.random.Generator
            Of this client.

        Returns
        -------
        ndarray of int64, shape (flows,)
            The public port of each flow.
        """
        public = run.inner_port.copy()
        for i, talk in enumerate(run.talks):
            port = int(public[i])
            if self._random_ports:
                port = int(random.integers(_LOW, _HIGH))
            while (key := (talk.proto, port, int(addresses[talk.host]), talk.port)) in self._taken:
                port = int(random.integers(_LOW, _HIGH))
            self._taken.add(key)
            public[i] = port
        rows = run.egress.rows
        ports = public[run.egress_flow]
        incoming = rows["outgoing"] == 0
        rows["dport"] = np.where(incoming, ports, rows["dport"])
        rows["sport"] = np.where(incoming, rows["sport"], ports)
        return public
