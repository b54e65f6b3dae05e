"""Padded copies: records of data grow by the tunnel's own map, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from vpnforensics.audit.adversary import Adversary
from vpnforensics.audit.copies import padding
from vpnforensics.audit.copies.belonging import Belonging
from vpnforensics.audit.copies.change import Change
from vpnforensics.packets.table import PacketTable
from vpnforensics.tunnels.length_map import LengthMap

PADS = [padding.to_block(128), padding.to_bucket((1024, 128)), padding.to_mtu]


@pytest.mark.parametrize("pad", PADS)
def test_only_records_of_data_grow(known: Belonging, pad: padding.Pad) -> None:
    copy = Change(pad=pad).apply(known, 0)
    more = copy.ingress.ip_len_bytes - known.ingress.ip_len_bytes
    assert (more == copy.ingress.payload_bytes - known.ingress.payload_bytes).all()
    assert (more >= 0).all()
    assert more.any()
    others = np.ones(len(more), np.bool_)
    others[known.records.row] = False
    assert others.any()
    assert not more[others].any()
    for spec in PacketTable.schema():
        if spec.name not in ("ip_len_bytes", "payload_bytes"):
            assert (getattr(copy.ingress, spec.name) == getattr(known.ingress, spec.name)).all()
        assert (getattr(copy.egress, spec.name) == getattr(known.egress, spec.name)).all()


@pytest.mark.parametrize("pad", PADS)
def test_no_record_grows_beyond_the_mtu(known: Belonging, pad: padding.Pad) -> None:
    copy = Change(pad=pad).apply(known, 0)
    mtu = int(known.mtu_bytes.max())
    assert mtu == 1420
    largest = known.case.maps[0].outer(np.array([mtu]))[0]
    assert copy.ingress.payload_bytes[known.records.row].max() <= largest


def test_to_the_mtu_leaves_one_size(known: Belonging) -> None:
    copy = Change(pad=padding.to_mtu).apply(known, 0)
    assert len(np.unique(copy.ingress.payload_bytes[known.records.row])) == 1


def test_sizes_after_padding() -> None:
    inner, mtu = np.array([40, 128, 129, 1100, 1420]), np.full(5, 1420)
    assert padding.padded_length(inner, padding.to_block(128), mtu).tolist() == [128, 128, 256, 1152, 1420]
    assert padding.padded_length(inner, padding.to_bucket((512, 128)), mtu).tolist() == [
        128,
        128,
        512,
        1420,
        1420,
    ]
    assert padding.padded_length(inner, padding.to_mtu, mtu).tolist() == [1420] * 5
    assert padding.padded_length(np.array([1500]), padding.to_mtu, np.array([1420])).tolist() == [1500]


def test_who_knows_the_padding_reads_its_lengths(known: Belonging) -> None:
    rule = padding.PaddedMap.of(LengthMap(32, 16, cap=1420), padding.to_block(128), 1420)
    assert rule.outer(np.array([40, 129, 1410])).tolist() == [160, 288, 1452]
    copy = Change(pad=padding.to_block(128)).apply(known, 0)
    found = Adversary(padding.to_block(128), known.rules).weigh(copy)
    assert np.mean(found.decision.tunnel >= 0) > 0.9
