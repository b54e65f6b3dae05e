from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import vpnforensics as vf
from tests.tables import table, tcp, udp
from vpnforensics.align.alignment import same_clock
from vpnforensics.engines.exact import match_exactly
from vpnforensics.flows.assemble import FlowTable, assemble_flows
from vpnforensics.packets.table import AddressTable, PacketTable

CLIENTS = ("10.0.0.2", "10.0.0.3", "10.0.0.4")
NAT, WEB, DNS = "203.0.113.1", "192.0.2.10", "192.0.2.53"
CLOCK_NS = 7_500_000_000


Rows = list[dict[str, Any]]


def _both_sides(
    flows: int = 30, seed: int = 1, more: tuple[Rows, Rows] = ([], [])
) -> tuple[PacketTable, PacketTable, list[str]]:
    """A NAT seen from inside and outside, and ``more`` of both; which client each flow was of."""
    rng = np.random.default_rng(seed)
    inside, outside, owners = [*more[0]], [*more[1]], []
    for f in range(flows):
        client = CLIENTS[f % 3]
        owners.append(client)
        start = f * 0.5
        port, mapped = 40_000 + f, 50_000 + f
        if f % 5 == 4:
            query = rng.integers(0, 256, 20, dtype=np.uint8).tobytes()
            pairs = [
                (start, True, {"head": query, "payload_bytes": 40}),
                (start + 0.02, False, {"head": query[::-1], "payload_bytes": 90}),
            ]
            for ts, up, more in pairs:
                a, b = ((client, port), (DNS, 53)) if up else ((DNS, 53), (client, port))
                c, d = ((NAT, mapped), (DNS, 53)) if up else ((DNS, 53), (NAT, mapped))
                inside.append(udp(ts, *a, *b, **more))
                outside.append(udp(ts + 1e-4, *c, *d, **more))
            continue
        seq, ack = (int(x) for x in rng.integers(0, 2**32, 2))
        for n in range(8):
            up = n % 2 == 0
            more = {
                "seq": seq + 10 * n if up else ack + n,
                "ack": ack + n if up else seq,
                "payload_bytes": 10 * n,
                "ip_len_bytes": 52 + 10 * n,
            }
            more["seq"] %= 2**32
            flags = 0x02 if n == 0 else 0x12 if n == 1 else 0x10
            a, b = ((client, port), (WEB, 443)) if up else ((WEB, 443), (client, port))
            c, d = ((NAT, mapped), (WEB, 443)) if up else ((WEB, 443), (NAT, mapped))
            inside.append(tcp(start + n * 0.03, *a, *b, flags, **more))
            outside.append(tcp(start + n * 0.03 + 1e-4, *c, *d, flags, **more))
    outer, inner = table(inside), table(outside)
    return outer, replace(inner, ts_ns=inner.ts_ns + CLOCK_NS), owners


def test_links_every_flow_of_a_nat_to_its_client_and_finds_the_clock() -> None:
    outer, inner, owners = _both_sides()
    case = vf.correlate(outer, inner)
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    tcp_flows = [f for f in range(30) if f % 5 != 4]
    for f in tcp_flows:
        assert case.links["verdict"][f] == "linked"
        assert clients[case.links["tunnel"][f]] == f"{owners[f]}:0"
    for f in set(range(30)) - set(tcp_flows):  # 16 bits of a DNS query are no proof, but never wrong
        assert case.links["tunnel"][f] is None or clients[case.links["tunnel"][f]] == f"{owners[f]}:0"
    assert abs(case.alignment.offset_ns - CLOCK_NS) < 1_000_000
    assert case.tunnels["protocol"].unique().tolist() == ["plain"]


def test_every_packet_of_a_link_is_paired_with_its_own_frame() -> None:
    outer, inner, _ = _both_sides()
    case = vf.correlate(outer, inner)
    pairs = case.explain("f1")
    assert (pairs["ingress_frame"] == pairs["egress_frame"]).all()


def test_a_flow_of_nobody_inside_has_no_tunnel() -> None:
    outer, inner, _ = _both_sides()
    stranger = outer.addresses.texts.index(CLIENTS[0])
    rest = outer.take((outer.src != stranger) & (outer.dst != stranger))
    case = vf.correlate(rest, inner)
    assert case.links["verdict"][3] == "no_tunnel"
    assert case.links["verdict"][1] == "linked"
    assert case.links["verdict"][0] == "undecided"  # over before the rest begins


@pytest.mark.parametrize("keep", ["first", "second"])
def test_what_the_ingress_capture_did_not_last_for_is_not_denied(keep: str) -> None:
    outer, inner, _ = _both_sides()
    early = outer.ts_ns < 7_500_000_000
    case = vf.correlate(outer.take(early if keep == "first" else ~early), inner)
    assert (case.links["verdict"] == "linked").sum() >= 12
    assert not (case.links["verdict"] == "no_tunnel").any()


def test_a_lone_packet_that_a_capture_lost_denies_nothing() -> None:
    answered = tcp(5.0, WEB, 443, NAT, 60_000, 0x14, seq=7)
    outer, inner, _ = _both_sides(more=([], [answered]))
    case = vf.correlate(outer, inner)
    lone = (case.flows["packets"] == 1).to_numpy()
    assert case.links["verdict"][lone].tolist() == ["undecided"]


def _time_requests(start_of: dict[str, float], times: int) -> tuple[Rows, Rows]:
    """Clients send one and the same datagram ``times`` times, each from its port; no answer is seen."""
    request = {"head": b"\x1b", "payload_bytes": 48}
    sent = [
        (n, client, start + k) for n, (client, start) in enumerate(start_of.items()) for k in range(times)
    ]
    inside = [udp(ts, client, 45_000 + n, WEB, 123, **request) for n, client, ts in sent]
    outside = [udp(ts + 1e-4, NAT, 55_000 + n, WEB, 123, **request) for n, _, ts in sent]
    return inside, outside


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("apart_s", [0.3, 4.0])
def test_a_datagram_that_two_clients_send_alike_names_neither(times: int, apart_s: float) -> None:
    start_of = {CLIENTS[0]: 20.0, CLIENTS[1]: 20.0 + apart_s}
    outer, inner, _ = _both_sides(more=_time_requests(start_of, times))
    case = vf.correlate(outer, inner)
    asked = case.flows["dst"].str.endswith(":123").to_numpy()
    assert asked.sum() == 2
    clients = dict(zip(case.tunnels["id"], case.tunnels["client"], strict=True))
    owner = {f"{NAT}:{55_000 + n}": f"{client}:0" for n, client in enumerate(start_of)}
    for source, tunnel in zip(case.flows["src"][asked], case.links["tunnel"][asked], strict=True):
        assert tunnel not in clients or clients[tunnel] == owner[source]


def test_the_same_datagram_again_confirms_nothing() -> None:
    scores = []
    for times in (1, 2):
        outer, inner, _ = _both_sides(more=_time_requests({CLIENTS[0]: 20.0}, times))
        flows = assemble_flows(inner)
        asked = np.flatnonzero(flows.dport == 123)
        scores += match_exactly(assemble_flows(outer), flows).score[asked].tolist()
    assert scores[0] == pytest.approx(scores[1], abs=0.1)


def test_a_packet_at_another_time_is_another_packet() -> None:
    """One client's datagram is in no flow; another's, which the ingress capture lacks, is like it."""
    more = _time_requests({CLIENTS[0]: 12.0}, 1)[0], _time_requests({CLIENTS[1]: 3.0}, 1)[1]
    outer, inner, _ = _both_sides(more=more)
    case = vf.correlate(outer, inner)
    flow = case.flows["id"][case.flows["dst"].str.endswith(":123")].iloc[0]
    assert flow not in set(case.scores["flow"])


def _to_another_server(packets: PacketTable, port: int, server: str) -> PacketTable:
    """The same packets, but for the server of the conversation of a client's port."""
    texts = packets.addresses.texts
    packed = np.concatenate([packets.addresses.packed, np.zeros((1, 16), np.uint8)])
    packed[-1, 12:] = list(map(int, server.split(".")))
    version = np.append(packets.addresses.version, np.uint8(4))
    new, web = len(texts), texts.index(WEB)
    return replace(
        packets,
        dst=np.where((packets.sport == port) & (packets.dst == web), new, packets.dst).astype(np.int32),
        src=np.where((packets.dport == port) & (packets.src == web), new, packets.src).astype(np.int32),
        addresses=AddressTable(packed, version),
    )


def test_equal_numbers_of_another_servers_connection_link_nothing_and_deny_nothing() -> None:
    """Programs that choose their numbers, as those that write captures do, give them to every connection."""
    outer, inner, _ = _both_sides()
    case = vf.correlate(outer, _to_another_server(inner, 50_003, "192.0.2.99"))
    there = (case.flows["dst"] == "192.0.2.99:443").to_numpy()
    assert case.links["verdict"][there].tolist() == ["undecided"]
    assert case.scores[case.scores["flow"].isin(case.flows["id"][there])].empty
    assert (case.links["verdict"] == "linked").sum() == 29


def test_unrelated_captures_are_refused_with_the_likely_cause() -> None:
    outer, _, _ = _both_sides(seed=1)
    _, inner, _ = _both_sides(seed=2)
    with pytest.raises(vf.errors.CaseError, match="no VPN tunnel recognised"):
        vf.correlate(outer, inner)


def _match(more: tuple[Rows, Rows] = ([], []), shift_s: float = 0.0, **options: Any) -> Any:
    outer, inner, _ = _both_sides(more=more)
    later = replace(inner, ts_ns=inner.ts_ns - CLOCK_NS + round(shift_s * 1e9))
    conversations, flows = assemble_flows(outer), assemble_flows(later)
    return match_exactly(conversations, flows, **options), conversations, flows


@pytest.mark.parametrize(("shift_s", "same"), [(0.0, True), (0.998, True), (1.002, False)])
def test_where_clocks_are_known_equal_packets_a_second_apart_are_not_the_same(
    shift_s: float, same: bool
) -> None:
    found, _, _ = _match(shift_s=shift_s, alignment=same_clock("made up"))
    assert (found.score > 0).all() == same
    assert (found.conversation >= 0).all() == same
    assert (found.ingress_row >= 0).all() == same
    unaligned, _, _ = _match(shift_s=shift_s)  # without, they are
    assert (unaligned.score > 0).all()


def test_packets_of_another_client_speak_against() -> None:
    """Two packets of a flow are of one client and two of another: nobody's, whoever comes first."""
    numbers = [{"seq": 7_000 + n, "payload_bytes": 10 + n} for n in range(4)]
    inside = [
        tcp(30.0 + n, CLIENTS[n // 2], 40_000, WEB, 443, 0x18, **packet) for n, packet in enumerate(numbers)
    ]
    outside = [tcp(30.0001 + n, NAT, 59_000, WEB, 443, 0x18, **packet) for n, packet in enumerate(numbers)]
    found, _, flows = _match(more=(inside, outside))
    flow = next(f for f in range(len(flows)) if flows.source(f) == f"{NAT}:59000")
    assert found.shared[flow] == 2
    assert found.score[flow] <= 0
    one = [row for row in inside if row["src"] == CLIENTS[0]]
    alone, _, _ = _match(more=(one, outside[:2]))
    assert alone.score[flow] > 10


def test_what_has_no_payload_to_compare_is_not_comparable() -> None:
    inside = [udp(30.0, CLIENTS[0], 40_000, WEB, 53)]
    outside = [udp(30.0001, NAT, 59_000, WEB, 53)]
    found, _, flows = _match(more=(inside, outside))
    flow = next(f for f in range(len(flows)) if flows.source(f) == f"{NAT}:59000")
    mine = flows.flow == flow
    assert not found.comparable[mine].any()
    assert found.comparable[~mine].all()
    assert not found.seen[mine].any()
    assert (found.conversation[flow], found.score[flow]) == (-1, -np.inf)


def _world(rng: np.random.Generator) -> tuple[PacketTable, PacketTable]:
    """Two clients and two servers of few numbers, so that much is alike; either side has its own losses."""
    inside, outside = [], []
    for _ in range(int(rng.integers(1, 40))):
        client, port, n = (int(v) for v in rng.integers(0, 2, 3))
        server, service, up, spoken = (int(v) for v in rng.integers(0, 2, 4))
        udp_share, late = rng.random(), float(rng.choice([0.0, 0.3, 2.0]))
        inner, mapped = (CLIENTS[client], 40_000 + port), (NAT, 50_000 + 2 * client + port)
        far = ((WEB, DNS)[server], (443, 80)[service])
        said = {"head": bytes([7 + n]) if spoken else b"", "payload_bytes": 40}
        numbers = {"seq": n, "ack": int(rng.integers(0, 2)), "payload_bytes": 10}
        at = float(rng.uniform(0, 3))
        for rows, near, ts in ((inside, inner, at), (outside, mapped, at + late)):
            if rng.random() < 0.2:
                continue
            ends = (near, far) if up else (far, near)
            if udp_share < 0.4:
                rows.append(udp(ts, *ends[0], *ends[1], **said))
            else:
                rows.append(tcp(ts, *ends[0], *ends[1], 0x18, **numbers))
    both = (sorted(rows, key=lambda row: row["ts_ns"]) for rows in (inside, outside))
    outer, inner_table = (table(rows) for rows in both)
    return outer, inner_table


def _keys(flows: FlowTable) -> list[tuple[Any, Any, int]]:
    """What NAT keeps of each packet, its flow's server, and the bits of chance."""
    packets, keys = flows.packets, []
    columns = ("proto", "seq", "ack", "tsval", "tsecr", "tcp_flags", "payload_bytes")
    for i in range(len(packets)):
        said = bytes(packets.head[i]) if packets.proto[i] == 17 else b""
        numbers = (bool(flows.up[i]), *(int(getattr(packets, name)[i]) for name in columns), said)
        bits = 32 if packets.proto[i] == 6 else 16 if any(said) else 0
        keys.append((numbers, flows.destination(int(flows.flow[i])), bits))
    return keys


def _matched(
    conversations: FlowTable, flows: FlowTable, aligned: bool, frames: bool
) -> list[tuple[Any, ...]]:
    """Conversation, shared packets and score of each flow; ingress row and whether seen of each packet."""
    ingress, egress = _keys(conversations), _keys(flows)
    matches, able, seen = {}, [], []
    for j, (numbers, server, bits) in enumerate(egress):
        rows = [i for i, key in enumerate(ingress) if key == (numbers, server, bits) and bits]
        many = len(rows) > 4
        elsewhere = bits and not rows and any(key[0] == numbers and key[2] for key in ingress)
        rows = [] if many else rows
        if aligned:
            late = abs(conversations.packets.ts_ns[rows] - flows.packets.ts_ns[j]) if rows else []
            rows = [i for i, by in zip(rows, late, strict=True) if by <= 10**9]
        if frames:
            mine = conversations.flow[conversations.packets.frame == flows.packets.frame[j]]
            rows = [i for i in rows if conversations.flow[i] not in mine]
        if len({conversations.src[conversations.flow[i]] for i in rows}) > 1:
            many, rows = True, []
        matches[j] = rows
        able.append(bits if not many else 0)
        seen.append(bool(many or elsewhere))
    out, row_of = [], [-1] * len(egress)
    for f in range(len(flows)):
        mine = [j for j in range(len(egress)) if flows.flow[j] == f]
        votes: dict[int, set[Any]] = {}
        for j in mine:
            for i in matches[j]:
                votes.setdefault(int(conversations.flow[i]), set()).add(egress[j][:2])
        if not votes:
            out.append((-1, 0, -np.inf))
            continue
        best = min(votes, key=lambda c: (-len(votes[c]), c))
        others = [len(votes[c]) for c in votes if conversations.src[c] != conversations.src[best]]
        for j in mine:
            of_best = [i for i in matches[j] if conversations.flow[i] == best]
            row_of[j] = max(of_best, default=-1)
            seen[j] |= bool(of_best)
        shared = [j for j in mine if row_of[j] >= 0]
        expected = sum(able[j] > 0 for j in mine)
        chance = max(able[j] for j in shared) * np.log10(2) - np.log10(len(conversations.packets))
        confirmed = min(max(len(votes[best]) - max(others, default=0), 0), 2)
        out.append((best, len(shared), chance * confirmed - 1.5 * max(0, 0.75 * expected - len(shared))))
    return [*out, *zip(row_of, seen, strict=True)]


@pytest.mark.parametrize("aligned", [False, True])
def test_as_its_rules_say_one_packet_at_a_time(aligned: bool) -> None:
    rng = np.random.default_rng(5)
    for _ in range(60):
        conversations, flows = (assemble_flows(side) for side in _world(rng))
        alignment = same_clock("made up") if aligned else None
        found = match_exactly(conversations, flows, alignment=alignment)
        wanted = _matched(conversations, flows, aligned, False)
        per_flow, per_packet = wanted[: len(flows)], wanted[len(flows) :]
        assert list(zip(found.conversation, found.shared, strict=True)) == [w[:2] for w in per_flow]
        np.testing.assert_allclose(found.score, [w[2] for w in per_flow])
        assert list(zip(found.ingress_row, found.seen, strict=True)) == per_packet
        assert found.comparable.tolist() == [key[2] > 0 for key in _keys(flows)]


def test_in_one_capture_a_packet_does_not_match_itself() -> None:
    """Both sides of a NAT in one file: each flow is found in the conversation on the other side."""
    rng = np.random.default_rng(6)
    for _ in range(30):
        sides = _world(rng)
        rows = [
            {
                "ts_ns": int(side.ts_ns[i]), "src": side.addresses.texts[side.src[i]],
                "dst": side.addresses.texts[side.dst[i]], "sport": int(side.sport[i]),
                "dport": int(side.dport[i]), "proto": int(side.proto[i]), "seq": int(side.seq[i]),
                "ack": int(side.ack[i]), "tcp_flags": int(side.tcp_flags[i]),
                "payload_bytes": int(side.payload_bytes[i]), "head": bytes(side.head[i]),
            }
            for side in sides
            for i in range(len(side))
        ]  # fmt: skip
        flows = assemble_flows(table(sorted(rows, key=lambda row: row["ts_ns"])))
        found = match_exactly(flows, flows, one_capture=True)
        wanted = _matched(flows, flows, False, True)[: len(flows)]
        assert list(zip(found.conversation, found.shared, strict=True)) == [w[:2] for w in wanted]
        np.testing.assert_allclose(found.score, [w[2] for w in wanted])


@pytest.mark.parametrize(("late_ns", "same"), [(10**9, True), (10**9 + 1, False)])
def test_a_packet_stays_in_a_server_for_a_second_at_most(late_ns: int, same: bool) -> None:
    sent, passed = (
        assemble_flows(table([tcp(5.0, CLIENTS[0], 4000, WEB, 443, seq=9) | {"ts_ns": ts}]))
        for ts in (10**9, 10**9 + late_ns)
    )
    found = match_exactly(sent, passed, alignment=same_clock("made up"))
    assert (found.conversation[0] == 0) == same
