"""The network kernel: queues, windows, acknowledgements, losses, each against its law."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest

from vpnforensics.groundtruth.simulate import presets
from vpnforensics.groundtruth.simulate.client import access_links
from vpnforensics.groundtruth.simulate.network import Wiring, run_network
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.population import make_population, server_law
from vpnforensics.groundtruth.simulate.scripts import write_scripts
from vpnforensics.groundtruth.simulate.spec import (
    AccessPath,
    Countermeasures,
    Device,
    IpVersions,
    Server,
    SimulationSpec,
)
from vpnforensics.groundtruth.simulate.traffic.conversation import DOWN, TCP, UDP, UP, Conversation

SECOND = 1_000_000_000
END = 120 * SECOND
QUIET = Server(stall_hz=0.0, internet_loss=0.0, host_jitter_s=0.0, host_mbit=8000.0)


def play(
    talks,
    path=None,
    server=QUIET,
    seed=1,
    measures=None,
    stack=presets.LINUX,
    far_jitter_ns=0,
    **wiring,
):
    random = np.random.default_rng(2)
    population = make_population(SimulationSpec((), hosts=4, host_delay_s=(0.005, 0.005)), END, random)
    population = replace(population, hosts=tuple(replace(h, stack=presets.LINUX) for h in population.hosts))
    path = path or AccessPath(delay_s=0.01, jitter_s=0.0, loss=0.0)
    up, down = access_links(path)
    law = server_law(server, measures or Countermeasures(), END, random)
    scripts = write_scripts(talks, (Device("d", stack),), population, 1380, server, IpVersions(), random)
    scripts.flows[:, k.FAR_JITTER] = far_jitter_ns
    made = Wiring(up, down, law, 1000.0, server.internet_loss, 60, **wiring)
    return run_network(scripts.flows, scripts.endpoints, scripts.messages, made, seed, END).packets


def fetch(size, start_ns=SECOND):
    talk = Conversation("download", TCP, 2, 443, 0, start_ns)
    talk.up(400, 0)
    talk.down(size, 1_000_000)
    talk.close(UP, 1_000_000)
    return talk


def delivered(packets, side, at):
    """Distinct bytes of one direction that passed a column with a time."""
    seen = {}
    for row in packets[(packets[:, k.SIDE] == side) & (packets[:, k.LENGTH] > 0) & (packets[:, at] >= 0)]:
        seen[row[k.SEQ]] = max(seen.get(row[k.SEQ], 0), row[k.LENGTH])
    end = 1
    for left in sorted(seen):
        if left <= end:
            end = max(end, left + seen[left])
    return end - 1


def test_a_clean_transfer_is_a_handshake_the_bytes_and_a_teardown():
    packets = play([fetch(100_000)])
    assert packets[:3, k.FLAGS].tolist() == [2, 18, 16]
    down = packets[packets[:, k.SIDE] == DOWN]
    data = down[down[:, k.LENGTH] > 0]
    assert data[:, k.LENGTH].sum() == 100_000
    assert set(data[:-1, k.LENGTH]) == {1368}, "full segments, less the timestamp option"
    assert len(set(data[:, k.SEQ])) == len(data), "nothing is sent twice"
    assert Counter(packets[:, k.FLAGS] & 1)[1] == 2, "a FIN each way"
    assert packets[-1, k.ACK] == 100_002


def test_slow_start_doubles_from_ten_segments_each_round_trip():
    packets = play([fetch(400_000)], AccessPath(delay_s=0.05, jitter_s=0.0, loss=0.0, down_mbit=0.0))
    data = packets[(packets[:, k.SIDE] == DOWN) & (packets[:, k.LENGTH] > 0)]
    round_trip = 2 * (50_000_000 + 5_000_000)
    turn = (data[:, k.SENT_NS] - data[0, k.SENT_NS]) // round_trip
    sizes = [int((turn == i).sum()) for i in range(3)]
    assert sizes[0] == 10
    assert 18 <= sizes[1] <= 22
    assert 34 <= sizes[2] <= 44


def test_every_second_segment_is_acknowledged():
    packets = play([fetch(2_000_000)], stack=replace(presets.LINUX, gro_us=0.0))
    down = packets[(packets[:, k.SIDE] == DOWN) & (packets[:, k.LENGTH] > 0)]
    acks = packets[(packets[:, k.SIDE] == UP) & (packets[:, k.LENGTH] == 0)]
    assert 0.48 < len(acks) / len(down) < 0.53
    bursts = play([fetch(2_000_000)], stack=replace(presets.LINUX, gro_us=2000.0))
    merged = bursts[(bursts[:, k.SIDE] == UP) & (bursts[:, k.LENGTH] == 0)]
    assert len(merged) < 0.3 * len(acks)


def test_a_lone_segment_is_acknowledged_by_the_reader_or_late():
    for stack, least, most in ((presets.LINUX, 0, 1_000_000), (presets.WINDOWS, 39_000_000, 42_000_000)):
        talk = Conversation("push", TCP, 2, 443, 0, SECOND)
        for _ in range(20):
            talk.down(100, SECOND)
        packets = play([talk], stack=replace(stack, quick_acks=0))
        pushes = packets[(packets[:, k.SIDE] == DOWN) & (packets[:, k.LENGTH] > 0)]
        acks = packets[(packets[:, k.SIDE] == UP) & (packets[:, k.LENGTH] == 0)][2:]
        arrival = pushes[:, k.IN_NS][: len(acks)] + 10_000_000
        wait = acks[: len(arrival), k.SENT_NS] - arrival[: len(acks)]
        assert least <= np.median(wait) <= most


@pytest.mark.parametrize("loss", [0.01, 0.05])
def test_lost_segments_are_sent_again_until_all_is_there(loss):
    path = AccessPath(delay_s=0.01, jitter_s=0.0, loss=loss)
    clean = play([fetch(600_000)])
    packets = play([fetch(600_000)], path)
    data = packets[(packets[:, k.SIDE] == DOWN) & (packets[:, k.LENGTH] > 0)]
    again = len(data) - len(set(data[:, k.SEQ]))
    assert again >= 0.5 * loss * len(data)
    assert packets[:, k.ACK].max() == 600_002, "the receiver got every byte and the FIN"
    assert delivered(packets, DOWN, k.IN_NS) == 600_000
    duplicate_acks = packets[(packets[:, k.SIDE] == UP) & (packets[:, k.SACK_RIGHT] > 0)]
    assert len(duplicate_acks) > 0
    assert (duplicate_acks[:, k.SACK_LEFT] > duplicate_acks[:, k.ACK]).all()
    assert packets[-1, k.SENT_NS] > clean[-1, k.SENT_NS]


def test_a_lost_syn_comes_again_after_a_second_and_doubles():
    path = AccessPath(delay_s=0.01, jitter_s=0.0, loss=0.9999999)
    packets = play([fetch(1000)], path)
    assert set(packets[:, k.FLAGS]) == {2}
    gaps = np.diff(packets[:, k.SENT_NS]) / SECOND
    assert np.allclose(gaps, [1, 2, 4, 8, 16, 32], rtol=0.01)


def test_lost_datagrams_are_asked_for_again():
    talk = Conversation("dns", UDP, 0, 53, 0, SECOND)
    talk.up(50)
    talk.down(90)
    packets = play([talk], AccessPath(loss=0.9999999))
    assert (packets[:, k.SIDE] == UP).all()
    assert (np.diff(packets[:, k.SENT_NS]) / SECOND).round(1).tolist() == [2.0, 4.0]


def test_the_link_spaces_packets_by_their_length_and_drops_beyond_its_queue():
    path = AccessPath(delay_s=0.01, jitter_s=0.0, loss=0.0, up_mbit=8.0, queue_s=0.05)
    talk = Conversation("burst", UDP, 2, 9, 0, SECOND)
    for i in range(200):
        talk.up(972, i * 2000, k.SINCE_OPENING)
    packets = play([talk], path)
    arrived = packets[packets[:, k.IN_NS] >= 0]
    # 972 + 28 + 60 bytes of tunnel at 1 µs a byte.
    assert set(np.diff(arrived[:, k.IN_NS])) == {1_060_000}
    assert 47 <= len(arrived) <= 50


def probes(count=20_000, gap_ns=4_000_000, **options):
    talk = Conversation("probe", UDP, 2, 9, 0, SECOND)
    for i in range(count):
        talk.up(100, i * gap_ns, k.SINCE_OPENING)
    packets = play([talk], **options)
    return packets[packets[:, k.IN_NS] >= 0]


@pytest.mark.parametrize("law", ["exponential", "normal", "uniform", "pareto"])
def test_jitter_has_its_mean(law):
    path = AccessPath(delay_s=0.01, jitter_s=0.0003, jitter=law, loss=0.0, up_mbit=0.0)
    packets = probes(path=path)
    delay = (packets[:, k.IN_NS] - packets[:, k.TUNNEL_NS]) / 1e9 - 0.01
    assert abs(delay.mean() / 0.0003 - 1) < 0.06
    assert delay.min() >= 0


def test_cross_traffic_waits_as_an_mg1_queue_does():
    # Pollaczek and Khinchine: exponential bursts at load r wait r/(1-r) bursts on average.
    load, burst_s = 0.5, 0.002
    path = AccessPath(0.01, 0.0, loss=0.0, up_mbit=0.0, burst_hz=load / burst_s, burst_s=burst_s)
    packets = probes(path=path, gap_ns=5_000_000)
    wait = (packets[:, k.IN_NS] - packets[:, k.TUNNEL_NS]) / 1e9 - 0.01
    assert abs(wait.mean() / (load / (1 - load) * burst_s) - 1) < 0.12
    near = np.corrcoef(wait[1:], wait[:-1])[0, 1]
    assert near > 0.2, "waits are bursts, not noise"


def test_order_is_kept_unless_reordering_is_asked_for():
    wild = AccessPath(delay_s=0.01, jitter_s=0.005, loss=0.0)
    assert (np.diff(probes(path=wild, gap_ns=500_000)[:, k.IN_NS]) > 0).all()
    packets = probes(path=replace(wild, jitter_s=0.0, reorder=0.05, reorder_s=0.01), gap_ns=500_000)
    overtaken = (np.diff(packets[:, k.IN_NS]) < 0).mean()
    assert 0.02 < overtaken < 0.06
    out = packets[packets[:, k.OUT_NS] >= 0]
    in_order = out[np.argsort(out[:, k.IN_NS])]
    assert (np.diff(in_order[:, k.OUT_NS]) > 0).all(), "the server keeps the order it sees"


def test_server_law_median_and_tail():
    packets = probes(server=replace(QUIET, stall_hz=8.0), gap_ns=5_500_000)
    delay_ms = (packets[:, k.OUT_NS] - packets[:, k.IN_NS]) / 1e6
    median, p99 = np.quantile(delay_ms, [0.5, 0.99])
    assert 0.07 < median < 0.12
    assert 1.0 < p99 < 15.0
    assert delay_ms.max() < 300


def test_server_loss_is_seen_on_one_side_only():
    packets = probes(server=replace(QUIET, loss=0.1))
    assert abs((packets[:, k.OUT_NS] < 0).mean() - 0.1) < 0.01


def test_batches_leave_at_their_ticks():
    packets = probes(count=3000, gap_ns=700_000, measures=Countermeasures(batch_s=0.01))
    phase = packets[:, k.OUT_NS] % 10_000_000
    assert (phase < 200_000).all()
    assert (packets[:, k.OUT_NS] - packets[:, k.IN_NS]).max() <= 11_000_000


def test_cover_slots_hold_one_packet_each():
    packets = probes(count=3000, gap_ns=12_000_000, measures=Countermeasures(cover_hz=200.0))
    slot = packets[:, k.TUNNEL_NS] / 5_000_000
    assert (slot == slot.astype(int)).all()
    assert (np.diff(slot) >= 1).all()


def test_same_seed_same_packets_and_room_changes_nothing(monkeypatch):
    from vpnforensics.groundtruth.simulate import network

    path = AccessPath(delay_s=0.02, jitter_s=0.001, loss=0.02)
    first = play([fetch(300_000), fetch(80_000)], path)
    monkeypatch.setattr(network, "_BYTES_A_PACKET", 10**9)
    assert (play([fetch(300_000), fetch(80_000)], path) == first).all()
    assert (play([fetch(300_000), fetch(80_000)], path, seed=2)[:50] != first[:50]).any()


def test_two_flows_share_the_link():
    path = AccessPath(delay_s=0.01, jitter_s=0.0, loss=0.0, down_mbit=20.0)
    done = {}
    for n in (1, 2):
        packets = play([fetch(1_500_000)] * n, path)
        last = defaultdict(int)
        for row in packets[packets[:, k.LENGTH] > 0]:
            last[row[k.FLOW]] = max(last[row[k.FLOW]], row[k.SENT_NS])
        done[n] = max(last.values()) - SECOND
    assert done[2] > 1.6 * done[1]


def test_a_packet_held_up_on_the_way_to_its_host_holds_up_those_behind_it():
    talk = Conversation("talk", UDP, 2, 53, 0, SECOND)
    for i in range(4000):
        talk.down(200, i * 500_000, k.SINCE_OPENING)
    even = play([talk])
    assert np.diff(even[:, k.OUT_NS]).std() < 30_000
    rough = play([talk], far_jitter_ns=1_000_000)
    late = np.sort(rough[:, k.OUT_NS]) - rough[np.argsort(rough[:, k.OUT_NS]), k.SENT_NS]
    gaps = np.diff(rough[:, k.OUT_NS])
    assert gaps.min() >= 5_800, "in order, one behind the other"
    assert (gaps < 60_000).mean() > 0.3, "bursts"
    # At least the mean of the law, and not much more: those in front are waited for.
    assert 1_000_000 < late.mean() - 5_000_000 < 3_000_000
