"""The server's source NAT."""

from __future__ import annotations

import numpy as np

from vpnforensics.groundtruth.simulate.network import Ints
from vpnforensics.groundtruth.simulate.outlines import Talks
from vpnforensics.groundtruth.simulate.surroundings import Packets

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
        self._taken: set[int] = set()

    def translate(self, talks: Talks, inner_port: Ints, addresses: Ints, random: np.random.Generator) -> Ints:
        """Public ports of a client's flows; clients come in the order of the case.

        Parameters
        ----------
        talks : Talks
            Its flows.
        inner_port : ndarray of int64, shape (flows,)
            Their source ports behind the NAT.
        addresses : ndarray of int64
            Of the Internet hosts.
        random : numpy.random.Generator
            Of this client.

        Returns
        -------
        ndarray of int64, shape (flows,)
        """
        public = inner_port.copy()
        far = zip(talks.proto.tolist(), addresses[talks.host].tolist(), talks.port.tolist(), strict=True)
        for i, (proto, address, far_port) in enumerate(far):
            port = int(public[i])
            if self._random_ports:
                port = int(random.integers(_LOW, _HIGH))
            # One number, not a tuple of four: a large case has a million of them.
            end = (proto << 48 | address << 16 | far_port) << 16
            while end | port in self._taken:
                port = int(random.integers(_LOW, _HIGH))
            self._taken.add(end | port)
            public[i] = port
        return public


def translate_rows(packets: Packets, public: Ints) -> None:
    """Write public ports (one a flow) into the egress records, in place."""
    rows = packets.egress.rows
    ports = public[packets.egress_flow]
    incoming = rows["outgoing"] == 0
    rows["dport"] = np.where(incoming, ports, rows["dport"])
    rows["sport"] = np.where(incoming, rows["sport"], ports)
