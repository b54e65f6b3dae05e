import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.errors import TunnelError
from vpnforensics.reftunnel.endpoint import Endpoint, parse_endpoint

NOT_MAPPED = st.ip_addresses().filter(lambda address: not getattr(address, "ipv4_mapped", None))


@given(NOT_MAPPED, st.integers(1, 65535), st.sampled_from(["udp", "tcp"]))
def test_text_goes_round(address, port, transport):
    endpoint = Endpoint(str(address), port, transport)
    assert parse_endpoint(str(endpoint).removesuffix("/tcp"), transport) == endpoint
    assert endpoint.packed == address.packed + port.to_bytes(2, "big")


@pytest.mark.parametrize(
    "text", ["", "1.2.3.4", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:x", "name:1", "[::1]", ":5"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(TunnelError):
        parse_endpoint(text)


def test_an_ipv4_address_in_the_clothes_of_ipv6_is_that_address():
    """No socket of ours could reach it: the IPv6 one takes no IPv4."""
    assert parse_endpoint("[::ffff:192.0.2.1]:51820") == Endpoint("192.0.2.1", 51820)
