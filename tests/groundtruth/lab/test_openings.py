from __future__ import annotations

from itertools import chain

from tests.groundtruth.lab.test_truth import packet, write
from vpnforensics.groundtruth.lab.conntrack import Endpoint
from vpnforensics.groundtruth.lab.openings import behind_socks, matched, read_openings

SYN, SOCKS = 0x02, b"\x05\x02\x00\x01" + b"\x05\x01\x00\x03\x0bwww.example\x00\x50"
HERE, EXIT, FAR = "127.0.0.1", "203.0.113.1", "192.0.2.60"


def connection(source, sport, target, dport, isn, *texts, when=1.0):
    """A SYN and one segment a text; a text may say where it stands in the stream."""
    packets = [(when, packet(source, sport, target, dport, seq=isn, flags=SYN))]
    at = 1
    for text in texts:
        at, text = text if isinstance(text, tuple) else (at, text)
        seq = (isn + at) & 0xFFFFFFFF
        packets.append((when, packet(source, sport, target, dport, seq=seq, payload=text)))
        at += len(text)
    return packets


def test_segments_out_of_order_and_sent_twice_and_the_sequence_that_wraps(tmp_path):
    isn = 0xFFFFFFFD
    segments = connection(EXIT, 4000, FAR, 80, isn, (6, b"fgh"), (1, b"abcde"), (3, b"cde"))
    write(tmp_path / "a.pcap", segments, ethernet=True)
    (opening,) = read_openings(tmp_path / "a.pcap")
    assert (opening.near, opening.far) == (Endpoint(EXIT, 4000), Endpoint(FAR, 80))
    assert opening.text() == b"abcdefgh"


def test_nothing_is_known_behind_a_gap(tmp_path):
    write(tmp_path / "a.pcap", connection(EXIT, 4000, FAR, 80, 7, b"abc", (6, b"fgh")), ethernet=True)
    assert read_openings(tmp_path / "a.pcap")[0].text() == b"abc"


def test_what_a_program_says_to_its_proxy_is_left_out():
    assert behind_socks(SOCKS + b"GET") == b"GET"
    assert behind_socks(b"\x05\x01\x00" + b"\x05\x01\x00\x01\xc0\x00\x02\x3c\x00\x50" + b"GET") == b"GET"
    assert behind_socks(b"\x05\x01\x00" + b"\x05\x01\x00\x04" + bytes(16) + b"\x00\x50" + b"GET") == b"GET"
    for size in range(len(SOCKS) + 1):
        assert behind_socks(SOCKS[:size]) == b""
    assert behind_socks(b"GET / HTTP/1.1\r\n\r\n") == b""


def test_equal_bytes_tell_the_client_and_two_clients_with_equal_bytes_are_both_named(tmp_path):
    says = {1: [b"one's", b"both's"], 2: [b"two's", b"both's"]}
    local = {}
    for number, texts in says.items():
        local[number] = tmp_path / f"{number}.pcap"
        rows = [connection(HERE, 50 + i, HERE, 1080, i, SOCKS, text) for i, text in enumerate(texts)]
        write(local[number], [*chain(*rows)], ethernet=True)
    outside = [b"two's", b"one's", b"both's", b"nobody's"]
    rows = [connection(EXIT, 70 + i, FAR, 80, i, text) for i, text in enumerate(outside)]
    write(tmp_path / "egress.pcap", [*chain(*rows)], ethernet=True)
    found = matched(tmp_path / "egress.pcap", local, 1080)
    by_port = {near.port - 70: numbers for (_, near, _), numbers in found.items()}
    assert by_port == {0: {2}, 1: {1}, 2: {1, 2}}
