"""What an observer sees of the countermeasures, on the wire."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest

from .netlab import PORT, NetLab, cable, two_configs
from .test_journal import end_sniffing, offloads_off, packets_of, sniff

pytestmark = pytest.mark.needs("wireguard")


def bring_up(lab: NetLab, **extra: str) -> None:
    cable(lab)
    client, server, _, _ = two_configs(extra=extra)
    lab.ours("s", server)
    lab.ours("c", client)
    assert lab.ping("c", "10.77.0.1") == 3


def transport_messages(path) -> list[tuple[int, bool, int]]:
    """Time, whether upwards, and size of each data message."""
    out = []
    for at_ns, packet in packets_of(path, 14):
        udp = packet[20:]
        size = struct.unpack_from(">H", udp, 4)[0] - 8
        if udp[8] == 4 and size > 32:
            out.append((at_ns, udp[2:4] == struct.pack(">H", PORT), size))
    return out


def observe(lab: NetLab, tmp_path, traffic) -> list[tuple[int, bool, int]]:
    offloads_off(lab, "s", f"{lab.prefix}sc")
    offloads_off(lab, "c", f"{lab.prefix}cs")
    sniffer = sniff(lab, "s", f"{lab.prefix}sc", tmp_path / "outer.pcap", f"udp port {PORT}")
    traffic()
    end_sniffing(lab, sniffer)
    return transport_messages(tmp_path / "outer.pcap")


def mixed_traffic(lab: NetLab, tmp_path):
    def run() -> None:
        (tmp_path / "file").write_bytes(bytes(200_000))
        with lab.serving("s", tmp_path):
            lab.run("c", "curl", "-sf", "-o", str(tmp_path / "got"), "http://10.77.0.1:8000/file")
        assert (tmp_path / "got").stat().st_size == 200_000
        for size in (1, 100, 500, 900, 1300):
            lab.run("c", "ping", "-n", "-c", "1", "-s", str(size), "10.77.0.1")

    return run


@pytest.mark.parametrize(
    ("pad", "sizes"),
    [("mtu", {1452}), ("block:512", {544, 1056, 1452}), ("buckets:128,640", {160, 672, 1452})],
)
def test_only_padded_sizes_are_seen(netlab, tmp_path, pad, sizes):
    bring_up(netlab, Pad=pad)
    seen = observe(netlab, tmp_path, mixed_traffic(netlab, tmp_path))
    assert {size for _, _, size in seen} <= sizes
    assert len(seen) > 150


def test_cover_is_a_clock_whatever_is_sent(netlab, tmp_path):
    """100 datagrams a second of one size each way, with traffic and without."""
    bring_up(netlab, Cover="100")

    def quiet_then_busy() -> None:
        netlab.run("c", "sleep", "2")
        assert netlab.ping("c", "10.77.0.1", 10, 0.1) == 10
        netlab.run("c", "sleep", "1")

    seen = observe(netlab, tmp_path, quiet_then_busy)
    assert {size for _, _, size in seen} == {1452}
    duration_s = (seen[-1][0] - seen[0][0]) / 1e9
    for up in (True, False):
        times = np.array([at for at, direction, _ in seen if direction is up])
        # test_shaping shows that it is exact by an exact clock. A busy machine misses ticks, which are not
        # made up for; there are never more than the clock says.
        assert len(times) > 20 * duration_s
        assert len(times) <= 100 * duration_s + 2


def test_batches_leave_together(netlab, tmp_path):
    bring_up(netlab, BatchMs="50")
    seen = observe(netlab, tmp_path, lambda: netlab.ping("c", "10.77.0.1", 100, 0.01))
    up = np.array([at for at, direction, _ in seen if direction])
    gaps_ms = np.diff(up) / 1e6
    # Packets 10 ms apart leave in bunches, 50 ms apart.
    assert (gaps_ms < 2).mean() > 0.6
    assert gaps_ms[gaps_ms > 2].min() > 30
    out = netlab.run("c", "ping", "-n", "-q", "-c", "3", "10.77.0.1")
    average_ms = float(out.split("rtt")[1].split("/")[4])
    assert 30 < average_ms < 140  # up to the bound each way


def test_scrubbing_at_egress(netlab, tmp_path):
    """The Internet sees other timestamps, IDs and TTLs than the client sent, and TCP still works."""
    netlab.add("c", "s", "i")
    netlab.link("c", "s", ["192.0.2.2/24"], ["192.0.2.1/24"])
    outside, far = netlab.link("s", "i", ["203.0.113.1/24"], ["203.0.113.2/24"])
    netlab.ip("c", "route", "add", "default", "via", "192.0.2.1")
    client, server, _, _ = two_configs()
    scrub = f"Nat = {outside}\nScrubTimestamps = on\nScrubIpId = zero\nNormaliseTtl = 77"
    netlab.ours("s", server.replace("[Interface]", f"[Interface]\n{scrub}"))
    netlab.ours("c", client.replace("10.77.0.0/24, fd77::/64", "0.0.0.0/0"))
    inner = sniff(netlab, "c", netlab.interface("c"), tmp_path / "inner.pcap", "tcp dst port 8000")
    egress = sniff(netlab, "i", far, tmp_path / "egress.pcap", "tcp dst port 8000")
    (tmp_path / "file").write_bytes(bytes(3_000_000))
    with netlab.serving("i", tmp_path):
        for _ in range(3):
            netlab.run("c", "curl", "-sf", "-o", str(tmp_path / "got"), "http://203.0.113.2:8000/file")
            assert (tmp_path / "got").stat().st_size == 3_000_000
    end_sniffing(netlab, inner)
    netlab.end(egress)

    def fields(path, link_bytes):
        """By sequence and acknowledgement number: TSval, IP ID and TTL."""
        out = {}
        for _, packet in packets_of(path, link_bytes):
            if packet[32] >> 4 >= 8 and packet[40:44] == b"\1\1\10\12":
                key = packet[24:32]
                out[key] = (
                    struct.unpack_from(">I", packet, 44)[0],
                    struct.unpack_from(">H", packet, 4)[0],
                    packet[8],
                )
        return out

    before, after = fields(tmp_path / "inner.pcap", 0), fields(tmp_path / "egress.pcap", 14)
    common = before.keys() & after.keys()
    assert len(common) > 20
    assert {after[key][1] for key in common} == {0}
    assert {after[key][2] for key in common} == {76}
    assert Counter(before[key][2] for key in common).keys() == {64}
    assert not any(before[key][0] == after[key][0] for key in common)
