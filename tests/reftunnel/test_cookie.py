import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel import cookie
from vpnforensics.reftunnel.cookie import LoadMeter, MacChecker, MacStamper, Proof, SourceLimiter
from vpnforensics.reftunnel.drops import RefusedError
from vpnforensics.reftunnel.keys import PrivateKey
from vpnforensics.reftunnel.wire import CookieReply

from .pair import seeded

SERVER = PrivateKey(b"s" * 32).public
BODY = b"\1\0\0\0\7\0\0\0" + bytes(108)
SOURCE, ELSEWHERE = b"\xc0\0\2\1\x9c\x40", b"\xc0\0\2\1\x9c\x41"


@pytest.fixture
def checker():
    return MacChecker(SERVER, seeded(3))


def test_a_message_without_cookie_proves_the_key_only(checker):
    message = MacStamper(SERVER).stamp(BODY, 0.0)
    assert len(message) == len(BODY) + 32
    assert message.endswith(bytes(16))
    assert checker.check(message, SOURCE, 0.0) is Proof.KNOWS_KEY


def test_a_cookie_proves_the_source_and_that_source_only(checker):
    stamper = MacStamper(SERVER)
    first = stamper.stamp(BODY, 0.0)
    stamper.take_cookie(checker.reply(first, SOURCE, 0.0), 0.1)
    second = stamper.stamp(BODY, 1.0)
    assert checker.check(second, SOURCE, 1.0) is Proof.RECEIVES_AT_SOURCE
    assert checker.check(second, ELSEWHERE, 1.0) is Proof.KNOWS_KEY


def test_cookies_run_out_on_both_sides(checker):
    stamper = MacStamper(SERVER)
    stamper.take_cookie(checker.reply(stamper.stamp(BODY, 0.0), SOURCE, 0.0), 0.0)
    fresh = stamper.stamp(BODY, 119.0)
    assert not fresh.endswith(bytes(16))
    assert checker.check(fresh, SOURCE, 120.0) is Proof.KNOWS_KEY
    assert stamper.stamp(BODY, 120.0).endswith(bytes(16))


def test_a_reply_counts_once_and_only_for_its_message(checker):
    stamper, other = MacStamper(SERVER), MacStamper(SERVER)
    reply = checker.reply(stamper.stamp(BODY, 0.0), SOURCE, 0.0)
    with pytest.raises(RefusedError):
        other.take_cookie(reply, 0.0)
    other.stamp(b"\1" + BODY[1:-1] + b"x", 0.0)
    with pytest.raises(RefusedError):
        other.take_cookie(reply, 0.0)
    stamper.take_cookie(reply, 0.0)
    with pytest.raises(RefusedError):
        stamper.take_cookie(reply, 0.0)


@given(st.integers(0, (len(BODY) + 16) * 8 - 1))
def test_any_damage_before_mac2_proves_nothing(bit):
    message = bytearray(MacStamper(SERVER).stamp(BODY, 0.0))
    message[bit // 8] ^= 1 << bit % 8
    assert MacChecker(SERVER, seeded(3)).check(bytes(message), SOURCE, 0.0) is Proof.NOTHING


@given(st.integers(8 * 8, 64 * 8 - 1))
def test_a_damaged_cookie_reply_is_refused(bit):
    stamper = MacStamper(SERVER)
    message = stamper.stamp(BODY, 0.0)
    packed = bytearray(MacChecker(SERVER, seeded(3)).reply(message, SOURCE, 0.0).pack())
    packed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RefusedError):
        stamper.take_cookie(CookieReply.unpack(bytes(packed)), 0.0)


def test_load_begins_with_a_burst_and_ends_after_it():
    meter = LoadMeter()
    assert not any(meter.add(now) for now in range(100))
    assert not any(meter.add(100.0) for _ in range(int(cookie.LOAD_HANDSHAKES_PER_S)))
    assert meter.add(100.0)
    assert meter.add(100.5)
    assert not meter.add(103.0)


def test_a_source_gets_a_burst_and_then_a_rate():
    limiter = SourceLimiter()
    granted = sum(limiter.allow(b"a", 0.0) for _ in range(100))
    assert granted == int(cookie.SOURCE_BURST)
    assert limiter.allow(b"b", 0.0)
    granted = sum(limiter.allow(b"a", 1.0 + tick / 1000) for tick in range(1000))
    assert granted == pytest.approx(cookie.SOURCE_BURST + cookie.SOURCE_HANDSHAKES_PER_S, abs=1)


def test_an_ipv6_network_counts_as_one_source():
    limiter = SourceLimiter()
    granted = sum(limiter.allow(b"network." + number.to_bytes(8, "big"), 0.0) for number in range(100))
    assert granted == int(cookie.SOURCE_BURST)
    assert limiter.allow(b"another." + bytes(8), 0.0)


def test_memory_of_sources_is_bounded():
    limiter = SourceLimiter()
    for number in range(20_000):
        limiter.allow(number.to_bytes(4, "big"), 0.0)
    assert len(limiter._buckets) <= cookie._SOURCES_REMEMBERED
