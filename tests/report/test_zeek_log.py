"""The conn.log, read back by an independent reader of Zeek's logs."""

import pytest

import vpnforensics as vf
from tests.small_case import HOSTILE, made_up
from vpnforensics.report.zeek_log import conn_log


def read_back(case, path):
    parsezeeklogs = pytest.importorskip("parsezeeklogs")
    path.write_text("".join(conn_log(case)))
    with parsezeeklogs.ZeekLog(path) as log:
        return list(log)


def test_every_flow_reads_back(folder, tmp_path):
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    rows = read_back(case, tmp_path / "conn.log")
    table = case.beside.join(case.endpoints.set_index("id")[["community_id", "first_ns"]], on="flow")
    assert [row["uid"] for row in rows] == table["flow"].tolist()
    assert [row["community_id"] for row in rows] == table["community_id"].tolist()
    assert [row["vpn_packets"] for row in rows] == table["packets"].tolist()
    assert [row["vpn_llr"] for row in rows] == table["llr"].tolist()
    for row, flow in zip(rows, table.itertuples(), strict=True):
        assert abs(row["ts"] - flow.first_ns / 1e9) < 2e-6
        if row["proto"] != "icmp":
            assert f"{row['id.resp_h']}:{row['id.resp_p']}" == flow.dst
        linked = row["vpn_verdict"] == "linked"
        assert linked == isinstance(flow.client, str) == (row["vpn_error"] is not None)
        if linked:
            assert (row["vpn_tunnel"], f"{row['vpn_client_h']}:{row['vpn_client_p']}") == (
                flow.tunnel, flow.client,
            )  # fmt: skip


def test_types_and_what_is_not_known(tmp_path):
    first, second, third = read_back(made_up(), tmp_path / "conn.log")
    assert first["vpn_llr_bounded"] is True
    assert (first["vpn_error"], first["vpn_user"], first["duration"]) == (0.004, "alice", 1.0)
    assert second["vpn_names"] == ["=cmd\\027[2j.example"]
    assert third["vpn_names"] == []
    assert third["vpn_llr"] is third["vpn_error"] is third["vpn_tunnel"] is third["vpn_client_h"] is None


@pytest.mark.parametrize("user", ["a\tb\nc", "-", "(empty)", "\\x09", "ü\u202e\x1b[2J", "a,b", "#fields"])
def test_hostile_text_stays_in_its_cell(user, tmp_path):
    case = made_up(tunnels=made_up().lists.tunnels.assign(user=[user, None]))
    text = "".join(conn_log(case))
    assert text.isascii()
    assert not any(c in text for c in "\x1b\x00")
    rows = read_back(case, tmp_path / "conn.log")
    assert [row["vpn_user"] for row in rows] == [user, None, None]


def test_the_head_says_what_made_it():
    text = "".join(conn_log(made_up()))
    head = [line for line in text.splitlines() if line.startswith("#")]
    assert "#made_by\tvpnforensics 0, 2023-11-14T22:13:20Z on here, seed 0" in head
    assert sum("sha256 " + "0" * 64 in line for line in head) == 2
    assert "#open\t2023-11-14-22-13-20" in head
    assert HOSTILE not in text
    assert text == "".join(conn_log(made_up()))
