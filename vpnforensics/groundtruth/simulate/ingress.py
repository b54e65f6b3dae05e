"""Outer packets as the ingress tap sees them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.ip_ids import ip_ids
from vpnforensics.groundtruth.simulate.outer import Protocol
from vpnforensics.groundtruth.simulate.outer.datagrams import HEAD_BYTES, Datagrams, Framed
from vpnforensics.groundtruth.simulate.spec import Client
from vpnforensics.groundtruth.simulate.surroundings import DOWN, ESP, UDP, Records, Surroundings


def ingress_records(
    datagrams: Datagrams,
    framed: Framed,
    up_ids: npt.NDArray[np.uint16],
    protocol: Protocol,
    client: Client,
    address: int,
    port: int,
    around: Surroundings,
    random: np.random.Generator,
) -> Records:
    """Records of one tunnel's datagrams at the ingress tap.

    Parameters
    ----------
    up_ids : ndarray of uint16, shape (n,)
        IP IDs of what the client sent; the server's are made here.
    address, port : int
        The client's outer endpoint.
    """
    server = around.spec.server
    down = datagrams.side == DOWN
    sent_down = np.flatnonzero(down)
    ids = up_ids.copy()
    nothing = np.full(len(sent_down), -1)
    no_tcp = np.zeros(len(sent_down), np.bool_)
    ids[sent_down] = ip_ids(server.stack.ip_id, datagrams.sent_ns[sent_down], no_tcp, nothing, nothing, random)
    seen = (datagrams.tap_ns >= 0) & (datagrams.tap_ns < around.end_ns)
    seen &= random.random(len(datagrams)) >= around.spec.ingress.loss
    keep = np.flatnonzero(seen)
    down = down[keep]
    outer = client.outer or client.devices[0].stack
    rows = np.zeros(len(keep), frames.RECORD)
    rows["ts_ns"] = datagrams.tap_ns[keep]
    rows["src"] = np.where(down, around.server_address, address)
    rows["dst"] = np.where(down, address, around.server_address)
    rows["sport"] = np.where(down, protocol.port, port)
    rows["dport"] = np.where(down, port, protocol.port)
    rows["proto"] = ESP if protocol.transport == "esp" else UDP
    rows["ip_id"] = ids[keep]
    rows["length"] = framed.length[keep]
    rows["ttl"] = np.where(down, server.stack.ttl, outer.ttl - client.path.hops)
    rows["df"] = np.where(down, server.stack.df, outer.df)
    rows["outgoing"] = down
    rows["content"] = np.arange(len(keep)) * HEAD_BYTES
    rows["content_length"] = np.minimum(framed.head_length[keep], framed.length[keep])
    return Records(rows, framed.head[keep].reshape(-1))
