"""What equal payloads add to a decision: from two captures of a relay to links."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import vpnforensics as vf
from tests.align.test_kept_bytes import Relayed, page
from tests.tables import table
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.kept_bytes import KeptBytes
from vpnforensics.align.kept_pairs import KeptPairs
from vpnforensics.engines.case import Case, ScoreTable
from vpnforensics.evidence.decision import undecided
from vpnforensics.evidence.kept_bytes import Judged, judge, with_kept_bytes
from vpnforensics.evidence.policy import Policy
from vpnforensics.evidence.voices import Voice
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.tunnels.find import find_tunnels
from vpnforensics.tunnels.table import TunnelSet, no_records


def correlated(relay, **options):
    ingress, egress = (
        table(sorted(rows, key=lambda row: row["ts_ns"])) for rows in (relay.ingress, relay.egress)
    )
    case = vf.correlate(ingress, egress, **options)
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    linked = [clients[t].rpartition(":")[0] if t in clients else None for t in case.links["tunnel"]]
    ports = [int(src.rpartition(":")[2]) - 50_000 for src in case.endpoints["src"]]
    numbered = dict(zip(sorted(ports), relay.client_of, strict=True))
    return case, linked, [numbered[port] for port in ports]


def test_flows_are_linked_by_their_payloads_and_the_reason_is_named():
    relay = Relayed()
    relay.some_tls()
    case, linked, true = correlated(relay)
    assert linked == true
    assert set(case.tunnels["transport"]) == {"stream"}
    assert case.expected_false_links < 0.01
    says = case.scores.iloc[0]
    assert says["exact_note"].startswith("3 of 3 payloads found in connection 198.51.100.")
    assert says["exact_n"] == 3


def test_a_missing_clients_flows_are_nobodys():
    relay = Relayed()
    relay.some_tls()
    for n in range(4):
        relay.tls(1.5 + 3 * n, "198.51.100.9", seen=False)
        page(relay, 2.3 + 3 * n, "198.51.100.9", seen=False)
    _, linked, true = correlated(relay)
    assert all(c in (None, t) for c, t in zip(linked, true, strict=True))
    assert sum(c is not None for c in linked) == 18


def test_an_engine_that_may_not_speak_does_not():
    relay = Relayed()
    relay.some_tls()
    case, _, _ = correlated(relay, engines=("writes",))
    assert "exact_llr" not in case.scores


@pytest.fixture
def made_up():
    """A case of two clients and four flows, and a decision by writes: 0 is linked, 1 and 2 are doubtful."""
    relay = Relayed()
    for n in range(4):
        relay.tls(1 + n, f"198.51.100.{1 + n % 2}")
    conversations, flows = (
        assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"])))
        for rows in (relay.ingress, relay.egress)
    )
    carriers = find_carriers(conversations, find_tunnels(conversations))
    tunnels = TunnelSet(carriers.tunnels, no_records(), np.zeros(0, np.int64))
    case = Case(conversations, tunnels, flows, same_clock("known"), (), np.full(2, -1))
    pairs = np.array([0, 1, 2], np.int32), np.array([0, 1, 0], np.int32)
    llr = np.array([6.0, 1.0, 1.0])
    decision = replace(
        undecided(case, Policy()),
        engine="writes",
        scores=ScoreTable(*pairs, llr, np.ones(3, np.int32)),
        llr=llr,
        tunnel=np.array([0, -1, -1, -1], np.int32),
        error=np.array([1e-6, 0.2, 0.2, 1.0]),
        chance=np.full(4, 1e-6),
        voices=(Voice("writes", llr, llr, np.ones(3, np.int32), ("", "", "")),),
    )
    return case, decision


def kept(carrier, score, content=0.0):
    """Each flow has a pair with a connection of its own, of that client; two payloads each."""
    having = np.flatnonzero(np.array(carrier) >= 0)
    n, four = len(having), np.arange(4)
    pairs = KeptPairs(
        having, having, np.full(n, 2), np.array(score, float)[having], np.full(n, float(content))
    )
    return KeptBytes(same_clock("known"), pairs, four, four, np.array(carrier), np.full(4, 2), np.full(4, 2))


def test_a_high_score_links_and_outweighs(made_up):
    case, decision = made_up
    against = replace(decision, llr=np.array([6.0, 1.0, -1.0]))
    found = with_kept_bytes(case, kept([1, 0, -1, 1], [9.0, 9.0, -np.inf, 1.0]), against)
    assert found.tunnel.tolist() == [1, 0, -1, -1]
    assert found.error[:2].tolist() == [pytest.approx(2e-9, abs=1e-6)] * 2
    assert found.verdicts() == ["linked", "linked", "no_tunnel", "undecided"]


def test_less_adds_to_what_sizes_and_times_say_of_the_same_client(made_up):
    case, decision = made_up
    same = with_kept_bytes(case, kept([0, 1, 0, -1], [1.0, 1.0, 1.0, -np.inf], 3.0), decision)
    assert same.tunnel.tolist() == [0, 1, 0, -1]
    assert same.error[1] == pytest.approx(0.25e-3 / (1 + 0.25e-3))
    nothing_new = with_kept_bytes(case, kept([0, 1, 0, -1], [1.0, 1.0, 1.0, -np.inf], 0.0), decision)
    assert nothing_new.tunnel.tolist() == [0, -1, -1, -1]
    other = with_kept_bytes(case, kept([0, 0, 1, -1], [1.0, 1.0, 1.0, -np.inf], 3.0), decision)
    assert other.tunnel.tolist() == [0, -1, -1, -1]


def test_pairs_of_both_are_listed_best_first(made_up):
    found = with_kept_bytes(made_up[0], kept([0, 0, 0, 1], [2.0, 2.0, -1.0, 0.5]), made_up[1])
    pairs = list(zip(found.scores.flow.tolist(), found.scores.tunnel.tolist(), strict=True))
    assert pairs == [(0, 0), (1, 0), (1, 1), (2, 0), (3, 1)]
    # Half a decade, and of four flows none is of nobody: a fifth, at most, of two clients.
    assert found.llr[[0, 2, 3, 4]].tolist() == [6.0, 1.0, 1.0, pytest.approx(0.5 - np.log10(2 / 5))]
    assert [v.engine for v in found.voices] == ["writes", "exact"]
    assert np.isfinite(found.voices[0].score).tolist() == [True, False, True, True, False]
    assert np.isfinite(found.voices[1].score).tolist() == [True, True, False, False, True]
    assert found.llr[1] == found.voices[1].llr[1] == pytest.approx(1.0)
    assert found.comparisons_of.tolist() == [2] * 4


@pytest.mark.parametrize("proved", [5, 4])
def test_who_had_none_of_its_payloads_did_not_carry_a_flow(made_up, proved, monkeypatch):
    monkeypatch.setattr("vpnforensics.evidence.kept_bytes._LEAST_PROVED", proved - 3)
    case, decision = made_up
    found = with_kept_bytes(case, kept([-1, 1, 1, -1], [-np.inf, 9.0, -1.0, -np.inf]), decision)
    assert (found.tunnel[0] < 0) == (proved == 4)
    one_payload = replace(kept([-1, 1, 1, -1], [-np.inf, 9.0, -1.0, -np.inf]), payloads=np.ones(4, np.int64))
    assert with_kept_bytes(case, one_payload, decision).tunnel[0] == 0


def test_what_the_case_allows_is_left_by_the_links_there_are(made_up):
    case, decision = made_up
    some = kept([-1, 1, 0, -1], [-np.inf, 1.0, 1.0, -np.inf], 2.0)  # errors of 0.0025 each
    assert with_kept_bytes(case, some, decision).tunnel.tolist() == [0, 1, 0, -1]
    less = replace(decision, error=np.array([0.006, 0.2, 0.2, 1.0]))
    found = with_kept_bytes(case, some, less)
    assert found.tunnel.tolist() == [-1, 1, 0, -1], "the surest"
    assert found.expected_false_links <= 0.01


def test_the_likeliest_of_several_has_to_be_the_same(made_up):
    case, decision = made_up
    pairs = np.array([1, 1, 2, 2], np.int32), np.array([0, 1, 0, 1], np.int32)
    llr = np.array([1.0, 2.0, 2.0, 1.0])
    several = replace(
        decision,
        scores=ScoreTable(*pairs, llr, np.ones(4, np.int32)),
        llr=llr,
        tunnel=np.full(4, -1, np.int32),
        voices=(Voice("writes", llr, llr, np.ones(4, np.int32), ("",) * 4),),
    )
    found = with_kept_bytes(case, kept([-1, 1, 1, -1], [-np.inf, 2.0, 2.0, -np.inf], 3.0), several)
    assert found.tunnel.tolist() == [-1, 1, -1, -1]


def test_without_writes_bytes_alone_decide(made_up):
    case, decision = made_up
    silent = undecided(case, decision.policy)
    found = with_kept_bytes(case, kept([0, 1, -1, -1], [9.0, 9.0, -np.inf, -np.inf]), silent)
    assert (found.engine, found.tunnel.tolist()) == ("exact", [0, 1, -1, -1])
    assert with_kept_bytes(case, kept([0, 1, -1, -1], [9.0] * 4), decision).engine == "writes"


def test_a_link_by_bytes_needs_what_the_errors_of_the_case_leave(made_up):
    """Of four flows one is somebody's: two to one against, at first, and two clients."""
    case, decision = made_up
    left = 0.01 - 1e-6
    needed = np.log10(4.0 * (1 - left) / left)
    for score, linked in ((needed + 0.01, 1), (needed - 0.01, -1)):
        found = with_kept_bytes(case, kept([-1, -1, 1, -1], [-np.inf, -np.inf, score, -np.inf]), decision)
        assert found.tunnel[2] == linked
    found = with_kept_bytes(case, kept([-1, -1, 1, -1], [-np.inf, -np.inf, 4.0, -np.inf]), decision)
    assert found.error[2] == pytest.approx(4e-4 / (1 + 4e-4))
    assert found.llr[found.scores.flow == 2].max() == pytest.approx(1.0), "ten comparisons at least bound it"
    sure = with_kept_bytes(case, kept([-1, -1, 1, -1], [-np.inf, -np.inf, 40.0, -np.inf]), decision)
    assert sure.error[2] == Policy().least_error


def test_what_was_compared_is_counted(made_up):
    case, decision = made_up
    none = replace(kept([0, -1, -1, -1], [3.0] + [-np.inf] * 3), payloads=np.array([2, 1, 0, 0]))
    found = with_kept_bytes(case, none, replace(decision, comparisons_of=np.array([0, 1, 1, 5])))
    assert found.comparisons_of.tolist() == [2, 2, 1, 5]
    assert found.null_comparisons == 8
    assert with_kept_bytes(case, none, replace(decision, null_comparisons=90)).null_comparisons == 90
    assert found.chance.tolist() == [1.0, 1e-6, 1e-6, 1e-6]


def test_records_of_writes_stay_with_the_links_that_stay(made_up):
    case, decision = made_up
    rows = int(case.egress.start[-1])
    by_writes = replace(decision, record=np.arange(rows))
    found = with_kept_bytes(case, kept([1, -1, -1, -1], [9.0] + [-np.inf] * 3), by_writes)
    of_first = int(case.egress.start[1])
    assert found.record.tolist() == [-1] * of_first + list(range(of_first, rows))


def test_a_score_of_nothing_speaks_for_nobody(made_up):
    case, decision = made_up
    found = with_kept_bytes(case, kept([-1, -1, -1, 1], [-np.inf] * 3 + [0.0]), decision)
    assert 3 not in found.scores.flow


def test_a_link_by_writes_has_a_smaller_error_where_bytes_agree(made_up):
    case, decision = made_up
    for content, error in ((0.5, 10**-6.5), (3.0, Policy().least_error)):
        found = with_kept_bytes(case, kept([0, -1, -1, -1], [2.0] + [-np.inf] * 3, content), decision)
        assert found.tunnel[0] == 0
        assert found.error[0] == pytest.approx(error)


def test_what_was_held_for_certainly_wrong_is_one_in_a_thousand_millions(made_up):
    """Twelve decades of content make it one in a thousand."""
    case, decision = made_up
    wrong = replace(decision, error=np.array([1e-6, 1.0, 0.2, 1.0]))
    found = with_kept_bytes(case, kept([-1, 1, -1, -1], [-np.inf, 2.0, -np.inf, -np.inf], 12.0), wrong)
    assert found.tunnel[1] == 1
    assert found.error[1] == pytest.approx(1e-3 / (1 + 1e-3))


def test_a_pair_that_writes_say_nothing_of_is_not_the_likeliest(made_up):
    case, decision = made_up
    pairs = np.array([1, 1], np.int32), np.array([0, 1], np.int32)
    llr = np.array([np.nan, -1.0])
    silent = replace(
        decision,
        scores=ScoreTable(*pairs, llr, np.ones(2, np.int32)),
        llr=llr,
        voices=(Voice("writes", llr, llr, np.ones(2, np.int32), ("",) * 2),),
    )
    for client, linked in ((1, 1), (0, -1)):
        found = with_kept_bytes(
            case, kept([-1, client, -1, -1], [-np.inf, 2.0, -np.inf, -np.inf], 3.0), silent
        )
        assert found.tunnel[1] == linked


def test_flows_without_payloads_were_not_compared_and_ask_for_nothing(made_up):
    """Of one flow and two clients a score comes by chance twice in 10^score, and all are somebody's."""
    case, decision = made_up
    none = kept([-1, -1, 1, -1], [-np.inf, -np.inf, 2.5, -np.inf])
    assert with_kept_bytes(case, none, decision).tunnel[2] == -1
    alone = replace(none, payloads=np.array([0, 0, 2, 0]))
    assert with_kept_bytes(case, alone, decision).tunnel[2] == 1


def judged(tunnel, doubt):
    n = np.arange(len(tunnel))
    return Judged(np.array(tunnel, np.int32), np.array(doubt), n, n + 1, n + 0.5, n + 2, 0 * n)


def test_a_flow_is_of_the_client_of_all_its_exchanges_and_as_sure_as_all_are():
    each = judged([0, 0, 1, 2, 3, -1], [1e-6, 1e-6, 1e-5, 1e-5, 1e-4, 1.0])
    flows = each.together(np.array([0, 0, 2, 2, 3, 3]), 4)
    assert flows.tunnel.tolist() == [0, -1, -1, -1]
    assert flows.doubt.tolist() == [pytest.approx(2e-6), 1.0, 1.0, 1.0]
    assert flows.shared.tolist() == [3, 0, 0, 0]
    assert flows.content.tolist() == [0.5, 0.0, 0.0, 0.0]
    assert flows.payloads.tolist() == [5, 0, 9, 13]
    assert flows.clients.tolist() == [1, 0, 2, 1]
    weak = judged([0, 0], [1e-6, 0.9]).together(np.array([0, 0]), 1)
    assert weak.doubt.tolist() == [pytest.approx(0.9, abs=1e-5)]


def test_what_payloads_and_messages_say_of_a_flow_is_one_against_the_other():
    payloads = judged([0, 0, 1, -1], [1e-3, 1e-9, 1e-4, 1.0])
    messages = judged([1, 0, -1, 2], [1e-8, 1e-2, 1.0, 1e-5])
    both = payloads.or_surer(messages)
    assert both.tunnel.tolist() == [1, 0, 1, 2]
    assert both.doubt.tolist() == [pytest.approx(1e-5), 1e-9, 1e-4, 1e-5]


def test_who_sent_the_same_at_one_moment_and_lost_a_packet_is_a_rival():
    """Flow 1 has both payloads of connection 0, flow 0 one of them: either may be a missing client's."""
    flow, connection = np.array([0, 1, 2]), np.array([0, 0, 1])
    score = np.array([5.0, 6.5, 6.5])
    pairs = KeptPairs(flow, connection, np.array([1, 2, 2]), score, np.zeros(3))
    each = np.arange(3)
    found = judge(
        KeptBytes(same_clock("known"), pairs, each, np.arange(2), np.array([7, 9]), np.full(3, 2), each),
        [7, 9],
    )
    assert found.tunnel.tolist() == [-1, 0, 1]
    assert found.doubt[1] == pytest.approx(10**-1.5, rel=0.05)
    assert found.doubt[2] < 1e-5
