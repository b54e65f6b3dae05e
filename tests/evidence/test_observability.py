"""Which packets could have been seen, and why not the others."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.tables import table, tcp
from vpnforensics.align.alignment import same_clock
from vpnforensics.evidence import observability as module
from vpnforensics.evidence.observability import (
    WORDS,
    Observability,
    Why,
    is_error,
    observability,
    unproven,
    unusual_silences,
)
from vpnforensics.flows.assemble import assemble_flows

S = 1_000_000_000


@pytest.mark.parametrize(
    ("gaps_ms", "unusual"),
    [
        ([1] * 5000 + [15_000] + [1] * 5000, 1),
        ([1] * 5000 + [3000] + [1] * 5000, 0),  # a pause of all clients
        ([25_000] * 20, 0),  # keep-alives alone
        (([1] * 500 + [6000]) * 20, 0),  # bursts with a pause after each
        (([1] * 500 + [6000]) * 20 + [90_000] + [1] * 500, 1),
        (([1] * 5000 + [8000]) * 2 + [1] * 9000, 2),
        ([], 0),
        ([1] * 50_000 + [5000], 0),  # short enough to be ordinary
        ([1] * 50_000 + [5001], 1),
        ([1] * 4000 + [60_000, 7000], 0),  # a good third of the other time is in short gaps, not half
        ([1] * 7000 + [60_000, 7000], 1),
    ],
)
def test_a_silence_is_unusual_by_the_other_gaps(gaps_ms: list[int], unusual: int) -> None:
    ts_ns = np.cumsum([0, *gaps_ms], dtype=np.int64) * 1_000_000
    jumbled = np.random.default_rng(0).permutation(ts_ns)
    start, end = unusual_silences(ts_ns)
    assert len(start) == unusual
    assert (end - start).tolist() == sorted((g * 1_000_000 for g in gaps_ms), reverse=True)[:unusual]
    assert [x.tolist() for x in unusual_silences(jumbled)] == [start.tolist(), end.tolist()]


@pytest.mark.parametrize(("gap_ns", "unusual"), [(5 * S, 0), (5 * S + 1, 1)])
def test_five_seconds_are_an_ordinary_silence(gap_ns: int, unusual: int) -> None:
    ts_ns = np.arange(50_000) * 1_000_000
    ts_ns[25_000:] += gap_ns - 1_000_000
    assert len(unusual_silences(ts_ns)[0]) == unusual


@pytest.mark.parametrize("block", [3, 4, 5, 100])
def test_a_silence_at_the_edge_of_what_is_read_at_once_is_one(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpnforensics.scratch._BLOCK", block)
    ts_ns = np.array([0, 1, 2, 3, 60, 61, 62, 63]) * S // 10
    start, end = unusual_silences(ts_ns)
    assert (start.tolist(), end.tolist()) == ([3 * S // 10], [6 * S])


def test_only_moments_beside_a_linked_packet_are_proven() -> None:
    ts_ns = np.array([0, 2, 7, 8, 30, 50]) * S
    record = np.array([-1, -1, -1, 4, -1, 2], np.int32)
    assert unproven(ts_ns, record).tolist() == [True, True, False, False, True, False]
    assert unproven(ts_ns, np.full(6, -1, np.int32)).all()


def test_a_moment_is_a_second_and_its_neighbours_count() -> None:
    ts_ns = np.array([0, 2 * S - 1, 2 * S, 6 * S, 8 * S, 9 * S, 10 * S])
    record = np.array([0, -1, -1, -1, 0, -1, -1])
    assert unproven(ts_ns, record).tolist() == [False, False, True, True, False, False, True]


def test_moments_are_longer_in_captures_that_would_have_too_many() -> None:
    """A year of seconds is more than there is room for: half a minute beside a linked packet is proven."""
    ts_ns = np.array([0, 15, 200, 31_536_000]) * S
    assert unproven(ts_ns, np.array([1, -1, -1, -1])).tolist() == [False, False, True, True]


def test_errors_are_icmp_without_an_identifier() -> None:
    proto = np.array([1, 1, 58, 58, 17], np.uint8)
    assert is_error(proto, np.array([3, 8, 1, 128, 3], np.uint8)).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert is_error(proto, np.array([11, 0, 4, 129, 0], np.uint8)).tolist() == [
        True,
        False,
        True,
        False,
        False,
    ]


def _case(**changes: Any) -> Any:
    """Two flows of four packets, ten seconds apart, under an ingress capture of a minute."""
    rows = [
        tcp(10 + at + 0.1 * i, "198.51.100.1", 4000 + at, "192.0.2.1", 443, ip_len_bytes=100)
        for at in (0, 10)
        for i in range(4)
    ]
    flows = assemble_flows(table(rows))
    order, start = flows.order
    parts: dict[str, Any] = {
        "flows": flows,
        "alignment": SimpleNamespace(usable=True, astray=(), to_ingress=same_clock("made up").to_ingress),
        "egress": SimpleNamespace(start=start, row=order, ts_ns=flows.packets.ts_ns[order]),
        "conversations": SimpleNamespace(packets=SimpleNamespace(ts_ns=np.arange(0, 60 * S, S // 100))),
        "tunnels": SimpleNamespace(tunnels=()),
    }
    return SimpleNamespace(**(parts | changes))


def _whys(case: Any) -> list[list[Why]]:
    found = observability(case)
    assert found.why.shape[0] == 1
    return [[Why(w) for w in found.why[0, a:b]] for a, b in zip(found.start, found.start[1:], strict=False)]


def test_within_a_capture_at_work_all_can_be_seen() -> None:
    assert _whys(_case()) == [[Why.SEEN] * 4] * 2
    assert observability(_case()).deniable.all()
    assert observability(_case()).words() == ["", ""]
    unreadable = replace(observability(_case()), readable=False).noted(np.arange(8) < 1, Why.SILENT)
    said = unreadable.words()
    assert said[0].startswith("1 of its 4 packets")
    assert said[1].startswith("a tunnel that was not read or cannot be looked into")


def _outer(*spans_s: tuple[float, float]) -> Any:
    ts_ns = np.concatenate([np.arange(int(a * S), int(b * S), S // 100) for a, b in spans_s])
    return SimpleNamespace(packets=SimpleNamespace(ts_ns=ts_ns))


def test_a_flow_that_reaches_beyond_the_ingress_capture_is_outside() -> None:
    assert _whys(_case(conversations=_outer((10.2, 60)))) == [[Why.OUTSIDE] * 4, [Why.SEEN] * 4]
    assert _whys(_case(conversations=_outer((0, 20.2)))) == [[Why.SEEN] * 4, [Why.OUTSIDE] * 4]
    assert _whys(_case(conversations=_outer((10, 60))))[0] == [Why.SEEN] * 4, "both begin at once"
    last_s = 20.31  # the ingress capture's last packet is the flow's last one
    assert _whys(_case(conversations=_outer((10, last_s))))[1] == [Why.SEEN] * 4
    assert _whys(_case(conversations=_outer((10, last_s - 0.01))))[1] == [Why.OUTSIDE] * 4
    found = observability(_case(conversations=_outer((10.2, 60))))
    assert found.deniable.tolist() == [False, True]
    assert found.words() == [f"4 of its 4 packets could not have been seen: {WORDS[Why.OUTSIDE]}", ""]


def test_without_an_alignment_nothing_is_within() -> None:
    blind = SimpleNamespace(usable=False, astray=(), to_ingress=lambda ts_ns: ts_ns)
    assert _whys(_case(alignment=blind)) == [[Why.OUTSIDE] * 4] * 2


def test_packets_in_a_silence_of_the_ingress_capture() -> None:
    """From 10.15 s on: most of the first flow came while it was silent, or half of it."""
    found = observability(_case(conversations=_outer((0, 10.05), (19, 60))))
    assert found.why[0, :4].tolist() == [Why.SEEN] + [Why.SILENT] * 3
    assert found.deniable.tolist() == [False, True]
    half = observability(_case(conversations=_outer((0, 10.15), (19, 60))))
    assert half.deniable.tolist() == [False, True]
    third = observability(_case(conversations=_outer((0, 10.25), (19, 60))))
    assert third.deniable.tolist() == [True, True]


def test_packets_whose_time_is_not_known() -> None:
    clock = same_clock("made up")
    astray = SimpleNamespace(usable=True, astray=((1, 2), (7, 7)), to_ingress=clock.to_ingress)
    seen, not_known = Why.SEEN, Why.UNTIMED
    assert _whys(_case(alignment=astray)) == [
        [seen, not_known, not_known, seen],
        [seen, seen, seen, not_known],
    ]


@pytest.mark.parametrize(("sent", "beside"), [(11, False), (12, True)])
def test_what_a_busy_connection_beside_a_tunnel_may_have_carried(sent: int, beside: bool) -> None:
    """Three in a hundred of a flow's 400 bytes: from a second before it on."""
    twin = SimpleNamespace(
        ts_ns=np.array([9.01 * S, 11.29 * S], np.int64), payload_bytes=np.array([5, sent - 5], np.int32)
    )
    ingress = _outer((0, 60)).packets
    ingress = SimpleNamespace(
        ts_ns=np.r_[twin.ts_ns, ingress.ts_ns],
        payload_bytes=np.r_[twin.payload_bytes, np.zeros(len(ingress.ts_ns), np.int32)],
    )
    conversations = SimpleNamespace(packets=ingress, rows_of=lambda number: np.array([0, 1]))
    tunnels = SimpleNamespace(tunnels=(SimpleNamespace(twin=3), SimpleNamespace(twin=-1)))
    found = observability(_case(conversations=conversations, tunnels=tunnels))
    assert (found.why[0, :4] == Why.BESIDE).all() == beside
    assert (found.why[0, 4:] == Why.SEEN).all()


def test_a_tunnel_without_a_connection_beside_it_has_none() -> None:
    def rows_of(number: int) -> Any:
        raise AssertionError

    conversations = SimpleNamespace(packets=_outer((0, 60)).packets, rows_of=rows_of)
    case = _case(conversations=conversations, tunnels=SimpleNamespace(tunnels=(SimpleNamespace(twin=-1),)))
    assert _whys(case) == [[Why.SEEN] * 4] * 2


def test_the_first_reason_stays_and_maps_have_their_own() -> None:
    plain = Observability(np.array([0, 2, 3]), np.zeros((1, 3), np.uint8))
    found = plain.noted(np.array([True, False, False]), Why.SILENT)
    found = found.noted(np.array([[True, True, False], [False, False, True]]), Why.TOO_LONG)
    assert found.why.tolist() == [[Why.SILENT, Why.TOO_LONG, Why.SEEN], [Why.SILENT, Why.SEEN, Why.TOO_LONG]]
    assert found.seen.tolist() == [[False, False, True], [False, True, False]]
    assert found.per_flow(found.seen).tolist() == [[0, 1], [1, 0]]
    assert plain.seen.all()
    # Of what no map allows; what one could have shown could have been seen.
    assert found.words() == [f"1 of its 2 packets could not have been seen: {WORDS[Why.SILENT]}", ""]


def test_length_alone_takes_no_flow_from_those_that_can_be_denied() -> None:
    long = Observability(np.array([0, 2]), np.zeros((1, 2), np.uint8)).noted(
        np.ones(2, np.bool_), Why.TOO_LONG
    )
    assert long.deniable.tolist() == [True]
    for why in module._OF_TIME:
        gone = Observability(np.array([0, 2]), np.zeros((1, 2), np.uint8)).noted(np.ones(2, np.bool_), why)
        assert gone.deniable.tolist() == [False]


def test_every_reason_has_words() -> None:
    assert set(WORDS) == set(Why) - {Why.SEEN}


def test_a_capture_is_at_work_a_tenth_of_a_second_beyond_its_ends_and_up_to_a_silences_edges() -> None:
    outer = np.r_[np.arange(10 * S, 12 * S, S // 100), np.arange(30 * S, 32 * S, S // 100)]
    last = int(outer[199])
    stall = 100_000_000
    first, end = 10 * S - stall, int(outer[-1]) + stall
    asked = [
        (first, True), (first - 1, False), (end, True), (end + 1, False),
        (last, True), (last + 1, False), (30 * S - 1, False), (30 * S, True),
    ]  # fmt: skip
    case: Any = SimpleNamespace(
        conversations=SimpleNamespace(packets=SimpleNamespace(ts_ns=outer)),
        egress=SimpleNamespace(ts_ns=np.array([t for t, _ in asked])),
    )
    assert module.at_work(case).tolist() == [working for _, working in asked]
    case.conversations.packets.ts_ns = np.zeros(0, np.int64)
    assert module.at_work(case).all(), "of no packets nothing is known"


def test_the_commonest_reason_is_named_where_no_length_map_could_have_shown_a_packet() -> None:
    table_ = Observability(np.array([0, 4]), np.full((2, 4), Why.SEEN, np.uint8))
    whys = np.array(
        [[Why.TOO_LONG, Why.SILENT, Why.SILENT, Why.SEEN], [Why.SEEN, Why.SILENT, Why.SILENT, Why.EMPTY]]
    )
    found = replace(table_, why=whys.astype(np.uint8))
    assert found.words() == [f"2 of its 4 packets could not have been seen: {WORDS[Why.SILENT]}"]
