"""Port translation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.nat import Nat, translate_rows
from vpnforensics.groundtruth.simulate.outlines import Talks
from vpnforensics.groundtruth.simulate.surroundings import Packets, Records
from vpnforensics.groundtruth.simulate.traffic.conversation import UDP, Conversation

ADDRESSES = np.array([10, 20])


def client(ports, hosts):
    talks = [Conversation("dns", UDP, host, 53, 0, 0) for host in hosts]
    rows = np.zeros(2 * len(ports), frames.RECORD)
    rows["outgoing"] = [1, 0] * len(ports)
    rows["sport"] = np.where(rows["outgoing"], np.repeat(ports, 2), 53)
    rows["dport"] = np.where(rows["outgoing"], 53, np.repeat(ports, 2))
    flow = np.repeat(np.arange(len(ports)), 2)
    nothing = rows[:0].view(np.uint8)
    packets = Packets(Records(rows[:0], nothing), Records(rows, nothing), flow, flow)
    return SimpleNamespace(inner_port=np.array(ports), talks=Talks.of(talks), packets=packets)


def translate(nat, who, random):
    return nat.translate(who.talks, who.inner_port, ADDRESSES, random)


def test_a_port_is_kept_until_its_tuple_is_taken():
    nat, random = Nat(random_ports=False), np.random.default_rng(1)
    first, second = client([5000, 5001], [0, 0]), client([5000, 5001], [0, 1])
    assert translate(nat, first, random).tolist() == [5000, 5001]
    public = translate(nat, second, random)
    assert public[0] not in (5000, 5001)
    assert public[1] == 5001, "another host: another tuple"
    translate_rows(second.packets, public)
    rows = second.packets.egress.rows
    assert rows["sport"].tolist() == [public[0], 53, 5001, 53]
    assert rows["dport"].tolist() == [53, public[0], 53, 5001]


def test_random_ports_never_repeat_a_tuple():
    nat, random = Nat(random_ports=True), np.random.default_rng(1)
    count = 20_000
    public = translate(nat, client([7] * count, [0] * count), random)
    assert len(set(public.tolist())) == count
    assert public.min() >= 1024
