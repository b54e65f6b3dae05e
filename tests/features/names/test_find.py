import subprocess
from pathlib import Path

import numpy as np
import pytest
import zstandard

from tests.corpus.wire import Connection, Endpoint, Wire
from tests.features.names.made import (
    CLIENT,
    RESOLVER,
    SERVER,
    answer,
    capture,
    client_hello,
    connect,
    crypto,
    initial,
    look_up,
    packed,
    query,
    records,
)
from vpnforensics.features.names import quic
from vpnforensics.features.names.find import find_names
from vpnforensics.features.names.lookups import name_rows, unread_names
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.flows.super_frames import split_super_frames
from vpnforensics.packets.read import read_capture

HELLO = client_hello(b"tls.example", size=2500)
CASES = Path(__file__).parents[2] / "cases"
REAL = Path(__file__).with_name("browsing.pcap.zst")


def read(path):
    flows = assemble_flows(read_capture(path))
    return flows, find_names(flows)


def named(path, tunnel=None):
    """(name, source) by destination port of each flow, and the warnings."""
    flows, names = read(path)
    rows = name_rows(flows, names, np.zeros(len(flows), int) if tunnel is None else np.array(tunnel))
    told = [[(row["name"], row["source"]) for row in each] for each in rows]
    return dict(zip(flows.dport.tolist(), told, strict=True)), unread_names(names)


def test_each_protocol_has_its_name(tmp_path):
    wire = Wire("names")
    look_up(wire, "looked.example", SERVER)
    look_up(wire, "odd.example", "192.0.2.99", sport=50002, port=5300)
    connect(wire, 443, records(HELLO))
    connect(wire, 80, b"GET / HTTP/1.1\r\nHost: web.example\r\n\r\n", sport=40002)
    connect(wire, 22, b"SSH-2.0-x\r\n", sport=40003)
    client, far = Endpoint(CLIENT, 40004), Endpoint(SERVER, 8443)
    hello = client_hello(b"quic.example", size=1500)
    wire.udp(client, far, initial(crypto(0, hello[:900]) + bytes(250), number=0))
    wire.udp(client, far, initial(crypto(900, hello[900:]), number=1))
    told, warnings = named(capture(wire, tmp_path / "c.pcap"))
    looked = ("looked.example", "dns")
    assert told == {
        53: [("looked.example", "query")],
        5300: [("odd.example", "query")],
        443: [("tls.example", "sni"), looked],
        80: [("web.example", "http"), looked],
        22: [looked],
        8443: [("quic.example", "quic"), looked],
    }
    assert warnings == []


def test_a_snap_is_said_for_each_kind_of_name_that_it_hid(tmp_path):
    wire = Wire("snapped")
    look_up(wire, "looked.example", "192.0.2.1", "192.0.2.2", SERVER)
    connect(wire, 443, records(HELLO))
    connect(wire, 80, b"GET / HTTP/1.1\r\nAccept: everything\r\nHost: web.example\r\n\r\n", sport=40002)
    wire.udp(Endpoint(CLIENT, 40004), Endpoint(SERVER, 8443), initial(crypto(0, HELLO[:900])))
    told, warnings = named(capture(wire, tmp_path / "c.pcap", snap=96))
    assert told == {53: [("looked.example", "query")], 443: [], 80: [], 8443: []}
    assert len(warnings) == 1
    assert "(1 HTTP requests, 1 QUIC hellos, 1 TLS hellos, 1 answers to lookups)" in warnings[0]


def test_names_before_the_cut_are_read_from_a_snapped_capture(tmp_path):
    wire = Wire("snapped, not much")
    connect(wire, 443, records(HELLO))
    told, warnings = named(capture(wire, tmp_path / "c.pcap", snap=300))
    assert told == {443: [("tls.example", "sni")]}
    assert warnings == []


def test_segments_twice_and_out_of_order(tmp_path):
    wire = Wire("disorder")
    connect(wire, 443, records(HELLO))
    frames = wire.packets
    data = [n for n, p in enumerate(frames) if len(p.frame) > 500]
    assert len(data) == 2
    first, second = (frames[n] for n in data)
    times = first.ts_ns, second.ts_ns
    frames[data[0]], frames[data[1]] = (
        type(first)(times[0], second.frame),
        type(first)(times[1], first.frame),
    )
    frames.insert(data[1] + 1, type(first)(times[1] + 10, first.frame))
    told, _ = named(capture(wire, tmp_path / "c.pcap"))
    assert told == {443: [("tls.example", "sni")]}


def test_a_hello_in_a_super_frame_that_was_split(tmp_path):
    """One captured frame of two segments; the name stands in the second, which has a row of its own."""
    wire = Wire("offloaded")
    talk = Connection(wire, Endpoint(CLIENT, 40001), Endpoint(SERVER, 443))
    late = client_hello(b"late.example", before=b"\0\x15" + (1600).to_bytes(2, "big") + bytes(1600))
    talk.say(True, records(late), full=10_000)
    talk.say(True, records(late), full=10_000)
    talk.close()
    packets = read_capture(capture(wire, tmp_path / "c.pcap"))
    split = split_super_frames(assemble_flows(packets))
    assert len(split) > len(packets)
    names = find_names(assemble_flows(split))
    assert names.own == {0: [("late.example", "sni")]}
    assert not names.hidden


def test_through_the_wrapping_of_a_tap():
    flows, names = read(CASES / "encap-vxlan.pcap")
    assert flows.packets.source is not None
    assert flows.packets.source.decap == "vxlan"
    assert sum(len(told) for told in names.own.values()) >= 9


def test_dns_over_tcp(tmp_path):
    wire = Wire("tcp")

    talk = Connection(wire, Endpoint(CLIENT, 40001), Endpoint(RESOLVER, 53))
    for up, message in ((True, query("big.example")), (False, answer("big.example", packed(SERVER)))):
        talk.say(up, len(message).to_bytes(2, "big") + message)
    talk.close()
    connect(wire, 9999, b"?", sport=40002)
    told, _ = named(capture(wire, tmp_path / "c.pcap"))
    assert told == {53: [("big.example", "query")], 9999: [("big.example", "dns")]}


def test_the_tunnels_own_lookups_come_first(tmp_path):
    wire = Wire("whose")
    look_up(wire, "mine.example", SERVER)
    look_up(wire, "theirs.example", SERVER, sport=50002)
    connect(wire, 1001, b"?", sport=40001)
    connect(wire, 1002, b"?", sport=40002)
    connect(wire, 1003, b"?", sport=40003)
    told, _ = named(capture(wire, tmp_path / "c.pcap"), tunnel=[0, 1, 0, 2, -1])
    both = [("theirs.example", "dns_elsewhere"), ("mine.example", "dns_elsewhere")]
    assert (told[1001], told[1002], told[1003]) == ([("mine.example", "dns")], both, both)


def test_answers_hold_for_their_time_and_not_before(tmp_path):
    wire = Wire("when")
    connect(wire, 1001, b"?", sport=40001)
    look_up(wire, "site.example", SERVER, ttl_s=60)
    wire.later(3500)
    connect(wire, 1002, b"?", sport=40002)
    wire.later(300)
    connect(wire, 1003, b"?", sport=40003)
    told, _ = named(capture(wire, tmp_path / "c.pcap"))
    assert (told[1001], told[1002], told[1003]) == ([], [("site.example", "dns")], [])


def test_an_answer_at_another_port_needs_its_question(tmp_path):
    wire = Wire("stray")
    wire.udp(Endpoint(RESOLVER, 5300), Endpoint(CLIENT, 50001), answer("x.example", packed(SERVER)))
    connect(wire, 1001, b"?")
    told, _ = named(capture(wire, tmp_path / "c.pcap"))
    assert told[1001] == []


def test_a_capture_that_changed_meanwhile_is_said(tmp_path):
    wire = Wire("gone")
    look_up(wire, "looked.example", SERVER)
    path = capture(wire, tmp_path / "c.pcap")
    flows = assemble_flows(read_capture(path))
    path.unlink()
    assert "cannot be read twice" in unread_names(find_names(flows))[0]


def test_without_the_ciphers_handshakes_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(quic, "can_decrypt", lambda: False)
    wire = Wire("bare")
    wire.udp(Endpoint(CLIENT, 40004), Endpoint(SERVER, 443), initial(crypto(0, HELLO[:900])))
    told, warnings = named(capture(wire, tmp_path / "c.pcap"))
    assert told == {443: []}
    assert "1 QUIC handshakes were not read: this needs cryptography" in warnings[0]


def test_hostile_names_are_harmless(tmp_path):
    wire = Wire("hostile")
    connect(wire, 443, records(client_hello(b"</script>\x1b[2J\n=cmd")))
    told, _ = named(capture(wire, tmp_path / "c.pcap"))
    assert told == {443: [("\\060/script\\062\\027[2j\\010=cmd", "sni")]}


@pytest.mark.needs("tshark")
def test_real_traffic_has_the_names_that_tshark_finds(tmp_path):
    """Two clients of a recorded WireGuard server: nginx, dnsmasq and curl, as tshark reads them."""
    path = tmp_path / "c.pcap"
    path.write_bytes(zstandard.ZstdDecompressor().decompress(REAL.read_bytes()))
    check_against_tshark(path, least=100)


def test_real_lookups_name_what_the_flows_then_say(tmp_path):
    """Where a flow says its own name, a lookup before had given its address that name."""
    path = tmp_path / "c.pcap"
    path.write_bytes(zstandard.ZstdDecompressor().decompress(REAL.read_bytes()))
    flows, names = read(path)
    said = {flow: told for flow, told in names.own.items() if told[0][1] in ("sni", "http")}
    names.own = {}
    rows = name_rows(flows, names, np.zeros(len(flows), int))
    assert len(said) >= 50
    for flow, ((name, _),) in said.items():
        assert name in [row["name"] for row in rows[flow]]


@pytest.mark.needs("tshark")
def test_made_traffic_has_the_names_that_tshark_finds(tmp_path):
    wire = Wire("oracle")
    for n in range(20):
        name = b"host-%d.example" % n
        hello = client_hello(name, size=100 * n)
        connect(wire, 443, records(hello, 300 + 50 * n), sport=41000 + n)
    hello = crypto(0, client_hello(b"quic.example", size=800)) + bytes(200)
    wire.udp(Endpoint(CLIENT, 42000), Endpoint(SERVER, 443), initial(hello))
    check_against_tshark(capture(wire, tmp_path / "c.pcap"), least=21)


def check_against_tshark(path, least):
    fields = ["tls.handshake.extensions_server_name", "http.host", "dns.qry.name"]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "tcp.srcport", "-e", "udp.srcport"]
    for name in fields:
        command += ["-e", name]
    run = subprocess.run([*command, "-Y", " or ".join(fields)], capture_output=True, text=True, check=True)
    theirs = set()
    for line in run.stdout.splitlines():
        tcp, udp, *names = line.split("\t")
        for source, cell in zip(("sni", "http", "query"), names, strict=True):
            theirs |= {(int(tcp or udp), name.lower(), source) for name in cell.split(",") if name}
    flows, names = read(path)
    ours = {
        (int(flows.sport[flow]), name, "sni" if source == "quic" else source)
        for flow, told in names.own.items()
        for name, source in told
    }
    theirs = {row for row in theirs if row[0] != 53}
    assert ours == theirs
    assert len(ours) >= least
