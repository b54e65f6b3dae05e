"""Names and kinds of link types."""

from __future__ import annotations

from vpnforensics.capture import linktypes


def test_supported_ones_have_a_kind_and_a_name() -> None:
    for number in (0, 1, 9, 12, 14, 50, 101, 108, 113, 228, 229, 276):
        assert linktypes.kind(number) != linktypes.KIND_UNSUPPORTED
        assert linktypes.name(number) in linktypes.supported_names()


def test_others_are_named_where_they_have_a_name() -> None:
    assert linktypes.kind(105) == linktypes.KIND_UNSUPPORTED
    assert linktypes.name(105) == "IEEE802_11"
    assert linktypes.name(4711) == "LINKTYPE_4711"
    assert "link type USBPCAP (249) is not decoded" in linktypes.not_decoded(249)
