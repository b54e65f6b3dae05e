from __future__ import annotations

import numpy as np
import pytest

from tests.tunnels.streams import Talk, cut
from vpnforensics.tunnels.reassembly import reassemble_streams
from vpnforensics.tunnels.stream_bytes import parts_from_file, parts_from_heads, readable


def talk_of(rng, size):
    data = {True: rng.bytes(size), False: rng.bytes(size)}
    talk = Talk()
    talk.syn()
    for up, start in ((True, 1000), (False, 5000)):
        segments = cut(data[up], rng, start=start)
        for i in np.argsort(np.arange(len(segments)) + rng.uniform(0, 6, len(segments))):
            talk.segment(up, *segments[i])
    return talk, data


def bytes_of(parts, pieces):
    out = {}
    for part in parts:
        for i in range(len(part.at)):
            piece = part.buf[part.at[i] : part.at[i] + part.got[i]].tobytes()
            out[int(pieces.stream[part.first + i]), int(pieces.pos[part.first + i])] = piece
    return out


@pytest.mark.parametrize("part_bytes", [1 << 12, 1 << 16, 1 << 22])
def test_any_part_size_gives_the_whole_stream(tmp_path, part_bytes):
    talk, data = talk_of(np.random.default_rng(1), 300_000)
    conversations = talk.from_file(tmp_path / "c.pcap")
    pieces = reassemble_streams(conversations, np.array([0]))
    assert readable(conversations.packets)
    got = bytes_of(parts_from_file(conversations.packets, pieces, part_bytes=part_bytes), pieces)
    for stream, up in ((0, True), (1, False)):
        assert b"".join(got[key] for key in sorted(got) if key[0] == stream) == data[up]


def test_heads_give_the_first_bytes_of_each_piece():
    talk, data = talk_of(np.random.default_rng(2), 50_000)
    conversations = talk.from_table()
    assert not readable(conversations.packets)
    pieces = reassemble_streams(conversations, np.array([0]))
    for (stream, pos), piece in bytes_of(parts_from_heads(conversations.packets, pieces), pieces).items():
        assert data[stream == 0][pos : pos + len(piece)] == piece


def test_a_table_out_of_file_order_is_not_matched_with_the_file(tmp_path):
    talk, _ = talk_of(np.random.default_rng(3), 5000)
    packets = talk.from_file(tmp_path / "c.pcap").packets
    assert not readable(packets.take(np.arange(len(packets))[::-1]))
