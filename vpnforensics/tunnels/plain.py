"""Readable clients in the place of tunnels, for an ingress capture that is not encrypted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.flows.assemble import FlowTable
from vpnforensics.tunnels.find import RecordTable, Tunnel, TunnelSet

_UNSPECIFIED = {4: "0.0.0.0:0", 6: "[::]:0"}


def plain_clients(conversations: FlowTable) -> tuple[TunnelSet, npt.NDArray[np.int64]]:
    """One "tunnel" a client address, protocol ``plain``, ports 0; every packet of it is a record.

    Returns
    -------
    TunnelSet
    client_of : ndarray of int64, shape (conversations,)
        Number of each conversation's client.
    """
    packets = conversations.packets
    addresses, first, client_of = np.unique(conversations.src, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))  # in order of appearance
    client_of = rank[client_of]
    of_packet = client_of[conversations.flow]
    clients: list[Tunnel | None] = [None] * len(addresses)
    for address, number in zip(addresses.tolist(), rank.tolist(), strict=True):
        mine = client_of == number
        clients[number] = Tunnel(
            client=packets.addresses.endpoint(address, 0),
            server=_UNSPECIFIED[int(packets.addresses.version[address])],
            transport="ip",
            protocol="plain",
            variant="",
            confidence=1.0,
            first_ns=int(conversations.first_ns[mine].min()),
            last_ns=int(conversations.last_ns[mine].max()),
            packets_up=int(conversations.packets_up[mine].sum()),
            packets_down=int(conversations.packets_down[mine].sum()),
            length_maps=(),
            conversation=int(np.flatnonzero(mine)[0]),
        )
    order = np.argsort(packets.ts_ns, kind="stable")
    records = RecordTable(
        packets.ts_ns[order],
        of_packet[order].astype(np.int32),
        conversations.up[order],
        packets.ip_len_bytes[order],
        np.full(len(order), -1, np.int64),
        order.astype(np.int32),
    )
    known = tuple(c for c in clients if c is not None)
    return TunnelSet(known, records, np.zeros(0, np.int64)), client_of
