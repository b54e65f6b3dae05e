"""Usage logs joined to a case: users, and each kind of disagreement that has to be said."""

import json
from pathlib import Path

import pytest
import zstandard

import vpnforensics as vf
from tests.small_case import write_case
from vpnforensics.saved import differences, found_files, recomputed

RECORDED = Path(__file__).parent.parent / "logs/recorded"
S = 1_000_000_000


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The captures of the run that the recorded logs of OpenVPN and conntrack are of."""
    folder = tmp_path_factory.mktemp("recorded")
    for path in (RECORDED / "case").glob("*.zst"):
        (folder / path.stem).write_bytes(zstandard.ZstdDecompressor().decompress(path.read_bytes()))
    return folder / "ingress.pcap", folder / "egress.pcap"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = write_case(tmp_path_factory.mktemp("small"))
    return folder, json.loads((folder / "truth.json").read_text())


def usage_log(folder, rows, name="usage.jsonl"):
    """A log of the reference tunnel: (peer, endpoint, begin_ns, end_ns, received, sent, address)."""
    lines = []
    for peer, where, begin_ns, end_ns, received, sent, address in rows:
        row = {"peer": peer, "endpoint": where, "addresses": [address] if address else []}
        lines.append({"ts_ns": begin_ns, "event": "connect", **row})
        if end_ns is not None:
            counts = {"since_ns": begin_ns, "received_bytes": received, "sent_bytes": sent}
            lines.append({"ts_ns": end_ns, "event": "disconnect", **row, **counts})
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def sessions(case, *, shift_ns=0, end_ns=None, received=10**9):
    """A session for each tunnel of a case, begun with it."""
    return [
        (
            f"user-{t.id}",
            t.client,
            t.first_ns + shift_ns,
            (end_ns or t.last_ns) + shift_ns,
            received,
            10**9,
            "",
        )
        for t in case.tunnels.itertuples()
    ]


@pytest.fixture(scope="module")
def plain(small):
    folder, _ = small
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")


def joined(small, *logs, **options):
    folder, _ = small
    return vf.correlate(folder / "ingress.pcap", folder / "egress.pcap", logs=logs, **options)


def about(case, *words):
    """The warnings with all these words."""
    return [w for w in case.warnings if all(word in w for word in words)]


@pytest.mark.parametrize("name", ["openvpn.log", "openvpn.status1", "openvpn.status3"])
def test_recorded_logs_name_the_users(recorded, name):
    case = vf.correlate(*recorded, logs=[RECORDED / name, RECORDED / "conntrack.log"])
    users = {t.client: t.user for t in case.tunnels.itertuples()}
    assert users == {
        row["endpoint"]: row["user"] for row in json.loads((RECORDED / "truth.json").read_text())[name]
    }
    told = case.usage["translations"]
    assert told["contradict"] == 0
    assert told["agree"] >= 50
    assert case.usage["files"][0]["matched"] == 3
    assert not about(case, "session")


def test_recorded_logs_of_another_zone_are_told(recorded):
    case = vf.correlate(*recorded, logs=[RECORDED / "openvpn.log"], log_zone="-05:30")
    assert case.tunnels["user"].notna().all()
    (warning,) = about(case, "its times are 5:30 h ahead of the ingress capture's: of another zone")
    assert str(RECORDED) in warning


def test_a_case_without_logs(plain):
    assert plain.usage is None
    assert plain.tunnels["user"].isna().all()


def test_all_agree(small, plain, tmp_path):
    case = joined(small, usage_log(tmp_path, sessions(plain, shift_ns=2 * S)))
    assert case.tunnels["user"].tolist() == [f"user-{t}" for t in case.tunnels["id"]]
    assert case.links["tunnel"].tolist() == plain.links["tunnel"].tolist()
    assert case.warnings == plain.warnings
    assert case.usage["files"][0]["offset_ns"] == 0


def test_a_session_without_a_tunnel_and_a_tunnel_without_a_session(small, plain, tmp_path):
    rows = sessions(plain)
    rows[0] = ("ghost", "203.0.113.77:5", *rows[0][2:])
    case = joined(small, usage_log(tmp_path, rows))
    assert case.tunnels["user"].isna().tolist() == [True, False, False]
    (warning,) = about(case, "1 logged session without a tunnel")
    assert "ghost from 203.0.113.77:5" in warning
    (warning,) = about(case, "1 tunnel in no log")
    assert case.tunnels["client"][0] in warning


def test_a_session_at_another_time_is_no_fault(small, plain, tmp_path):
    ghost = ("ghost", "203.0.113.77:5", 10 * S, 20 * S, 1, 1, "")
    case = joined(small, usage_log(tmp_path, [*sessions(plain), ghost]))
    assert case.warnings == plain.warnings


def test_links_when_the_log_has_no_session(small, plain, tmp_path):
    rows = sessions(plain)
    middle_ns = (rows[0][2] + rows[0][3]) // 2
    rows[0] = (*rows[0][:3], middle_ns - 10 * S, *rows[0][4:])
    case = joined(small, usage_log(tmp_path, rows))
    assert about(case, "at a time at which the log has no session of the tunnel")


def test_more_bytes_than_the_log_counts(small, plain, tmp_path):
    case = joined(small, usage_log(tmp_path, sessions(plain, received=10)))
    assert about(case, "with more bytes linked to it than the log counts", "10 received by the log")


def test_several_users_of_one_endpoint(small, plain, tmp_path):
    rows = sessions(plain)
    again = ("other", *rows[0][1:])
    first = (*rows[0][:3], rows[0][2] + S, *rows[0][4:])
    case = joined(small, usage_log(tmp_path, [first, again, *rows[1:]]))
    assert case.tunnels["user"][0] == "user-t1, other"
    assert about(case, "1 tunnel of several users")


def test_two_logs_of_one_server(small, plain, tmp_path):
    """One log with counts and one without: the user once, and the counts looked at."""
    counted = usage_log(tmp_path, sessions(plain, received=10))
    other = tmp_path / "sshd.log"
    other.write_text(
        "".join(
            f"[{t.first_ns // S}.1] Accepted none for user-{t.id} from"
            f" {t.client.replace(':', ' port ')} ssh2\n"
            for t in plain.tunnels.itertuples()
        )
    )
    case = joined(small, counted, other)
    assert case.tunnels["user"].tolist() == [f"user-{t}" for t in case.tunnels["id"]]
    assert about(case, "with more bytes linked to it than the log counts")


def test_the_log_of_another_server(small, plain, tmp_path):
    rows = [(user, f"203.0.113.{n}:9", *rest) for n, (user, _, *rest) in enumerate(sessions(plain), 1)]
    case = joined(small, usage_log(tmp_path, rows))
    assert about(case, "no session has the endpoint of a tunnel at its time")
    assert not about(case, "in no log"), "a log of another server says nothing of these tunnels"


def conntrack(folder, plain, truth, swap=0):
    """What the NAT would have logged, by the truth; of the first flows, another client's address."""
    hosts = {}
    lines = []
    for n, row in enumerate(truth["flows"]):
        host = hosts.setdefault(row["client"], f"10.8.0.{len(hosts) + 2}")
        if n < swap:
            host = "10.8.0.250"
        src, dst = row["src"].rsplit(":", 1), row["dst"].rsplit(":", 1)
        if row["proto"] not in ("tcp", "udp"):
            continue
        lines.append(
            f"[{row['first_ns'] // S}.{row['first_ns'] % S:09}]\t    [NEW] {row['proto']} 17 30"
            f" src={host} dst={dst[0]} sport={src[1]} dport={dst[1]} [UNREPLIED]"
            f" src={dst[0]} dst={src[0]} sport={dst[1]} dport={src[1]}"
        )
    path = folder / "conntrack.log"
    path.write_text("\n".join(lines) + "\n")
    return path, hosts


def test_translations_agree_or_do_not(small, plain, tmp_path):
    _, truth = small
    path, hosts = conntrack(tmp_path, plain, truth)
    case = joined(small, path)
    told = case.usage["translations"]
    assert told["agree"] > 5
    assert told["contradict"] == 0
    assert not about(case, "translations contradict")
    path, hosts = conntrack(tmp_path, plain, truth, swap=len(truth["flows"]) // 2)
    rows = [(*r[:6], hosts.get(r[1], "")) for r in sessions(plain)]
    rows[0] = (*rows[0][:6], "10.8.0.250")
    case = joined(small, path, usage_log(tmp_path, rows))
    assert case.usage["translations"]["contradict"] > 0
    assert about(case, "that the server's own translations contradict", "opened by 10.8.0.250")


def test_translations_of_another_capture(small, tmp_path):
    path = tmp_path / "conntrack.log"
    path.write_text((RECORDED / "conntrack.log").read_text())
    assert about(joined(small, path), "no translated connection of the logs is a flow")


def test_hostile_names_in_logs(small, plain, tmp_path):
    rows = sessions(plain)
    rows[0] = ("\x1b[2J=cmd", "203.0.113.77:5", *rows[0][2:])
    case = joined(small, usage_log(tmp_path, rows))
    assert "\x1b" not in "".join(case.warnings)
    assert "\x1b" not in case.to_json()


def test_bad_options_fail_before_the_work(small, tmp_path):
    with pytest.raises(vf.LogError, match="cannot be read"):
        joined(small, tmp_path / "none")
    with pytest.raises(vf.LogError, match="no time zone"):
        joined(small, RECORDED / "openvpn.log", log_zone="Mars")


def test_a_case_with_logs_is_made_again_with_them_and_their_change_is_told(small, tmp_path, plain):
    log = usage_log(tmp_path, sessions(plain), "moved.jsonl")
    case = joined(small, log, log_zone="+02:00")
    path = tmp_path / "case.json"
    path.write_text(case.to_json())
    saved = vf.open_case(path).to_dict()
    assert saved["usage"]["zone"] == "+02:00"
    files = found_files(saved, tmp_path)
    assert [file.role for file in files] == ["ingress", "egress", "log"]
    assert list(differences(saved, recomputed(saved, files).to_dict())) == []
    away = tmp_path / "away"
    away.mkdir()
    log.rename(away / "elsewhere.jsonl")
    files = found_files(saved, tmp_path, {"log": [str(away / "elsewhere.jsonl")]})
    assert list(differences(saved, recomputed(saved, files).to_dict())) == []
    (away / "elsewhere.jsonl").write_text("")
    files = found_files(saved, tmp_path, {"log": [str(away / "elsewhere.jsonl")]})
    with pytest.raises(vf.SavedCaseError, match="changed"):
        recomputed(saved, files)
