"""What an HTTP proxy keeps of a message, and what it writes anew."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.tunnels.http_messages import NONE, fingerprints

ASKED = (
    b"GET http://www.Example.org/a?b=1 HTTP/1.1\r\nHost: www.example.org\r\nCookie: id=1\r\nAccept: */*\r\n"
)
ASKED += b"Proxy-Connection: Keep-Alive\r\n\r\n"
PASSED_ON = b"GET /a?b=1 HTTP/1.0\r\naccept:  */*\r\nVia: 1.1 proxy\r\nX-Forwarded-For: 192.0.2.1\r\n"
PASSED_ON += b"Cookie: id=1\r\nHost: www.example.org:80\r\nConnection: close\r\n\r\n"
BODY = bytes(range(100))
ANSWER = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 100\r\n\r\n" + BODY
ANSWERED = (
    b"HTTP/1.0 200 Fine\r\nVia: 1.0 proxy\r\nX-Cache: MISS\r\nContent-Length: 100\r\nDate: today\r\n\r\n"
    + BODY
)


def asked(octets):
    return fingerprints(octets, request=True)


def answered(octets):
    return fingerprints(octets, request=False)


def test_a_request_as_a_proxy_passes_it_on_is_the_same():
    assert asked(ASKED) == asked(PASSED_ON) != NONE
    assert asked(ASKED).core != asked(ASKED).whole


@pytest.mark.parametrize(
    ("old", "new"),
    [(b"GET", b"HEAD"), (b"/a?b=1", b"/a?b=2"), (b"/a?b=1", b""), (b"www.Example.org/", b"example.org/")],
)
def test_another_method_host_or_path_is_another_request(old, new):
    other = asked(ASKED.replace(old, new))
    assert other.core not in (b"", asked(ASKED).core)
    assert other.whole not in (b"", asked(ASKED).whole)


def test_another_cookie_is_another_request_for_the_same():
    other = asked(PASSED_ON.replace(b"id=1", b"id=2"))
    assert other.core == asked(ASKED).core
    assert other.whole not in (b"", asked(ASKED).whole)


def test_a_body_that_goes_up_tells_requests_apart():
    posted = ASKED.replace(b"GET", b"POST")
    first, second = asked(posted + BODY), asked(posted + BODY[::-1])
    assert first.core == second.core
    assert first.whole != second.whole


def test_the_host_is_the_address_rather_than_the_field():
    assert asked(ASKED.replace(b"Host: www.example.org", b"Host: other")).core == asked(ASKED).core
    assert asked(ASKED.replace(b"http://www", b"HTTP://me:secret@www")).core == asked(ASKED).core
    assert asked(ASKED.replace(b".org/", b".org:8080/")).core != asked(ASKED).core
    assert asked(ASKED.replace(b"/a?b=1", b"")) == asked(PASSED_ON.replace(b"/a?b=1", b"/"))


def test_an_answer_as_a_proxy_passes_it_on_is_the_same():
    assert answered(ANSWER) == answered(ANSWERED) != NONE


@pytest.mark.parametrize(
    ("old", "new"), [(b" 200 ", b" 206 "), (BODY, BODY[::-1]), (BODY, BODY[:63] + b"\0" + BODY[64:])]
)
def test_another_status_or_body_is_another_answer(old, new):
    assert answered(ANSWER.replace(old, new)).core not in (b"", answered(ANSWER).core)


def test_answers_differ_by_their_fields_and_not_behind_the_first_bytes():
    other = answered(ANSWER.replace(b"today", b"tomorrow"))
    assert other.core == answered(ANSWER).core
    assert other.whole != answered(ANSWER).whole
    assert answered(ANSWER[:-36]) == answered(ANSWER)


def test_chunks_are_put_together():
    fields = b"HTTP/1.1 200 OK\r\nDate: today\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert answered(fields + b"64\r\n" + BODY + b"\r\n0\r\n\r\n") == answered(ANSWER)


def test_a_short_body_is_none():
    none = answered(ANSWER.removesuffix(BODY))
    assert none.core == b""
    assert none.whole != b""
    assert answered(ANSWER.replace(BODY, BODY[:23])) == none
    assert answered(ANSWER.replace(BODY, BODY[:24])).core != b""


def test_what_is_cut_within_its_fields_has_its_core():
    assert asked(ASKED[:60]) == asked(PASSED_ON[:19] + b"\r\nHost: www.example.org\r\nAcc")
    assert asked(ASKED[:60]).core == asked(ASKED).core
    assert asked(ASKED[:60]).whole == b""
    assert asked(PASSED_ON[:30]) == NONE
    assert answered(ANSWER[:30]) == NONE


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"GET /",
        b"GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
        b"GET a b HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_request_has_none(octets):
    assert asked(octets) == NONE


@pytest.mark.parametrize("octets", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", ASKED])
def test_an_interim_answer_is_none(octets):
    assert answered(octets + BODY) == NONE


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_read(octets, request):
    fingerprints(octets, request=request)
    whole = (ASKED if request else ANSWER)[:40] + octets
    assert len(fingerprints(whole, request=request).whole) in (0, 24)
