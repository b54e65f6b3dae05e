import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.reftunnel import wire
from vpnforensics.reftunnel.drops import Drop, RefusedError

INDEX = st.integers(0, 2**32 - 1)


@given(
    INDEX,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=48, max_size=48),
    st.binary(min_size=28, max_size=28),
)
def test_initiation_goes_round(sender, ephemeral, static, timestamp):
    message = wire.Initiation(sender, ephemeral, static, timestamp)
    packed = message.pack()
    assert len(packed) == wire.INITIATION_BYTES - wire.MACS_BYTES
    assert wire.Initiation.unpack(packed) == wire.Initiation.unpack(packed + bytes(32)) == message


@given(INDEX, INDEX, st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16))
def test_response_goes_round(sender, receiver, ephemeral, nothing):
    message = wire.Response(sender, receiver, ephemeral, nothing)
    packed = message.pack()
    assert len(packed) == wire.RESPONSE_BYTES - wire.MACS_BYTES
    assert wire.Response.unpack(packed) == message


@given(INDEX, st.binary(min_size=24, max_size=24), st.binary(min_size=32, max_size=32))
def test_cookie_reply_goes_round(receiver, nonce, cookie):
    message = wire.CookieReply(receiver, nonce, cookie)
    assert len(message.pack()) == wire.COOKIE_REPLY_BYTES
    assert wire.CookieReply.unpack(message.pack()) == message


@given(st.binary(max_size=200))
def test_anything_is_either_a_message_or_malformed(datagram):
    try:
        kind = wire.message_type(datagram)
    except RefusedError as refusal:
        reason: Drop | None = refusal.reason
    else:
        reason = None
        assert kind in (1, 2, 3, 4)
        assert datagram[1:4] == b"\0\0\0"
    assert reason in (None, Drop.MALFORMED)


@pytest.mark.parametrize(("kind", "size"), [(1, 148), (2, 92), (3, 64)])
def test_fixed_lengths_are_exact(kind, size):
    good = bytes([kind, 0, 0, 0]) + bytes(size - 4)
    assert wire.message_type(good) == kind
    for wrong in (good[:-1], good + b"\0"):
        with pytest.raises(RefusedError):
            wire.message_type(wrong)


@pytest.mark.parametrize("cls", [wire.Initiation, wire.Response, wire.CookieReply])
def test_short_bodies_are_refused(cls):
    for size in (0, 1, 31, 59):
        with pytest.raises(RefusedError):
            cls.unpack(bytes(size))
