"""IPv6 outside, inside, or both; read by dpkt, addresses checked by the standard library."""

from __future__ import annotations

import ipaddress
import json
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import dpkt
import jsonschema
import pytest

from vpnforensics.groundtruth import lab
from vpnforensics.groundtruth.simulate.spec import Activity, Background, IpVersions

from .cases import small
from .test_run import ones_complement

OUTER, INNER, BOTH = IpVersions(6, 4), IpVersions(4, 6), IpVersions(6, 6)


def frames(path):
    with path.open("rb") as file:
        return [bytes(frame) for _, frame in dpkt.pcap.Reader(file)]


def case_of(make, protocol, ip):
    spec = small(protocol)
    clients = tuple(replace(c, traffic=(*c.traffic, Activity("ping", 1))) for c in spec.clients)
    return make(replace(spec, clients=clients, ip=ip, inner=True))


def headers(frame):
    """Version, next header, length of the packet, pseudo header and transport part."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == 0x86DD:
        ip = dpkt.ip6.IP6(frame[14:])
        assert ip.plen == len(frame) - 14 - 40
        pseudo = frame[22:54] + struct.pack(">II", ip.plen, ip.nxt)
        return 6, ip.nxt, ip.plen + 40, pseudo, frame[54:]
    length = int.from_bytes(frame[16:18], "big")
    return 4, frame[23], length, frame[26:34] + struct.pack(">HH", frame[23], length - 20), frame[34:]


@pytest.mark.parametrize("ip", [OUTER, INNER, BOTH], ids=lambda ip: f"{ip.outer}-in-{ip.inner}")
@pytest.mark.parametrize("protocol", ["wireguard", "openvpn-tcp", "strongswan-kernel", "ssh-socks"])
def test_headers_and_checksums(make, protocol, ip):
    spec = small(protocol)
    case = make(replace(spec, ip=ip)) if protocol == "ssh-socks" else case_of(make, protocol, ip)
    for side, version in (("ingress", ip.outer), ("egress", ip.inner)):
        seen = Counter()
        for frame in frames(case.folder / f"{side}.pcap"):
            found, proto, length, pseudo, transport = headers(frame)
            assert (found, length) == (version, len(frame) - 14)
            seen[proto] += 1
            if proto in (6, 17, 58):
                assert ones_complement(pseudo + transport) == 0xFFFF
        assert seen[58] == 0 or version == 6
        if side == "egress" and protocol != "ssh-socks":
            assert seen[58 if version == 6 else 1] > 4


def test_visitors_come_over_the_outer_version_and_the_server_speaks_the_inner_one(make):
    plain = make(replace(small(), ip=OUTER))
    case = make(replace(small(), ip=OUTER, background=Background(ingress=5, egress=4)))
    for side, version in (("ingress", 6), ("egress", 4)):
        found = frames(case.folder / f"{side}.pcap")
        assert {headers(frame)[0] for frame in found} == {version}
        assert len(found) > len(frames(plain.folder / f"{side}.pcap"))


def test_outer_lengths_follow_the_longer_inner_packets(make):
    case = case_of(make, "wireguard", BOTH)
    padded = Counter(
        40 + 8 + 32 + min(1420, (len(f) - 14 + 15) // 16 * 16) for f in frames(case.folder / "egress.pcap")
    )
    outer = Counter(len(f) - 14 for f in frames(case.folder / "ingress.pcap"))
    assert sum((padded - outer).values()) < 0.005 * sum(padded.values()) + 12
    assert max(padded) == 40 + 8 + 32 + 1420


def test_no_segment_is_longer_than_the_tunnels_mtu(make):
    for protocol, most in (("wireguard", 1420), ("openvpn-tcp", 1386 + 40 - 20)):
        case = case_of(make, protocol, BOTH)
        segments = [f for f in frames(case.folder / "egress.pcap") if f[20] == 6]
        assert max(len(f) - 14 for f in segments) == most
        assert max(len(f) - 14 for f in frames(case.folder / "ingress.pcap")) <= 1500


def test_truth_writes_addresses_as_the_standard_library_does(make):
    case = case_of(make, "wireguard", BOTH)
    document = json.loads((case.folder / "truth.json").read_text())
    jsonschema.validate(document, json.loads(Path(lab.__file__).with_name("truth.schema.json").read_text()))
    texts = [t.client for t in case.truth.tunnels] + [f.dst for f in case.truth.flows]
    for text in texts:
        address = text.rpartition(":")[0].strip("[]")
        assert str(ipaddress.IPv6Address(address)) == address
    seen = set()
    for frame in frames(case.folder / "ingress.pcap"):
        ip = dpkt.ip6.IP6(frame[14:])
        port = int.from_bytes(frame[54:56], "big")
        seen.add(f"[{ipaddress.IPv6Address(ip.src)}]:{port}")
    assert {t.client for t in case.truth.tunnels} <= seen
    assert {f.proto for f in case.truth.flows} == {"tcp", "udp", "icmpv6"}
