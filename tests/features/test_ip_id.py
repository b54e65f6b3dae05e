import numpy as np
import pytest

from tests.features import models
from tests.tables import table, tcp
from vpnforensics.features.ip_id import classify_ip_ids, ip_id_table, reconstruct
from vpnforensics.features.senders import find_senders
from vpnforensics.flows.assemble import assemble_flows


@pytest.mark.parametrize("kind", models.PERSONALITIES)
@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_personalities(kind, loss):
    rng = np.random.default_rng(len(kind))
    right = 0
    for _ in range(60):
        packets = models.ip_id_packets(kind, rng, packets=int(rng.integers(65, 300)), loss=loss)
        right += classify_ip_ids(*packets).ip_id_class == kind
    assert right >= 59


def test_a_busy_host_is_still_global():
    rng = np.random.default_rng(0)
    found = classify_ip_ids(*models.ip_id_packets("global", rng, packets=300, other_hz=100.0))
    assert (found.ip_id_class, found.scope) == ("global", "host")
    assert found.scale >= 4


@pytest.mark.parametrize("flows", [1, 3])
def test_scope_claims_no_more_than_was_tested(flows):
    rng = np.random.default_rng(1)
    packets = models.ip_id_packets("global", rng, packets=200, flows=flows, destinations=1, other_hz=0.0)
    found = classify_ip_ids(*packets)
    assert found.scope == ("flow" if flows == 1 else "destination")
    assert "cannot be told" in found.reason


def test_missing_packets_are_counted():
    rng = np.random.default_rng(2)
    sent = np.arange(2000)
    kept = np.sort(rng.permutation(sent)[:1700])
    kept = kept[(kept > 0) & (kept < 1999)]
    one = np.zeros(len(kept), np.int64)
    found = classify_ip_ids(kept * 10**7, (kept + 65_000) % 65_536, one, one)
    assert found.ip_id_class == "per_flow"
    # A zero on the wire is no ID, so one of the counter's values may go unseen.
    assert found.missing == pytest.approx(1998 - len(kept), abs=3)
    assert found.increments == pytest.approx(0.85, abs=0.03)


def test_reordering_is_not_loss():
    ids = np.arange(1000, 1200)
    ids[50], ids[51] = ids[51], ids[50]
    one = np.zeros(200, np.int64)
    assert classify_ip_ids(np.arange(200) * 10**7, ids, one, one).missing == 0


@pytest.mark.parametrize(
    ("ids", "named", "reason"),
    [
        ([], "unknown", "fewer than 10 packets"),
        ([5, 6, 7], "unknown", "fewer than 10 packets"),
        ([0] * 95 + [4, 5, 6], "zero", ""),
        ([0] * 40 + [4, 5, 6], "unknown", "with an ID"),
        ([77] * 40, "constant", ""),
    ],
)
def test_little_or_nothing_to_go_on(ids, named, reason):
    ids = np.array(ids, np.int64)
    found = classify_ip_ids(np.arange(len(ids)), ids, 0 * ids, 0 * ids)
    assert found.ip_id_class == named
    assert reason in found.reason


def test_contract():
    ids = np.arange(40)
    found = classify_ip_ids(ids * 10**7, ids + 1, 0 * ids, 0 * ids)
    assert found.to_dict() == {"class": "per_flow", "scope": "flow", "increments": 1.0, "missing": 0}
    assert classify_ip_ids(ids[:3], ids[:3], ids[:3], ids[:3]).to_dict() is None


def test_a_table_of_a_capture():
    ids = [10, 11, 12, 15, 16, 0, 17, 18, 19, 20, 21, 22]
    rows = [tcp(i * 0.1, "10.0.0.1", 40_000, "10.0.0.2", 443, ip_id=v) for i, v in enumerate(ids)]
    rows += [tcp(i * 0.1 + 0.01, "10.0.0.2", 443, "10.0.0.1", 40_000, ip_id=0) for i in range(12)]
    senders = find_senders(assemble_flows(table(sorted(rows, key=lambda r: r["ts_ns"]))))
    frame = ip_id_table(senders).to_pandas().set_index("address")
    assert frame["class"].to_dict() == {"10.0.0.1": "per_flow", "10.0.0.2": "zero"}
    assert frame["missing"]["10.0.0.1"] == 2
    assert ip_id_table(senders).profiles[0].gaps == 1


def test_counters_without_their_wraps():
    assert reconstruct(np.array([65_534, 65_535, 1])).tolist() == [65_534, 65_535, 65_537]
    assert reconstruct(np.array([0x0100, 0x0200]), swapped=True).tolist() == [1, 2]


def test_no_packets_no_rows():
    assert len(ip_id_table(find_senders(assemble_flows(table([])))).profiles) == 0
