"""The journal says what happened, whatever is refused, lost, killed or forged on the way."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vpnforensics.reftunnel.tcp_link import Deframer

from ..netlab import PORT, NetLab, cable, two_configs
from ..test_holds import resident_bytes
from ..test_journal import end_sniffing, offloads_off, packets_of, read, sniff

pytestmark = pytest.mark.needs("wireguard")


def bring_up(lab: NetLab, journal: Path, at: str, **extra: str) -> dict[str, subprocess.Popen[bytes]]:
    """Our tunnel at both ends of a cable, with a journal at one of them."""
    cable(lab)
    client, server, _, _ = two_configs(extra=extra)
    texts = {"c": client, "s": server}
    texts[at] = texts[at].replace("[Interface]", f"[Interface]\nJournal = {journal}")
    tunnels = {name: lab.ours(name, texts[name]) for name in "sc"}
    assert lab.ping("c", "10.77.0.1") == 3
    return tunnels


def counters_on_the_wire(path: Path) -> Counter[int]:
    """Of the transport messages to the server."""
    seen: Counter[int] = Counter()
    for _, packet in packets_of(path, 14):
        udp = packet[20:]
        if udp[8] == 4 and udp[2:4] == struct.pack(">H", PORT):
            seen[struct.unpack_from("<Q", udp, 16)[0]] += 1
    return seen


def of_kind(rows, direction: str, *kinds: str):
    return [row for row in rows if row["direction"] == direction and row["kind"] in kinds]


BLAST = """
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for number in range(2000):
    sock.sendto(bytes(1200), ("10.77.0.1", 9))
    time.sleep(0.02 * (number % 100 == 0))
"""


def echoes(rows, direction: str, *kinds: str) -> int:
    return sum(row["proto"] == 1 for row in of_kind(rows, direction, *kinds))


def test_what_a_firewall_refused_is_unsent_and_all_else_is_on_the_wire(netlab, tmp_path):
    """A rule that takes half of the datagrams, at random, under bulk traffic; then one that takes all."""
    path = tmp_path / "journal.jsonl"
    tunnels = bring_up(netlab, path, "c")
    for name, other in ("cs", "sc"):
        offloads_off(netlab, name, f"{netlab.prefix}{name}{other}")
    sniffer = sniff(netlab, "s", f"{netlab.prefix}sc", tmp_path / "outer.pcap", f"udp dst port {PORT}")
    before = time.time_ns()
    rules = "add table ip f; add chain ip f o { type filter hook output priority 0; }"
    half = f"add rule ip f o udp dport {PORT} numgen random mod 2 == 0 drop"
    netlab.run("c", "nft", f"{rules}; {half}")
    netlab.run("c", sys.executable, "-c", BLAST)
    netlab.run("c", "nft", f"flush chain ip f o; add rule ip f o udp dport {PORT} drop")
    all_refused = time.time_ns()
    assert netlab.ping("c", "10.77.0.1", 10, 0.02, 1) == 0
    sent_none = time.time_ns()
    netlab.run("c", "nft", "flush chain ip f o")
    assert netlab.ping("c", "10.77.0.1") == 3
    end_sniffing(netlab, sniffer)
    failed = netlab.show("c")["dropped"]["send_failed"]
    netlab.end(tunnels["c"])
    rows = [row for row in read(path) if row["outer_ns"] >= before]
    sent = Counter(row["counter"] for row in of_kind(rows, "out", "data", "keepalive"))
    unsent = of_kind(rows, "out", "unsent")
    assert sent == counters_on_the_wire(tmp_path / "outer.pcap")
    assert not sent.keys() & {row["counter"] for row in unsent}
    assert len(unsent) == failed
    assert min(len(sent), len(unsent)) > 500
    dark = [row for row in rows if all_refused <= row["outer_ns"] <= sent_none]
    assert echoes(dark, "out", "unsent") >= 10
    assert echoes(dark, "out", "data") == 0


def counters_in_the_stream(path: Path) -> list[int]:
    """Of the transport messages to the server whose last byte was captured, on one TCP connection."""
    parts = {}
    for _, packet in packets_of(path, 14):
        tcp = packet[20:]
        payload = packet[20 + 4 * (tcp[12] >> 4) : struct.unpack_from(">H", packet, 2)[0]]
        if payload:
            parts[struct.unpack_from(">I", tcp, 4)[0]] = payload
    stream, start = bytearray(), min(parts)
    for at, payload in sorted(parts.items()):
        assert at - start <= len(stream)
        stream[at - start :] = max(bytes(stream[at - start :]), payload, key=len)
    messages = Deframer().feed(bytes(stream))
    return [struct.unpack_from("<Q", message, 8)[0] for message in messages if message[0] == 4]


def test_on_tcp_what_waited_and_left_is_data_and_what_a_dead_connection_held_is_unsent(netlab, tmp_path):
    """The kernel takes what it cannot send: what it never could send says so; all else was on the wire."""
    cable(netlab)
    path, link = tmp_path / "journal.jsonl", f"{netlab.prefix}sc"
    client, server, _, _ = two_configs(extra={"Transport": "tcp"})
    netlab.ours("s", server)
    offloads_off(netlab, "c", f"{netlab.prefix}cs")
    capture = tmp_path / "outer.pcap"
    sniffer = sniff(netlab, "c", f"{netlab.prefix}cs", capture, f"tcp dst port {PORT}", 65_535)
    tunnel = netlab.ours("c", with_lines(client, f"Journal = {path}"))
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.ip("s", "link", "set", link, "down")
    assert netlab.ping("c", "10.77.0.1", 20, 0.01, 1) == 0
    netlab.ip("s", "link", "set", link, "up")
    netlab.wait(lambda: netlab.ping("c", "10.77.0.1", 1, wait_s=1))
    came_back = time.time_ns()
    (peer,) = netlab.show("s")["peers"]
    netlab.ip("s", "link", "set", link, "down")
    assert netlab.ping("c", "10.77.0.1", 300, 0.005, 1) == 0
    end_sniffing(netlab, sniffer)
    netlab.end(tunnel)
    rows = read(path)
    before = [row for row in rows if row["inner_ns"] < came_back]
    assert not of_kind(before, "out", "unsent", "unacked")
    assert len(of_kind(before, "out", "data")) == peer["received_packets"]
    on_the_wire = set(counters_in_the_stream(capture))
    kinds = [
        {row["counter"] for row in of_kind(rows, "out", *names)}
        for names in (("data", "keepalive"), ("unacked",), ("unsent",))
    ]
    arrived, unacked, unsent = kinds
    # The kernel thinks that the unacknowledged ones were sent; some may have been.
    assert arrived <= on_the_wire <= arrived | unacked
    assert not unsent & on_the_wire
    assert echoes(rows, "out", "unsent") > 100
    assert echoes(rows, "out", "unsent", "unacked") == 300


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_what_the_tun_refused_is_undelivered_and_rows_are_there_after_the_worst_kill(netlab, tmp_path):
    """An interface that is down; then 300 pings, and SIGKILL for both tunnels, and for one writer at once."""
    path = tmp_path / "journal.jsonl"
    cable(netlab)
    client, server, _, _ = two_configs()
    tunnel = netlab.ours("s", with_lines(server, f"Journal = {path}"))
    of_client = netlab.ours("c", with_lines(client, f"Journal = {tmp_path}/{{start}}.parquet"))
    (folder,) = tmp_path.glob("20*Z.parquet")
    assert netlab.ping("c", "10.77.0.1") == 3
    netlab.ip("s", "link", "set", netlab.interface("s"), "down")
    assert netlab.ping("c", "10.77.0.1", 10, 0.02, 1) == 0
    netlab.run("c", *("ping", "-f", "-q", "-c", "300", "-w", "1", "10.77.0.1"), check=False)
    refused = netlab.show("s")["dropped"]["tun_refused"]
    netlab.ip("s", "link", "set", netlab.interface("s"), "up")
    assert netlab.ping("c", "10.77.0.1", 297, 0.005, 1) == 297
    netlab.wait(lambda: echoes(read(path), "in", "data") == 300, timeout_s=5)
    (writer,) = children(tunnel.pid)
    tunnel.send_signal(signal.SIGKILL)
    subprocess.run(["kill", "-9", str(writer)], check=True)
    netlab.end(tunnel)
    time.sleep(1.2)  # the client's rows are due after a second; its writer then closes the file
    netlab.end(of_client, signal.SIGKILL)
    netlab.wait(lambda: echoes(pq.read_table(folder).to_pylist(), "in", "data") == 300)
    rows = read(path)
    assert echoes(rows, "out", "data") == 300
    assert echoes(rows, "in", "data") == 300
    assert len(of_kind(rows, "in", "undelivered")) == refused > 50


def up_fails(lab: NetLab, text: str) -> str:
    """Error of a start that does not succeed."""
    command = (sys.executable, "-m", "vpnforensics.reftunnel", "up", str(lab.write("s", text)), "-f")
    done = subprocess.run(
        ["ip", "netns", "exec", lab.ns("s"), *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_start_that_fails_touches_no_journal_and_leaves_none(netlab, tmp_path):
    """An address that stands twice, or no such interface, is found when all else is up already."""
    cable(netlab)
    _, server, _, _ = two_configs()
    earlier, fresh = tmp_path / "earlier.jsonl", tmp_path / "fresh.jsonl"
    earlier.write_text('{"precious":true}\n')
    assert "nothing is overwritten" in up_fails(netlab, with_lines(server, f"Journal = {earlier}"))
    assert up_fails(netlab, with_lines(server, f"Journal = {earlier}", "Address = 10.77.0.1/24"))
    assert earlier.read_text() == '{"precious":true}\n'
    error = up_fails(netlab, with_lines(server, f"Journal = {fresh}", "Nat = nosuch0"))
    assert "no such interface" in error
    assert not fresh.exists()
    assert netlab.interface("s") not in netlab.ip("s", "-br", "link")


def with_lines(text: str, *lines: str) -> str:
    return text.replace("[Interface]", "\n".join(("[Interface]", *lines)))


STRANGERS = 40_000


def test_strangers_leave_no_row_and_no_memory(netlab, tmp_path):
    """Calls from 40,000 forged sources: each gets a cookie at most, and is counted."""
    netlab.add("x")
    cable(netlab)
    netlab.link("x", "s", ["203.0.113.2/24"], ["203.0.113.1/24"])
    netlab.ip("s", "route", "add", "100.64.0.0/10", "via", "203.0.113.2")
    client, server, _, server_key = two_configs()
    path = tmp_path / "journal.jsonl"
    tunnel = netlab.ours("s", with_lines(server, f"Journal = {path}"))
    netlab.ours("c", client)
    assert netlab.ping("c", "10.77.0.1") == 3
    before = resident_bytes(tunnel.pid)
    target = (str(server_key.public), "203.0.113.1", str(PORT), str(STRANGERS), "12000")
    netlab.run("x", sys.executable, "-m", "tests.reftunnel.attacks.forged", *target)
    assert netlab.ping("c", "10.77.0.1") == 3
    dropped = netlab.show("s")["dropped"]
    assert resident_bytes(tunnel.pid) - before < 8 << 20
    netlab.end(tunnel)
    rows = read(path)
    assert {row["endpoint"].rpartition(":")[0] for row in rows} == {"192.0.2.2"}
    assert len(rows) < 30
    assert dropped["under_load"] > 1000
    assert sum(dropped.values()) > STRANGERS / 2
