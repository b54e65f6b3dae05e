"""The package's own answer against the journal: a capture of the tunnel, correlated, and the truth."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict

import pytest

from .netlab import PORT, Key, config
from .test_journal import end_sniffing, offloads_off, read, sniff

pytestmark = pytest.mark.root

CLIENTS = 3


def test_correlate_agrees_with_the_journal(netlab, tmp_path):
    """Three clients fetch through NAT: each flow is linked to the right client, or to none."""
    netlab.add("s", "i")
    outside, far = netlab.link("s", "i", ["203.0.113.1/24"], ["203.0.113.2/24"])
    server, clients = Key(), [Key() for _ in range(CLIENTS)]
    peers = [
        {"PublicKey": str(key.public), "AllowedIPs": f"10.77.0.{number + 2}/32"}
        for number, key in enumerate(clients)
    ]
    journal = tmp_path / "journal.parquet"
    extra = {"Nat": outside, "Journal": str(journal)}
    tunnel = netlab.ours("s", config(server, peers, "10.77.0.1/24", PORT, extra))
    for number, key in enumerate(clients):
        name = f"c{number}"
        netlab.add(name)
        netlab.link("s", name, [f"198.18.{number}.1/24"], [f"198.18.{number}.2/24"])
        for end, interface in (("s", f"{netlab.prefix}s{name}"), (name, f"{netlab.prefix}{name}s")):
            offloads_off(netlab, end, interface)
        to_server = {
            "PublicKey": str(server.public),
            "AllowedIPs": "10.77.0.0/24, 203.0.113.0/24",
            "Endpoint": f"198.18.{number}.1:{PORT}",
        }
        netlab.ours(name, config(key, [to_server], f"10.77.0.{number + 2}/24"))
    for end, interface in (("s", outside), ("i", far)):
        offloads_off(netlab, end, interface)
    ingress = sniff(netlab, "s", "any", tmp_path / "ingress.pcap", f"udp port {PORT}")
    egress = sniff(netlab, "i", far, tmp_path / "egress.pcap", "tcp port 8000")
    (tmp_path / "site").mkdir()
    with netlab.serving("i", tmp_path / "site"):
        for turn in range(4):
            for number in range(CLIENTS):
                size = 2_000 + 17_000 * ((turn * CLIENTS + number) % 5) + 1_111 * number
                (tmp_path / "site" / f"f{turn}{number}").write_bytes(bytes(size))
                url = f"http://203.0.113.2:8000/f{turn}{number}"
                netlab.run(f"c{number}", "curl", "-sf", "-o", "/dev/null", "--retry", "2", url)
    end_sniffing(netlab, ingress)
    netlab.end(egress)
    netlab.end(tunnel)
    result = tmp_path / "case.json"
    netlab.host(
        *(sys.executable, "-m", "vpnforensics.cli.main", "correlate", "-q", "-f", "json", "-o", str(result)),
        *(str(tmp_path / "ingress.pcap"), str(tmp_path / "egress.pcap")),
    )
    case = json.loads(result.read_text())
    # Truth: the journal says which peer sent each connection, and how many packets it had.
    owner: dict[int, str] = {}
    packets: Counter[int] = Counter()
    for row in read(journal):
        if row["kind"] == "data" and row["proto"] == 6:
            is_up = row["direction"] == "in"
            port = row["sport"] if is_up else row["dport"]
            packets[port] += 1
            if is_up:
                owner[port] = row["endpoint"]
    client_of = {entry["id"]: entry["client"] for entry in case["tunnels"]}
    flows = {entry["id"]: entry for entry in case["flows"]}
    verdicts = defaultdict(int)
    for link in case["links"]:
        flow = flows[link["flow"]]
        ends = (flow["src"], flow["dst"])
        (port,) = [int(end.rpartition(":")[2]) for end in ends if end.startswith("203.0.113.1:")]
        # Masquerading keeps ports unless two clients use the same one.
        if port not in owner:
            continue
        assert flow["packets"] == packets[port]
        verdicts[link["verdict"]] += 1
        if link["verdict"] == "linked":
            assert client_of[link["tunnel"]] == owner[port]
    assert len(client_of) == CLIENTS
    assert verdicts["linked"] >= 0.7 * 4 * CLIENTS
