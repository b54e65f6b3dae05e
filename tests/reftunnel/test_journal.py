"""The journal's decoding, its two forms, and that it agrees with tcpdump on both sides of a tunnel."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.carrier import ALL_TAKEN
from vpnforensics.reftunnel.endpoint import Endpoint
from vpnforensics.reftunnel.events import Deliver, Refused
from vpnforensics.reftunnel.handshake import TransportKeys
from vpnforensics.reftunnel.inbound import Inbound
from vpnforensics.reftunnel.journal import BLOCK_ROWS, Journal
from vpnforensics.reftunnel.journal_block import HANDSHAKE, HEAD_BYTES, IN, Block, Run, SentRows
from vpnforensics.reftunnel.session import Session

from .netlab import NetLab, cable, two_configs
from .pair import UP6, ipv4, make_pair
from .test_kernels import tcp_packet
from .test_scrub import option

AT = Endpoint("192.0.2.1", 51820)


def a_session():
    _, client, _ = make_pair()
    keys = TransportKeys(b"s" * 32, b"r" * 32)
    return Session(client.only_peer, keys, local_index=1, remote_index=2, is_initiator=True, created_at=0.0)


def rows_of(packets):
    rows = np.zeros((len(packets), 1500), np.uint8)
    for row, packet in zip(rows, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, np.uint8)
    return rows


def sent(session, first_counter, packets, read_ns=10):
    """Packets as they come from the cipher, each read at `read_ns`."""
    lengths = [len(packet) for packet in packets]
    sizes = [length + 32 for length in lengths]
    times = np.full(len(packets), read_ns, np.int64)
    return SentRows(session, AT, first_counter, rows_of(packets), lengths, sizes, times)


def read(path):
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text().splitlines()]


PACKETS = [
    tcp_packet(
        4, b"x" * 100, seq=4_000_000_000, ip_id=513, flags=0x18, options=option(123456, 654321), tos=2
    ),
    tcp_packet(6, b"y", ports=(40000, 443), options=option(7, 8, b"\1")),
    tcp_packet(4, b""),
    ipv4("10.0.0.2", "10.0.0.1", struct.pack(">HHHH", 53, 5353, 8, 0)),
    ipv4("10.0.0.2", "10.0.0.1", b"ping", proto=1),
    UP6,
    bytes(1420),
]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_every_field_of_every_kind_of_packet(tmp_path, suffix):
    path = tmp_path / f"journal{suffix}"
    session = a_session()
    journal = Journal(path)
    lengths = [len(packet) for packet in PACKETS]
    journal.sealed(sent(session, 100, PACKETS), [Run(len(PACKETS), 20, ALL_TAKEN)])
    for number, packet in enumerate(PACKETS[:3]):
        journal.opened.append((session.peer, AT, 2**63 + number, len(packet) + 32, 30 + number))
    journal.heads(rows_of(PACKETS[:3]), lengths[:3])
    journal.delivered(3, (), 40)
    journal.message(IN, HANDSHAKE, None, AT, 148, 50)
    journal.close()
    rows = read(path)
    assert len(rows) == len(PACKETS) + 4
    first, six, bare, udp, icmp, udp6, cover, *opened, handshake = rows
    assert first == {
        "direction": "out",
        "kind": "data",
        "inner_ns": 10,
        "outer_ns": 20,
        "peer": str(session.peer.config.public_key),
        "endpoint": "192.0.2.1:51820",
        "counter": 100,
        "outer_bytes": 184,
        "inner_bytes": 152,
        "ip_version": 4,
        "src": "10.0.0.1",
        "dst": "10.0.0.2",
        "proto": 6,
        "tos": 2,
        "ttl": 64,
        "df": True,
        "ip_id": 513,
        "sport": 1,
        "dport": 2,
        "tcp_flags": 0x18,
        "seq": 4_000_000_000,
        "ack": 9,
        "window": 500,
        "has_ts": True,
        "tsval": 123456,
        "tsecr": 654321,
    }
    assert (six["src"], six["dst"], six["dport"], six["tsval"], six["tsecr"]) == (
        "fd00::1",
        "fd00::2",
        443,
        7,
        8,
    )
    assert (six["ip_id"], six["ip_version"]) == (-1, 6)
    assert (bare["has_ts"], bare["tcp_flags"]) == (False, 16)
    assert (udp["sport"], udp["dport"], udp["seq"], udp["proto"]) == (53, 5353, -1, 17)
    assert (icmp["sport"], icmp["proto"]) == (-1, 1)
    assert (udp6["proto"], udp6["src"]) == (17, "fd00::2")
    assert (cover["kind"], cover["src"], cover["proto"]) == ("cover", "", -1)
    assert [row["counter"] for row in opened] == [2**63, 2**63 + 1, 2**63 + 2]
    assert [(row["direction"], row["outer_ns"], row["inner_ns"]) for row in opened] == [
        *(("in", 30, 40), ("in", 31, 40), ("in", 32, 40))
    ]
    assert (handshake["kind"], handshake["peer"], handshake["outer_bytes"]) == ("handshake", "", 148)


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_rows_keep_their_order_across_blocks(tmp_path, suffix):
    path = tmp_path / f"journal{suffix}"
    session, packets = a_session(), PACKETS[:1] * 50
    journal = Journal(path)
    total = BLOCK_ROWS // 50 * 50 * 2 + 150
    for first in range(0, total, 50):
        journal.sealed(sent(session, first, packets), [Run(50, first, ALL_TAKEN)])
    journal.close()
    assert [row["counter"] for row in read(path)] == list(range(total))


def test_rows_wait_for_a_slow_disk_and_none_is_lost(tmp_path):
    """The writer stands still: rows that are due do not wait for it, rows that have no room do."""
    path = tmp_path / "journal.parquet"
    session, packets = a_session(), PACKETS[:1] * 64
    journal = Journal(path)
    os.kill(journal._writer._process.pid, signal.SIGSTOP)
    total = 0

    def write(count):
        nonlocal total
        for _ in range(count):
            journal.sealed(sent(session, total, packets), [Run(64, 0, ALL_TAKEN)])
            total += 64

    try:
        while not journal._writer.is_behind():
            write(50)
        journal.tick(0.0)
        journal.tick(5.0)  # due, and yet at once
        assert journal.wake_at(5.0) > 5.0
        traffic = threading.Thread(target=write, args=(BLOCK_ROWS // 64 + 1,))
        traffic.start()
        traffic.join(0.5)
        assert traffic.is_alive()
    finally:
        os.kill(journal._writer._process.pid, signal.SIGCONT)
    traffic.join(30)
    journal.close()
    assert pq.read_table(path)["counter"].to_pylist() == list(range(total))


def test_an_empty_journal_can_be_closed(tmp_path):
    Journal(tmp_path / "journal.jsonl").close()
    assert (tmp_path / "journal.jsonl").read_text() == ""
    Journal(tmp_path / "journal.parquet").close()
    assert pq.read_table(tmp_path / "journal.parquet").num_rows == 0


def test_a_path_that_cannot_be_written_is_an_error(tmp_path):
    for name in ("no/such/journal.jsonl", "no/such/journal.parquet"):
        with pytest.raises(TunnelError, match="cannot write"):
            Journal(tmp_path / name)


def test_rubbish_packets_are_decoded_without_harm(tmp_path):
    generator = np.random.default_rng(5)
    rows = generator.integers(0, 256, (5000, HEAD_BYTES), np.uint8)
    rows[:, 0] = generator.choice([0x45, 0x4F, 0x60, 0x46], 5000)
    rows[:, 9] = 6
    journal = Journal(tmp_path / "journal.parquet")
    times = np.zeros(5000, np.int64)
    rubbish = SentRows(a_session(), AT, 0, rows, [1400] * 5000, [1432] * 5000, times)
    journal.sealed(rubbish, [Run(5000, 0, ALL_TAKEN)])
    journal.close()
    assert pq.read_table(tmp_path / "journal.parquet").num_rows == 5000


def test_a_block_that_was_cut_is_left_out(tmp_path):
    block = Block.empty(10)
    block.endpoint_names = ["192.0.2.1:1"]
    with (tmp_path / "pipe").open("wb") as pipe:
        block.send(pipe.fileno())
        block.send(pipe.fileno())
    whole = (tmp_path / "pipe").read_bytes()
    stream = io.BytesIO(whole[:-5])
    assert Block.receive(stream) is not None
    assert Block.receive(stream) is None
    assert Block.receive(io.BytesIO(b"")) is None


def opened_into(tmp_path, server, messages, endpoint, now):
    """Rows of transport messages that came to a server."""
    path = tmp_path / "opened.jsonl"
    journal = Journal(path)
    with (tmp_path / "tun").open("wb") as tun:
        inbound = Inbound(
            SimpleNamespace(fd=tun.fileno()), server.device, row_bytes=1516, offload=False, journal=journal
        )
        for number, message in enumerate(messages):
            inbound.take(memoryview(message), len(message), endpoint, now, 1000 + number)
            for output in server.device.take():
                if isinstance(output, Refused):
                    inbound.refuse(output)
                elif isinstance(output, Deliver):
                    inbound.deliver(output)
        inbound.flush()
    journal.close()
    return read(path)


def test_cover_is_zeros_only_and_what_is_longer_than_a_row_has_its_row(tmp_path):
    """Authentic messages with nothing, zeros, rubbish, lies and others' addresses inside."""
    wire, client, server = make_pair()
    wire.send(client, UP6)
    session = client.only_peer.sessions.current
    contents = {
        b"": "keepalive",
        UP6.ljust(64, b"\0"): "data",
        bytes(64): "cover",
        bytes(2000): "cover",
        bytes(63) + b"\1": "refused",
        b"\x45" + bytes(63): "refused",  # of no length
        ipv4("10.0.0.9", "10.0.0.1").ljust(48, b"\0"): "refused",  # of somebody else
        ipv4("10.0.0.9", "10.0.0.1", bytes(3000)): "refused",
        ipv4("10.0.0.2", "10.0.0.1", bytes(3000)): "data",
    }
    messages = [session.seal(content) for content in contents]
    rows = opened_into(tmp_path, server, messages, client.endpoint, wire.now)
    rows.sort(key=lambda row: row["counter"])
    assert [(row["kind"], row["outer_bytes"]) for row in rows] == [
        (kind, len(content) + 32) for content, kind in contents.items()
    ]
    assert [row["outer_ns"] for row in rows] == [1000 + number for number in range(len(contents))]


def test_a_flood_from_forged_addresses_is_not_remembered(tmp_path):
    """Right index, wrong tag: a journal has rows, and addresses, of authentic messages only."""
    wire, client, server = make_pair()
    wire.send(client, UP6)
    message = bytearray(wire.seen[-1][1])
    journal = Journal(tmp_path / "journal.jsonl")
    with (tmp_path / "tun").open("wb") as tun:
        inbound = Inbound(
            SimpleNamespace(fd=tun.fileno()), server.device, row_bytes=1516, offload=False, journal=journal
        )
        message[-1] ^= 1
        for port in range(1, 1001):
            inbound.take(memoryview(message), len(message), Endpoint("203.0.113.9", port), wire.now)
        message[-1] ^= 1
        client.device.send(UP6, wire.now)
        (sent,) = client.device.take()
        inbound.take(memoryview(sent.datagram), len(sent.datagram), client.endpoint, wire.now)
        inbound.flush()
    journal.close()
    assert [(row["kind"], row["endpoint"], row["counter"]) for row in read(tmp_path / "journal.jsonl")] == [
        ("data", str(client.endpoint), 1)
    ]


# -- on the wire --------------------------------------------------------------------------------------


def sniff(
    lab: NetLab, name: str, interface: str, path: Path, what: str, snap_bytes: int = 200
) -> subprocess.Popen[bytes]:
    process = lab.start(
        name,
        *(
            "tcpdump",
            "-i",
            interface,
            "-U",
            "--immediate-mode",
            "-B",
            "32768",
            "-s",
            str(snap_bytes),
            "--time-stamp-precision=nano",
        ),
        *("-w", str(path), *what.split()),
    )
    assert process.stderr is not None
    while b"listening" not in (line := process.stderr.readline()):
        assert line, "tcpdump did not start"
    return process


def end_sniffing(lab: NetLab, sniffer: subprocess.Popen[bytes]) -> None:
    time.sleep(0.7)  # until tcpdump has written what it was handed
    lab.end(sniffer)


def offloads_off(lab: NetLab, name: str, interface: str) -> None:
    """Make a capture show what goes over the cable, one datagram a packet."""
    for feature in ("tso", "gso", "gro", "tx-udp-segmentation"):
        lab.run(name, "ethtool", "-K", interface, feature, "off")


def packets_of(path: Path, link_bytes: int) -> list[tuple[int, bytes]]:
    """Time and network-layer bytes of each packet of a nanosecond pcap file."""
    data, at, out = path.read_bytes(), 24, []
    assert data[:4] == b"\x4d\x3c\xb2\xa1"
    while at < len(data):
        seconds, nanoseconds, kept, _ = struct.unpack_from("<IIII", data, at)
        out.append((seconds * 10**9 + nanoseconds, data[at + 16 + link_bytes : at + 16 + kept]))
        at += 16 + kept
    return out


@pytest.mark.needs("wireguard")
@pytest.mark.parametrize("offload", ["on", "off"])
def test_the_journal_agrees_with_tcpdump_packet_by_packet(netlab, tmp_path, offload):
    """Every row has its datagram on the wire and its packet on the inner side, and nothing else was there."""
    cable(netlab)
    client, server, _, _ = two_configs(extra={"Offload": offload})
    path = tmp_path / "journal.jsonl"
    tunnel = netlab.ours("s", server.replace("[Interface]", f"[Interface]\nJournal = {path}"))
    offloads_off(netlab, "s", f"{netlab.prefix}sc")
    offloads_off(netlab, "c", f"{netlab.prefix}cs")
    outer = sniff(netlab, "s", f"{netlab.prefix}sc", tmp_path / "outer.pcap", f"udp port {51820}")
    netlab.ours("c", client)
    (tmp_path / "file").write_bytes(bytes(range(256)) * 4096)
    with netlab.serving("s", tmp_path):
        for address in ("10.77.0.1", "[fd77::1]"):
            netlab.run("c", "curl", "-sf", "-o", str(tmp_path / "got"), f"http://{address}:8000/file")
            netlab.run(
                "c", "curl", "-sf", "-T", str(tmp_path / "file"), f"http://{address}:8000/x", check=False
            )
    assert netlab.ping("c", "10.77.0.1") == 3
    end_sniffing(netlab, outer)
    netlab.end(tunnel)
    rows = [row for row in read(path) if row["kind"] in ("data", "keepalive", "cover")]
    seen: Counter[tuple[str, int, int]] = Counter()
    times = {}
    for at_ns, packet in packets_of(tmp_path / "outer.pcap", 14):
        udp = packet[20:] if packet[0] >> 4 == 4 else packet[40:]
        if udp[8] != 4:
            continue
        direction = "out" if udp[:2] == struct.pack(">H", 51820) else "in"
        (counter,) = struct.unpack_from("<Q", udp, 16)
        key = direction, counter, struct.unpack_from(">H", udp, 4)[0] - 8
        seen[key] += 1
        times[key] = at_ns
    assert len(rows) > 700
    journaled = Counter((row["direction"], row["counter"], row["outer_bytes"]) for row in rows)
    assert journaled == seen
    # What came has the kernel's own stamp, as in the capture; what went, the time when the call was over.
    late_ns = {"in": [], "out": []}
    for row in rows:
        sent_ns = times[row["direction"], row["counter"], row["outer_bytes"]]
        late_ns[row["direction"]].append(row["outer_ns"] - sent_ns)
    assert set(late_ns["in"]) == {0}
    assert min(late_ns["out"]) >= 0
    assert np.median(late_ns["out"]) < 50_000_000
    data = [row for row in rows if row["kind"] == "data"]
    assert all(row["outer_bytes"] == 32 + min(1420, -(-row["inner_bytes"] // 16) * 16) for row in data)
    assert {row["ip_version"] for row in data} == {4, 6}
    # The inner bytes of each TCP flow are whole: the sequence space has no gap.
    payload = sum(
        row["inner_bytes"] - 52
        for row in data
        if row["proto"] == 6 and row["has_ts"] and row["ip_version"] == 4
    )
    assert payload > 1 << 20


@pytest.mark.needs("wireguard")
def test_a_journal_is_whole_after_a_signal(netlab, tmp_path):
    cable(netlab)
    path = tmp_path / "journal.parquet"
    client, server, _, _ = two_configs()
    tunnel = netlab.ours("s", server.replace("[Interface]", f"[Interface]\nJournal = {path}"))
    netlab.ours("c", client)
    assert netlab.ping("c", "10.77.0.1", 10, 0.02) == 10
    assert netlab.end(tunnel) == 0
    rows = read(path)
    echoes = [row for row in rows if row["proto"] == 1]
    assert len(echoes) == 20
    assert {row["direction"] for row in echoes} == {"in", "out"}
    assert sorted(row["outer_bytes"] for row in rows if row["kind"] == "handshake") == [92, 148]
