"""Zeek's logs as its documentation shows them, in both forms, whole and broken."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnforensics.errors import LogError
from vpnforensics.logs.zeek import ZeekLog

HEAD = (
    "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n"
    "#path\t{path}\n#fields\t{fields}\n"
)
CONN = (
    HEAD.format(
        path="conn", fields="ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tcommunity_id"
    )
    + "#types\ttime\tstring\taddr\tport\taddr\tport\tenum\tstring\n"
    "1700000000.123456\tCHhAvVGS1DHFjwGM9\t203.0.113.1\t2000\t192.0.2.80\t443\ttcp"
    "\t1:LQU9qZlK+B5F3KDmev6m5PMibrg=\n"
    "1700000001.000001\tC4J4Th3PJpwUYZZ6gc\t2001:db8::1\t53\t2001:db8::2\t53\tudp\t-\n"
    "#close\t2023-11-14-22-13-20\n"
)
DNS = (
    HEAD.format(
        path="dns",
        fields="ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tquery\tqtype_name\tanswers\tTTLs",
    )
    + "1700000000.5\tCd1\t203.0.113.1\t1000\t192.0.2.53\t53\tudp\twww.site.example\tA\t"
    "site\\x2calias.example,192.0.2.80,2001:db8::80\t60.000000,30.000000,3600.000000\n"
)
AS_JSON = {
    "ts": 1700000000.123456, "uid": "Cs1", "id.orig_h": "203.0.113.1", "id.orig_p": 2000,
    "id.resp_h": "192.0.2.80", "id.resp_p": 443, "version": "TLSv13", "server_name": "ü.example",
}  # fmt: skip


def rows_of(tmp_path, octets):
    path = tmp_path / "some.log"
    path.write_bytes(octets if isinstance(octets, bytes) else octets.encode())
    log = ZeekLog(path)
    return list(log), log


def test_connections(tmp_path):
    (first, second), log = rows_of(tmp_path, CONN)
    assert (first.kind, first.ts_ns, first.uid, first.proto) == (
        "conn", 1_700_000_000_123_456_000, "CHhAvVGS1DHFjwGM9", "tcp",
    )  # fmt: skip
    assert (first.originator, first.responder) == ("203.0.113.1:2000", "192.0.2.80:443")
    assert first.community_id == "1:LQU9qZlK+B5F3KDmev6m5PMibrg="
    assert (second.originator, second.community_id) == ("[2001:db8::1]:53", "")
    assert (log.rows, log.unknown, log.kinds) == (2, 0, {"conn"})


def test_lookups_have_their_addresses_and_lives(tmp_path):
    (row,), _ = rows_of(tmp_path, DNS)
    assert row.names == (b"www.site.example",)
    assert row.answers == ((bytes([192, 0, 2, 80]), 30), (bytes.fromhex("20010db8" + "00" * 11 + "80"), 3600))


@pytest.mark.parametrize("when", [1700000000.123456, "2023-11-14T22:13:20.123456Z"])
def test_json_is_the_same(tmp_path, when):
    lookup = {**AS_JSON, "query": "a.example", "answers": ["192.0.2.1"], "TTLs": [9.0], "proto": "udp"}
    del lookup["server_name"]
    lines = [json.dumps({**row, "ts": when}) for row in (AS_JSON, lookup, {**AS_JSON, "_path": "quic"})]
    (first, second, third), _ = rows_of(tmp_path, gzip.compress("\n".join(lines).encode()))
    assert (first.kind, first.ts_ns, first.names) == (
        "ssl", 1_700_000_000_123_456_000, ("ü.example".encode(),),
    )  # fmt: skip
    assert (second.kind, second.answers) == ("dns", ((bytes([192, 0, 2, 1]), 9),))
    assert third.kind == "quic"


@pytest.mark.parametrize(
    "line",
    [
        "1700000000.1\tC1\t203.0.113.1",
        "soon\tC1\t203.0.113.1\t1\t192.0.2.1\t2\ttcp\t-",
        "1e400\tC1\t203.0.113.1\t1\t192.0.2.1\t2\ttcp\t-",
        "1.0\tC1\tnowhere\t1\t192.0.2.1\t2\ttcp\t-",
        "1.0\tC1\t203.0.113.1\t123456\t192.0.2.1\t2\ttcp\t-",
        '{"ts": 1',
        '{"ts": NaN, "id.orig_h": "192.0.2.1", "id.resp_h": "192.0.2.2"}',
        '{"ts": 1, "id.orig_h": ["192.0.2.1"], "id.resp_h": {}}',
        '{"a":' * 12_000,
        "\x00\x01\ud7ff",
    ],
)
def test_broken_lines_are_counted(tmp_path, line):
    rows, log = rows_of(tmp_path, CONN + line + "\n" + CONN.splitlines()[7] + "\n")
    assert len(rows) == 3
    assert log.unknown == 1


def test_a_log_cut_within_its_compression_has_its_rows_before(tmp_path):
    more = [f"{n}.5\tC{n * 7919}\t203.0.113.1\t{n}\t192.0.2.1\t2\ttcp\t-\n" for n in range(9_999)]
    stored = gzip.compress((CONN + "".join(more)).encode(), mtime=0)
    rows, log = rows_of(tmp_path, stored[: len(stored) // 2])
    assert 3_000 < len(rows) < 7_000
    assert log.stored.fault
    with pytest.raises(LogError, match="cannot be read"):
        ZeekLog(tmp_path / "none.log")


@given(st.binary(max_size=300))
def test_any_bytes_are_no_error(tmp_path_factory, octets):
    path = tmp_path_factory.getbasetemp() / "any.log"
    for before in (b"", CONN.encode(), b'{"ts": 1, "id.orig_h": "'):
        path.write_bytes(before + octets)
        for row in ZeekLog(path):
            assert row.uid == "" or row.uid.isalnum()
