from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.groundtruth.simulate.cases import small
from tests.tunnels.streams import Talk, openvpn_frames, openvpn_handshake, segments_of, tls_records
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.packets.read import read_capture
from vpnforensics.tunnels.find import find_tunnels

HTTPS = ("10.0.0.1", 443)


def speak(talk, up_groups, down_groups, rng, **ends):
    """Both directions' segments, interleaved."""
    up = [(True, *s) for s in segments_of(up_groups, start=1000)]
    down = [(False, *s) for s in segments_of(down_groups, start=5000)]
    place = {id(s): (i + 0.5) / len(side) for side in (up, down) for i, s in enumerate(side)}
    for side, seq, data in sorted(up + down, key=lambda s: place[id(s)]):
        talk.segment(side, seq, data, **ends)


def groups(frames, rng):
    cuts = np.unique(rng.integers(0, len(frames), len(frames) // 2))
    return [frames[a:b] for a, b in zip([0, *cuts], [*cuts, len(frames)], strict=True) if b > a]


def openvpn_talk(rng, *, handshake):
    talk = Talk()
    sent, lengths = openvpn_frames(rng, 150)
    answered, more = openvpn_frames(rng, 200)
    hello = openvpn_handshake(rng) if handshake else ([], [])
    if handshake:
        talk.syn()
    speak(
        talk,
        [*([f] for f in hello[0]), *groups(sent, rng)],
        [*([f] for f in hello[1]), *groups(answered, rng)],
        rng,
    )
    return talk, lengths, more


@pytest.mark.parametrize("handshake", [True, False])
def test_openvpn_over_tcp(tmp_path, handshake):
    rng = np.random.default_rng(1)
    talk, up, down = openvpn_talk(rng, handshake=handshake)
    tunnels = find_tunnels(talk.from_file(tmp_path / "c.pcap"))
    (tunnel,) = tunnels.tunnels
    assert (tunnel.protocol, tunnel.transport, tunnel.sure) == ("openvpn", "tcp", True)
    assert (tunnel.client, tunnel.server) == ("10.0.0.2:40000", "10.0.0.1:1194")
    records = tunnels.records
    assert records.size[records.up].tolist() == up
    assert records.size[~records.up].tolist() == down
    assert records.counter[records.up].tolist() == list(range(1, 151))
    assert tunnel.stream.origin == "file"
    assert tunnel.stream.lost_share == 0
    assert "0.0%" in tunnels.to_pandas()["stream"][0]


def test_a_capture_that_begins_within_a_bulk_transfer(tmp_path):
    """Segments full of frames that begin anywhere, for longer than the first look; then ordinary traffic."""
    rng = np.random.default_rng(5)
    bulk, _ = openvpn_frames(rng, 500, sizes=(1400,))
    rest, _ = openvpn_frames(rng, 200, first=501)
    sent, _ = openvpn_frames(rng, 100)
    talk = Talk()
    down = segments_of([bulk, *groups(rest, rng)], start=5000)[3:]
    for seq, data in down[:450]:
        talk.segment(False, seq, data)
    for i, (seq, data) in enumerate(segments_of([[f] for f in sent], start=1000)):
        talk.segment(True, seq, data)
        for later in down[450 + 3 * i : 453 + 3 * i]:
            talk.segment(False, *later)
    (tunnel,) = find_tunnels(talk.from_file(tmp_path / "c.pcap")).tunnels
    assert (tunnel.protocol, tunnel.client, tunnel.sure) == ("openvpn", "10.0.0.2:40000", True)


@pytest.mark.parametrize("snaplen", [70, 96, 200])
def test_snapped_records_are_a_true_part_of_all(tmp_path, snaplen):
    rng = np.random.default_rng(2)
    talk, up, _ = openvpn_talk(rng, handshake=True)
    tunnels = find_tunnels(talk.from_file(tmp_path / "c.pcap", snaplen))
    (tunnel,) = tunnels.tunnels
    assert tunnel.sure
    assert tunnel.stream.lost_share > 0
    records = tunnels.records
    numbered = records.up & (records.counter >= 0)
    assert numbered.sum() > 40
    for counter, size in zip(records.counter[numbered], records.size[numbered], strict=True):
        assert up[counter - 1] == size


def web(rng, *, large):
    talk = Talk()
    talk.syn(server=HTTPS)
    hello = tls_records(rng, [512], kind=22)
    sizes = rng.integers(9000, 16000, 60) if large else rng.integers(60, 1400, 120)
    speak(
        talk,
        [hello, *([r] for r in tls_records(rng, rng.integers(60, 900, 40).tolist()))],
        [hello, *([r] for r in tls_records(rng, sizes.tolist()))],
        rng,
        server=HTTPS,
    )
    return find_tunnels(talk.from_table())


def test_the_web_is_no_candidate_and_small_records_are_only_one():
    rng = np.random.default_rng(3)
    assert len(web(rng, large=True)) == 0
    (candidate,) = web(rng, large=False).tunnels
    assert (candidate.protocol, candidate.variant, candidate.sure) == ("tls", "tls1.3", False)


def test_ssh_and_unknown_streams_are_candidates_without_records():
    rng = np.random.default_rng(4)
    talk = Talk()
    for server, opening in ((("10.0.0.1", 22), b"SSH-2.0-x\r\n"), (("10.0.0.1", 8388), rng.bytes(50))):
        talk.syn(server=server)
        speak(
            talk,
            [[opening], *([rng.bytes(80)] for _ in range(60))],
            [[rng.bytes(300)] * 60],
            rng,
            server=server,
        )
    talk.syn(server=("10.0.0.1", 80))
    text = b"GET /index.html HTTP/1.1\r\nHost: example\r\n\r\n"
    speak(talk, [[text]] * 40, [[b"HTTP/1.1 200 OK\r\n" + b"text " * 200]] * 40, rng, server=("10.0.0.1", 80))
    tunnels = find_tunnels(talk.from_table())
    assert [t.protocol for t in tunnels.tunnels] == ["ssh", "stream"]
    assert not any(t.sure for t in tunnels.tunnels)
    assert len(tunnels.records) == 0
    assert len(tunnels.plain) == 1


@pytest.mark.parametrize(
    ("protocol", "known", "variant", "sure"),
    [
        ("openvpn-tcp", "openvpn", "data_v2", True),
        ("reftunnel-tcp", "wireguard", "", True),
        ("ocserv-tls", "tls", "tls1.2_gcm", False),
        ("sstp", "tls", "tls1.2_gcm", False),
    ],
)
def test_simulated_tunnels_carry_what_comes_out(tmp_path, protocol, known, variant, sure):
    spec = dataclasses.replace(small(protocol), duration_s=15.0)
    simulate(spec, tmp_path, 3)
    tunnels = find_tunnels(
        assemble_flows(read_capture(tmp_path / "ingress.pcap"), idle_tcp_s=np.inf, idle_other_s=np.inf)
    )
    mine = [t for t in tunnels.tunnels if t.protocol == known]
    assert len(mine) == 3
    assert {(t.variant, t.sure) for t in mine} == {(variant, sure)}
    assert all(t.stream is not None and t.stream.lost_share < 0.001 for t in mine)
    egress = read_capture(tmp_path / "egress.pcap")
    inside = mine[0].length_maps[0].outer(np.unique(egress.ip_len_bytes))
    sizes, counts = np.unique(tunnels.records.size, return_counts=True)
    known_sizes = np.isin(sizes, inside)
    assert counts[known_sizes].sum() >= 0.95 * counts.sum()
    assert abs(counts[known_sizes].sum() - len(egress)) < 0.03 * len(egress)
