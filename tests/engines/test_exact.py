from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vpnforensics as vf
from tests.tables import table, tcp, udp
from vpnforensics.packets.table import PacketTable

CLIENTS = ("10.0.0.2", "10.0.0.3", "10.0.0.4")
NAT, WEB, DNS = "203.0.113.1", "192.0.2.10", "192.0.2.53"
CLOCK_NS = 7_500_000_000


def _both_sides(flows: int = 30, seed: int = 1) -> tuple[PacketTable, PacketTable, list[str]]:
    """A NAT seen from inside and outside; which client each flow was of."""
    rng = np.random.default_rng(seed)
    inside, outside, owners = [], [], []
    for f in range(flows):
        client = CLIENTS[f % 3]
        owners.append(client)
        start = f * 0.5
        port, mapped = 40_000 + f, 50_000 + f
        if f % 5 == 4:
            query = rng.integers(0, 256, 20, dtype=np.uint8).tobytes()
            pairs = [
                (start, True, {"head": query, "payload_bytes": 40}),
                (start + 0.02, False, {"head": query[::-1], "payload_bytes": 90}),
            ]
            for ts, up, more in pairs:
                a, b = ((client, port), (DNS, 53)) if up else ((DNS, 53), (client, port))
                c, d = ((NAT, mapped), (DNS, 53)) if up else ((DNS, 53), (NAT, mapped))
                inside.append(udp(ts, *a, *b, **more))
                outside.append(udp(ts + 1e-4, *c, *d, **more))
            continue
        seq, ack = (int(x) for x in rng.integers(0, 2**32, 2))
        for n in range(8):
            up = n % 2 == 0
            more = {
                "seq": seq + 10 * n if up else ack + n,
                "ack": ack + n if up else seq,
                "payload_bytes": 10 * n,
                "ip_len_bytes": 52 + 10 * n,
            }
            more["seq"] %= 2**32
            flags = 0x02 if n == 0 else 0x12 if n == 1 else 0x10
            a, b = ((client, port), (WEB, 443)) if up else ((WEB, 443), (client, port))
            c, d = ((NAT, mapped), (WEB, 443)) if up else ((WEB, 443), (NAT, mapped))
            inside.append(tcp(start + n * 0.03, *a, *b, flags, **more))
            outside.append(tcp(start + n * 0.03 + 1e-4, *c, *d, flags, **more))
    outer, inner = table(inside), table(outside)
    return outer, replace(inner, ts_ns=inner.ts_ns + CLOCK_NS), owners


def test_links_every_flow_of_a_nat_to_its_client_and_finds_the_clock() -> None:
    outer, inner, owners = _both_sides()
    case = vf.correlate(outer, inner)
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    tcp_flows = [f for f in range(30) if f % 5 != 4]
    for f in tcp_flows:
        assert case.links["verdict"][f] == "linked"
        assert clients[case.links["tunnel"][f]] == f"{owners[f]}:0"
    for f in set(range(30)) - set(tcp_flows):  # 16 bits of a DNS query are no proof, but never wrong
        assert case.links["tunnel"][f] is None or clients[case.links["tunnel"][f]] == f"{owners[f]}:0"
    assert abs(case.alignment.offset_ns - CLOCK_NS) < 1_000_000
    assert case.tunnels["protocol"].unique().tolist() == ["plain"]


def test_every_packet_of_a_link_is_paired_with_its_own_frame() -> None:
    outer, inner, _ = _both_sides()
    case = vf.correlate(outer, inner)
    pairs = case.explain("f1")
    assert (pairs["ingress_frame"] == pairs["egress_frame"]).all()


def test_a_flow_of_nobody_inside_has_no_tunnel() -> None:
    outer, inner, _ = _both_sides()
    stranger = outer.addresses.texts.index(CLIENTS[0])
    rest = outer.take((outer.src != stranger) & (outer.dst != stranger))
    case = vf.correlate(rest, inner)
    assert case.links["verdict"][0] == "no_tunnel"
    assert case.links["verdict"][1] == "linked"


def test_unrelated_captures_are_refused_with_the_likely_cause() -> None:
    outer, _, _ = _both_sides(seed=1)
    _, inner, _ = _both_sides(seed=2)
    with pytest.raises(vf.errors.CaseError, match="no VPN tunnel recognised"):
        vf.correlate(outer, inner)
