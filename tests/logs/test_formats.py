# ruff: noqa: E501 - log lines are as long as they are
"""Logs that cannot be recorded here, or not all of them, after what their programs write."""

import pytest

from vpnforensics.logs.read import read_logs

S = 1_000_000_000
DAY = 1_700_006_400 * S
"""2023-11-15 00:00:00 UTC."""


def read(tmp_path, text, **options):
    path = tmp_path / "log"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_logs([path], **options)


def sessions(book):
    return [(s.user, s.endpoint, s.begin_ns, s.end_ns) for s in book.sessions]


def test_openvpn_until_2_4_with_ipv6_a_login_and_a_client_that_moves(tmp_path):
    text = """\
Wed Nov 15 10:00:00 2023 us=250000 2001:db8::7 TLS: Username/Password authentication succeeded for username 'alice' [CN SET]
Wed Nov 15 10:00:01 2023 us=250000 2001:db8::7 [alice] Peer Connection Initiated with [AF_INET6]2001:db8::7:1194 (via ::1%lo)
Wed Nov 15 10:00:02 2023 us=500000 bob/::ffff:198.51.100.9:4000 SIGUSR1[soft,ping-restart] received, client-instance restarting
Wed Nov 15 10:00:02 2023 198.51.100.9:4000 [bob] Peer Connection Initiated with [AF_INET]198.51.100.9:4000
Wed Nov 15 10:00:02 2023 bob/198.51.100.9:4000 MULTI: Learn: 10.8.0.6 -> bob/198.51.100.9:4000
Wed Nov 15 10:05:00 2023 bob/198.51.100.9:4000 peer 1 (bob) floated from 198.51.100.9:4000 to [AF_INET]203.0.113.5:4001
Wed Nov 15 10:06:00 2023 bob/203.0.113.5:4001 SIGTERM[soft,remote-exit] received, client-instance exiting
Wed Nov 15 10:07:00 2023 SIGTERM[hard,] received, process exiting
"""
    book = read(tmp_path, text)
    assert sessions(book) == [
        ("alice", "[2001:db8::7]:1194", DAY + 36001 * S + S // 4, DAY + 36420 * S),
        ("bob", "198.51.100.9:4000", DAY + 36002 * S, DAY + 36360 * S),
    ]
    assert book.sessions[1].moved_to == ("203.0.113.5:4001",)
    assert book.sessions[1].assigned == ("10.8.0.6",)


def test_openvpn_in_syslog_with_an_instance_name(tmp_path):
    text = (
        "<29>Nov 15 10:00:01 vpn ovpn-home[77]: 198.51.100.9:4000 [bob] Peer Connection Initiated with"
        " [AF_INET]198.51.100.9:4000\n"
        "<29>Nov 15 10:00:03 vpn ovpn-home[77]: bob/198.51.100.9:4000 SIGUSR1[soft,ping-restart] received,"
        " client-instance restarting\n"
    )
    assert sessions(read(tmp_path, text, year=2023)) == [
        ("bob", "198.51.100.9:4000", DAY + 36001 * S, DAY + 36003 * S)
    ]


def test_a_status_client_that_is_gone(tmp_path):
    head = "OpenVPN CLIENT LIST\nUpdated,2023-11-15 10:0{}:00\n"
    columns = "Common Name,Real Address,Bytes Received,Bytes Sent,Connected Since\n"
    row = "bob,198.51.100.9:4000,{},20,2023-11-15 09:59:00\n"
    tail = "ROUTING TABLE\nVirtual Address,Common Name,Real Address,Last Ref\nGLOBAL STATS\nEND\n"
    text = "".join(head.format(n) + columns + (row.format(10 * n) if n < 2 else "") + tail for n in range(4))
    (session,) = read(tmp_path, text).sessions
    assert (session.begin_ns, session.end_ns) == (DAY + 35940 * S, DAY + 36120 * S)
    assert session.received_bytes == 10


KERNEL = """\
{0}wireguard: wg0: Receiving handshake initiation from peer 18 (198.51.100.9:61795)
{0}wireguard: wg0: Sending handshake response to peer 18 (198.51.100.9:61795)
{0}wireguard: wg0: Keypair 2 created for peer 18
{1}wireguard: wg0: Receiving keepalive packet from peer 18 (203.0.113.5:61795)
{2}wireguard: wg0: Receiving handshake initiation from peer 18 (203.0.113.5:61795)
{3}wireguard: wg0: Zeroing out all keys for peer 18 (203.0.113.5:61795), since we haven't received a new one in 540 seconds
{3}wireguard: wg0: Invalid handshake initiation from 192.0.2.66:1
"""


@pytest.mark.parametrize(
    "frames",
    [
        [f"Nov 15 10:00:0{n} vpn kernel: [  77.00000{n}] " for n in (1, 2, 3, 9)],
        [f"[Wed Nov 15 10:00:0{n} 2023] " for n in (1, 2, 3, 9)],
        [f"2023-11-15T10:00:0{n}+0000 vpn kernel: " for n in (1, 2, 3, 9)],
    ],
    ids=["syslog", "dmesg -T", "short-iso"],
)
def test_wireguard_in_the_kernel(tmp_path, frames):
    book = read(tmp_path, KERNEL.format(*frames), year=2023)
    assert sessions(book) == [("wg0 peer 18", "198.51.100.9:61795", DAY + 36001 * S, DAY + 36009 * S)]
    assert book.sessions[0].moved_to == ("203.0.113.5:61795",)


def test_wireguard_sessions_end_where_keys_expire(tmp_path):
    stamps = [f"[Wed Nov 15 10:0{n}:00 2023] " for n in (0, 1, 5, 9)]
    book = read(tmp_path, KERNEL.format(*stamps))
    assert [s[2:] for s in sessions(book)] == [
        (DAY + 36000 * S, DAY + 36060 * S),
        (DAY + 36300 * S, DAY + 36540 * S),
    ]


def test_kernel_times_since_boot_are_said(tmp_path):
    book = read(tmp_path, KERNEL.format("[6305964.569633] ", "[6305965.5] ", "[6305966.5] ", "[6305970.5] "))
    assert sessions(book)[0][2] == 6305964569633000
    assert book.files[0].clock == "boot"
    assert "from the machine's start" in book.files[0].notes[0]


def peer(handshake, received, sent, endpoint="198.51.100.9:5"):
    return f"{'P' * 43}=\t(none)\t{endpoint}\t10.9.0.2/32,fd00::2/128\t{handshake}\t{received}\t{sent}\toff\n"


def test_wireguard_dumps(tmp_path):
    begin = DAY // S
    text = f"{'K' * 43}=\t{'L' * 43}=\t51820\toff\n"
    dumps = [
        (begin, peer(0, 0, 0, "(none)")),
        (begin + 60, peer(begin + 30, 500, 400)),
        (begin + 180, peer(begin + 150, 900, 800, "203.0.113.5:7")),
        (begin + 600, peer(begin + 150, 1000, 900, "203.0.113.5:7")),
        (begin + 660, peer(begin + 650, 1500, 950, "203.0.113.5:7")),
    ]
    book = read(tmp_path, "".join(f"{at}\n{text}{row}" for at, row in dumps))
    first, second = book.sessions
    assert (first.endpoint, first.moved_to) == ("198.51.100.9:5", ("203.0.113.5:7",))
    assert first.assigned == ("10.9.0.2", "fd00::2")
    assert (first.begin_ns, first.received_bytes, first.sent_bytes) == (DAY + 30 * S, 1000, 900)
    assert (second.begin_ns, second.received_bytes, second.sent_bytes) == (DAY + 650 * S, 500, 50)
    assert (first.end_ns is None, second.end_ns is None) == (False, True)
    assert "K" * 43 not in repr(book.to_dict())


STRONGSWAN = """\
2023-11-15 10:00:00 06[NET] received packet: from 198.51.100.9[4511] to 192.0.2.1[4500] (259 bytes)
2023-11-15 10:00:00 06[IKE] received EAP identity 'carol@example.org'
2023-11-15 10:00:00 06[IKE] IKE_SA rw[7] established between 192.0.2.1[vpn]...198.51.100.9[10.0.0.7]
2023-11-15 10:00:00 06[IKE] assigning virtual IP 10.3.0.1 to peer 'carol@example.org'
2023-11-15 10:00:00 06[IKE] CHILD_SA rw{3} established with SPIs c1_i c2_o and TS 0.0.0.0/0 === 10.3.0.1/32
2023-11-15 11:00:00 07[NET] received packet: from 198.51.100.9[4511] to 192.0.2.1[4500] (259 bytes)
2023-11-15 11:00:00 07[IKE] received EAP identity 'carol@example.org'
2023-11-15 11:00:00 07[IKE] IKE_SA rw[9] established between 192.0.2.1[vpn]...198.51.100.9[10.0.0.7]
2023-11-15 11:00:01 08[IKE] deleting IKE_SA rw[7] between 192.0.2.1[vpn]...198.51.100.9[10.0.0.7]
2023-11-15 11:30:00 09[IKE] closing CHILD_SA rw{3} with SPIs c1_i (1234 bytes) c2_o (567 bytes) and TS 0.0.0.0/0 === 10.3.0.1/32
2023-11-15 11:30:00 09[IKE] deleting IKE_SA rw[9] between 192.0.2.1[vpn]...198.51.100.9[10.0.0.7]
"""


def test_strongswan_with_eap_a_virtual_address_and_a_reauthentication(tmp_path):
    (session,) = read(tmp_path, STRONGSWAN).sessions
    assert (session.user, session.endpoint, session.assigned) == (
        "carol@example.org",
        "198.51.100.9:4511",
        ("10.3.0.1",),
    )
    assert (session.begin_ns, session.end_ns) == (DAY + 36000 * S, DAY + 41400 * S)


def test_strongswan_in_the_journal_without_threads(tmp_path):
    lines = [line.split(" ", 3) for line in STRONGSWAN.splitlines()]
    text = "".join(f"{day}T{hour}+0000 vpn charon-systemd[7]: {rest}\n" for day, hour, _, rest in lines)
    (session,) = read(tmp_path, text).sessions
    assert (session.user, session.endpoint) == ("carol@example.org", "198.51.100.9:4511")
    assert (session.begin_ns, session.end_ns) == (DAY + 36000 * S, DAY + 41400 * S)


def test_ocserv(tmp_path):
    text = """\
Nov 15 10:00:00 vpn ocserv[836]: main[dora]:198.51.100.9:4242 user logged in
Nov 15 10:00:00 vpn ocserv[840]: worker[dora]: 198.51.100.9 sending IPv4 10.9.0.7
Nov 15 10:10:00 vpn ocserv[836]: main[dora]:198.51.100.9:4242 user disconnected (reason: user disconnected, rx: 159868, tx: 111153)
Nov 15 10:11:00 vpn ocserv[836]: main[erik]:198.51.100.10:99 user disconnected (reason: unspecified, rx: 5, tx: 6)
Nov 15 10:11:00 vpn ocserv[836]: main:198.51.100.11:98 user disconnected (reason: unspecified, rx: 0, tx: 0)
"""
    book = read(tmp_path, text, year=2023)
    assert sessions(book) == [
        ("dora", "198.51.100.9:4242", DAY + 36000 * S, DAY + 36600 * S),
        ("erik", "198.51.100.10:99", None, DAY + 36660 * S),
    ]
    dora = book.sessions[0]
    assert (dora.received_bytes, dora.sent_bytes, dora.assigned) == (159868, 111153, ("10.9.0.7",))


RADIUS = """\
Wed Nov 15 10:00:05 2023
\tAcct-Session-Id = "4D2BB8AC-00000098"
\tAcct-Status-Type = Start
\tUser-Name = "frank"
\tNAS-IP-Address = 192.0.2.1
\tCalling-Station-Id = "198.51.100.9"
\tFramed-IP-Address = 10.4.0.9
\tAcct-Delay-Time = 5
\tTimestamp = 1700042405

Wed Nov 15 10:05:00 2023
\tAcct-Session-Id = "4D2BB8AC-00000098"
\tAcct-Status-Type = Stop
\tUser-Name = "frank"
\tNAS-IP-Address = 192.0.2.1
\tAcct-Session-Time = 300
\tAcct-Input-Octets = 3407
\tAcct-Output-Octets = 867
\tAcct-Output-Gigawords = 1
\tTimestamp = 1700042700

Wed Nov 15 10:06:00 2023
\tAcct-Session-Id = "late"
\tAcct-Status-Type = Interim-Update
\tUser-Name = "grace"
\tNAS-IP-Address = 192.0.2.1
\tTunnel-Client-Endpoint:0 = "198.51.100.10"
\tAcct-Session-Time = 60
"""


def test_freeradius(tmp_path):
    book = read(tmp_path, RADIUS)
    assert sessions(book) == [
        ("frank", "198.51.100.9", DAY + 36000 * S, DAY + 36300 * S),
        ("grace", "198.51.100.10", DAY + 36300 * S, None),
    ]
    frank = next(s for s in book.sessions if s.user == "frank")
    assert (frank.received_bytes, frank.sent_bytes) == (3407, (1 << 32) + 867)
    assert frank.assigned == ("10.4.0.9",)
    assert book.files[0].unknown == 0


def test_sshd(tmp_path):
    text = """\
2023-11-15T10:00:00.5+01:00 vpn sshd[55]: Accepted publickey for heidi from 198.51.100.9 port 40022 ssh2: ED25519 SHA256:x
2023-11-15T10:00:01.5+01:00 vpn sshd[56]: Invalid user Accepted password for root from 192.0.2.9 port 1 from 192.0.2.9 port 2
2023-11-15T10:30:00.5+01:00 vpn sshd[55]: Disconnected from user heidi 198.51.100.9 port 40022
2023-11-15T10:31:00.5+01:00 vpn dhclient[9]: Accepted publickey for nobody from 198.51.100.9 port 40022 ssh2
"""
    assert sessions(read(tmp_path, text)) == [
        ("heidi", "198.51.100.9:40022", DAY + 32400 * S + S // 2, DAY + 34200 * S + S // 2)
    ]


def test_conntrack_with_its_ends(tmp_path):
    pair = "src=10.8.0.2 dst=192.0.2.80 sport=40000 dport=443 {} src=192.0.2.80 dst=203.0.113.1 sport=443 dport=1025"
    text = (
        f"[1700042400.5]\t    [NEW] tcp      6 120 SYN_SENT {pair.format('[UNREPLIED]')}\n"
        f"[1700042401.5]\t [UPDATE] tcp      6 432000 ESTABLISHED {pair.format('')} [ASSURED]\n"
        f"[1700042409.5]\t[DESTROY] tcp      6 {pair.format('packets=4 bytes=300')}\n"
        "[1700042409.6]\t    [NEW] icmp     1 30 src=fd00::2 dst=2001:db8::1 type=128 code=0 id=7 [UNREPLIED]"
        " src=2001:db8::1 dst=2001:db8::5 type=129 code=0 id=7\n"
    )
    book = read(tmp_path, text)
    first, second = book.translations
    assert (first.inner, first.outer, first.far) == ("10.8.0.2:40000", "203.0.113.1:1025", "192.0.2.80:443")
    assert (first.begin_ns, first.end_ns) == (DAY + 36000 * S + S // 2, DAY + 36009 * S + S // 2)
    assert (second.inner, second.outer, second.end_ns) == ("[fd00::2]:7", "[2001:db8::5]:7", None)


def test_the_reference_tunnels_own_log(tmp_path):
    text = (
        '{"ts_ns": 1000, "event": "connect", "peer": "KEY", "endpoint": "192.0.2.2:40000", "addresses": ["10.0.0.2/32"]}\n'
        '{"ts_ns": 3000, "event": "roam", "peer": "KEY", "endpoint": "198.51.100.7:1", "addresses": ["10.0.0.2/32"],'
        ' "old_endpoint": "192.0.2.2:40000"}\n'
        '{"ts_ns": 4000, "event": "disconnect", "peer": "KEY", "endpoint": "198.51.100.7:1", "addresses":'
        ' ["10.0.0.2/32"], "since_ns": 1000, "received_bytes": 500, "sent_bytes": 7}\n'
        '{"ts_ns": 5000, "event": "disconnect", "peer": "OLD", "endpoint": null, "addresses": [], "since_ns": 10,'
        ' "received_bytes": 1, "sent_bytes": 2}\n'
    )
    book = read(tmp_path, text)
    assert sessions(book) == [("OLD", "", 10, 5000), ("KEY", "192.0.2.2:40000", 1000, 4000)]
    assert (book.sessions[1].moved_to, book.sessions[1].received_bytes) == (("198.51.100.7:1",), 500)
