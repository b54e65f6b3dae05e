from __future__ import annotations

import gzip

import numpy as np
import pytest

from tests.packets import frames as build
from vpnforensics.capture.payloads import can_be_read_again, chosen_frames
from vpnforensics.capture.writer import write_pcap
from vpnforensics.errors import CaptureError
from vpnforensics.packets.read import read_capture


def frames(count, rng):
    return [
        build.ethernet(build.ipv4(build.tcp(rng.bytes(int(rng.integers(0, 3000)))), 6)) for _ in range(count)
    ]


def gathered(source, chosen):
    out = {}
    for batch in chosen_frames(source, chosen):
        for i in range(len(batch.at)):
            piece = batch.buf[batch.at[i] : batch.at[i] + batch.captured_bytes[i]].tobytes()
            out[int(chosen[batch.first + i])] = piece
    return out


@pytest.fixture
def written():
    return frames(3000, np.random.default_rng(1))


@pytest.mark.parametrize("packed", [False, True])
def test_chosen_frames_come_whole_and_in_order(tmp_path, written, packed):
    path = tmp_path / "c.pcap"
    write_pcap(path, range(len(written)), written)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes(), 1))
    packets = read_capture(path)
    chosen = np.sort(np.random.default_rng(2).choice(packets.frame, 700, replace=False))
    found = gathered(packets.source, chosen)
    assert list(found) == chosen.tolist()
    assert all(found[n] == written[n - 1] for n in found)
    assert gathered(packets.source, chosen[:0]) == {}


def test_numbers_go_on_over_rotated_files(tmp_path, written):
    for part in range(3):
        here = written[1000 * part : 1000 * part + 1000]
        write_pcap(tmp_path / f"{2 - part}.pcap", range(1000 * part, 1000 * part + 1000), here)
    packets = read_capture(tmp_path)
    chosen = packets.frame[::7]
    found = gathered(packets.source, chosen)
    assert [found[int(n)] for n in chosen] == [written[int(n) - 1] for n in chosen]


def test_a_snapped_frame_has_what_was_captured(tmp_path, written):
    write_pcap(tmp_path / "c.pcap", range(len(written)), written, snaplen=80)
    packets = read_capture(tmp_path / "c.pcap")
    found = gathered(packets.source, packets.frame)
    assert all(piece == written[n - 1][:80] for n, piece in found.items())


def test_a_file_that_changed_is_not_read_again(tmp_path, written):
    path = tmp_path / "c.pcap"
    write_pcap(path, range(len(written)), written)
    packets = read_capture(path)
    assert can_be_read_again(packets.source)
    path.write_bytes(path.read_bytes()[:-1])
    assert not can_be_read_again(packets.source)
    with pytest.raises(CaptureError, match="changed"):
        gathered(packets.source, packets.frame)
    path.unlink()
    assert not can_be_read_again(packets.source)
    assert not can_be_read_again(None)


def test_a_damaged_tail_ends_the_second_look_too(tmp_path, written):
    path = tmp_path / "c.pcap"
    write_pcap(path, range(len(written)), written)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 :] = b"\xff" * (len(raw) - len(raw) // 2)
    path.write_bytes(raw)
    packets = read_capture(path)
    found = gathered(packets.source, packets.frame)
    assert set(packets.frame[:-1].tolist()) <= set(found)
