"""IPv4 identification fields (RFC 6864): the packets one host sends in, their IDs out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vpnforensics.groundtruth.simulate.spec import IpIdKind, IpIdModel

Ints = npt.NDArray[np.int64]

_JIFFY_NS = 4_000_000  # CONFIG_HZ=250


def ip_ids(
    model: IpIdModel,
    sent_ns: Ints,
    tcp: npt.NDArray[np.bool_],
    flow: Ints,
    peer: Ints,
    random: np.random.Generator,
) -> npt.NDArray[np.uint16]:
    """IDs of everything one host sends.

    Parameters
    ----------
    model : IpIdModel
        Classes for TCP and for the rest. Counters of one class are shared between the two.
    sent_ns : ndarray of int64, shape (n,)
        Sending times, in any order.
    tcp : ndarray of bool, shape (n,)
        TCP packets.
    flow, peer : ndarray of int64, shape (n,)
        Connection and destination address.
    random : numpy.random.Generator
        Draws the starts of counters, random IDs and unseen packets.

    Returns
    -------
    ndarray of uint16, shape (n,)
    """
    ids = np.zeros(len(sent_ns), np.int64)
    if model.tcp == model.udp:
        parts: list[tuple[IpIdKind, npt.NDArray[np.bool_]]] = [(model.tcp, np.ones(len(sent_ns), np.bool_))]
    else:
        parts = [(model.tcp, tcp), (model.udp, ~tcp)]
    for kind, mask in parts:
        if mask.any():
            ids[mask] = _of_class(kind, model, sent_ns[mask], flow[mask], peer[mask], tcp[mask], random)
    return (ids & 0xFFFF).astype(np.uint16)


def _of_class(
    kind: IpIdKind,
    model: IpIdModel,
    sent_ns: Ints,
    flow: Ints,
    peer: Ints,
    tcp: npt.NDArray[np.bool_],
    random: np.random.Generator,
) -> Ints:
    n = len(sent_ns)
    match kind:
        case "zero":
            return np.zeros(n, np.int64)
        case "constant":
            return np.full(n, int(random.integers(1, 65536)), np.int64)
        case "random":
            return random.integers(0, 65536, n)
        case "global" | "byte_swapped":
            order = np.argsort(sent_ns, kind="stable")
            gaps_s = np.diff(sent_ns[order], prepend=sent_ns[order[0]]) * 1e-9
            unseen = random.poisson(gaps_s * model.other_hz)
            ids = np.empty(n, np.int64)
            ids[order] = int(random.integers(0, 65536)) + np.cumsum(unseen + 1)
            if kind == "byte_swapped":
                ids &= 0xFFFF
                ids = (ids >> 8) | ((ids & 0xFF) << 8)
            return ids
        case "per_flow":
            return _counted(flow, sent_ns, np.zeros(n, np.int64), random)
        case "per_destination":
            return _counted(peer, sent_ns, np.zeros(n, np.int64), random)
        case "bucket":
            # Linux ip_idents_reserve(): a jump by a random share of the jiffies since the bucket's last use.
            key = peer * 2 + tcp
            order = np.lexsort((sent_ns, key))
            jiffies = sent_ns[order] // _JIFFY_NS
            idle = np.diff(jiffies, prepend=jiffies[0])
            idle[np.flatnonzero(np.diff(key[order], prepend=-1))] = 0
            jumps = np.empty(n, np.int64)
            jumps[order] = np.floor(random.random(n) * np.maximum(idle, 0)).astype(np.int64)
            return _counted(key, sent_ns, jumps, random)


def _counted(key: Ints, sent_ns: Ints, jumps: Ints, random: np.random.Generator) -> Ints:
    """A counter a key, from a random start, +1 and the jump a packet, in sending order."""
    order = np.lexsort((sent_ns, key))
    sorted_key = key[order]
    first = np.flatnonzero(np.diff(sorted_key, prepend=sorted_key[0] - 1))
    steps = np.cumsum(1 + jumps[order])
    group = np.repeat(np.arange(len(first)), np.diff(first, append=len(order)))
    base = random.integers(0, 65536, len(first)) - steps[first]
    ids = np.empty(len(key), np.int64)
    ids[order] = steps + base[group]
    return ids
