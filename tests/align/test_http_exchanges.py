"""Requests and answers through an HTTP proxy: whose a flow is, and whose it may not be."""

from __future__ import annotations

import numpy as np
import pytest

import vpnforensics as vf
from tests.align.http_proxy import OUTSIDE, Proxied
from vpnforensics.align import kept_delays
from vpnforensics.align.http_exchanges import find_exchanges
from vpnforensics.flows.assemble import assemble_flows

CLIENTS = [f"198.51.100.{n}" for n in (1, 2, 3)]


def busy(seed=1, exchanges=30):
    """A page each two thirds of a second, of one client after the other; and the port it went on by."""
    proxied = Proxied(seed)
    ports = [proxied.get(1 + n / 1.5, CLIENTS[n % 3], f"/{n}") for n in range(exchanges)]
    return proxied, {port: CLIENTS[n % 3] for n, port in enumerate(ports)}


def linked(proxied, folder, **options):
    """Client that the flow of each port is linked to, ``None`` without one; and the result."""
    case = vf.correlate(*proxied.captures(folder, **options))
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    ends = zip(case.endpoints["src"], case.links["tunnel"], strict=True)
    return {
        int(src.rpartition(":")[2]): clients[tunnel].rpartition(":")[0] if tunnel in clients else None
        for src, tunnel in ends
        if src.startswith(OUTSIDE)
    }, case


@pytest.mark.parametrize("later_s", [0.0, 4321.5])
def test_what_was_asked_for_and_answered_names_the_client(tmp_path, later_s):
    proxied, true = busy()
    found, case = linked(proxied, tmp_path, later_s=later_s)
    assert found == true
    assert abs(case.alignment.offset_ns / 1e9 - later_s) < 0.01
    assert case.scores.iloc[0]["exact_note"].startswith("2 of 2 payloads found in connection 198.51.100.")


def test_a_missing_clients_requests_are_nobodys(tmp_path):
    proxied, true = busy()
    missing = [proxied.get(1.4 + 2 * n, "198.51.100.9", f"/{3 * n}", seen=False) for n in range(9)]
    found, _ = linked(proxied, tmp_path)
    assert {port: found[port] for port in missing} == dict.fromkeys(missing)
    assert {port: found[port] for port in true} == true


def test_of_two_who_ask_for_the_same_at_one_moment_neither_is_named(tmp_path):
    proxied, true = busy()
    body = proxied.rng.bytes(300)
    ports = [proxied.get(2.2 + n / 1000, CLIENTS[n], "/same", body) for n in (0, 1)]
    found, _ = linked(proxied, tmp_path)
    assert [found[port] for port in ports] == [None, None]
    assert {port: found[port] for port in true} == true


def test_their_cookies_tell_them_apart(tmp_path):
    proxied, _ = busy()
    body = proxied.rng.bytes(300)
    ports = [proxied.get(2.2 + n / 1000, CLIENTS[n], "/same", body, cookie=f"{n}") for n in (0, 1)]
    found, _ = linked(proxied, tmp_path)
    assert [found[port] for port in ports] == CLIENTS[:2]


def test_and_so_do_their_answers(tmp_path):
    proxied, _ = busy()
    ports = [proxied.get(2.2 + n / 1000, CLIENTS[n], "/same") for n in (0, 1)]
    found, _ = linked(proxied, tmp_path)
    assert [found[port] for port in ports] == CLIENTS[:2]


def test_a_connection_that_carried_two_clients_is_nobodys_and_it_is_said(tmp_path):
    proxied, true = busy()
    mixed = proxied.get(2.2, CLIENTS[0], "/a")
    proxied.get(3.2, CLIENTS[1], "/b", upstream=mixed)
    own = proxied.get(4.2, CLIENTS[2], "/c")
    proxied.get(5.2, CLIENTS[2], "/d", upstream=own)
    found, case = linked(proxied, tmp_path)
    assert found == true | {mixed: None, own: CLIENTS[2]}
    (row,) = np.flatnonzero(case.endpoints["src"] == f"{OUTSIDE}:{mixed}")
    assert case.links["why"][row] == "its requests came from 2 clients"


def test_a_connection_that_carried_a_missing_client_too_is_nobodys(tmp_path):
    proxied, true = busy()
    mixed = proxied.get(2.2, CLIENTS[0], "/a")
    proxied.get(3.2, "198.51.100.9", "/b", upstream=mixed, seen=False)
    found, _ = linked(proxied, tmp_path)
    assert found == true | {mixed: None}


@pytest.mark.parametrize("lost", ["asked", "passed", "came", "answered"])
def test_one_message_that_was_not_captured_leaves_the_other(tmp_path, lost):
    proxied, _ = busy()
    port = proxied.get(2.2, CLIENTS[0], "/a", lost=[lost])
    proxied.get(3.2, CLIENTS[0], "/b", upstream=port)
    found, case = linked(proxied, tmp_path)
    (row,) = np.flatnonzero(case.endpoints["src"] == f"{OUTSIDE}:{port}")
    assert found[port] in (None, CLIENTS[0])
    (says,) = case.scores["exact_note"][case.scores["flow"] == case.links["flow"][row]]
    assert says.startswith("3 of ")


def test_a_snapped_capture_has_the_requests(tmp_path):
    proxied, true = busy()
    found, _ = linked(proxied, tmp_path, snaplen=128)
    assert all(client in (None, true[port]) for port, client in found.items())
    assert sum(client is not None for client in found.values()) > 20


def test_an_answer_belongs_to_the_request_that_it_acknowledges(tmp_path):
    proxied = Proxied()
    proxied.get(1.0, CLIENTS[0], "/a", port=40_000, lost=["answered"])
    proxied.get(2.0, CLIENTS[0], "/b", port=40_000)
    proxied.get(3.0, CLIENTS[0], "/c", port=40_000, lost=["asked"])
    proxied.get(4.0, CLIENTS[0], "/d", port=40_001)
    ingress, _ = proxied.captures(tmp_path)
    table = assemble_flows(ingress)
    found = find_exchanges(table, np.ones(2, np.bool_), table.up)
    order = np.argsort(found.messages.ts_ns)
    assert found.messages.request[order].tolist() == [True, True, False, False, True, False]
    exchange = found.messages.exchange[order].tolist()
    assert exchange[1] == exchange[2]
    assert exchange[4] == exchange[5]
    assert len(set(exchange)) == 4
    assert found.connection_of[exchange[4]] == 1


def test_nothing_is_found_in_what_cannot_be_read_again(tmp_path):
    proxied = Proxied()
    proxied.get(1.0, CLIENTS[0], "/a")
    ingress, _ = proxied.captures(tmp_path)
    (tmp_path / "in.pcap").unlink()
    table = assemble_flows(ingress)
    found = find_exchanges(table, np.ones(1, np.bool_), table.up)
    assert len(found) == len(found.messages) == len(found.bodies) == 0


@pytest.mark.parametrize(("wait_s", "found_again"), [(1.4, True), (1.6, False)])
def test_a_request_may_wait_for_its_host(tmp_path, wait_s, found_again):
    proxied, true = busy()
    port = proxied.get(2.2, CLIENTS[0], "/a", wait_s=wait_s, lost=["came"])
    found, _ = linked(proxied, tmp_path)
    assert found == true | {port: CLIENTS[0] if found_again else None}


def test_the_body_stands_in_for_beginnings_that_were_not_captured(tmp_path):
    proxied, true = busy()
    more = [proxied.rng.bytes(500) for _ in range(3)]
    port = proxied.get(2.2, CLIENTS[0], "/a", lost=["came"], more=more)
    found, case = linked(proxied, tmp_path)
    assert found == true | {port: CLIENTS[0]}
    (row,) = np.flatnonzero(case.endpoints["src"] == f"{OUTSIDE}:{port}")
    (says,) = case.scores["exact_note"][case.scores["flow"] == case.links["flow"][row]]
    assert says.startswith("4 of 4 payloads")


def test_what_stands_behind_a_beginning_is_of_its_exchange_and_of_nothing_else(tmp_path):
    proxied = Proxied()
    more = [bytes([n]) * 500 for n in (1, 2)]
    proxied.get(1.0, CLIENTS[0], "/a", port=40_000, more=more)
    proxied.get(2.0, CLIENTS[0], "/b", port=40_000, lost=["answered"], more=more[:1])
    table = assemble_flows(proxied.captures(tmp_path)[0])
    found = find_exchanges(table, np.ones(1, np.bool_), table.up)
    bodies = found.bodies
    assert bodies.of.tolist() == [0, 0, 1]
    assert bodies.head[:, 0].tolist() == [254, 253, 254]
    assert not bodies.up.any()


def test_how_near_to_the_usual_delay_a_message_lies_is_what_it_is_worth():
    """Of pairs that come once on either side the median is the usual delay; a request has 1.5 s beyond it."""
    ms = 1_000_000
    delay, up = np.r_[np.full(12, -2), np.arange(13)] * ms, np.arange(25) >= 12
    delays = kept_delays.KeptDelays.of(delay, up, np.zeros(0, np.intp), np.arange(25))
    assert delays.low_ns.tolist() == [-250 * ms, -250 * ms, -1502 * ms, -1494 * ms]
    assert delays.high_ns.tolist() == [250 * ms, 250 * ms, 1498 * ms, 1506 * ms]
    within = delays.within_ns(np.array([1, 2, 3, 3, 3]), np.array([9, -12, 6, 7, -94]) * ms)
    assert (within / ms).tolist() == [500, 20, 1, 2, 200]
    few = kept_delays.KeptDelays.of(delay, up, np.zeros(0, np.intp), np.arange(14, 25))
    assert few.within_ns(np.array([3]), np.array([6 * ms])).tolist() == [500 * ms]
