from itertools import chain

import numpy as np
import pytest

from tests.tables import table, tcp, udp
from vpnforensics.features.clock_lines import flow_offsets
from vpnforensics.features.ip_id import classify_ip_ids, passed_over
from vpnforensics.features.pooled import IdPackets, of_member, pooled_clock, pooled_ids
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows

S = 1_000_000_000
RNG = np.random.default_rng(5)


def packets(ids, flow, destination=None, begin_s=0.0):
    """One packet a hundredth of a second."""
    ids, flow = np.array(ids, np.int64), np.array(flow, np.int64)
    to = flow if destination is None else np.array(destination, np.int64)
    ts_ns = np.int64(begin_s * S) + 10_000_000 * np.arange(len(ids), dtype=np.int64)
    return IdPackets(ts_ns, ids % 65_536, flow, to)


def taken_in_turn(flows=4, count=60, first=500):
    """A host's counter, by flows that send in turn."""
    return packets(first + np.arange(count), np.arange(count) % flows)


def test_one_counter_misses_nothing_together_though_each_flow_skips_what_the_others_took():
    pool = taken_in_turn()
    found = pooled_ids(pool)
    assert (found.profile.ip_id_class, found.profile.scope) == ("global", "host")
    assert (found.profile.missing, found.profile.gaps, found.profile.wraps) == (0, 0, 0)
    assert found.members.tolist() == [0, 1, 2, 3]
    mine = pool.flow == 1
    alone = classify_ip_ids(pool.ts_ns[mine], pool.ip_id[mine], pool.flow[mine], pool.destination[mine])
    assert (alone.ip_id_class, alone.missing) == ("per_flow", 3 * 14)
    told = of_member(alone, found.profile)
    assert (told.ip_id_class, told.scope, told.missing) == ("global", "host", None)
    assert told.increments == alone.increments


def test_a_counter_that_wraps_and_one_that_is_seen_in_part():
    whole = taken_in_turn(first=65_500)
    seen = np.ones(60, np.bool_)
    seen[[7, 8, 30]] = False
    part = IdPackets(*(column[seen] for column in (whole.ts_ns, whole.ip_id, whole.flow, whole.destination)))
    found = pooled_ids(part).profile
    # The counter's 0 stands for no ID with many stacks, and is left out.
    assert (found.missing, found.gaps, found.wraps) == (4, 3, 1)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([5], (0, 0, 0)),
        ([5, 6, 6, 7], (0, 0, 0)),
        ([9, 5], (3, 1, 0)),
        ([5, 7, 10], (3, 2, 0)),
        ([65_535, 65_536], (0, 0, 1)),
        ([65_534, 131_073], (65_538, 1, 2)),
    ],
)
def test_what_a_counter_passed_over(line, expected):
    assert passed_over(np.array(line, np.int64)) == expected


def test_a_flow_with_a_counter_of_its_own_is_no_member():
    ids, flow = np.arange(90) + 1000, np.arange(90) % 3
    ids[flow == 2] = 40_000 + np.arange(30)
    found = pooled_ids(packets(ids, np.where(flow == 2, 2, np.arange(90) % 2)))
    assert found.profile.scope in ("host", "flow")
    assert 2 not in found.members


def test_counters_by_flow_have_no_members():
    ids = np.repeat([100, 20_000, 50_000], 20) + np.tile(np.arange(20), 3)
    found = pooled_ids(packets(ids, np.repeat([0, 1, 2], 20)))
    assert (found.profile.ip_id_class, found.profile.missing, len(found.members)) == ("per_flow", 0, 0)


def test_counters_by_destination_are_shared_by_its_flows():
    flow = np.arange(80) % 4
    ids = np.where(flow < 2, 300, 30_000) + np.arange(80) // 4 * 2 + flow % 2
    found = pooled_ids(packets(ids, flow, flow // 2))
    assert (found.profile.ip_id_class, found.profile.missing) == ("per_destination", 0)
    assert found.members.tolist() == [0, 1, 2, 3]


def test_what_outer_packets_took_of_the_counter_is_not_missing():
    values = 500 + np.arange(120)
    inner = packets(values[::2], np.arange(60) % 4)
    outer = packets(values[1::2], np.zeros(60), begin_s=0.001)
    found = pooled_ids(inner, outer)
    assert found.with_outer
    assert (found.profile.missing, found.profile.gaps) == (0, 0)
    assert pooled_ids(inner).profile.missing == 59


def test_an_outer_counter_of_its_own_fills_no_gaps():
    """It gives values that inner packets have too, or is far away."""
    inner = packets(500 + 2 * np.arange(60), np.arange(60) % 4)
    for other in (501 + np.arange(60) * 2 // 3 * 3, 520 + np.arange(60), 30_000 + np.arange(60)):
        found = pooled_ids(inner, packets(other, np.zeros(60), begin_s=0.001))
        assert not found.with_outer
        assert found.profile.missing == 59


def test_few_outer_packets_prove_no_common_counter():
    inner = packets(500 + 2 * np.arange(60), np.arange(60) % 4)
    outer = packets(501 + 2 * np.arange(9), np.zeros(9), begin_s=0.001)
    assert not pooled_ids(inner, outer).with_outer, "four or five would be met by chance, and none may"


def test_bytes_exchanged():
    pool = taken_in_turn()
    swapped = (pool.ip_id >> 8) | (pool.ip_id & 0xFF) << 8
    found = pooled_ids(IdPackets(pool.ts_ns, swapped, pool.flow, pool.destination))
    assert (found.profile.ip_id_class, found.profile.missing) == ("byte_swapped", 0)
    assert found.members.tolist() == [0, 1, 2, 3]


def conversation(port, offset_ms, seconds, destination="192.0.2.7", begin_s=0.0):
    """A packet a second each way, the client's stamped by a clock of 1000 Hz."""
    made = []
    for t in np.arange(begin_s, begin_s + seconds, 1.0):
        stamp = {"has_ts": 1, "tsval": int(offset_ms + t * 1000)}
        made.append(tcp(t, "198.51.100.1", port, destination, 443, **stamp))
        made.append(tcp(t + 0.001, destination, 443, "198.51.100.1", port))
    return made


def clock_of(*conversations):
    rows = sorted(chain(*conversations), key=lambda packet: packet["ts_ns"])
    senders = find_senders(assemble_flows(table(rows)))
    return pooled_clock(senders, flow_offsets(senders, senders.up))


def test_flows_too_short_for_a_clock_have_one_together():
    """Four flows of half a minute: none may speak of a rate, and together they last two minutes."""
    hosts = [f"192.0.2.{h}" for h in range(1, 5)]
    parts = [conversation(5000 + k, 9_000_000, 40, to, 35.0 * k) for k, to in enumerate(hosts)]
    alone = clock_of(parts[0])
    assert alone is None, "one flow shares no line"
    found = clock_of(*parts, conversation(6000, 77_000_000, 40))
    assert found.senders.tolist() == [0, 4, 6, 8], "the flow with another offset is on another line"
    assert found.scope == "global"
    told = found.clock.to_dict(found.scope)
    assert told["hz"] == 1000.0
    assert abs(told["skew_ppm"]) < 5
    assert found.clock.packets == 160


def test_a_line_of_one_destination_is_that_pair_of_addresses():
    found = clock_of(*(conversation(5000 + k, 9_000_000, 20, "192.0.2.7", 15.0 * k) for k in range(3)))
    assert (found.scope, len(found.senders)) == ("per_pair", 3)


def test_offsets_of_their_own_make_no_line():
    parts = [conversation(5000 + k, int(RNG.integers(1 << 31)), 20, begin_s=k) for k in range(5)]
    assert clock_of(*parts) is None


def test_flows_without_timestamps_have_no_clock():
    assert clock_of([udp(t, "198.51.100.1", 7, "192.0.2.7", 53) for t in range(5)]) is None
