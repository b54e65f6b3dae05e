from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.packets.fence import FENCED
from tests.tunnels.streams import Talk, cut, openvpn_frames, segments_of, tls_records
from vpnforensics.tunnels import _frame_kernels as k
from vpnforensics.tunnels.framing import follow_frames
from vpnforensics.tunnels.openvpn_tcp import data_keys
from vpnforensics.tunnels.reassembly import reassemble_streams


def followed(conversations, framing, keys=None, **options):
    pieces = reassemble_streams(conversations, np.array([0]))
    return follow_frames(conversations.packets, pieces, [framing] * pieces.streams, keys, **options), pieces


def counters(frames, version=2):
    at = 6 if version == 2 else 3
    return [int.from_bytes(h[at : at + 4].tobytes(), "big") for h in frames.head]


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from(["openvpn", "tls"]))
def test_every_frame_is_found_with_the_segment_that_completed_it(tmp_path_factory, seed, framing):
    rng = np.random.default_rng(seed)
    if framing == "openvpn":
        frames, lengths = openvpn_frames(rng, 60)
    else:
        lengths = rng.integers(1, 3000, 60).tolist()
        frames = tls_records(rng, lengths)
    talk = Talk()
    talk.syn()
    segments = cut(b"".join(frames), rng)
    order = np.argsort(np.arange(len(segments)) + rng.uniform(0, 3, len(segments)))
    for i in order:
        talk.segment(True, *segments[i])
        if rng.random() < 0.1:
            talk.segment(True, *segments[i])
    conversations = talk.from_file(tmp_path_factory.mktemp("c") / "c.pcap")
    found, pieces = followed(conversations, framing)
    assert found.origin == "file"
    assert found.size.tolist() == lengths
    ends = np.cumsum([len(f) for f in frames])
    delivered = np.zeros(ends[-1], np.int64)
    for p in range(len(pieces)):
        delivered[pieces.pos[p] : pieces.pos[p] + pieces.size[p]] = pieces.done[p]
    assert found.row.tolist() == delivered[ends - 1].tolist()
    health = found.health((0, 1), pieces.holes_bytes)
    assert health.lost_share == 0
    assert health.breaks == 0


def groups_of(frames, rng):
    groups, at = [], 0
    while at < len(frames):
        n = int(rng.integers(1, 4))
        groups.append(frames[at : at + n])
        at += n
    return groups


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_heads_alone_give_true_frames_and_say_what_is_lost(seed, version):
    rng = np.random.default_rng(seed)
    frames, lengths = openvpn_frames(rng, 400, version=version)
    talk = Talk()
    talk.syn()
    for seq, data in segments_of(groups_of(frames, rng)):
        talk.segment(True, seq, data)
    found, pieces = followed(talk.from_table(), "openvpn")
    assert found.origin == "heads"
    for size, counter, known in zip(found.size, counters(found, version), found.known_bytes, strict=True):
        if known >= 10:
            assert lengths[counter - 1] == size
    assert len(found) > 150
    health = found.health((0, 1), pieces.holes_bytes)
    assert health.inferred > 0
    assert health.framed_bytes == int(found.size.sum()) + 2 * len(found)
    assert health.framed_bytes + health.lost_bytes <= sum(len(f) for f in frames)
    assert health.framed_bytes + health.lost_bytes >= 0.98 * sum(len(f) for f in frames)
    assert "in no known frame" in str(health)


def test_a_bulk_transfer_is_inferred_between_two_readable_headers():
    rng = np.random.default_rng(1)
    frames, _ = openvpn_frames(rng, 3000, sizes=(1426,))  # 1450 in the stream, 1448 a segment
    talk = Talk()
    talk.syn()
    for seq, data in segments_of([frames]):
        talk.segment(True, seq, data)
    found, pieces = followed(talk.from_table(), "openvpn")
    assert found.health((0, 1), pieces.holes_bytes).inferred > 1000
    assert set(found.size.tolist()) == {1450}
    assert counters(found) == list(range(1, len(found) + 1))
    assert np.all(np.diff(found.row) >= 0)


@pytest.mark.parametrize("nonce", [None, 2**40])
def test_tls_from_heads(nonce):
    rng = np.random.default_rng(2)
    sizes = rng.choice([77, 90, 300, 1417], 500).tolist()
    records = tls_records(rng, sizes, nonce=nonce)
    talk = Talk()
    talk.syn()
    for seq, data in segments_of(groups_of(records, rng)):
        talk.segment(True, seq, data)
    found, pieces = followed(talk.from_table(), "tls")
    assert len(found) > 200
    places = np.cumsum([0, *(s + 5 for s in sizes)])
    health = found.health((0, 1), pieces.holes_bytes)
    assert health.framed_bytes + health.lost_bytes <= places[-1]
    if nonce:
        numbers = [int.from_bytes(h[5:13].tobytes(), "big") - nonce for h in found.head]
        assert [sizes[n] for n in numbers] == found.size.tolist()


def test_mid_stream_start_needs_a_template_and_finds_all_but_the_first(tmp_path):
    rng = np.random.default_rng(3)
    frames, lengths = openvpn_frames(rng, 300, first=10_000)
    talk = Talk()
    stream = b"".join(frames)[500:]
    for seq, data in cut(stream[:4000], rng) + segments_of(groups_of(frames[100:], rng), start=50_000):
        talk.segment(True, seq, data)
    conversations = talk.from_file(tmp_path / "c.pcap")
    found, pieces = followed(conversations, "openvpn")
    assert len(found) == 0
    heads = conversations.packets.head[pieces.row]
    keys = data_keys(pieces.stream, heads, pieces.streams)
    assert keys.tolist() == [9 << 24 | 5] * 2
    found, _ = followed(conversations, "openvpn", keys)
    assert len(found) >= 200
    assert all(lengths[c - 10_000] == s for c, s in zip(counters(found), found.size, strict=True))


def test_a_hole_inside_a_body_does_not_break_the_chain(tmp_path):
    rng = np.random.default_rng(4)
    frames, lengths = openvpn_frames(rng, 50, sizes=(1400,))
    talk = Talk()
    talk.syn()
    data = b"".join(frames)
    for at in range(0, len(data), 300):
        if at != 600:
            talk.segment(True, 1000 + at, data[at : at + 300], step_s=0.05)
        talk.segment(False, 5000, b"", ack=1000 + at + 300)
    found, pieces = followed(talk.from_file(tmp_path / "c.pcap"), "openvpn")
    assert found.size.tolist() == lengths
    health = found.health((0, 1), pieces.holes_bytes)
    assert (health.missing_bytes, health.breaks) == (300, 0)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=400), st.integers(0, 3), st.booleans(), st.integers(0, 2**32))
def test_hostile_bytes_neither_hang_nor_read_beyond_what_was_captured(data, framing, begun, seed):
    rng = np.random.default_rng(seed)
    bounds = np.sort(rng.integers(0, len(data) + 1, 6))
    at = np.r_[0, bounds]
    size = np.diff(np.r_[at, len(data)])
    buf = FENCED.holding(data)
    state = np.zeros((1, k.STATE_COLUMNS), np.int64)
    state[:, k.SYNCED] = begun
    state[:, [k.BODY_END, k.COUNTER]] = -1
    state[:, k.KEY] = rng.choice([k.NO_KEY, 16] if framing == k.SSH else [k.NO_KEY, 6 << 24, 9 << 24])
    state[:, k.PHASE] = rng.integers(0, 3) if framing == k.SSH and begun else k.SEALED
    findings = np.zeros((1, k.FINDING_COLUMNS), np.int64)
    got = np.minimum(size, rng.integers(0, 400, len(size)))
    frames, _ = k.walk_frames(
        np.array([framing]),
        np.zeros(len(at), np.int64),
        at + 1000 * rng.integers(0, 2),
        size,
        len(buf) - len(data) + at,
        got,
        np.ones(len(at), np.bool_),
        np.arange(len(at)),
        buf,
        state,
        np.zeros((1, k.HEADER_BYTES), np.uint8),
        np.zeros((1, 4, 2), np.int64),
        findings,
    )
    assert findings[0, k.LOST_BYTES] <= len(data) + 2000
    assert (frames[:, k.LENGTH] >= 0).all()
