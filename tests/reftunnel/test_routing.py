import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel.routing import AllowedIPs, destination, source_and_length

from .pair import ipv4, ipv6

V4 = st.ip_addresses(v=4)
V6 = st.ip_addresses(v=6)


@st.composite
def tables(draw):
    """Networks crowded into a few octets, so that they overlap."""
    rows = []
    for peer in range(draw(st.integers(0, 12))):
        if draw(st.booleans()):
            number, bits = draw(st.sampled_from([0x0A000000, 0x0A0000FF, 0x0A800000, 0])), 32
        else:
            number, bits = draw(st.sampled_from([0xFD << 120, (0xFD << 120) | 1, 0])), 128
        length = draw(st.integers(0, bits))
        address = ipaddress.ip_address(number.to_bytes(bits // 8, "big"))
        rows.append((ipaddress.ip_network(f"{address}/{length}", strict=False), peer))
    return rows


@given(
    tables(),
    st.one_of(V4, V6, st.sampled_from([ipaddress.ip_address("10.0.0.255"), ipaddress.ip_address("fd00::1")])),
)
def test_longest_prefix_wins(rows, address):
    table = AllowedIPs()
    for network, peer in rows:
        table.add(network, peer)
    latest = dict(rows)
    matching = [network for network in latest if network.version == address.version and address in network]
    expected = latest[max(matching, key=lambda network: network.prefixlen)] if matching else None
    assert table.owner(address.packed) == expected
    assert table.owner(address.packed) == expected  # and from the cache


def test_memory_is_bounded():
    table = AllowedIPs()
    for number in range(70_000):
        table.owner(number.to_bytes(4, "big"))
    assert len(table._cache) <= 65_536


@given(V4, V4, st.binary(max_size=64), st.integers(0, 40))
def test_ipv4_fields_are_found_under_padding(src, dst, payload, padding):
    packet = ipv4(str(src), str(dst), payload)
    assert destination(packet) == dst.packed
    assert source_and_length(packet + bytes(padding)) == (src.packed, len(packet))


@given(V6, V6, st.binary(max_size=64), st.integers(0, 40))
def test_ipv6_fields_are_found_under_padding(src, dst, payload, padding):
    packet = ipv6(str(src), str(dst), payload)
    assert destination(packet) == dst.packed
    assert source_and_length(packet + bytes(padding)) == (src.packed, len(packet))


@pytest.mark.parametrize("packet", [ipv4("10.0.0.1", "10.0.0.2"), ipv6("fd00::1", "fd00::2")])
def test_truncated_packets_are_not_ip(packet):
    for size in range(len(packet)):
        assert source_and_length(packet[:size]) is None


@given(st.binary(max_size=60))
def test_rubbish_is_never_an_exception(rubbish):
    destination(rubbish)
    found = source_and_length(rubbish)
    assert found is None or found[1] <= len(rubbish)
