"""Traffic models: scripts with the shapes they promise."""

from __future__ import annotations

from typing import get_args

import dpkt
import numpy as np
import pytest

from vpnforensics.groundtruth.simulate.spec import Activity, ActivityKind
from vpnforensics.groundtruth.simulate.traffic import converse
from vpnforensics.groundtruth.simulate.traffic.conversation import DOWN, SECOND, UP, make_internet

DURATION = 120 * SECOND


def talks(kind, flows=40, scale=1.0):
    random = np.random.default_rng(11)
    internet = make_internet(100, None, random)
    return converse(Activity(kind, flows, scale=scale), random, internet, 12_000_000, DURATION)


@pytest.mark.parametrize("kind", get_args(ActivityKind))
def test_every_kind_makes_what_was_asked_and_no_empty_message(kind):
    found = talks(kind, 20)
    assert len(found) >= 20
    assert all(talk.messages for talk in found)
    for talk in found:
        assert all(m.size_bytes >= 1 and m.wait_ns >= 0 for m in talk.messages)
        assert 2 * SECOND <= talk.start_ns <= DURATION + 20 * SECOND
        for i, content in talk.payloads.items():
            assert len(content) <= talk.messages[i].size_bytes


@pytest.mark.parametrize("kind", ["browse", "dns", "ssh", "ping", "idle"])
def test_paced_activities_go_on_to_the_end(kind):
    starts = sorted(talk.start_ns for talk in talks(kind, None))
    assert len(starts) >= 1
    if kind in ("browse", "dns"):
        assert starts[-1] > 0.8 * DURATION
        assert len(starts) > 20


def test_dns_messages_parse_and_answer_their_question():
    together = 0
    for talk in talks("dns", 200):
        messages = [dpkt.dns.DNS(talk.payloads[i]) for i in range(len(talk.messages))]
        queries, answers = messages[: len(messages) // 2], messages[len(messages) // 2 :]
        together += len(queries) == 2
        for query, answer in zip(queries, answers, strict=True):
            assert query.qr == 0
            assert answer.qr == 1
            assert query.id == answer.id
            assert query.qd[0].name == answer.qd[0].name
        assert [len(talk.payloads[i]) for i in range(len(messages))] == [m.size_bytes for m in talk.messages]
    assert together > 20, "a C library asks for both addresses from one port"


def test_dns_lengths_are_those_of_the_wild():
    lengths = [m.size_bytes + 28 for talk in talks("dns", 300) for m in talk.messages if m.towards == UP]
    assert 60 <= np.median(lengths) <= 75
    assert min(lengths) >= 45
    assert len(set(lengths)) > 15


def test_calls_send_each_twenty_milliseconds_both_ways():
    for talk in talks("voip", 6):
        for side in (UP, DOWN):
            times = np.array([m.wait_ns for m in talk.messages if m.towards == side])
            assert abs(np.median(np.diff(times)) - 20_000_000) < 200_000
            assert (np.diff(times) > 0).all()


def test_key_strokes_are_echoed():
    for talk in talks("ssh", 5):
        keys = [i for i, m in enumerate(talk.messages) if m.towards == UP and m.size_bytes == 36]
        assert len(keys) >= 3
        assert all(talk.messages[i + 1].towards == DOWN for i in keys)
        gaps = [talk.messages[i].wait_ns / 1e6 for i in keys]
        assert 120 < np.median(gaps) < 260


def test_downloads_and_uploads_go_their_way():
    for kind, way in (("download", DOWN), ("upload", UP)):
        found = talks(kind, 60)
        mine = [sum(m.size_bytes for m in talk.messages if m.towards == way) for talk in found]
        other = [sum(m.size_bytes for m in talk.messages if m.towards != way) for talk in found]
        assert np.median(mine) > 100 * np.median(other)
    tenth = [sum(m.size_bytes for m in talk.messages) for talk in talks("download", 60, scale=0.1)]
    assert np.median(tenth) < 0.25 * np.median(
        [sum(m.size_bytes for m in t.messages) for t in talks("download", 60)]
    )


def test_pages_open_several_connections_after_a_lookup():
    found = talks("browse", 1)
    assert found[0].kind == "dns"
    first = min(talk.start_ns for talk in found if talk.kind == "browse")
    assert first > found[0].start_ns + 24_000_000, "the answer takes a round trip"
    many = talks("browse", 200)
    assert sum(talk.kind == "browse" for talk in many) > 60


def test_stun_messages_are_well_formed():
    for talk in talks("stun", 5):
        for i, content in talk.payloads.items():
            assert content[4:8] == bytes.fromhex("2112a442")
            assert int.from_bytes(content[2:4], "big") == len(content) - 20
            assert content[8:20] == talk.payloads[i - i % 2][8:20]


def test_internet_has_near_resolvers_and_popular_hosts():
    internet = make_internet(300, None, np.random.default_rng(1))
    assert (internet.distance_ns[:2] < 3_000_000).all()
    picks = np.array([internet.pick(np.random.default_rng(i)) for i in range(2000)])
    assert picks.min() >= 2
    assert picks.max() < 300
    assert (picks < 12).mean() > 0.25
    spread = make_internet(300, (0.01, 0.02), np.random.default_rng(1)).distance_ns[2:]
    assert spread.min() >= 10_000_000
    assert spread.max() <= 20_000_000
