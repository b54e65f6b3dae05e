"""Hosts that a relay was asked for, and the addresses that proved pairs show them to have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vpnforensics.arrays import Floats, Ints
from vpnforensics.flows.assemble import FlowTable
from vpnforensics.tunnels.relay_requests import UNKNOWN, Destination

_OTHER_HOST_DECADES = -2.0
"""Of a flow to an address that the host asked for was not seen to have: names have several."""


@dataclass(frozen=True, eq=False)
class AskedHosts:
    """Which hosts were asked for, which addresses flows went to, and which of them go together."""

    host: Ints
    """Of each conversation, -1 where it is not known; and the port."""
    port: Ints
    address: Ints
    """Of each flow; and the port."""
    flow_port: Ints
    known: Ints
    """Host and address, as one number, of the proved pairs."""
    served: Ints
    """Hosts among them."""

    @staticmethod
    def of(
        asked: Mapping[int, Destination],
        flows: FlowTable,
        conversations: int,
        proved_conversation: Ints,
        proved_flow: Ints,
    ) -> AskedHosts:
        """With the pairs that are proved.

        Parameters
        ----------
        asked : mapping of int to Destination
            What some conversations asked for.
        flows : FlowTable
            Of the egress side.
        conversations : int
            How many there are.
        proved_conversation, proved_flow : ndarray of int64, shape (pairs,)
        """
        number = {host: n for n, host in enumerate(sorted({d.host for d in asked.values()}))}
        host, port = np.full((2, conversations), UNKNOWN, np.int64)
        for n, destination in asked.items():
            host[n], port[n] = number[destination.host], destination.port
        address = flows.dst.astype(np.int64)
        told = host[proved_conversation] >= 0
        mine = host[proved_conversation[told]]
        known = np.unique(mine << 32 | address[proved_flow[told]])
        return AskedHosts(host, port, address, flows.dport.astype(np.int64), known, np.unique(mine))

    def decades(self, conversation: Ints, flow: Ints) -> Floats:
        """What the destination says of each pair; -inf where it was another port."""
        host, port = self.host[conversation], self.port[conversation]
        right = np.isin(host << 32 | self.address[flow], self.known)
        by_chance = max(len(np.unique(self.known & 0xFFFFFFFF)), 1)
        said = np.where(
            np.isin(host, self.served), np.where(right, np.log10(by_chance), _OTHER_HOST_DECADES), 0.0
        )
        return np.where((port != UNKNOWN) & (port != self.flow_port[flow]), -np.inf, said)
