"""Equal payloads on either side of a relay that keeps bytes: who had them, and what proves nothing."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tests.tables import table, tcp
from vpnforensics.align import kept_bytes, kept_delays
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.kept_bytes import find_kept_bytes
from vpnforensics.align.payload_heads import PayloadHeads
from vpnforensics.evidence.kept_bytes import judge
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.carriers import find_carriers
from vpnforensics.tunnels.find import find_tunnels

RELAY, OUTSIDE = "203.0.113.1", "203.0.113.2"
LINKED = 4.5
"""Decades of odds that a case of this size asks for."""
GET = b"GET /index.html HTTP/1.1\r\nHost: a"
OK = b"HTTP/1.1 200 OK\r\nServer: nginx\r\n"


class Relayed:
    """Both sides of a SOCKS or HTTP proxy; the relay takes 1 ms each way."""

    def __init__(self, seed=1, *, proxy="socks"):
        self.rng = np.random.default_rng(seed)
        self.ingress, self.egress, self.client_of = [], [], []
        self.proxy, self.number = proxy, 0

    def hello(self):
        return b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self.rng.bytes(400)

    def record(self):
        return b"\x17\x03\x03\x01\x00" + self.rng.bytes(256)

    def connection(self, at_s, client, says, *, host=b"www.example.org", dst="192.0.2.7", port=443, seen=True,
                   goes_on=True, keeps=True):  # fmt: skip
        """``says`` are payloads with their direction, 10 ms apart."""
        self.number += 1
        here, there = 40_000 + self.number, 50_000 + self.number
        if self.proxy == "socks":
            opening = [
                (True, b"\5\1\0"), (False, b"\5\0"),
                (True, b"\5\1\0\3" + bytes([len(host)]) + host + port.to_bytes(2, "big")),
                (False, b"\5\0\0\1" + bytes(6)),
            ]  # fmt: skip
        elif port == 443:
            opening = [
                (True, b"CONNECT " + host + b":443 HTTP/1.1\r\n\r\n"),
                (False, b"HTTP/1.0 200 ok\r\n\r\n"),
            ]
        else:
            opening = [(True, b"GET http://" + host + b"/index.html HTTP/1.1\r\n\r\n")]
            says = says[1:]
        if seen:
            self._talk(self.ingress, at_s, client, here, RELAY, 1080, opening + says, 0.0)
        if goes_on:
            later = at_s + 0.01 * len(opening)
            said = says if self.proxy == "socks" or port == 443 else [(True, GET), *says]
            self._talk(self.egress, later, OUTSIDE, there, dst, port, said, 0.001)
            self.client_of.append(client)

    def _talk(self, side, at_s, client, sport, server, dport, says, delay_s):
        ends = {True: (client, sport, server, dport), False: (server, dport, client, sport)}
        seq = {True: 1000, False: 9000}
        side.append(tcp(at_s - 0.004 + delay_s, *ends[True], 2, seq=999))
        side.append(tcp(at_s - 0.003 + delay_s, *ends[False], 0x12, seq=8999, ack=1000))
        for n, (up, data) in enumerate(says):
            side.append(
                tcp(
                    at_s + 0.01 * n + (delay_s if up else -delay_s),
                    *ends[up], 0x18, seq=seq[up], ack=seq[not up],
                    payload_bytes=len(data), ip_len_bytes=40 + len(data), head=data[:32],
                )
            )  # fmt: skip
            seq[up] += len(data)

    def tls(self, at_s, client, **options):
        self.connection(
            at_s, client, [(True, self.hello()), (False, self.record()), (True, self.record())], **options
        )

    def some_tls(self, clients=3, each=6):
        for n in range(clients * each):
            host = b"www%d.example.org" % (n % 4)
            self.tls(1 + 2 * n, f"198.51.100.{1 + n % clients}", host=host, dst=f"192.0.2.{10 + n % 4}")

    def judged(self, *, clock=None):
        """Client of each egress flow, in the order of their beginnings; what is said of it, with the decades
        of its odds; and whose it was.
        """
        conversations, flows = (
            assemble_flows(
                table(sorted(rows, key=lambda row: row["ts_ns"])), idle_tcp_s=np.inf, idle_other_s=np.inf
            )
            for rows in (self.ingress, self.egress)
        )
        carriers = find_carriers(conversations, find_tunnels(conversations))
        kept = find_kept_bytes(carriers, flows, clock, np.random.default_rng(1))
        assert kept is not None
        said = judge(kept, [t.number for t in carriers.tunnels])
        client = [t.client.rpartition(":")[0] for t in carriers.tunnels]
        found = [client[n] if n >= 0 else None for n in said.tunnel.tolist()]
        sure = np.log10((1 - said.doubt) / said.doubt.clip(1e-300) + 1e-12)
        kept = SimpleNamespace(
            alignment=kept.alignment,
            sure=sure,
            shared=said.shared,
            payloads=said.payloads,
            kept=kept,
            said=said,
        )
        ports = [int(flows.source(f).rpartition(":")[2]) - 50_000 for f in range(len(flows))]
        numbered = dict(zip(sorted(ports), self.client_of, strict=True))
        return found, kept, [numbered[p] for p in ports]


def linked_of(found, kept):
    return [client if score >= LINKED else None for client, score in zip(found, kept.sure, strict=True)]


@pytest.mark.parametrize("proxy", ["socks", "http"])
def test_payloads_that_are_made_anew_name_the_client_and_the_clocks(proxy):
    relay = Relayed(proxy=proxy)
    relay.some_tls()
    found, kept, true = relay.judged()
    assert linked_of(found, kept) == true
    assert kept.shared.tolist() == [3] * len(true)
    assert abs(kept.alignment.offset_ns) < 2_000_000


def test_carriers_go_by_the_numbers_of_their_tunnels(monkeypatch):
    """Beside them may be candidates of other kinds, which have numbers, too."""

    plain = find_carriers

    def beside_candidates(*given):
        carriers = plain(*given)
        return replace(carriers, tunnels=[replace(t, number=t.number + 5) for t in carriers.tunnels])

    relayed = Relayed()
    relayed.some_tls()
    monkeypatch.setitem(globals(), "find_carriers", beside_candidates)
    found, kept, true = relayed.judged()
    assert linked_of(found, kept) == true


def test_another_clock_is_found():
    relay = Relayed()
    relay.some_tls()
    for row in relay.egress:
        row["ts_ns"] += 70_000_000_000
    found, kept, true = relay.judged()
    assert linked_of(found, kept) == true
    assert abs(kept.alignment.offset_ns - 70_000_000_000) < 2_000_000


def test_a_client_that_is_missing_gives_its_flows_to_nobody():
    relay = Relayed()
    relay.some_tls()
    for n in range(4):
        relay.tls(1.5 + 3 * n, "198.51.100.9", seen=False)
    found, kept, true = relay.judged()
    linked = linked_of(found, kept)
    assert [c for c, t in zip(linked, true, strict=True) if t == "198.51.100.9"] == [None] * 4
    assert sum(c == t for c, t in zip(linked, true, strict=True)) == 18


def page(relay, at_s, client, body=b"", **options):
    says = [(True, GET), (False, OK), *([(False, body)] if body else [])]
    options = {"port": 80, "host": b"www0.example.org", "dst": "192.0.2.10", **options}
    relay.connection(at_s, client, says, **options)


def test_the_same_text_at_another_time_is_another_flow():
    relay = Relayed()
    relay.some_tls()
    for n in range(3):
        page(relay, 4.1 + 10 * n, f"198.51.100.{n + 1}")
    found, _, true = relay.judged()
    assert found == true


def test_what_two_clients_send_at_one_moment_names_neither():
    relay = Relayed()
    relay.some_tls()
    page(relay, 4.1, "198.51.100.1")
    page(relay, 4.1005, "198.51.100.2")
    _, kept, _ = relay.judged()
    pages = [n for n, payloads in enumerate(kept.payloads.tolist()) if payloads == 2]
    assert len(pages) == 2
    assert all(kept.sure[n] < 0.5 for n in pages)


def test_where_they_asked_for_two_hosts_those_tell():
    relay = Relayed()
    relay.some_tls()
    page(relay, 4.1, "198.51.100.1")
    page(relay, 4.1005, "198.51.100.2", host=b"www1.example.org", dst="192.0.2.11")
    found, kept, true = relay.judged()
    assert found == true
    assert all(kept.sure > 0)


def test_a_request_for_another_port_is_another_flow():
    relay = Relayed()
    relay.some_tls()
    page(relay, 4.1, "198.51.100.1", port=8080, goes_on=False)
    page(relay, 4.1005, "198.51.100.9", seen=False)
    found, _, true = relay.judged()
    assert found[true.index("198.51.100.9")] is None


def test_a_file_that_was_fetched_before_proves_nothing():
    """Random as it looks: of a missing client it must not become another's who had it earlier."""
    relay = Relayed()
    relay.some_tls()
    file = relay.rng.bytes(800)
    page(relay, 6.1, "198.51.100.1", file)
    page(relay, 20.1, "198.51.100.9", file, seen=False)
    found, kept, true = relay.judged()
    assert linked_of(found, kept)[true.index("198.51.100.9")] is None


def test_a_file_alone_on_either_side_proves_no_more_than_its_time():
    relay = Relayed()
    relay.some_tls()
    file = relay.rng.bytes(800)
    page(relay, 6.1, "198.51.100.1", file, goes_on=False)
    page(relay, 20.1, "198.51.100.9", file, seen=False)
    found, _, true = relay.judged()
    assert found[true.index("198.51.100.9")] is None


def test_of_an_http_proxy_what_it_writes_anew_is_not_compared():
    relay = Relayed(proxy="http")
    relay.some_tls()
    page(relay, 4.1, "198.51.100.1")
    found, kept, _ = relay.judged()
    assert found.count(None) == 1
    assert linked_of(found, kept).count(None) == 1


def test_heads_that_were_not_captured_are_not_compared():
    relay = Relayed()
    relay.some_tls()
    for row in relay.egress[:30]:
        row["head"] = b""
    found, kept, true = relay.judged()
    linked = linked_of(found, kept)
    assert all(c in (None, t) for c, t in zip(linked, true, strict=True))
    assert linked.count(None) > 2
    assert (kept.payloads == 0).sum() == linked.count(None)


def test_with_too_few_for_the_clocks_nothing_is_said():
    relay = Relayed()
    relay.some_tls(each=1)
    conversations, flows = (
        assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"])))
        for rows in (relay.ingress, relay.egress)
    )
    carriers = find_carriers(conversations, find_tunnels(conversations))
    assert find_kept_bytes(carriers, flows, None, np.random.default_rng(1)) is None
    assert find_kept_bytes(carriers, flows, same_clock("known"), np.random.default_rng(1)) is not None


def test_how_much_a_payload_is_worth():
    """By chance: 18 flows in 34 s, and windows of some milliseconds; beside what is never the same twice."""
    relay = Relayed()
    relay.some_tls()
    page(relay, 4.1, "198.51.100.1")
    found, kept, true = relay.judged()
    of_text = int(np.flatnonzero(kept.payloads == 2)[0])
    proved = np.delete(kept.sure, of_text)
    assert 3.0 < kept.sure[of_text] < 11.0 < proved.min()
    assert found == true


def test_how_far_others_may_lie_is_by_the_delays_of_the_proved_of_their_direction():
    down, up = np.arange(0, 2_001_000, 1000), np.arange(0, 4_001_000, 1000)
    delays = np.r_[down, up[:1] + 9_000_000]
    low, high = kept_delays._window(delays, np.arange(len(delays)) == len(delays) - 1)
    # From the median, 1.5 times as far as 99 % lie, and 5 ms; unknown of the other direction.
    assert low.tolist() == [pytest.approx(1_000_000 - 1_485_000 - 5_000_000, abs=2), -250_000_000]
    assert high.tolist() == [pytest.approx(1_000_000 + 1_485_000 + 5_000_000, abs=2), 250_000_000]
    low, high = kept_delays._window(np.r_[down, up], np.arange(len(down) + len(up)) >= len(down))
    assert low.tolist()[1] == pytest.approx(2_000_000 - 2_970_000 - 5_000_000, abs=2)
    assert high.tolist()[1] == pytest.approx(2_000_000 + 2_970_000 + 5_000_000, abs=2)


def test_a_payload_is_rare_among_those_of_its_size_and_direction():
    up = np.array([True, True, True, False, False])
    size = np.array([50, 50, 50, 50, 51])
    head = np.zeros((5, 24), np.uint8)
    heads = PayloadHeads(np.array([0, 1, 2, 3, 4]), np.zeros(5, np.int64), up, size, head)
    often = np.array([1, 2, 5, 1, 1])
    expected = [np.log10(4 / 2), np.log10(4 / 3), 0.0, 0.0, 0.0]
    assert kept_bytes._rarity(heads, often).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("behind_ns", "usable"), [(99_000_000, True), (99_000_001, False)])
def test_a_known_clock_that_the_proved_pairs_do_not_lie_near_is_none(behind_ns, usable):
    """Most go up, a millisecond after the ingress: half of all may lie a tenth of a second off, not more."""
    relay = Relayed()
    relay.some_tls()
    for row in relay.ingress + relay.egress:
        row["ts_ns"] = round(row["ts_ns"] / 1e6) * 1_000_000
    for row in relay.egress:
        row["ts_ns"] += behind_ns
    conversations, flows = (
        assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"])))
        for rows in (relay.ingress, relay.egress)
    )
    carriers = find_carriers(conversations, find_tunnels(conversations))
    kept = find_kept_bytes(carriers, flows, same_clock("known"), np.random.default_rng(1))
    assert (kept is not None) == usable


def test_of_a_flow_without_payloads_to_compare_nothing_is_said():
    relay = Relayed()
    relay.some_tls()
    relay.connection(4.1, "198.51.100.1", [(True, b"short")], port=80)
    found, kept, _ = relay.judged()
    (silent,) = np.flatnonzero(kept.payloads == 0)
    assert found[silent] is None
    said = kept.said
    columns = said.tunnel, said.connection, said.doubt, said.shared, said.content, kept.kept.anew
    assert [of[silent] for of in columns] == [-1, -1, 1.0, 0, 0.0, 0]


def test_a_text_is_worth_how_seldom_it_comes_in_the_time_of_its_window():
    """Of one flow in a minute, within a quarter of a second either side: by chance 1 in 120."""
    relay = Relayed()
    relay.connection(1.0, "198.51.100.1", [(True, GET)], port=80)
    relay.connection(61.0, "198.51.100.2", [(False, OK)], port=80)
    _, kept, _ = relay.judged(clock=same_clock("known"))
    once_in = 60.0 / 0.5
    assert kept.kept.pairs.score[0] == pytest.approx(np.log10(once_in) + 1.5, abs=0.01)  # 1.5: one lost


def test_twelve_proved_pairs_show_how_far_others_may_lie():
    delays = np.zeros(12, np.int64)
    for proved, far_ns in ((12, 5_000_000), (11, 250_000_000)):
        low, high = kept_delays._window(delays[:proved], np.ones(proved, np.bool_))
        assert (low.tolist(), high.tolist()) == ([-250_000_000, -far_ns], [250_000_000, far_ns])
