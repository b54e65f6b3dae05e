"""How a case is prepared for containment, with its parts made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vpnforensics.align.classes import IN_PIECES
from vpnforensics.engines import packets
from vpnforensics.engines.case import USUAL_MISS, EgressRows
from vpnforensics.engines.holes import usual_misses

S = 1_000_000_000


class Classes:
    """Two classes; every packet is of class its size modulo two."""

    counts = np.array([4, 4])

    def __init__(self, count: int = 2) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def class_of(self, number: int, size: Any, up: Any) -> Any:
        return (size % 2).astype(np.int32) * (number == 0)


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Preparation of a case of two flows, of four packets and two, of so much unread."""

    def prepare(*, lost: float = 0.0, pairs: Any = (9, 9), plain: Any = (9, 9),
                classes: int = 2, seen: Any = None, usable: bool = True, maps: int = 1, flows: int = 2,
                at: Any = (0, 1, 2, 300, 0, 900)) -> Any:  # fmt: skip
        calls: dict[str, Any] = {"plain": 0}
        law = SimpleNamespace(pairs=pairs, width_ns=50_000_000.0, up=np.zeros(8), step_bits=20)
        even = SimpleNamespace(pairs=(0, 0), width_ns=1.0, up=np.zeros(8), step_bits=20)
        learned = SimpleNamespace(pairs=plain, width_ns=2.0, up=np.zeros(8), step_bits=20)

        def holes(tunnels: Any, reach: int) -> Any:
            calls["reach"] = reach
            return "holes"

        def again(containment: Any) -> Any:
            calls["plain"] += 1
            return learned

        monkeypatch.setattr(packets, "classify_records", lambda *_: Classes(classes))
        monkeypatch.setattr(packets, "observed_delays", lambda *_: ((), ()))
        monkeypatch.setattr(packets, "estimate_delay_law", lambda *_: law)
        monkeypatch.setattr(packets, "even_law", lambda width: even)
        monkeypatch.setattr(packets, "law_of_plain_flows", again)
        monkeypatch.setattr(packets, "find_holes", holes)
        monkeypatch.setattr(packets, "in_order", lambda *args: args[1:])
        rows = np.arange(6, dtype=np.int32)
        egress = EgressRows(
            np.array([0, 4, 6]), rows, np.array(at, np.int64) * S // 1000,
            np.array([2, 3, 2, 2, 3, 3], np.int32), np.ones(6, np.bool_),
        )  # fmt: skip
        case: Any = SimpleNamespace(
            alignment=SimpleNamespace(usable=usable), maps=("map",) * maps, flows=range(flows), egress=egress,
            map_of_tunnel=np.zeros(3, np.int64), circle="circle",
            tunnels=type("T", (), {"records": "records", "lost_share": lost, "__len__": lambda self: 3})(),
        )  # fmt: skip
        found = packets.prepare(case, np.ones(6, np.bool_) if seen is None else np.array(seen))
        return SimpleNamespace(found=found, law=law, learned=learned, **calls)

    return prepare


def test_a_case_with_something_to_go_on(prepared: Any) -> None:
    made = prepared()
    found = made.found
    assert found.law is made.law
    assert (found.holes, found.circle, found.tunnels) == ("holes", "circle", 3)
    assert found.egress_class[0].tolist() == [0, 1, 0, 0, 1, 1]
    assert found.by_tunnel == (50_000_000.0, 3)
    assert made.reach == (8 << 20) // 2
    assert np.diff(found.probes[0][0]).tolist() == [4, 2] or len(found.probes[0][1]) <= 6


@pytest.mark.parametrize("without", [{"usable": False}, {"maps": 0}, {"flows": 0}, {"classes": 0}])
def test_with_nothing_to_go_on_there_is_none(prepared: Any, without: dict[str, Any]) -> None:
    assert prepared(**without).found is None


def test_what_could_not_be_seen_is_not_looked_for(prepared: Any) -> None:
    found = prepared(seen=[True, False, True, True, False, True], maps=2).found
    assert found.egress_class[0].tolist() == [0, IN_PIECES, 0, 0, IN_PIECES, 1]
    assert found.egress_class[1].tolist() == [0, IN_PIECES, 0, 0, IN_PIECES, 0]


def test_a_packet_that_follows_its_own_kind_within_the_laws_width_is_no_news(prepared: Any) -> None:
    found = prepared().found
    assert found.fresh.tolist() == [1, 1, 0, 1, 1, 1], "the third follows the first by two milliseconds"
    later = prepared(at=(0, 1, 60, 61, 0, 900)).found
    assert later.fresh.tolist() == [1, 1, 1, 0, 1, 1]


@pytest.mark.parametrize(("lost", "unread"), [(0.0, USUAL_MISS), (0.3, 0.3), (0.95, 0.8)])
def test_misses_where_there_is_no_counter(prepared: Any, lost: float, unread: float) -> None:
    assert prepared(lost=lost).found.miss.tolist() == usual_misses(USUAL_MISS, unread).tolist()


def test_without_pairs_of_one_way_the_law_is_learned_from_plain_flows_twice(prepared: Any) -> None:
    for pairs in ((0, 9), (9, 0)):
        made = prepared(pairs=pairs)
        assert made.plain == 2
        assert made.found.law is made.learned
    made = prepared(pairs=(0, 9), plain=(9, 0))
    assert made.found.law is made.law, "no plain flow of both ways: as it was"
    assert prepared().plain == 0
