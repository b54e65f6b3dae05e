"""Which packets a tunnel's client sent, and which a flow's."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import Alignment, same_clock
from vpnforensics.engines.upstream import field, inner_upstream, outer_profiles, outer_upstream
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.packets.table import FRAG_LATER

CLIENT, SERVER, OTHER = ("10.0.0.1", 5000), ("10.9.9.9", 51820), ("10.0.0.2", 5000)


def outer_case(rows, clients):
    conversations = assemble_flows(table(rows), idle_tcp_s=np.inf, idle_other_s=np.inf)
    ends = [{conversations.source(c), conversations.destination(c)} for c in range(len(conversations))]
    names = [f"{host}:{port}" for host, port in clients]
    tunnels = [
        SimpleNamespace(client=name, conversation=next(c for c, both in enumerate(ends) if name in both))
        for name in names
    ]
    return SimpleNamespace(conversations=conversations, tunnels=Tunnels(tunnels))


class Tunnels:
    def __init__(self, tunnels):
        self.tunnels = tunnels

    def __len__(self):
        return len(self.tunnels)


def test_outer_packets_of_the_client_whoever_the_conversation_began_with():
    rows = [
        udp(1.0, *SERVER, *CLIENT, ip_id=9),  # the capture begins with the server's
        udp(2.0, *OTHER, *SERVER, ip_id=7),
        udp(3.0, *CLIENT, *SERVER, ip_id=1),
        udp(4.0, *CLIENT, *SERVER, ip_id=2, frag=FRAG_LATER),
        udp(5.0, *CLIENT, *SERVER, ip_id=2, frag=1),
        udp(6.0, "10.0.0.3", 53, "10.9.9.9", 53, ip_id=5),  # no tunnel
        udp(7.0, *OTHER, *SERVER, ip_id=8),
    ]
    case = outer_case(rows, [OTHER, CLIENT])
    outer = outer_upstream(case)
    assert len(outer) == 2
    assert outer.row.tolist() == [1, 6, 2, 4]
    assert outer.owner.tolist() == [0, 0, 1, 1]
    assert outer.ts_ns.tolist() == [2_000_000_000, 7_000_000_000, 3_000_000_000, 5_000_000_000]
    assert field(case.conversations.packets, outer, "ip_id").tolist() == [7, 8, 1, 2]
    kept = outer.keep(np.array([False, True, False, False]))
    assert (kept.start.tolist(), kept.row.tolist(), len(kept)) == ([0, 1, 1], [6], 2)


def test_inner_packets_of_the_client_side_on_the_ingress_clock_and_in_order_of_time():
    here, there = ("198.51.100.1", 4000), ("192.0.2.1", 443)
    rows = [
        tcp(1.0, *here, *there, 0x02),
        tcp(1.1, *there, *here, 0x12),
        tcp(1.3, *here, *there),
        tcp(1.2, *here, *there),  # late in the file
        tcp(1.4, *here, *there, frag=FRAG_LATER),
        tcp(2.0, "198.51.100.1", 4001, *there, 0x02),
    ]
    alignment = Alignment("aligned", -500_000_000, (0, 0), 0.0, (0.0, 0.0), 0, 9)
    case = SimpleNamespace(flows=assemble_flows(table(rows)), alignment=alignment)
    inner = inner_upstream(case)
    assert inner.row.tolist() == [0, 3, 2, 5]
    assert inner.start.tolist() == [0, 3, 3, 4]  # a later fragment is a flow of its own, and sends nothing
    expected = alignment.to_ingress(np.array([1.0, 1.2, 1.3, 2.0]) * 1e9)
    assert inner.ts_ns.tolist() == expected.tolist()
    case.alignment = same_clock("made up")
    assert inner_upstream(case).ts_ns[0] == 1_000_000_000


def test_profiles_are_of_the_clients_own_ids_of_each_tunnel():
    """One counts by one; one sends zeros; what has no ID (IPv6) is left out."""
    rows = []
    for i in range(60):
        rows.append(udp(1 + 0.1 * i, *CLIENT, *SERVER, ip_id=500 + i))
        rows.append(udp(1.01 + 0.1 * i, *SERVER, *CLIENT, ip_id=0))
        rows.append(udp(1.02 + 0.1 * i, *OTHER, *SERVER, ip_id=-1 if i % 2 else 0))
    case = outer_case(rows, [CLIENT, OTHER])
    case.outer = outer_upstream(case)
    counting, silent = outer_profiles(case)
    assert counting.scope is not None
    assert silent.scope is None
    assert silent.ip_id_class == "zero"
