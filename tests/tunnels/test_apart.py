"""A conversation never carries itself, and leaving tunnels out renames nothing."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import vpnforensics as vf
from tests.packets import frames as build
from tests.tunnels import datagrams
from tests.tunnels.streams import Talk
from vpnforensics import samples
from vpnforensics.capture.writer import write_pcap
from vpnforensics.errors import CaseError
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.apart import flows_apart
from vpnforensics.tunnels.find import find_tunnels

CASES = Path(__file__).parents[1] / "cases"


def frames_of(path):
    """Time and frame of every packet of a classic pcap with nanoseconds."""
    raw = path.read_bytes()
    order = "<" if raw[0] == 0x4D else ">"
    at, found = 24, []
    while at < len(raw):
        seconds, ns, kept, _ = struct.unpack_from(order + "IIII", raw, at)
        found.append((seconds * 10**9 + ns, raw[at + 16 : at + 16 + kept]))
        at += 16 + kept
    return found


def write_both(path, *captures):
    merged = sorted((row for capture in captures for row in capture), key=lambda row: row[0])
    write_pcap(path, np.array([ns for ns, _ in merged]), [frame for _, frame in merged])
    return path


@pytest.mark.parametrize("name", ["self-quic", "self-stun"])
def test_a_capture_of_one_conversation_has_no_tunnel_in_it(name):
    with pytest.raises(CaseError, match="no VPN tunnel in it"):
        vf.correlate(CASES / f"{name}.pcap")


def test_a_flow_that_might_be_a_tunnel_stays_a_flow_and_is_linked(tmp_path):
    """Many small datagrams both ways, in one capture of both sides."""
    sample = samples.load("wireguard")
    outer, inner = frames_of(sample.ingress), frames_of(sample.egress)
    tcp = [f for f in sample.truth["flows"] if f["proto"] == "tcp" and 20 <= f["packets"] <= 60]
    flow = max(tcp, key=lambda f: f["packets"])
    ends = {flow["src"], flow["dst"]}

    def endpoint(frame, at):
        address = ".".join(map(str, frame[at : at + 4]))
        port = int.from_bytes(frame[34 + (at - 26) // 2 : 36 + (at - 26) // 2], "big")
        return f"{address}:{port}"

    changed = []
    for ns, frame in inner:
        if frame[23] == 6 and {endpoint(frame, 26), endpoint(frame, 30)} == ends:
            payload = int.from_bytes(frame[16:18], "big") - 28
            text = (
                b"REGISTER sip:pbx.example.com SIP/2.0\r\n"
                if endpoint(frame, 26) == flow["src"]
                else b"SIP/2.0 200 OK\r\n"
            )
            packet = build.udp(
                (text * 40)[:payload],
                sport=int(endpoint(frame, 26).split(":")[1]), dport=int(endpoint(frame, 30).split(":")[1]),
            )  # fmt: skip
            src, dst = (".".join(map(str, frame[at : at + 4])) for at in (26, 30))
            frame = build.ethernet(build.ipv4(packet, 17, src=src, dst=dst))
        changed.append((ns, frame))
    path = write_both(tmp_path / "both.pcap", outer, changed)
    listed = find_tunnels(assemble_flows(vf.read_capture(path), idle_tcp_s=np.inf, idle_other_s=np.inf))
    assert any({t.client, t.server} == ends and not t.sure for t in listed.tunnels)
    case = vf.correlate(path)
    apart = vf.correlate(sample.ingress, sample.egress)
    assert len(case.flows) == len(apart.flows)
    (row,) = case.summary[
        (case.summary["src"] == flow["src"]) & (case.summary["proto"] == "udp")
    ].itertuples()
    assert (row.verdict, row.client) == ("linked", flow["client"])


def test_tunnels_that_the_egress_capture_holds_too_are_no_flows_of_it(tmp_path):
    sample = samples.load("wireguard")
    path = write_both(tmp_path / "both.pcap", frames_of(sample.ingress), frames_of(sample.egress))
    case, apart = vf.correlate(sample.ingress, path), vf.correlate(sample.ingress, sample.egress)
    assert any("holds 3 conversations of the tunnels, too" in said for said in case.warnings)
    columns = ["src", "dst", "proto", "packets", "verdict", "client"]
    assert case.summary[columns].to_dict("list") == apart.summary[columns].to_dict("list")


def test_numbers_of_flows_stay_when_some_are_left_out():
    talk = Talk()
    packets = datagrams.wireguard(datagrams.rng_of("apart"), 40)
    for k, (up, data) in enumerate(packets):
        talk.datagram(up, data, server=("10.0.0.1", 51820))
        if k % 10 == 0:
            talk.datagram(True, b"query", client=("192.0.2.1", 5000 + k), server=("192.0.2.53", 53))
            talk.datagram(False, b"answer", client=("192.0.2.1", 5000 + k), server=("192.0.2.53", 53))
    everything = talk.from_table()
    found = find_tunnels(everything)
    rest = flows_apart(everything, everything, found.tunnels)
    assert rest.ids == ["f2", "f3", "f4", "f5", "f6"]
    assert rest.community_ids == everything.community_ids[1:]
    assert flows_apart(rest, everything, found.tunnels) is rest


def test_another_captures_addresses_are_known_by_value():
    packets = datagrams.wireguard(datagrams.rng_of("value"), 40)
    ingress, egress = Talk(), Talk()
    egress.datagram(True, b"query", client=("192.0.2.1", 5000), server=("192.0.2.53", 53))
    for up, data in packets:
        for talk in (ingress, egress):
            talk.datagram(up, data, server=("10.0.0.1", 51820))
    conversations, flows = ingress.from_table(), egress.from_table()
    assert flows_apart(flows, conversations, find_tunnels(conversations).tunnels).ids == ["f1"]
    elsewhere = Talk()
    elsewhere.datagram(True, b"query", client=("192.0.2.1", 5000), server=("192.0.2.53", 53))
    other = elsewhere.from_table()
    assert flows_apart(other, conversations, find_tunnels(conversations).tunnels) is other
