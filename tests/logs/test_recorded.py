"""Logs of the lab's own servers, and of a FreeRADIUS: every session, as it was, and no other."""

import json
from pathlib import Path

import pytest

from vpnforensics.logs.read import read_logs
from vpnforensics.logs.session import host_of

FOLDER = Path(__file__).with_name("recorded")
TRUTH = json.loads((FOLDER / "truth.json").read_text())


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_every_session_is_recovered(name):
    book = read_logs([FOLDER / name])
    told = sorted((s.user, s.endpoint, list(s.assigned), s.end_ns is not None) for s in book.sessions)
    by_host = not any(":" in row["endpoint"] for row in TRUTH[name])
    if by_host:  # the log has the port of another connection than the tunnel's
        told = [(user, host_of(where), given, ended) for user, where, given, ended in told]
    assert told == sorted((r["user"], r["endpoint"], r["assigned"], r["ended"]) for r in TRUTH[name])
    (file,) = book.files
    assert file.unknown == 0
    assert file.lines == len((FOLDER / name).read_text().splitlines())
    assert all(s.begin_ns is not None and s.last_ns >= s.begin_ns for s in book.sessions)


def test_status_files_and_dumps_count_bytes():
    for name in ("openvpn.status1", "openvpn.status2", "openvpn.status3"):
        book = read_logs([FOLDER / name])
        assert {s.user: (s.received_bytes, s.sent_bytes) for s in book.sessions} == {
            "client-1": (100136, 1391677),
            "client-2": (3709, 3850),
            "client-3": (91475, 937167),
        }
    counts = [(s.received_bytes, s.sent_bytes) for s in read_logs([FOLDER / "wireguard.dump"]).sessions]
    assert sorted(counts) == [(2228, 2204), (107204, 946128), (117844, 1403640)]


def test_clients_that_leave_before_the_server_ends():
    sessions = [s for name in ("openvpn-tcp.log", "ocserv.log") for s in read_logs([FOLDER / name]).sessions]
    left = {s.service: s for s in sessions if s.user == "client-2"}
    assert {name: (s.end_ns - s.begin_ns) // 10**9 for name, s in left.items()} == {"openvpn": 5, "ocserv": 5}
    assert (left["ocserv"].received_bytes, left["ocserv"].sent_bytes) == (1525, 1557)


def test_a_dump_gives_away_no_private_key():
    text = (FOLDER / "wireguard.dump").read_text().replace("A" * 43, "Private" + "k" * 36)
    path = FOLDER / "wireguard.dump"
    assert "Privatek" in text
    assert "A" * 43 not in json.dumps(read_logs([path]).to_dict())


def test_translations_of_the_kernel():
    book = read_logs([FOLDER / "conntrack.log"])
    assert not book.sessions
    inner = {host_of(t.inner) for t in book.translations}
    assert inner == {"10.8.0.2", "10.8.0.3", "10.8.0.4"}
    assert {host_of(t.outer) for t in book.translations} == {"203.0.113.1"}
    assert {t.proto for t in book.translations} == {"udp", "tcp", "icmp"}
    assert all(t.begin_ns and t.begin_ns > 1_795_914_160_000_000_000 for t in book.translations)


def test_all_together_and_mixed(tmp_path):
    """One journal with the lines of all, in order of time, has the same sessions."""
    names = [name for name in ("strongswan.log", "tinc.log", "ocserv.log", "sshd.log") if name in TRUTH]
    lines = [line for name in names for line in (FOLDER / name).read_text().splitlines()]
    lines.sort(key=lambda line: line[:32])  # those of one moment stay as they are
    path = tmp_path / "journal"
    path.write_text("\n".join(lines) + "\n")
    book = read_logs([path])
    assert len(book.sessions) == sum(len(TRUTH[name]) for name in names)
    apart = read_logs([FOLDER / name for name in names])
    assert {(s.user, s.endpoint, s.assigned) for s in book.sessions} == {
        (s.user, s.endpoint, s.assigned) for s in apart.sessions
    }
