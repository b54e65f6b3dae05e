"""Lookups and what came after them, by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vpnforensics.engines import lookups
from vpnforensics.engines.lookups import Asked, find_asked
from vpnforensics.features.names.find import FlowNames, Lookup

MS = 1_000_000
HOSTS = [bytes([192, 0, 2, n]) for n in range(4)]
RESOLVER = 3


def flows(*made: tuple[float, int]) -> Any:
    """Flows of a beginning in ms and the number of the address they go to."""
    packed = np.zeros((len(HOSTS), 16), np.uint8)
    packed[:, 12:] = [list(host) for host in HOSTS]
    addresses = SimpleNamespace(packed=packed, version=np.full(len(HOSTS), 4))

    class Flows:
        first_ns = np.array([round(ms * MS) for ms, _ in made], np.int64)
        dst = np.array([to for _, to in made], np.int32)
        packets = SimpleNamespace(addresses=addresses)

        def __len__(self) -> int:
            return len(made)

    return Flows()


def names(asked: dict[int, str], answers: dict[str, list[int]]) -> FlowNames:
    """Who asked for what, and the addresses that somebody was told."""
    found = FlowNames()
    for flow, name in asked.items():
        found.add(flow, name, "query")
    for name, hosts in answers.items():
        found.lookups += [Lookup(0, 0, name, HOSTS[n], 60) for n in hosts]
    return found


def after(asked: Asked) -> list[tuple[int, int, float]]:
    """Lookup, flow after it, and delay in ms."""
    rows = zip(
        asked.lookup[asked.of].tolist(), asked.flow.tolist(), (asked.delay_ns / MS).tolist(), strict=True
    )
    return sorted(rows)


def test_flows_to_an_address_of_the_name_soon_after_the_question() -> None:
    case = flows((0, RESOLVER), (-5, 0), (30, 0), (40, 1), (50, 2), (999, 0), (1001, 0))
    found = find_asked(case, names({0: "www.example"}, {"www.example": [0, 1], "other.example": [2]}))
    assert found is not None
    assert after(found) == [(0, 2, 30.0), (0, 3, 40.0), (0, 5, 999.0)]


def test_a_name_has_the_addresses_that_anybody_was_told() -> None:
    """A question for another kind of record, or whose answer was lost, is followed by the same flows."""
    case = flows((0, RESOLVER), (2, RESOLVER), (30, 0))
    found = find_asked(case, names({0: "www.example", 1: "www.example"}, {"www.example": [0]}))
    assert found is not None
    assert after(found) == [(0, 2, 30.0), (1, 2, 28.0)]


def test_what_follows_a_flow_that_asks_for_several_names_counts_once() -> None:
    found = names({0: "a.example"}, {"a.example": [0], "b.example": [0]})
    found.add(0, "b.example", "query")
    asked = find_asked(flows((0, RESOLVER), (10, 0)), found)
    assert asked is not None
    assert after(asked) == [(0, 1, 10.0)]


@pytest.mark.parametrize(
    "found",
    [
        names({}, {"www.example": [0]}),
        names({0: "www.example"}, {}),
        names({0: "www.example"}, {"other.example": [0]}),
    ],
)
def test_without_a_lookup_whose_name_has_an_address_there_is_nothing(found: FlowNames) -> None:
    assert find_asked(flows((0, RESOLVER), (10, 0)), found) is None


def test_an_address_that_no_packet_has_and_a_name_that_is_no_question_do_not_count() -> None:
    found = names({}, {"www.example": [0]})
    found.add(0, "www.example", "sni")
    found.add(1, "gone.example", "query")
    found.lookups.append(Lookup(1, 0, "gone.example", bytes([198, 51, 100, 1]), 60))
    assert find_asked(flows((0, 0), (10, RESOLVER)), found) is None


def test_of_an_address_to_which_everybody_goes_only_some_are_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookups, "_MOST", 3)
    case = flows((0, RESOLVER), *((n + 1, 0) for n in range(9)))
    found = find_asked(case, names({0: "www.example"}, {"www.example": [0]}))
    assert found is not None
    assert [flow for _, flow, _ in after(found)] == [1, 2, 3]
