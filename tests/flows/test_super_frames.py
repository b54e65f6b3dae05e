"""Super-frames: what offloading merges is split again, and a case links as if nothing had been merged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vpnforensics as vf
from tests.tables import table, tcp
from vpnforensics import samples
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.flows.super_frames import split_super_frames
from vpnforensics.packets.table import PacketTable

NAT, WEB = "203.0.113.1", "192.0.2.10"
SYN, SYN_ACK, ACK, PSH_FIN_ACK = 0x02, 0x12, 0x10, 0x19
MERGED_WITHIN_NS = 500_000
MOST_BYTES = 65_000


def _merged(packets: PacketTable) -> tuple[PacketTable, int]:
    """What a tap behind GRO would have seen: runs of full segments and what ends them are one frame.

    Written independently of the splitting: one packet after the other, in plain Python.
    """
    kept: list[int] = []
    growing: dict[tuple[int, ...], int] = {}  # connection and direction -> place of its frame in ``kept``
    payload, length = packets.payload_bytes.copy(), packets.ip_len_bytes.copy()
    ts_ns, flags = packets.ts_ns.copy(), packets.tcp_flags.copy()
    full: dict[int, int] = {}
    count = 0
    for i in range(len(packets)):
        ends = (int(packets.src[i]), int(packets.sport[i]), int(packets.dst[i]), int(packets.dport[i]))
        growing.pop((*ends[2:], *ends[:2]), None)  # an answer flushes
        size = int(packets.payload_bytes[i])
        first = growing.get(ends)
        plain = packets.proto[i] == 6 and size > 0 and flags[i] & 0x06 == 0
        if (
            plain
            and first is not None
            and size <= full[first]
            and int(packets.seq[i]) == int(packets.seq[first]) + int(payload[first])
            and packets.ts_ns[i] - ts_ns[first] < MERGED_WITHIN_NS
            and payload[first] + size < MOST_BYTES
        ):
            payload[first] += size
            length[first] += size  # one header for all
            flags[first] |= flags[i]
            ts_ns[first] = packets.ts_ns[i]
            count += 1
            if size < full[first]:
                growing.pop(ends)
            continue
        kept.append(i)
        growing.pop(ends, None)
        if plain and size >= 1300:
            growing[ends] = i
            full[i] = size
    merged = replace(packets, payload_bytes=payload, ip_len_bytes=length, ts_ns=ts_ns, tcp_flags=flags)
    return merged.take(np.array(kept)), count


def _connection(payload_bytes: int, mss: tuple[int, int] = (1460, 1380), **more: int) -> PacketTable:
    last = {"payload_bytes": payload_bytes, "ip_len_bytes": payload_bytes + 40, "seq": 2**32 - 1000} | more
    return table(
        [
            tcp(0.0, NAT, 4000, WEB, 443, SYN, seq=1, mss=mss[0]),
            tcp(0.1, WEB, 443, NAT, 4000, SYN_ACK, seq=9, mss=mss[1]),
            tcp(0.2, WEB, 443, NAT, 4000, PSH_FIN_ACK, ip_id=65534, head=b"GET", **last),
        ]
    )


def test_a_frame_becomes_full_segments_and_a_remainder() -> None:
    split = split_super_frames(assemble_flows(_connection(3 * 1380 + 7)))
    assert split.payload_bytes[2:].tolist() == [1380, 1380, 1380, 7]
    assert split.ip_len_bytes[2:].tolist() == [1420, 1420, 1420, 47]
    assert split.seq[2:].tolist() == [2**32 - 1000, 380, 1760, 3140]
    assert split.ip_id[2:].tolist() == [65534, 65535, 0, 1]
    assert split.tcp_flags[2:].tolist() == [ACK, ACK, ACK, PSH_FIN_ACK]
    assert set(split.frame[2:].tolist()) == {3}
    assert set(split.ts_ns[2:].tolist()) == {200_000_000}
    assert [row.tobytes()[:3] for row in split.head[2:]] == [b"GET", *[b"\0\0\0"] * 3]


def test_timestamps_take_their_room() -> None:
    split = split_super_frames(assemble_flows(_connection(2 * 1368, has_ts=1)))
    assert split.payload_bytes[2:].tolist() == [1368, 1368]


@pytest.mark.parametrize(("payload_bytes", "mss"), [(1380, (1460, 1380)), (8960, (8960, 8960))])
def test_what_the_mss_allows_is_left_alone(payload_bytes: int, mss: tuple[int, int]) -> None:
    packets = _connection(payload_bytes, mss)
    assert split_super_frames(assemble_flows(packets)) is packets


def test_without_a_syn_the_commonest_full_frame_tells() -> None:
    frames = [1448] * 12 + [900] * 30 + [1448 * 2 + 100]
    packets = table(
        tcp(n / 10, WEB, 443, NAT, 4000, seq=1, payload_bytes=p, ip_len_bytes=p + 52, has_ts=1)
        for n, p in enumerate(frames)
    )
    split = split_super_frames(assemble_flows(packets))
    assert split.payload_bytes.tolist() == [*frames[:-1], 1448, 1448, 100]


@pytest.mark.parametrize("name", ["wireguard", "openvpn-udp", "strongswan", "two-clocks"])
def test_every_flow_has_its_packets_back(name: str) -> None:
    egress = vf.read_capture(samples.load(name).egress)
    merged, count = _merged(egress)
    assert count > 0.05 * len(egress)
    restored = assemble_flows(split_super_frames(assemble_flows(merged)))
    whole = assemble_flows(egress)
    assert np.array_equal(restored.packets_up, whole.packets_up)
    assert np.array_equal(restored.packets_down, whole.packets_down)
    assert np.array_equal(restored.bytes, whole.bytes)


@pytest.mark.parametrize("name", ["wireguard", "openvpn-udp"])
def test_a_merged_egress_links_as_the_unmerged_one(name: str) -> None:
    """But for a flow or two: merging moved times by up to half a millisecond."""
    sample = samples.load(name)
    ingress, egress = vf.read_capture(sample.ingress), vf.read_capture(sample.egress)
    expected, found = (vf.correlate(ingress, side).links["tunnel"] for side in (egress, _merged(egress)[0]))
    assert expected.notna().mean() > 0.95
    same = (found == expected) | (found.isna() & expected.isna())
    assert same.mean() > 0.98
    assert (found[~same].isna() | expected[~same].isna()).all()  # none to another tunnel


def test_a_frame_that_opens_a_flow_is_no_super_frame() -> None:
    opening = tcp(0.0, NAT, 4000, WEB, 443, SYN, seq=1, mss=1380, payload_bytes=5_000, ip_len_bytes=5_044)
    flows = assemble_flows(table([opening]))
    packets = split_super_frames(flows)
    assert packets is flows.packets
    assert len(assemble_flows(packets)) == len(flows)
