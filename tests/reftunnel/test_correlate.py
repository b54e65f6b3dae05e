"""The package's own answer against the journal, packet by packet: a capture of the tunnel, and the truth."""

from __future__ import annotations

import ipaddress
import struct
import sys
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import vpnforensics as vf

from .netlab import PORT, Key, NetLab, config
from .test_journal import end_sniffing, offloads_off, packets_of, read, sniff

pytestmark = pytest.mark.needs("wireguard")

CLIENTS, PAGES = 3, 8
SERVER_OUTSIDE, INTERNET = "203.0.113.1", "203.0.113.2"
PROTOCOLS = {"tcp": 6, "udp": 17}
PORTS_A_CLIENT = 5000
"""Each client has source ports of its own, so that masquerading changes none and a port names the client."""


def browsing(lab: NetLab, folder: Path, journal: Path) -> None:
    """Three clients read eight pages each through NAT, with pauses, for some seven seconds."""
    lab.add("s", "i")
    outside, far = lab.link("s", "i", [f"{SERVER_OUTSIDE}/24"], [f"{INTERNET}/24"])
    server, clients = Key(), [Key() for _ in range(CLIENTS)]
    peers = [
        {"PublicKey": str(key.public), "AllowedIPs": f"10.77.0.{number + 2}/32"}
        for number, key in enumerate(clients)
    ]
    extra = {"Nat": outside, "Journal": str(journal)}
    tunnel = lab.ours("s", config(server, peers, "10.77.0.1/24", PORT, extra))
    for number, key in enumerate(clients):
        name = f"c{number}"
        lab.add(name)
        ends = lab.link("s", name, [f"198.18.{number}.1/24"], [f"198.18.{number}.2/24"])
        for end, interface in zip(("s", name), ends, strict=True):
            offloads_off(lab, end, interface)
        first_port = 40_000 + PORTS_A_CLIENT * number
        ports = f"net.ipv4.ip_local_port_range={first_port} {first_port + PORTS_A_CLIENT - 1}"
        lab.run(name, "sysctl", "-qw", ports)
        to_server = {
            "PublicKey": str(server.public),
            "AllowedIPs": f"10.77.0.0/24, {INTERNET}/32",
            "Endpoint": f"198.18.{number}.1:{PORT}",
        }
        lab.ours(name, config(key, [to_server], f"10.77.0.{number + 2}/24"))
    for end, interface in (("s", outside), ("i", far)):
        offloads_off(lab, end, interface)
    ingress = sniff(lab, "s", "any", folder / "ingress.pcap", f"udp port {PORT}")
    egress = sniff(lab, "i", far, folder / "egress.pcap", "tcp port 8000 or udp port 5300")
    site = folder / "site"
    site.mkdir()
    chance = np.random.default_rng(20)
    for page, size in enumerate(np.exp(chance.uniform(6.5, 11.8, CLIENTS * PAGES)).astype(int).tolist()):
        (site / f"f{page}").write_bytes(bytes(size))
    program = (sys.executable, str(Path(__file__).with_name("browse.py")))
    lab.start("i", *program, "answer", "1")
    with lab.serving("i", site):
        readers = [
            lab.start(
                f"c{number}", *program, "visit", INTERNET, *map(str, (number * PAGES, PAGES, 40 + number))
            )
            for number in range(CLIENTS)
        ]
        for reader in readers:
            assert reader.wait(60) == 0, reader.stderr.read().decode()
    end_sniffing(lab, ingress)
    lab.end(egress)
    lab.end(tunnel)


@dataclass(frozen=True)
class Seen:
    """A packet at egress: what of it survives NAT, and what names it among the journal's rows."""

    up: bool
    port: int
    key: tuple[int, ...]


def at_egress(packet: bytes) -> Seen:
    """Read from the bytes here, and by nothing that is under test."""
    up = packet[16:20] == ipaddress.ip_address(INTERNET).packed
    total, ip_id = struct.unpack_from(">HH", packet, 2)
    proto = packet[9]
    ports = struct.unpack_from(">HH", packet, 20)
    port = ports[0] if up else ports[1]
    rest = struct.unpack_from(">IIBBH", packet, 24) if proto == 6 else ()
    seq, ack, _, flags, window = rest or (-1, -1, 0, -1, -1)
    return Seen(up, port, (proto, up, port, total, ip_id, seq, ack, flags, window))


def of_the_journal(row: dict[str, Any]) -> tuple[int, ...]:
    up = row["direction"] == "in"
    port = row["sport"] if up else row["dport"]
    names = ("inner_bytes", "ip_id", "seq", "ack", "tcp_flags", "window")
    return (row["proto"], up, port, *(row[name] for name in names))


@pytest.fixture
def recorded(netlab, tmp_path):
    journal = tmp_path / "journal.parquet"
    browsing(netlab, tmp_path, journal)
    return tmp_path / "ingress.pcap", tmp_path / "egress.pcap", read(journal)


def test_correlate_agrees_with_the_journal_packet_by_packet(recorded):
    ingress, egress, rows = recorded
    truth: dict[tuple[int, ...], deque[dict[str, Any]]] = defaultdict(deque)
    owner: dict[tuple[int, int], str] = {}  # of protocol and port: TCP and UDP may use the same number
    for row in rows:
        if row["kind"] == "data" and row["proto"] in (6, 17):
            key = of_the_journal(row)
            truth[key].append(row)
            owner[key[0], key[2]] = row["endpoint"]
    assert len(set(owner.values())) == CLIENTS
    # The journal's row of every packet of the egress capture. Copies of one packet keep their order.
    packets = packets_of(egress, 14)
    seen = [at_egress(packet) for _, packet in packets]
    carried_by = [truth[each.key].popleft() if truth[each.key] else None for each in seen]
    assert None not in carried_by
    assert not any(truth.values())  # and no packet of the journal is missing at egress

    case = vf.correlate(ingress, egress)
    client_of = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    assert sorted(client_of.values()) == sorted(set(owner.values()))
    verdicts: Counter[tuple[str, str]] = Counter()
    flows = case.flows.set_index("id")
    for flow, tunnel, verdict in case.links[["flow", "tunnel", "verdict"]].itertuples(index=False):
        (port,) = (
            int(end.rpartition(":")[2])
            for end in (flows.loc[flow, "src"], flows.loc[flow, "dst"])
            if end.startswith(f"{SERVER_OUTSIDE}:")
        )
        name = flows.loc[flow, "proto"]
        verdicts[name, verdict] += 1
        proto = PROTOCOLS[name]
        if verdict == "linked":
            assert client_of[tunnel] == owner[proto, port]
        assert flows.loc[flow, "packets"] == sum((each.key[0], each.port) == (proto, port) for each in seen)
    assert verdicts.total() == len(owner)
    # Of all packets of 24 pages and some 45 lookups, how many were given the very datagram that carried them?
    tunnel_of = dict(zip(case.links["flow"], case.links["tunnel"], strict=True))
    right, off_ns = 0, []
    for pairing in case.pairings.to_dict("records"):
        row = carried_by[pairing["egress_frame"] - 1]
        if pd.isna(pairing["ingress_frame"]):
            continue
        given = (client_of[tunnel_of[pairing["flow"]]], pairing["counter"], pairing["up"])
        right += given == (row["endpoint"], row["counter"], row["direction"] == "in")
        off_ns.append(abs(row["outer_ns"] - pairing["ingress_ns"]))
    shares = {
        "linked flows": sum(n for (_, verdict), n in verdicts.items() if verdict == "linked") / len(owner),
        "linked pages": verdicts["tcp", "linked"] / (CLIENTS * PAGES),
        "packets with their own datagram": right / len(case.pairings),
    }
    print(shares, len(case.pairings), case.alignment)
    assert shares["linked pages"] >= 0.9
    assert shares["linked flows"] >= 0.8
    # Equal packets within microseconds may change places where their numbers on both sides do not balance.
    assert shares["packets with their own datagram"] >= 0.99
    # The times are those of the same datagrams: one clock, and a scheduling delay between two looks at it.
    assert np.median(off_ns) < 20_000_000
