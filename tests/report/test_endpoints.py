import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.report.endpoints import parted, pattern


@pytest.mark.parametrize(
    ("text", "endpoint", "meant"),
    [
        ("192.0.2.1", "192.0.2.1:443", True),
        ("192.0.2.1", "192.0.2.10:443", False),
        ("192.0.2.1:443", "192.0.2.1:443", True),
        ("192.0.2.1:443", "192.0.2.1:4433", False),
        ("192.0.2.0/24", "192.0.2.255:1", True),
        ("192.0.2.77/24", "192.0.3.1:1", False),
        ("192.0.2.0/24:53", "192.0.2.9:53", True),
        (":443", "[2001:db8::1]:443", True),
        ("443", "192.0.2.1:443", True),
        ("2001:db8::1", "[2001:db8::1]:443", True),
        ("[2001:db8::1]", "[2001:db8::1]:443", True),
        ("[2001:db8::1]:443", "[2001:db8::1]:80", False),
        ("2001:db8::/32", "[2001:db8:7::1]:80", True),
        ("2001:db8::/32", "192.0.2.1:80", False),
        ("example.org", "192.0.2.1:80", False),
    ],
)
def test_endpoints(text, endpoint, meant):
    assert pattern(text).has_endpoint(endpoint) is meant


@pytest.mark.parametrize(
    ("text", "names", "meant"),
    [
        ("example.org", ["www.example.org"], True),
        ("EXAMPLE.org.", ["example.org"], True),
        ("example.org", ["badexample.org"], False),
        ("*.example.org", ["a.b.example.org"], True),
        ("*.example.org", ["example.org"], False),
        ("192.0.2.1", ["192.0.2.1"], False),
        ("example.org", [], False),
    ],
)
def test_names(text, names, meant):
    assert pattern(text).has_name(names) is meant


@pytest.mark.parametrize("text", ["", "  ", ":70000", "192.0.2.1:99999"])
def test_what_means_nothing_is_refused(text):
    with pytest.raises(ValueError, match=r"names no endpoint|is no port"):
        pattern(text)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_endpoint_means_itself(address, port):
    endpoint = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    if "%" in endpoint:
        return
    assert parted(endpoint) == (str(address), port)
    for text in (endpoint, str(address), f":{port}"):
        assert pattern(text).has_endpoint(endpoint)


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused(text):
    try:
        meant = pattern(text)
    except ValueError:
        return
    meant.has_endpoint("192.0.2.1:443")
    meant.has_name(["www.example.org"])
