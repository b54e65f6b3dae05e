"""Counters shared by several flows: strings of IP IDs, and what ties a flow to one.

Theory of operation
-------------------
Several hosts behind one address send interleaved sequences of IDs. A packet continues the string whose
latest ID it exceeds by the least, within a gap and a time limit, or begins a new one (Bellovin 2002, *A
technique for counting NATted hosts*). A string that runs through several flows is a counter that they
share, or chance: two counters of their own may lie close for a while. So each flow of a string is weighed:
with the flow's packets in it the string is one counter (H1), without them the string and the flow are two
counters, and the flow begins at a value of its own, one in 65,536 (H2). The log-likelihood ratio is the
gap law's (:mod:`vpnforensics.features.gap_law`) over the steps into, out of and across the flow's runs,
less the choice that a packet had: among many strings some head is near any value, so each run pays the
logarithm of their number. That is what keeps random IDs from forming counters.

Where two counters meet, strings may swap hosts. No flow spans such a place; so a string is cut wherever none
does, and what the one step there is worth is said apart.

Two pools are searched: all packets of a source address, which finds global counters, and those to one
destination, which finds counters by destination. IDs of 0 are left out.

Assumes counters; random IDs make strings of one packet, counters by socket strings of one flow. Fails where
hosts send so much unseen traffic that their steps pass the gap limit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vpnforensics.features._kernels import id_strings
from vpnforensics.features.gap_law import LOG_CHANCE, best_scale, step_log_p
from vpnforensics.features.wraparound import signed_difference
from vpnforensics.flows.grouping import changes

Ints = npt.NDArray[np.int64]
_LN10 = float(np.log(10.0))

GAP_LIMIT = 64
"""Steps ahead within a string. At 64, a foreign packet falls into a given string once in a thousand."""
TIME_LIMIT_NS = 300_000_000_000
LIFE_NS = 5_000_000_000
"""A string is looked for so long after its latest packet for each packet it has, up to the limit."""
LEAST_PACKETS = 10
"""A shorter string is not counted as a host."""


@dataclass(frozen=True, eq=False)
class Joints:
    """Places where a string goes on with other flows and none spans them: a single step holds it together."""

    at: Ints
    """Packet after the joint, in the order of the strings."""
    before: Ints
    """Flow of the packet before it."""
    after: Ints
    llr: npt.NDArray[np.float64]
    """log10 likelihood ratio that the two stretches are one counter."""


@dataclass(frozen=True, eq=False)
class SharedCounters:
    """Which flows run through one counter, one entry a (string, flow)."""

    string: Ints
    """Stretch of a string between joints."""
    flow: Ints
    packets: Ints
    """Packets of the flow in the string."""
    llr: npt.NDArray[np.float64]
    """log10 likelihood ratio of "the flow shares this counter" against "it has its own"."""
    joints: Joints
    string_of_packet: Ints
    """String of each packet given, in the order given; -1 for IDs of 0."""

    @property
    def hosts(self) -> int:
        """Strings of ten or more packets: the least number of counters behind the address."""
        used = self.string_of_packet[self.string_of_packet >= 0]
        return int(np.sum(np.bincount(used) >= LEAST_PACKETS)) if len(used) else 0


def shared_counters(
    pool: npt.NDArray[np.integer], t_ns: Ints, ip_id: npt.NDArray[np.integer], flow: npt.NDArray[np.integer]
) -> SharedCounters:
    """Strings of IDs within each pool, and how well each flow fits the rest of its string.

    Parameters
    ----------
    pool : ndarray of integers, shape (n,)
        Packets that may share a counter: by source address, or by source and destination.
    t_ns : ndarray of int64, shape (n,)
    ip_id, flow : ndarray of integers, shape (n,)

    Returns
    -------
    SharedCounters
    """
    order = np.lexsort((t_ns, pool))
    order = order[ip_id[order] > 0]
    none = np.zeros(0, np.int64)
    if not len(order):
        no_joints = Joints(none, none, none, np.zeros(0))
        return SharedCounters(none, none, none, np.zeros(0), no_joints, np.full(len(ip_id), -1, np.int64))
    ids, flows = ip_id[order].astype(np.int64), flow[order].astype(np.int64)
    found = id_strings(
        pool[order].astype(np.int64), t_ns[order], ids, flows, GAP_LIMIT, TIME_LIMIT_NS, LIFE_NS
    )
    of_packet = np.full(len(ip_id), -1, np.int64)
    of_packet[order] = found
    by_string = np.argsort(found, kind="stable")
    string, flow_of, value = found[by_string], flows[by_string], ids[by_string]
    starts = np.flatnonzero(np.diff(string, prepend=-1))
    ends = np.r_[starts[1:], len(string)]
    heads = _heads(pool[order][by_string], t_ns[order][by_string], starts, ends)
    joints = _joints(string, flow_of, value, heads)
    starts = np.union1d(starts, joints.at)
    ends = np.r_[starts[1:], len(string)]
    parts: list[tuple[Ints, Ints, Ints, npt.NDArray[np.float64]]] = []
    for begin, end in zip(starts.tolist(), ends.tolist(), strict=True):
        members = flow_of[begin:end]
        if end - begin < 2 or members.min() == members.max():
            continue
        flows, packets, llr = weigh_members(members, value[begin:end], heads[begin:end])
        parts.append((np.full(len(flows), begin), flows, packets, llr))
    if not parts:
        return SharedCounters(none, none, none, np.zeros(0), joints, of_packet)
    return SharedCounters(
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
        np.concatenate([p[3] for p in parts]),
        joints,
        of_packet,
    )


def _joints(string: Ints, flow: Ints, ip_id: Ints, heads: Ints) -> Joints:
    """Steps within strings that no flow spans. Two counters that meet and swap strings are parted there."""
    n = len(string)
    order = np.lexsort((np.arange(n), flow, string))
    same = (np.diff(string[order]) == 0) & (np.diff(flow[order]) == 0)
    cover = np.zeros(n + 1, np.int64)
    # Between two packets of one flow in one string every step is spanned.
    np.add.at(cover, order[:-1][same] + 1, 1)
    np.add.at(cover, order[1:][same] + 1, -1)
    spanned = np.cumsum(cover)[:n] > 0
    at = np.flatnonzero(np.r_[False, np.diff(string) == 0] & ~spanned)
    step = signed_difference(ip_id[at], ip_id[at - 1], 16)
    llr = (step_log_p(step, 1.0) - LOG_CHANCE - np.log(heads[at])) / _LN10
    return Joints(at, flow[at - 1], flow[at], np.asarray(llr, np.float64))


def _heads(pool: npt.NDArray[np.integer], t_ns: Ints, starts: Ints, ends: Ints) -> Ints:
    """Strings of its pool that were alive at each packet; packets stand grouped by string."""
    length = ends - starts
    expires = t_ns[ends - 1] + np.minimum(TIME_LIMIT_NS, LIFE_NS * length)
    # One clock for all pools: each has its own stretch of it.
    stretch = int(np.ptp(t_ns)) + TIME_LIMIT_NS + 1 if len(t_ns) else 1
    number = np.unique(pool, return_inverse=True)[1].ravel().astype(np.int64)
    shift = number * stretch - (int(t_ns.min()) if len(t_ns) else 0)
    begun = np.sort(t_ns[starts] + shift[starts])
    gone = np.sort(expires + shift[starts])
    now = t_ns + shift
    alive: Ints = np.searchsorted(begun, now, side="right") - np.searchsorted(gone, now, side="left")
    return np.maximum(alive, 1)


def weigh_members(member: Ints, ip_id: Ints, heads: Ints) -> tuple[Ints, Ints, npt.NDArray[np.float64]]:
    """How well each member's IDs fit the rest of a sequence.

    Parameters
    ----------
    member, ip_id : ndarray of int64, shape (n,)
        Owner and ID of each packet, in order of time.
    heads : ndarray of int64, shape (n,)
        Sequences that each packet could have been put into.

    Returns
    -------
    members, packets : ndarray of int64, shape (m,)
    llr : ndarray of float64, shape (m,)
        log10 of P(all | one counter) over P(all | the member has its own).
    """
    steps = signed_difference(ip_id[1:], ip_id[:-1], 16)
    scale = best_scale(steps)[0]
    begin = np.flatnonzero(changes(member))
    end = np.r_[begin[1:], len(member)] - 1
    owner = member[begin]
    first, last = begin == 0, end == len(member) - 1
    gain = -np.log(heads[begin])
    into = signed_difference(ip_id[begin], ip_id[begin - 1], 16)
    after = np.where(last, 0, end + 1)
    out = signed_difference(ip_id[after], ip_id[end], 16)
    across = signed_difference(ip_id[after], ip_id[begin - 1], 16)
    gain += np.where(first, 0.0, step_log_p(into, scale))
    gain += np.where(last, 0.0, step_log_p(out, scale))
    gain -= np.where(first | last, 0.0, step_log_p(across, scale))
    # What the member's own counter would have to pass over between its runs.
    order = np.argsort(owner, kind="stable")
    again = np.flatnonzero(owner[order][1:] == owner[order][:-1])
    own = signed_difference(ip_id[begin[order][again + 1]], ip_id[end[order][again]], 16)
    members, inverse = np.unique(owner, return_inverse=True)
    total = np.bincount(inverse, gain, len(members)) - LOG_CHANCE
    total -= np.bincount(inverse[order][again], step_log_p(own, scale), len(members))
    packets = np.bincount(np.searchsorted(members, member), minlength=len(members)).astype(np.int64)
    return members, packets, np.asarray(total / _LN10, np.float64)
