"""Room for one more packet: others move to records just as possible for them.

Which of several equal records carried which of several equal packets cannot be told when they come closer
together than the delay varies. So a packet that finds all records in its reach given away is not turned away
while those that have them could do with others: an augmenting path of the matching of packets and records.
The records in reach of a packet are an interval of its size's records, and so are those in reach by any
number of moves (Glover 1967, Maximum matching in a convex bipartite graph, Nav. Res. Logist. Q. 14).
"""

from __future__ import annotations

from vpnforensics.align._kernels import first_at_least
from vpnforensics.kernels import kernel


@kernel
def make_room(  # type: ignore[no-untyped-def]
    packet, begin, end, egress_ns, up, record_ns, low_ns, reach_ns, owner, carried, matched, reached_by
):
    """Free a record in reach of a packet.

    Parameters
    ----------
    packet : int
        Row of the egress packet; all records in its reach are given away.
    begin, end : int
        The records of its tunnel and size class.
    up : bool
        Direction of the class.
    low_ns, reach_ns : int
        Least delay, and the first one too long.
    owner, carried : ndarray of int32
        Flow and egress packet of each record; -1 of free ones. Updated, as is ``matched``.
    matched : ndarray of int32
        Record of each egress packet.
    reached_by : ndarray of int64
        Scratch: which record's packet could move here. As many records are looked at as have room in it.

    Returns
    -------
    int
        A record that is free now, or -1. It still names its last packet.
    """
    room = reached_by.size
    t = egress_ns[packet]
    left = first_at_least(record_ns, begin, end, t - reach_ns + 1 if up else t + low_ns)
    right = left  # records in [left, right) are reached
    low, high = left, left  # the packets of those in [low, high) have been asked
    asking, free = -1, -1
    asked = packet
    while True:
        t = egress_ns[asked]
        first = t - reach_ns + 1 if up else t + low_ns
        last = t - low_ns if up else t + reach_ns - 1
        while free < 0 and left > begin and record_ns[left - 1] >= first and right - left < room:
            left -= 1
            reached_by[left % room] = asking
            if owner[left] < 0:
                free = left
        while free < 0 and right < end and record_ns[right] <= last and right - left < room:
            reached_by[right % room] = asking
            if owner[right] < 0:
                free = right
            right += 1
        if free >= 0:
            break
        if high < right:
            asking = high
            high += 1
        elif low > left:
            low -= 1
            asking = low
        else:
            return -1
        asked = carried[asking]
    while reached_by[free % room] >= 0:
        given = reached_by[free % room]
        moved = carried[given]
        owner[free], carried[free], matched[moved] = owner[given], moved, free
        free = given
    return free
