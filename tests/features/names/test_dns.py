import random

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.features.names.made import answer, packed, query
from vpnforensics.features.names import dns

ANSWER = answer("www.site.example", packed("192.0.2.80"), packed("192.0.2.81"), ttl_s=300)


def test_a_question_and_its_answers():
    assert dns.read_message(query("www.site.example", ident=9)) == dns.Message(9, False, "www.site.example")
    message = dns.read_message(ANSWER)
    assert message is not None
    assert [(a.address, a.ttl_s) for a in message.answers] == [
        (packed("192.0.2.80"), 300),
        (packed("192.0.2.81"), 300),
    ]
    assert not message.cut


def test_addresses_behind_aliases_and_of_ipv6_belong_to_the_name_that_was_asked_for():
    message = bytearray(query("www.site.example"))
    message[2:4], message[7] = b"\x81\x80", 3
    alias = b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3cdn\xc0\x10"
    target = len(message) + 12
    message += alias + bytes([0xC0, target]) + b"\0\1\0\1\0\0\0\x05\0\4\1\2\3\4"
    message += bytes([0xC0, target]) + b"\0\x1c\0\1\x80\0\0\x05\0\x10" + bytes(15) + b"\1"
    read = dns.read_message(bytes(message))
    assert read is not None
    assert read.name == "www.site.example"
    assert [(a.address, a.ttl_s) for a in read.answers] == [(b"\1\2\3\4", 5), (bytes(15) + b"\1", 0)]


def test_address_hints_of_an_https_record():
    message = bytearray(query("site.example", kind=65))
    message[2:4], message[7] = b"\x81\x80", 1
    hints = b"\0\1\0" + b"\0\1\0\3\2h2" + b"\0\4\0\x08\1\2\3\4\5\6\7\x08" + b"\0\6\0\x10" + bytes(16)
    message += b"\xc0\x0c\0\x41\0\1\0\0\0\x3c" + len(hints).to_bytes(2, "big") + hints
    read = dns.read_message(bytes(message))
    assert read is not None
    assert [a.address for a in read.answers] == [b"\1\2\3\4", b"\5\6\7\x08", bytes(16)]


def test_reverse_names():
    message = bytearray(query("80.2.0.192.in-addr.arpa", kind=12))
    message[2:4], message[7] = b"\x81\x80", 1
    message += b"\xc0\x0c\0\x0c\0\1\0\0\0\x3c\0\x06\4host\0"
    read = dns.read_message(bytes(message))
    assert read is not None
    assert read.reverse == ("host",)
    assert dns.address_of(read.name) == packed("192.0.2.80")
    assert dns.address_of("1." + "0." * 31 + "ip6.arpa") == bytes(15) + b"\1"
    assert dns.address_of("999.0.0.1.in-addr.arpa") is None


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",
        b"\xc0\x0e\xc0\x0c",
        b"\1a\xc0\x0c",
        b"\x80abc",
        b"\xc0\x02",
        b"\xc0\xff",
        b"\x3f" + b"a" * 63,
    ],
)
def test_names_that_loop_lead_on_or_are_none_are_refused(name):
    header = query("x")[:12]
    assert dns.read_message(header + name + b"\0\1\0\1") is None


def test_chains_of_pointers_are_refused():
    """Thousands of pointers to pointers, in thousands of records: what would take minutes ends at once."""
    question = query("a.example")
    chain = b"".join((0xC000 + at).to_bytes(2, "big") for at in range(12, 16_000, 2))
    hidden = b"\xc0\x0c\0\x10\0\1\0\0\0\0" + len(chain).to_bytes(2, "big") + chain
    record = b"\xff\xfe\0\1\0\1\0\0\0\0\0\4\1\2\3\4"
    message = question[:2] + b"\x81\x80\0\1\x0f\xff" + bytes(4) + question[12:] + hidden + record * 4000
    assert dns.read_message(message) is None


def test_a_name_has_at_most_255_octets():
    label = b"\x3f" + b"a" * 63
    header = query("x")[:12]
    assert dns.read_message(header + label * 3 + b"\0" + b"\0\1\0\1") is not None
    assert dns.read_message(header + label * 4 + b"\0" + b"\0\1\0\1") is None


def test_hostile_labels_are_spelled():
    label = b"a.b\x1b[2J<x>\xff"
    read = dns.read_message(query("x")[:12] + bytes([len(label)]) + label + b"\0" + b"\0\1\0\1")
    assert read is not None
    assert read.name == "a\\046b\\027[2j\\060x\\062\\255"


@pytest.mark.parametrize("kept", range(len(ANSWER)))
def test_a_cut_answer_yields_what_stands_before_the_cut(kept):
    whole, read = dns.read_message(ANSWER), dns.read_message(ANSWER[:kept])
    assert whole is not None
    if read is None:
        assert kept < len(query("www.site.example"))
    else:
        assert (read.name, read.cut) == (whole.name, True)
        assert read.answers == whole.answers[: len(read.answers)]


def test_messages_over_tcp():
    stream = b"".join(len(m).to_bytes(2, "big") + m for m in (ANSWER, query("b.example"), ANSWER))
    assert [m.name for m in dns.read_stream(stream)] == ["www.site.example", "b.example", "www.site.example"]
    assert [m.name for m in dns.read_stream(stream[:-4])] == ["www.site.example", "b.example"]
    assert [m.cut for m in dns.read_stream(stream[:-4], cut=True)] == [False, False, True]
    assert dns.read_stream(b"\0\1\0" * 9) == []


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes_are_read_or_refused(octets):
    message = dns.read_message(octets)
    assert message is None or message.name.isprintable()
    dns.read_stream(octets)


def test_changed_messages_are_read_as_dpkt_reads_them_or_refused():
    """Every message that dpkt can read, of a thousand with some bytes changed, has the same addresses."""
    rng = random.Random(3)
    compared = 0
    for _ in range(1000):
        changed = bytearray(ANSWER)
        for _ in range(rng.randrange(3)):
            changed[rng.randrange(12, len(changed))] = rng.randrange(256)
        try:
            theirs = dpkt.dns.DNS(bytes(changed))
        except (dpkt.UnpackError, UnicodeError, ValueError):
            continue
        ours = dns.read_message(bytes(changed))
        if ours is None or ours.cut or any(rr.type not in (1, 28) or rr.cls != 1 for rr in theirs.an):
            continue
        addresses = [bytes(rr.rdata) for rr in theirs.an if len(rr.rdata) == {1: 4, 28: 16}[rr.type]]
        assert [a.address for a in ours.answers] == addresses
        compared += 1
    assert compared > 300
