from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.corpus.ssh import CHACHA, ETM, GCM, KEXINIT, clear, openings
from vpnforensics.tunnels.ssh_key_exchange import agreed


def opening(suite, *, up):
    return b"".join(openings(random.Random(1).randbytes, suite)[up])


def offering(*lists, banner=b"SSH-2.0-x\r\n", kind=KEXINIT):
    """A stream that begins with a KEXINIT of these ten lists."""
    body = b"".join(struct.pack(">I", len(text)) + text for text in lists)
    return banner + clear(bytes([kind]) + bytes(16) + body + bytes(5))


def lists(ciphers=(b"a", b"a"), macs=(b"m", b"m"), compressions=(b"none", b"none")):
    return (b"k", b"h", *ciphers, *macs, *compressions, b"", b"")


@pytest.mark.parametrize("suite", [GCM, ETM, CHACHA])
def test_what_both_ends_agree_on(suite):
    assert agreed(opening(suite, up=True), opening(suite, up=False)) == suite.variant


def test_the_clients_order_decides():
    client = offering(*lists((b"one,two", b"one,two")))
    server = offering(*lists((b"two,one", b"two,one")))
    assert agreed(client, server) == "one, m"
    assert agreed(server, client) == "two, m"


def test_both_directions_where_they_differ():
    both = offering(*lists((b"up", b"x-gcm"), (b"m", b"n"), (b"none", b"zlib")))
    assert agreed(both, both) == "up, m / x-gcm, zlib"


def test_nothing_in_common_is_nothing_known():
    assert agreed(offering(*lists((b"one", b"one"))), offering(*lists())) == ""


def test_another_message_is_no_offer():
    assert agreed(offering(*lists()), offering(*lists(), kind=KEXINIT + 1)) == ""


def test_a_server_may_say_something_before_its_version():
    said = offering(*lists(), banner=b"Welcome.\nPlease behave.\nSSH-2.0-x\r\n")
    assert agreed(offering(*lists()), said) == "a, m"


@given(st.integers(0, 2000))
def test_what_is_cut_says_nothing_and_breaks_nothing(length):
    whole = opening(GCM, up=True)
    found = agreed(whole[:length], opening(GCM, up=False))
    assert found in ("", GCM.variant)
    if length < whole.index(b"none"):
        assert found == ""


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_hostile_openings(up, down):
    assert isinstance(agreed(b"SSH-2.0-a\r\n" + bytes(5) + b"\x14" + up, down), str)
