"""Write laws against the formats that they come from, byte by byte."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.tunnels.write_law import (
    CHANNEL_ENDED_BYTES,
    CHANNEL_OPENED_BYTES,
    LAWS,
    OPENING,
    WriteLaw,
)

SIZES = np.arange(1, 3000)


def law(protocol, variant="", *, of_packets=False, of_frames=False):
    return next(
        each
        for each in LAWS[protocol]
        if variant in (each.variant, each.name)
        and (each.of_packets, each.of_frames) == (of_packets, of_frames)
    )


def test_shadowsocks_chunks():
    outer = law("stream", "shadowsocks").outer(np.array([1, 0x3FFF, 0x4000, 2 * 0x3FFF + 1]))
    assert outer.tolist() == [35, 0x3FFF + 34, 0x4000 + 68, 2 * 0x3FFF + 1 + 102]


@pytest.mark.parametrize(("of_packets", "before"), [(False, 9), (True, 13)])
def test_ssh_packets_are_padded_to_blocks_with_at_least_four_bytes(of_packets, before):
    """RFC 4253, 6: padding length, payload and padding are whole blocks; at least four of padding."""

    def packet(n):
        payload = before + n
        padding = 4
        while (1 + payload + padding) % 8:
            padding += 1
        return 4 + 1 + payload + padding + 16

    outer = law("ssh", "chacha20-poly1305", of_packets=of_packets).outer(SIZES)
    assert outer.tolist() == [packet(n) for n in SIZES.tolist()]


@pytest.mark.parametrize(
    ("as_data", "payload"),
    [
        (CHANNEL_OPENED_BYTES, 1 + 4 + 4 + 4 + 4),  # type, two channels, window, largest packet
        (CHANNEL_ENDED_BYTES, 1 + 4),  # type, channel
    ],
)
def test_messages_of_a_channel_are_as_long_as_so_much_data(as_data, payload):
    for each in (law for law in LAWS["ssh"] if law.of_frames):
        padded = -(-(1 + payload + 4) // each.unit) * each.unit
        assert each.outer(np.array([as_data])).tolist() == [padded]


def test_cells_of_tor_are_full_but_for_the_last():
    cells = law("tor").outer(np.array([1, 498, 499, 996, 997]))
    assert cells.tolist() == [22 + 514 * k for k in (1, 1, 2, 2, 3)]


def test_openings_are_compared_with_openings_only():
    for laws in LAWS.values():
        for each in laws:
            plain, opening = each.outer(SIZES), each.outer(SIZES + OPENING)
            assert (opening - plain == OPENING).all()
            assert (np.diff(plain) >= 0).all()


@pytest.mark.parametrize(
    ("law", "kind", "text"),
    [
        (WriteLaw("shadowsocks", frame=34), "constant", "n + 34 k"),
        (WriteLaw("ssh", frame=20, unit=8, room=8, extra=14), "block", "8⌈(n+14)/8⌉ + 20"),
        (WriteLaw("tor", frame=22, unit=514, room=498), "cell", "514⌈n/498⌉ + 22"),
        (WriteLaw(""), "constant", "n"),
    ],
)
def test_laws_in_words(law, kind, text):
    assert (law.kind, str(law), law.to_dict()["formula"]) == (kind, text, text)
