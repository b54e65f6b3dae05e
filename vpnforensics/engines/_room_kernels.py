"""Room for one more packet: others move to records just as possible for them.

Which of several equal records carried which of several equal packets cannot be told when they come closer
together than the delay varies. So a packet that finds all records in its reach given away is not turned away
while those that have them could do with others: an augmenting path of the matching of packets and records.
The records in reach of a packet are an interval of its size's records, and so are those in reach by any
number of moves (Glover 1967, Maximum matching in a convex bipartite graph, Nav. Res. Logist. Q. 14).
"""

from __future__ import annotations

from vpnforensics.align._kernels import first_at_least
from vpnforensics.engines._kernels import reach
from vpnforensics.kernels import kernel


@kernel
def make_room(packet, begin, end, packets, record_ns, delays, given, reached_by):  # type: ignore[no-untyped-def]
    """Free a record in reach of a packet.

    Parameters
    ----------
    packet : int
        Row of the egress packet; all records in its reach are given away.
    begin, end : int
        The records of its tunnel and size class.
    packets, record_ns, delays
    given : Given
        Updated.
    reached_by : ndarray of int64
        Scratch: which record's packet could move here. As many records are looked at as have room in it.

    Returns
    -------
    int
        A record that is free now, or -1. It still names its last packet.
    """
    room = reached_by.size
    left = first_at_least(record_ns, begin, end, reach(packets, packet, delays)[0])
    right = left  # records in [left, right) are reached
    low, high = left, left  # the packets of those in [low, high) have been asked
    asking, free = -1, -1
    asked = packet
    while True:
        first, last = reach(packets, asked, delays)
        while free < 0 and left > begin and record_ns[left - 1] >= first and right - left < room:
            left -= 1
            reached_by[left % room] = asking
            if given.owner[left] < 0:
                free = left
        while free < 0 and right < end and record_ns[right] <= last and right - left < room:
            reached_by[right % room] = asking
            if given.owner[right] < 0:
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
        asked = given.carried[asking]
    while reached_by[free % room] >= 0:
        taken = reached_by[free % room]
        moved = given.carried[taken]
        given.owner[free], given.carried[free], given.matched[moved] = given.owner[taken], moved, free
        free = taken
    return free
