"""Numbers of interfaces over sections and files."""

from __future__ import annotations

from vpnforensics.capture.pcapng import InterfaceNumbers, is_pcapng

from . import blocks


def test_named_interfaces_keep_their_numbers() -> None:
    numbers = InterfaceNumbers()
    for _ in range(3):
        numbers.begin_file()
        numbers.begin_section()
        assert [numbers.number(name, 1) for name in (b"eth0", b"wg0", b"eth0")] == [0, 1, 2]
    assert numbers.number(b"wg0", 101) == 3


def test_unnamed_interfaces_are_told_by_their_place_in_the_file() -> None:
    numbers = InterfaceNumbers()
    numbers.begin_file()
    assert [numbers.number(b"", 1) for _ in range(3)] == [0, 1, 2]
    numbers.begin_section()
    assert numbers.number(b"", 1) == 3
    numbers.begin_file()
    assert numbers.number(b"", 1) == 0


def test_magic_in_either_byte_order() -> None:
    assert is_pcapng(blocks.section("<")[:12])
    assert is_pcapng(blocks.section(">")[:12])
    assert is_pcapng(b"\n\r\r\n")
    assert not is_pcapng(b"\n\r\r\nhello world")
