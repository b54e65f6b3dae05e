import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.names.made import client_hello, records
from vpnforensics.features.names import http, tls
from vpnforensics.features.names.tls import Found

HELLO = client_hello(b"WWW.Site.example", before=b"\xff\x01\0\1\0", size=1800)
PLAIN = b"GET /a HTTP/1.1\r\nAccept: */*\r\nhost:  Site.Example:8080 \r\n\r\n"


@pytest.mark.parametrize("size", [5, 100, 1 << 14])
def test_the_name_in_a_hello_of_one_record_or_many(size):
    assert tls.read_records(records(HELLO, size) + b"\x14\3\3\0\1\1") == Found("www.site.example")


def test_a_hello_without_a_name():
    assert tls.read_records(records(client_hello(None))) == Found()
    assert tls.read_records(records(client_hello(None, size=20))) == Found()
    assert tls.read_records(records(client_hello(b""))) == Found()
    assert tls.read_records(records(client_hello(b"a" * 256))) == Found()
    bare = b"\1\0\0\x29\3\3" + bytes(32) + b"\0\0\2\x13\1\1\0"
    assert tls.read_hello(bare) == Found()


@pytest.mark.parametrize("octets", [b"", b"\x16", b"\x16\3\1\0\5\2\0\0\1\0", b"GET /", b"\x17\3\3\0\1\1\1"])
def test_what_is_no_hello(octets):
    assert tls.read_records(octets) is None


def test_a_cut_hello_has_its_name_or_says_that_it_is_cut():
    whole = records(HELLO)
    told = [tls.read_records(whole[:kept]) for kept in range(6, len(whole))]
    assert set(told) == {Found(cut=True), Found("www.site.example")}
    assert told.index(Found("www.site.example")) < 100
    assert told == sorted(told, key=lambda found: found.name is not None)


def test_changed_hellos_never_fail():
    rng = random.Random(5)
    whole = records(HELLO[:200])
    for _ in range(3000):
        changed = bytearray(whole)
        for _ in range(1 + rng.randrange(4)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        found = tls.read_records(bytes(changed))
        assert found is None or found.name is None or found.name.isprintable()


def test_the_host_of_a_request():
    assert http.read_request(PLAIN) == Found("site.example")
    assert http.read_request(b"CONNECT a.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n") == Found(
        "b.example"
    )
    assert http.read_request(b"GET http://u@A.example:80/x HTTP/1.1\r\nHost: b\r\n\r\n") == Found("a.example")
    assert http.read_request(b"GET / HTTP/1.0\r\n\r\nHost: body.example\r\n") == Found()
    for address in (b"192.0.2.1:80", b"[2001:db8::1]:80", b"[2001:db8::1]", b"", b"a" * 300):
        assert http.read_request(b"GET / HTTP/1.1\r\nHost: " + address + b"\r\n\r\n") == Found()


@pytest.mark.parametrize(
    "octets", [b"", b"SSH-2.0-OpenSSH\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\1\2", b"get / x"]
)
def test_what_is_no_request(octets):
    assert http.read_request(octets) is None


def test_requests_made_to_be_slow():
    spaces = b"GET / HTTP/1.1\r\n" + b"Host:" + b" \t" * 8000
    assert http.read_request(spaces) == Found(cut=True)
    assert http.read_request(b"GET / HTTP/1.1\r\n" + b"\nHost:" * 2700) == Found()
    assert http.read_request(b"A-" * 8000) is None


def test_a_cut_request_has_its_host_or_says_that_it_is_cut():
    host_ends = PLAIN.index(b"8080") + 7
    for kept in range(5, len(PLAIN)):
        found = http.read_request(PLAIN[:kept])
        if kept >= host_ends:
            assert found == Found("site.example")
        else:
            assert found in (None, Found(cut=True))
    assert http.read_request(PLAIN[: host_ends - 8]) == Found(cut=True)


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(octets):
    for start in (b"", b"GET / HTTP/1.1\r\nHost:", b"\x16\3\1\0\xff\1\0\0\xfb\3\3"):
        for read in (tls.read_records, http.read_request):
            found = read(start + octets)
            assert found is None or found.name is None or found.name.isprintable()
