"""Selections mean what tcpdump means by them, however the packets are stored."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vpnforensics as vf
from tests.packets import frames
from vpnforensics import samples
from vpnforensics.capture.writer import write_pcap
from vpnforensics.packets.folder import read, write
from vpnforensics.packets.selection import Selection, leaves_out

START_NS = 1_700_000_000_000_000_000
VARIETY = frames.variety()
WIREGUARD = samples.load("wireguard")
FIRST = "198.51.100.11"


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A capture of everything there is, and the same as columns with many row groups."""
    root = tmp_path_factory.mktemp("stored")
    chosen = VARIETY * 4
    write_pcap(root / "a.pcap", START_NS + np.arange(len(chosen)) * 10**9, chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "GROUP_PACKETS", 8)
        vf.convert(root / "a.pcap", root / "columns", part_packets=24)
    return root / "a.pcap", root / "columns"


HAS_PORTS = (6, 17)
ADDRESS = ("192.0.2.1", "198.51.100.7", "2001:db8::1", "203.0.113.9")


def primitives() -> st.SearchStrategy[tuple[str, object]]:
    """An expression, and what it means of one packet as a dictionary."""
    port = st.sampled_from([53, 443, 40000, 1, 8])
    number = st.integers(0, 2000)
    second = st.integers(-2, 4 * len(VARIETY) + 2)
    return st.one_of(
        st.sampled_from([("tcp", 6), ("udp", 17), ("icmp", 1), ("icmp6", 58), ("esp", 50), ("gre", 47)]).map(
            lambda t: (t[0], lambda p: p["proto"] == t[1])
        ),
        st.sampled_from([("ip", 4), ("ip6", 6)]).map(lambda t: (t[0], lambda p: p["ip_version"] == t[1])),
        port.map(lambda n: (f"port {n}", lambda p: ports(p) and n in (p["sport"], p["dport"]))),
        port.map(lambda n: (f"src port {n}", lambda p: ports(p) and n == p["sport"])),
        port.map(
            lambda n: (f"udp dst port {n}", lambda p: p["proto"] == 17 and ports(p) and n == p["dport"])
        ),
        port.map(
            lambda n: (
                f"portrange {n}-{n + 400}",
                lambda p: ports(p) and any(n <= p[e] <= n + 400 for e in ("sport", "dport")),
            )
        ),
        number.map(lambda n: (f"less {n}", lambda p: p["ip_len_bytes"] <= n)),
        number.map(lambda n: (f"greater {n}", lambda p: p["ip_len_bytes"] >= n)),
        st.sampled_from(ADDRESS).map(lambda a: (f"host {a}", lambda p: a in (p["src"], p["dst"]))),
        st.sampled_from(ADDRESS).map(lambda a: (f"dst host {a}", lambda p: a == p["dst"])),
        st.tuples(st.sampled_from(ADDRESS), st.integers(0, 128)).map(network),
        second.map(lambda s: (f"after {START_NS + s * 10**9}", lambda p: p["ts_ns"] >= START_NS + s * 10**9)),
        second.map(
            lambda s: (f"before {START_NS + s * 10**9}", lambda p: p["ts_ns"] <= START_NS + s * 10**9)
        ),
    )


def ports(packet: dict[str, object]) -> bool:
    return packet["proto"] in HAS_PORTS and packet["frag"] != 2


def network(drawn: tuple[str, int]) -> tuple[str, object]:
    address, bits = drawn
    bits = min(bits, 32) if "." in address else bits
    inside = ipaddress.ip_network(f"{address}/{bits}", strict=False)
    return f"net {address}/{bits}", lambda p: any(
        ipaddress.ip_address(p[e]) in inside for e in ("src", "dst")
    )


def expressions() -> st.SearchStrategy[tuple[str, object]]:
    return st.recursive(
        primitives(),
        lambda inner: st.one_of(
            inner.map(lambda e: (f"not ({e[0]})", lambda p: not e[1](p))),
            st.tuples(inner, inner).map(
                lambda e: (f"({e[0][0]}) and ({e[1][0]})", lambda p: e[0][1](p) and e[1][1](p))
            ),
            st.tuples(inner, inner).map(
                lambda e: (f"({e[0][0]}) or ({e[1][0]})", lambda p: e[0][1](p) or e[1][1](p))
            ),
        ),
        max_leaves=5,
    )


@settings(deadline=None, max_examples=150)
@given(expression=expressions())
def test_the_same_packets_from_captures_and_columns(stored, expression):
    text, means = expression
    rows = vf.read_capture(stored[0]).to_pandas().to_dict("records")
    meant = [row["frame"] for row in rows if means(row)]
    for path in stored:
        packets = vf.read_capture(path, select=text)
        assert packets.frame.tolist() == meant, path
        assert packets.source.packets == len(rows)
        assert packets.source.health == vf.read_capture(path).source.health
    assert Selection.parse(text).of(vf.read_capture(stored[0])).frame.tolist() == meant


def test_row_groups_without_what_is_meant_are_not_read(stored, monkeypatch):
    groups = []
    batches = read._Part.batches
    monkeypatch.setattr(
        read._Part, "batches", lambda self, chosen: groups.extend(chosen) or batches(self, chosen)
    )
    one = f"after {START_NS} and before {START_NS + 10**9}"
    assert len(vf.read_capture(stored[1], select=one))
    assert len(groups) == 1
    groups.clear()
    assert not len(vf.read_capture(stored[1], select="host 9.9.9.9 or host a::b"))
    assert not groups


def test_precedence_is_that_of_tcpdump():
    table = vf.read_capture(WIREGUARD.egress)
    for one, other in (
        ("tcp or udp and port 53", "tcp or (udp and port 53)"),
        ("not tcp and port 53", "(not tcp) and port 53"),
        ("udp port 53", "udp and port 53"),
        ("! tcp && (udp || icmp)", "not tcp and (udp or icmp)"),
        ("TCP Src Port 443", "tcp and src port 443"),
    ):
        a, b = Selection.parse(one).of(table), Selection.parse(other).of(table)
        assert len(a)
        assert np.array_equal(a.frame, b.frame)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("host", "an address is missing at the end"),
        ("host example.org", "'example.org' is no address"),
        ("net 10.0.0.0/40", "is no network"),
        ("port 70000", "is no number up to 65,535"),
        ("port 80-90", "is no number"),
        ("tcp udp", "'udp' is not expected there"),
        ("(tcp", "a bracket is not closed"),
        ("tcp and", "an expression is missing at the end"),
        ("vlan 3", "'vlan' is not known; known are host"),
        ("src tcp", "src host, net, port or portrange, not 'tcp'"),
        ("sample 1/0", "is no share"),
        ("after 11:02", "is no time"),
        ("tcp & udp", "not expected"),
        ("(" * 2000, "too deep"),
        ("not " * 2000 + "tcp", "too deep"),
    ],
)
def test_what_cannot_be_understood_is_said(text, said):
    with pytest.raises(ValueError, match=said):
        Selection.parse(text)


def test_a_sample_keeps_whole_tunnels():
    whole = vf.read_capture(WIREGUARD.ingress)
    parts = [Selection.parse(f"sample 1/{n}").of(whole) for n in (1, 2, 3, 5)]
    assert len(parts[0]) == len(whole)
    pairs = {n: set(zip(*(np.sort([p.src, p.dst], axis=0)), strict=True)) for n, p in enumerate(parts)}
    everyone = np.sort([whole.src, whole.dst], axis=0)
    for n, part in enumerate(parts):
        member = [pair in pairs[n] for pair in zip(*everyone, strict=True)]
        assert sum(member) == len(part)


def test_a_sample_is_about_as_large_as_it_says(tmp_path):
    clients = [f"10.{i // 250}.{i % 250}.1" for i in range(2000)]
    sent = [frames.ethernet(frames.ipv4(frames.udp(b"x"), 17, src=client)) for client in clients]
    write_pcap(tmp_path / "a.pcap", START_NS + np.arange(len(sent)), sent)
    assert 70 < len(vf.read_capture(tmp_path / "a.pcap", select="sample 1/20")) < 130


def test_a_span_of_time_leaves_nothing_out():
    for text, left_out in (
        ("after 2026-11-22T19:19:36 and before 2026-11-22T19:19:42", False),
        ("after 2026-11-22T19:19:36", False),
        ("after 2026-11-22T19:19:36 and udp", True),
        ("not after 2026-11-22T19:19:36", True),
        ("udp", True),
    ):
        assert leaves_out(vf.read_capture(WIREGUARD.ingress, select=text)) is left_out
    assert not leaves_out(vf.read_capture(WIREGUARD.ingress))


def test_no_flow_is_denied_where_its_tunnel_was_not_read():
    sample = samples.load("open-set")
    denied = vf.correlate(sample.ingress, sample.egress).links
    assert (denied["verdict"] == "no_tunnel").any()
    case = vf.correlate(sample.ingress, sample.egress, select_ingress="udp")
    assert (case.links["verdict"] != "no_tunnel").all()
    assert (case.links["verdict"] == "linked").any()
    assert any("none is denied" in each for each in case.warnings)
    assert case.inputs[0]["selection"] == {"which": "udp", "of": case.inputs[0]["packets"]}


def test_what_is_linked_with_one_tunnel_was_linked_with_all():
    whole = vf.correlate(WIREGUARD.ingress, WIREGUARD.egress).summary
    part = vf.correlate(WIREGUARD.ingress, WIREGUARD.egress, select_ingress=f"host {FIRST}").summary
    linked = part[part["verdict"] == "linked"]
    rightly = whole[whole["client"].str.startswith(f"{FIRST}:", na=False)]
    assert len(linked)
    assert set(linked["flow"]) <= set(rightly["flow"])
    assert set(part["verdict"]) <= {"linked", "undecided"}


def test_a_span_of_time_still_denies():
    sample = samples.load("open-set")
    first_ns = vf.read_capture(sample.ingress).source.first_ns
    case = vf.correlate(sample.ingress, sample.egress, select_ingress=f"after {first_ns + 10**9}")
    assert (case.links["verdict"] == "no_tunnel").any()
    assert any("flows that reach out of that time are not denied" in each for each in case.warnings)
