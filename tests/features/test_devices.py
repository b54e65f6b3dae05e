import dataclasses
from collections import Counter

import numpy as np
import pytest

from tests.engines import cases
from vpnforensics.features.clock_lines import clock_lines, flow_offsets, on_line
from vpnforensics.features.devices import find_devices
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import Countermeasures
from vpnforensics.packets.read import read_capture
from vpnforensics.packets.table import PROTO_TCP


def grouped(stack, seed, folder, **more):
    truth = simulate(cases.devices_behind_one_tunnel(stack, seed, **more), folder, seed)
    flows = assemble_flows(read_capture(folder / "egress.pcap"))
    owner = cases.owners(flows, truth, "device")
    return find_devices(find_senders(flows)), owner, np.flatnonzero(flows.proto == PROTO_TCP)


def pairs(device, owner):
    one, other = np.triu_indices(len(owner), 1)
    told = (device[one] == device[other]) & (device[one] >= 0)
    return told, owner[one] == owner[other]


@pytest.mark.parametrize("stack", ["linux-legacy", "android-legacy", "macos-legacy"])
def test_global_clocks(stack, tmp_path):
    found, owner, tcp = grouped(stack, 3, tmp_path)
    told, alike = pairs(found.device[tcp], owner[tcp])
    assert (told & alike).sum() / told.sum() >= 0.99
    assert (told & alike).sum() / alike.sum() >= 0.9
    assert Counter(found.scope[f] for f in tcp).most_common(1)[0][0] == "global"


@pytest.mark.parametrize("stack", ["linux", "linux-4.11", "openbsd", "windows", "windows-7", "linux-next"])
def test_what_cannot_be_told_is_not_merged(stack, tmp_path):
    found, owner, _ = grouped(stack, 4, tmp_path)
    told, alike = pairs(found.device, owner)
    assert (told & ~alike).sum() <= 0.01 * max(told.sum(), 100)
    assert found.silence["no tie to another flow"] == (found.device < 0).sum()


def test_offsets_by_pair_join_flows_to_one_server(tmp_path):
    found, owner, tcp = grouped("linux-4.11", 5, tmp_path)
    flows = found.senders.flows
    shared = [f for f in tcp if found.scope[f] == "per_pair"]
    assert shared
    for device in set(found.device[shared].tolist()):
        members = [f for f in shared if found.device[f] == device]
        assert len({owner[f] for f in members}) == 1
        assert len({int(flows.dst[f]) for f in members}) == 1


def test_flows_of_different_groups_are_never_joined(tmp_path):
    found, _, tcp = grouped("linux-legacy", 3, tmp_path)
    group = np.arange(len(found.device)) % 2
    apart = find_devices(found.senders, group)
    for device in range(apart.count):
        assert len(set(group[apart.device == device].tolist())) == 1
    large, halves = (np.bincount(d.device[tcp][d.device[tcp] >= 0]) for d in (found, apart))
    assert np.sum(large >= 5) == 3
    assert np.sum(halves >= 3) == 6


def test_scrubbing_leaves_nothing_and_is_noticed(tmp_path):
    spec = cases.devices_behind_one_tunnel("linux-legacy", 6)
    scrubbed = dataclasses.replace(spec, countermeasures=Countermeasures(scrub_tsval=True, scrub_ip_id=True))
    truth = simulate(scrubbed, tmp_path, 6)
    flows = assemble_flows(read_capture(tmp_path / "egress.pcap"))
    found = find_devices(find_senders(flows))
    told, alike = pairs(found.device, cases.owners(flows, truth, "device"))
    assert (told & ~alike).sum() == 0
    assert told.sum() <= 0.01 * alike.sum()
    assert "middlebox" in found.notes[0]


def test_another_ttl_is_another_stack(tmp_path):
    found, _, tcp = grouped("linux-legacy", 3, tmp_path)
    packets = found.senders.flows.packets
    odd = int(np.flatnonzero(found.device[tcp] == found.device[tcp[0]])[1])
    packets.ttl[packets_of(found.senders.flows, tcp[odd])] = 200
    assert find_devices(found.senders).device[tcp[odd]] == -1


def packets_of(flows, flow):
    return np.flatnonzero((flows.flow == flow) & flows.up)


def test_frame_and_lines(tmp_path):
    found, _, _ = grouped("linux-legacy", 3, tmp_path, flows=24, seconds=200.0)
    frame = found.to_pandas()
    assert len(frame) == len(found.device)
    assert frame["device"].isna().sum() == (found.device < 0).sum()
    offsets = flow_offsets(found.senders, found.senders.up)
    lines = clock_lines(offsets).lines
    assert {line.hz for line in lines} == {250.0}
    where = {s: i for i, s in enumerate(offsets.sender.tolist())}
    for line in lines:
        members = [where[s] for s in line.sender.tolist()]
        assert np.abs(on_line(line, offsets.at_ns[members], offsets.tsval[members])).max() < 0.1


def test_nothing_at_all():
    from tests.tables import table

    found = find_devices(find_senders(assemble_flows(table([]))))
    assert found.count == 0
    assert len(found.ties) == 0
