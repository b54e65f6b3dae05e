from __future__ import annotations

import dpkt
import pytest

from vpnforensics.groundtruth.lab.conntrack import Endpoint, Translations, read_translations
from vpnforensics.groundtruth.lab.drivers.base import Client
from vpnforensics.groundtruth.lab.drivers.http_proxy import HttpProxySquid
from vpnforensics.groundtruth.lab.topology import Machine
from vpnforensics.groundtruth.lab.truth import EgressFlow, cut_flows, inner_endpoint
from vpnforensics.groundtruth.lab.truth_file import Owner, openers_in_turn, through_relay
from vpnforensics.groundtruth.scenario import Device, Stack

PUBLIC, FAR = "203.0.113.1", "192.0.2.60"


def packet(
    source: str,
    sport: int,
    target: str,
    dport: int,
    *,
    payload: bytes = b"",
    seq: int | None = None,
    flags=0x10,
):
    if seq is None:
        inside, proto = dpkt.udp.UDP(sport=sport, dport=dport, data=payload), 17
        inside.ulen = len(inside)
    else:
        inside, proto = dpkt.tcp.TCP(sport=sport, dport=dport, seq=seq, flags=flags, data=payload), 6
    addresses = (bytes(map(int, a.split("."))) for a in (source, target))
    ip = dpkt.ip.IP(p=proto, data=inside, **dict(zip(("src", "dst"), addresses, strict=True)))
    ip.len = len(ip)
    return bytes(ip)


def write(path, packets, *, ethernet: bool):
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, linktype=1 if ethernet else 101, nano=True)
        for when, raw in packets:
            writer.writepkt(bytes(12) + b"\x08\x00" + raw if ethernet else raw, when)


def case(tmp_path, inner, egress):
    write(tmp_path / "inner.pcap", inner, ethernet=False)
    write(tmp_path / "egress.pcap", egress, ethernet=True)
    paths = tmp_path / "egress.pcap", [tmp_path / "inner.pcap"]
    return cut_flows(*paths, public=PUBLIC, inner_prefix="10.8.0.")


def test_packets_say_who_sent_a_flow(tmp_path):
    inner = [
        (10.0, packet("10.8.0.2", 5000, FAR, 53, payload=b"a")),
        (10.1, packet(FAR, 53, "10.8.0.2", 5000, payload=b"b")),
    ]
    egress = [
        (10.0, packet(PUBLIC, 6000, FAR, 53, payload=b"a")),
        (10.1, packet(FAR, 53, PUBLIC, 6000, payload=b"b")),
    ]
    cut = case(tmp_path, inner, egress)
    (flow,) = cut.flows
    assert (cut.packets, cut.matched, flow.packets) == (2, 2, [0, 1])
    assert inner_endpoint(flow, Translations()) == Endpoint("10.8.0.2", 5000)


def test_a_port_that_changes_hands_starts_a_flow(tmp_path):
    times = [(10.0, "10.8.0.2"), (15.0, "10.8.0.3"), (50.0, "10.8.0.3")]
    inner = [(t, packet(who, 5000, FAR, 53, payload=str(t).encode())) for t, who in times]
    egress = [(t, packet(PUBLIC, 6000, FAR, 53, payload=str(t).encode())) for t, _ in times]
    cut = case(tmp_path, inner, egress)
    assert [inner_endpoint(f, Translations()) for f in cut.flows] == [Endpoint(who, 5000) for _, who in times]


def test_a_new_syn_starts_a_flow(tmp_path):
    egress = [
        (10.0, packet(PUBLIC, 6000, FAR, 80, seq=1, flags=2)),
        (10.5, packet(PUBLIC, 6000, FAR, 80, seq=1, flags=2)),
    ]
    egress += [(11.0, packet(PUBLIC, 6000, FAR, 80, seq=99, flags=2))]
    assert [len(f.packets) for f in case(tmp_path, [], egress).flows] == [2, 1]


def test_two_clients_that_look_alike_are_settled_by_the_kernel_or_not_at_all(tmp_path):
    inner = [(10.0, packet(f"10.8.0.{i}", 5000, FAR, 53, payload=b"same")) for i in (2, 3)]
    egress = [(10.0, packet(PUBLIC, 6000, FAR, 53, payload=b"same"))]
    (flow,) = case(tmp_path, inner, egress).flows
    assert "2 inner endpoints" in inner_endpoint(flow, Translations())
    kernel = Translations({flow.key: {Endpoint("10.8.0.3", 5000)}})
    assert inner_endpoint(flow, kernel) == Endpoint("10.8.0.3", 5000)
    kernel = Translations({flow.key: {Endpoint("10.8.0.9", 5000)}})
    assert isinstance(inner_endpoint(flow, kernel), str)


def test_the_kernel_disagrees(tmp_path):
    inner = [(10.0, packet("10.8.0.2", 5000, FAR, 53, payload=b"a"))]
    (flow,) = case(tmp_path, inner, [(10.0, packet(PUBLIC, 6000, FAR, 53, payload=b"a"))]).flows
    kernel = Translations({flow.key: {Endpoint("10.8.0.3", 5000)}})
    assert "connection tracking says 10.8.0.3:5000" in inner_endpoint(flow, kernel)


def test_an_error_belongs_to_who_sent_it(tmp_path):
    def unreachable(source: str, port: int) -> bytes:
        quoted = packet(FAR, 53, source, port, payload=b"x")
        error = dpkt.icmp.ICMP(type=3, code=3, data=dpkt.icmp.ICMP.Unreach(data=dpkt.ip.IP(quoted)))
        ip = dpkt.ip.IP(p=1, src=bytes(map(int, source.split("."))), dst=bytes([192, 0, 2, 60]), data=error)
        ip.len = len(ip)
        return bytes(ip)

    cut = case(tmp_path, [(10.0, unreachable("10.8.0.2", 5000))], [(10.0, unreachable(PUBLIC, 6000))])
    (flow,) = cut.flows
    assert (flow.proto, flow.near, flow.far) == ("icmp", Endpoint(PUBLIC, 0), Endpoint(FAR, 0))
    assert inner_endpoint(flow, Translations()) == Endpoint("10.8.0.2", 0)


def test_what_is_no_conversation_is_described(tmp_path):
    error = dpkt.ip.IP(
        p=1, src=b"\1\2\3\4", dst=b"\1\2\3\5", data=dpkt.icmp.ICMP(type=3, code=4, data=bytes(8))
    )
    error.len = len(error)
    cut = case(tmp_path, [], [(10.0, bytes(error)), (10.1, bytes(10))])
    assert [(p, what.split(",")[0]) for p, _, what in cut.other] == [
        (0, "ICMP type 3 code 4"),
        (1, "cut short"),
    ]


@pytest.mark.parametrize(
    ("line", "key", "inner", "mark"),
    [
        (
            "[1.2]\t    [NEW] tcp      6 120 SYN_SENT src=10.8.0.2 dst=192.0.2.60 sport=5000 dport=80"
            " [UNREPLIED] src=192.0.2.60 dst=203.0.113.1 sport=80 dport=6000",
            ("tcp", Endpoint(PUBLIC, 6000), Endpoint(FAR, 80)), Endpoint("10.8.0.2", 5000), None,
        ),
        (
            "[1.2]\t    [NEW] icmp     1 30 src=10.8.0.2 dst=192.0.2.60 type=8 code=0 id=77 [UNREPLIED]"
            " src=192.0.2.60 dst=203.0.113.1 type=0 code=0 id=88",
            ("icmp", Endpoint(PUBLIC, 88), Endpoint(FAR, 88)), Endpoint("10.8.0.2", 77), None,
        ),
        (
            "[1.2]\t    [NEW] udp      17 30 src=203.0.113.1 dst=192.0.2.53 sport=9 dport=53 [UNREPLIED]"
            " src=192.0.2.53 dst=203.0.113.1 sport=53 dport=9 mark=3",
            ("udp", Endpoint(PUBLIC, 9), Endpoint("192.0.2.53", 53)), Endpoint(PUBLIC, 9), 3,
        ),
    ],
)  # fmt: skip
def test_connection_tracking_lines(tmp_path, line, key, inner, mark):
    (tmp_path / "log").write_text(f"noise\n{line}\n[1.3] [DESTROY] tcp\n")
    found = read_translations(tmp_path / "log")
    assert found.inner == {key: {inner}}
    assert found.marks == ({key: {mark}} if mark else {})


def test_a_connection_of_a_proxy_that_two_clients_used_is_nobodys(tmp_path):
    clients = tuple(Client(n, f"c{n}", "", f"198.51.100.{n}", 0, "") for n in (1, 2))
    driver = HttpProxySquid.__new__(HttpProxySquid)
    driver.folder, driver.clients = tmp_path, clients
    (tmp_path / "squid").mkdir()
    (tmp_path / "squid" / "access.log").write_text(
        "198.51.100.1 203.0.113.1 4000 192.0.2.60 80\n"
        "198.51.100.2 203.0.113.1 4000 192.0.2.60 80\n"
        "198.51.100.2 203.0.113.1 4001 192.0.2.60 443\n"
        "198.51.100.2 - - - -\n"
    )
    machines = [Machine(Device(c.name, (), Stack()), c, "", c.outer) for c in clients]
    owner = through_relay(driver.openers(Translations(), tmp_path / "egress.pcap", {}), machines)
    said = [
        owner(EgressFlow("tcp", Endpoint("203.0.113.1", port), Endpoint("192.0.2.60", far), 0))
        for port, far in ((4000, 80), (4001, 443), (4002, 443))
    ]
    assert said[0] == "2 clients used it"
    assert isinstance(said[1], Owner)
    assert said[1].machine is machines[1]
    assert said[2] == "the relay opened it for no client that is known"


def test_a_port_that_was_used_again_is_each_clients_in_turn(tmp_path):
    """The kernel tells of openings in order; flows that are not as many have no owner."""
    line = "[1.0]    [NEW] tcp 6 120 SYN_SENT src=203.0.113.1 dst=192.0.2.60 sport={0} dport=80 [UNREPLIED]"
    line += " src=192.0.2.60 dst=203.0.113.1 sport=80 dport={0} mark={1}\n"
    log = [(4000, 2), (4001, 1), (4000, 1), (4002, 1), (4002, 2)]
    (tmp_path / "log").write_text("".join(line.format(*event) for event in log))
    kernel = read_translations(tmp_path / "log")
    clients = [Client(n, f"client-{n}", f"c{n}", f"198.51.100.{n}", 0, "") for n in (1, 2)]
    machines = [Machine(Device(c.name, (), Stack()), c, "", c.outer) for c in clients]
    near = {port: Endpoint("203.0.113.1", port) for port in (4000, 4001, 4002)}
    flows = [
        EgressFlow("tcp", near[port], Endpoint("192.0.2.60", 80), 0, [first])
        for first, port in enumerate((4000, 4001, 4000, 4002))
    ]
    owner = through_relay(kernel.marks, machines, openers_in_turn(kernel.openings, flows))
    said = [owner(flow) for flow in flows]
    assert [who.machine.client.number for who in said[:3]] == [2, 1, 1]
    assert said[3] == "2 clients used it"
