"""ssh with lengths in clear: packets out of its streams, and what is made of them."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.corpus.ssh import CHACHA, ETM, GCM, TUN_BYTES, Suite, openings
from tests.tunnels.streams import Talk, cut, segments_of
from vpnforensics.tunnels import ssh
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.framing import follow_frames
from vpnforensics.tunnels.protocol import LIKENESS, POSSIBLE, Datagrams
from vpnforensics.tunnels.reassembly import reassemble_streams

SHORT = Suite("aes256-ctr", "umac-64-etm@openssh.com", 16, 8)
SHA1 = Suite("aes256-ctr", "hmac-sha1-etm@openssh.com", 16, 20)
SHA512 = Suite("aes256-ctr", "hmac-sha2-512-etm@openssh.com", 16, 64)
CLEAR = (GCM, ETM, SHORT, SHA1, SHA512)
SERVER = ("10.0.0.1", 22)


def sealed(rng, sizes, suite):
    """Packets of these lengths behind their length fields."""
    return [int(n).to_bytes(4, "big") + rng.bytes(int(n) + suite.tag) for n in sizes]


def followed(conversations, suite, **options):
    pieces = reassemble_streams(conversations, np.array([0]))
    tags = np.full(pieces.streams, -1 if suite.hidden else suite.tag)
    return follow_frames(conversations.packets, pieces, ["ssh"] * pieces.streams, tags, **options), pieces


def opening_of(suite, *, up=True):
    return openings(random.Random(3).randbytes, suite)[up]


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.sampled_from(CLEAR))
def test_every_packet_after_newkeys_with_the_segment_that_completed_it(tmp_path_factory, seed, suite):
    rng = np.random.default_rng(seed)
    sizes = (16 * rng.integers(1, 120, 60)).tolist()
    sizes[7] = 32_768 + 16
    packets, before = sealed(rng, sizes, suite), b"".join(opening_of(suite))
    talk = Talk()
    talk.syn(server=SERVER)
    segments = cut(before + b"".join(packets), rng)
    order = np.argsort(np.arange(len(segments)) + rng.uniform(0, 3, len(segments)))
    for i in order:
        for _ in range(1 + (rng.random() < 0.1)):
            talk.segment(True, *segments[i], server=SERVER)
    found, pieces = followed(talk.from_file(tmp_path_factory.mktemp("c") / "c.pcap"), suite)
    assert found.size.tolist() == sizes
    ends = len(before) + np.cumsum([len(p) for p in packets])
    assert found.end.tolist() == ends.tolist()
    delivered = np.zeros(ends[-1], np.int64)
    for p in range(len(pieces)):
        delivered[pieces.pos[p] : pieces.pos[p] + pieces.size[p]] = pieces.done[p]
    assert found.row.tolist() == delivered[ends - 1].tolist()
    health = found.health((0, 1), pieces.holes_bytes)
    assert (health.lost_share, health.breaks, health.framed_bytes) == (0, 0, ends[-1])


@pytest.mark.parametrize("suite", CLEAR)
@pytest.mark.parametrize("begun", [True, False])
def test_tags_show_in_where_segments_begin(suite, begun):
    rng = np.random.default_rng(1)
    talk = Talk()
    packets = sealed(rng, 16 * rng.integers(1, 90, 80), suite)
    groups = [packets[a : a + 2] if a % 6 == 0 else packets[a : a + 1] for a in range(0, 80, 2)]
    if begun:
        talk.syn(server=SERVER)
        groups = [[part] for part in opening_of(suite)] + groups
    for seq, data in segments_of(groups):
        talk.segment(True, seq, data, server=SERVER)
    conversations = talk.from_table()
    pieces = reassemble_streams(conversations, np.array([0]))
    heads = conversations.packets.head[pieces.row]
    assert ssh.tag_bytes(pieces.stream, pieces.pos, heads, pieces.streams).tolist() == [suite.tag] * 2


def test_two_lengths_that_lead_to_a_third_are_too_few():
    rng = np.random.default_rng(1)
    packets = sealed(rng, [48] * 4, GCM)
    pos = np.cumsum([0] + [len(p) for p in packets])[:-1]
    heads = np.array([list(p[:32]) for p in packets], np.uint8)
    stream = np.zeros(4, np.int64)
    assert ssh.tag_bytes(stream, pos, heads, 2).tolist() == [16, 16]
    assert ssh.tag_bytes(stream[:3], pos[:3], heads[:3], 2).tolist() == [-1, -1]


def test_hidden_lengths_give_no_packets():
    rng = np.random.default_rng(1)
    talk = Talk()
    talk.syn(server=SERVER)
    for seq, data in segments_of(
        [*([p] for p in opening_of(CHACHA)), *([rng.bytes(100)] for _ in range(60))]
    ):
        talk.segment(True, seq, data, server=SERVER)
    found, pieces = followed(talk.from_table(), CHACHA)
    assert len(found) == 0
    assert found.health((0, 1), pieces.holes_bytes).lost_bytes == 6000


@pytest.mark.parametrize("snaplen", [84, 96, 200])
@pytest.mark.parametrize("seed", range(3))
def test_snapped_packets_are_a_true_part_of_all(tmp_path, snaplen, seed):
    """In order; what was read is right, what is told by its neighbours nearly always."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([80, 96, 112, 352, 1296], 400).tolist()
    packets = sealed(rng, sizes, GCM)
    cuts = np.unique(rng.integers(0, 400, 300))
    groups = [packets[a:b] for a, b in zip([0, *cuts], [*cuts, 400], strict=True) if b > a]
    opening = opening_of(GCM)
    talk = Talk()
    talk.syn(server=SERVER)
    for seq, data in segments_of([*([p] for p in opening), *groups]):
        talk.segment(True, seq, data, server=SERVER)
    found, pieces = followed(talk.from_file(tmp_path / "c.pcap", snaplen), GCM)
    ends = sum(map(len, opening)) + np.cumsum([len(p) for p in packets])
    true = dict(zip(ends.tolist(), sizes, strict=True))
    right = np.array(
        [true.get(end) == size for end, size in zip(found.end.tolist(), found.size.tolist(), strict=True)]
    )
    assert right[found.known_bytes > 4].all()
    assert len(right) > 200
    health = found.health((0, 1), pieces.holes_bytes)
    assert health.inferred > 0
    assert (~right).sum() <= 0.05 * health.inferred
    assert health.framed_bytes + health.lost_bytes == ends[-1]


def test_a_capture_that_begins_within_a_packet_and_has_a_hole(tmp_path):
    rng = np.random.default_rng(5)
    sizes = (16 * rng.integers(1, 400, 120)).tolist()
    stream = b"".join(sealed(rng, sizes, ETM))
    talk = Talk()
    for seq, data in cut(stream[100:], rng, most=900):
        if not 60_000 < seq < 62_000:
            talk.segment(True, seq, data, server=SERVER, step_s=0.05)
        talk.segment(False, 5000, b"", ack=seq + len(data), server=SERVER)
    found, pieces = followed(talk.from_file(tmp_path / "c.pcap"), ETM)
    health = found.health((0, 1), pieces.holes_bytes)
    assert 1000 < health.missing_bytes < 3800
    true = dict(zip((np.cumsum([n + 36 for n in sizes]) - 100).tolist(), sizes, strict=True))
    right = [true.get(end) == size for end, size in zip(found.end.tolist(), found.size.tolist(), strict=True)]
    assert all(right)
    assert len(right) > 100


def sample(up, down, *, head=None, seed=1):
    rng = np.random.default_rng(seed)
    sizes = np.array([*up, *down], np.int32)
    heads = np.zeros((len(sizes), 32), np.uint8)
    heads[:, :14] = rng.integers(0, 256, (len(sizes), 14)) if head is None else head
    return Datagrams(sizes, heads, np.arange(len(sizes)) < len(up), 6, (40000, 22))


def test_small_packets_may_hold_inner_ones_and_large_ones_are_writes():
    log_in = [400] * 12
    small = sample(log_in + [80] * 100, log_in + [96, 1424] * 50)
    assert ssh.recognise(small, True).confidence == LIKENESS
    assert ssh.records(small, ssh.PACKETS).carries.sum() == len(small)
    large = sample(log_in + [80] * 100, log_in + [96, 32_784] * 50)
    assert ssh.recognise(large, True).confidence == POSSIBLE
    assert ssh.recognise(large, True).variant == ssh.WRITES
    assert ssh.records(large, ssh.WRITES).carries.sum() == len(large)
    assert ssh.length_maps(large, ssh.WRITES) == ()


def test_one_direction_is_judged_by_itself_and_a_log_in_says_nothing():
    assert ssh.recognise(sample([80] * 100, []), False).variant == ssh.PACKETS
    assert ssh.recognise(sample([32_784] * 100, []), False).variant == ssh.WRITES
    assert ssh.recognise(sample([80] * 14, [80] * 14), True).variant == ssh.WRITES
    assert ssh.recognise(sample([80] * 15, [80] * 15), True).variant == ssh.PACKETS
    assert ssh.recognise(sample([80] * 3, []), False) is None
    two_in_a_hundred = [80] * 12 + [2064] * 2 + [2048] * 98
    assert ssh.recognise(sample(two_in_a_hundred, []), False).variant == ssh.PACKETS
    assert ssh.recognise(sample([*two_in_a_hundred, 2064], []), False).variant == ssh.WRITES


def test_fields_behind_the_length_are_not_ssh():
    fields = np.tile(np.arange(14, dtype=np.uint8), (60, 1))
    assert ssh.recognise(sample([80] * 60, [], head=fields), False) is None
    one_byte = np.random.default_rng(1).integers(0, 256, (60, 14))
    one_byte[:, 3] = 9
    assert ssh.recognise(sample([80] * 60, [], head=one_byte), False) is None


def test_a_packet_too_short_for_an_inner_one_is_no_record():
    packets = sample([16, 32, 48, 64], [])
    assert ssh.records(packets, ssh.PACKETS).carries.tolist() == [False, False, True, True]
    assert (ssh.records(packets, ssh.PACKETS).counter == -1).all()


@pytest.mark.parametrize("suite", [GCM, ETM])
def test_the_length_of_an_inner_packet(suite):
    inner = np.arange(28, 1500)
    padded = -(-(1 + TUN_BYTES + inner + 4) // suite.block) * suite.block
    assert ssh.length_maps(sample([80], []), ssh.PACKETS)[0].outer(inner).tolist() == padded.tolist()


@pytest.mark.parametrize(("suite", "variant"), [(GCM, GCM.variant), (CHACHA, CHACHA.variant)])
@pytest.mark.parametrize("from_file", [True, False])
def test_what_the_ends_agreed_on_is_the_variant(tmp_path, suite, variant, from_file):
    rng = np.random.default_rng(2)
    talk = Talk()
    talk.syn(server=SERVER)
    at = {True: 1000, False: 5000}
    for number in range(80):
        for up in (True, False):
            before = opening_of(suite, up=up)
            if number < len(before):
                data = before[number]
            else:
                data = rng.bytes(100) if suite.hidden else sealed(rng, [80], suite)[0]
            talk.segment(up, at[up], data, server=SERVER)
            at[up] += len(data)
    conversations = talk.from_file(tmp_path / "c.pcap") if from_file else talk.from_table()
    (found,) = find_tunnels(conversations).tunnels
    assert (found.protocol, found.sure) == ("ssh", False)
    unread = "" if suite.hidden else ssh.PACKETS
    assert found.variant == (variant if from_file else unread)


def test_after_a_hole_a_bulk_transfer_is_taken_up_where_its_length_comes_again(tmp_path):
    """Full segments, in which packets begin anywhere, and none with two lengths in it."""
    rng = np.random.default_rng(6)
    stream = b"".join(sealed(rng, [1424] * 300, GCM))
    talk = Talk()
    talk.syn(server=SERVER)
    segments = segments_of([[b"".join(opening_of(GCM))], [stream]])
    for n, (seq, data) in enumerate(segments):
        if n % 40 != 20:
            talk.segment(True, seq, data, server=SERVER, step_s=0.05)
        talk.segment(False, 5000, b"", ack=seq + len(data), server=SERVER)
    found, pieces = followed(talk.from_file(tmp_path / "c.pcap"), GCM)
    health = found.health((0, 1), pieces.holes_bytes)
    assert health.breaks > 3
    assert set(found.size.tolist()) == {1424}
    assert len(found) >= 300 - 3 * health.breaks
