"""What delays are, of tunnels whose packets all have one size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.evidence.joint.made import MS, Packet, Record, made, made_holes
from vpnforensics.engines.containment import Containment, in_order
from vpnforensics.engines.delay_law import even_law, observed_delays
from vpnforensics.engines.plain_flows import FAR_NS, law_of_plain_flows


def padded(packets: int, *, clients: int = 4, spread_ms: float = 400.0) -> Containment:
    """Each client has a flow of so many packets; the server takes 2 to 4 ms."""
    rng = np.random.default_rng(1)
    flows: list[list[Packet]] = []
    records: list[Record] = []
    for client in range(clients):
        at = np.sort(rng.uniform(0, packets * spread_ms, packets))
        up = rng.random(packets) < 0.5
        late = rng.uniform(2, 4, packets) * np.where(up, 1, -1)
        flows.append([(float(t), 100, bool(way)) for t, way in zip(at, up, strict=True)])
        records += [(float(t), 100, bool(way), client) for t, way in zip(at - late, up, strict=True)]
    case = made(flows, records, tunnels=clients)
    law = even_law(FAR_NS)
    return replace(case, law=law, by_tunnel=in_order(case.classes, law.width_ns, clients))


def test_where_no_packet_is_alone_among_all_tunnels_it_may_be_alone_in_its_own() -> None:
    case = padded(200, clients=12)
    delay_ns, *_ = observed_delays(case.classes, case.egress, case.egress_class)
    alone = len(delay_ns)
    law = law_of_plain_flows(case)
    assert sum(law.pairs) > 5 * alone
    for way, median_ns, p95_ns in zip((0, 1), law.median_ns, law.p95_ns, strict=True):
        assert law.pairs[way] > 100
        assert 2.5 * MS < median_ns < 3.5 * MS
        assert 3.5 * MS < p95_ns < 4.5 * MS


def test_flows_of_few_packets_teach_nothing() -> None:
    assert law_of_plain_flows(padded(19)).pairs == (0, 0)


def test_flows_that_fit_two_tunnels_teach_nothing() -> None:
    """Two more tunnels have the records of the first two once more."""
    case = padded(200, clients=2)
    classes = case.classes
    order = np.argsort(np.r_[classes.ts_ns, classes.ts_ns], kind="stable")
    sides = np.repeat([0, 1], np.diff(classes.start))
    order = order[np.argsort(np.r_[sides, sides][order], kind="stable")]
    twice = replace(
        classes,
        start=2 * classes.start,
        ts_ns=np.r_[classes.ts_ns, classes.ts_ns][order],
        tunnel=np.r_[classes.tunnel, classes.tunnel + 2].astype(np.int32)[order],
        record=np.arange(len(order), dtype=np.int32),
    )
    by_tunnel = in_order(twice, case.law.width_ns, 4)
    case = replace(case, classes=twice, by_tunnel=by_tunnel, holes=made_holes(4, None), tunnels=4)
    assert law_of_plain_flows(case).pairs == (0, 0)


def test_an_even_law_is_as_early_as_late() -> None:
    law = even_law(40e6)
    assert law.median_ns == (0.0, 0.0)
    assert law.low_ns < -39e6
    assert law.high_ns > 39e6
    assert law.pairs == (0, 0)
    np.testing.assert_allclose(law.up[10:-10], law.up[10], rtol=1e-6)
