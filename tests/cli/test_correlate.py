import csv
import io
import json
import os
import pty
import subprocess
import sys
from importlib import resources
from pathlib import Path

import jsonschema
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="module")
def sides(folder):
    return [str(folder / "ingress.pcap"), str(folder / "egress.pcap")]


def test_the_table_says_inputs_clocks_tunnels_links(run, sides, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out, err = run("correlate", *sides, "--top", "5")
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    for part in ("ingress", "egress is 12.500", "3 tunnels to", "flows from 203.0.113.1: ", "… and "):
        assert part in out


def test_json_is_the_contract_and_the_same_every_time(run, sides):
    first, _ = run("correlate", *sides, "-f", "json")
    second, _ = run("correlate", *sides, "-f", "json")
    assert first == second
    result = json.loads(first)
    schema = resources.files("vpnforensics.report").joinpath("result.schema.json").read_text()
    jsonschema.validate(result, json.loads(schema))
    assert result["tool"]["argv"] == ["vpnf", "correlate", *sides, "-f", "json"]
    assert sum(link["verdict"] == "linked" for link in result["links"]) > 20


def test_options_reach_the_result(run, sides):
    out, _ = run(
        "correlate",
        *sides,
        "-f",
        "json",
        "--seed",
        "7",
        "--expected-false-links",
        "0.5",
        "--engine",
        "packets",
    )
    tool = json.loads(out)["tool"]
    assert tool["seed"] == 7
    assert tool["parameters"]["expected_false_links"] == 0.5
    assert tool["parameters"]["engines"] == ["packets"]


def test_csv_jsonl_and_parquet_agree(run, sides, tmp_path):
    table, _ = run("correlate", *sides, "-f", "csv")
    assert table.count("\r\n") == table.count("\n")
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    lines, _ = run("correlate", *sides, "-f", "jsonl")
    links = [row for row in map(json.loads, lines.splitlines()) if row["type"] == "link"]
    run("correlate", *sides, "-f", "parquet", "-o", tmp_path / "links.parquet")
    columns = pq.read_table(tmp_path / "links.parquet").to_pylist()
    assert len(rows) == len(links) == len(columns) > 20
    for row, link, column in zip(rows, links, columns, strict=True):
        assert row["flow"] == link["flow"] == column["flow"]
        assert row["tunnel"] == (link["tunnel"] or "") == (column["tunnel"] or "")
        assert row["llr"] == ("" if link["llr"] is None else repr(link["llr"]))


def test_a_flow_is_explained_by_any_of_its_names(run, sides):
    out, _ = run("correlate", *sides, "-f", "json")
    flow = next(f for f in json.loads(out)["flows"] if f["packets"] > 10)
    texts = {run("correlate", *sides, "--explain", flow[key])[0] for key in ("id", "community_id", "src")}
    assert len(texts) == 1
    text = texts.pop()
    assert "linked to t" in text
    assert text.count("↑ up") + text.count("↓ down") == flow["packets"]


def test_an_explanation_as_data(run, sides):
    out, _ = run("correlate", *sides, "--explain", "f1", "-f", "json")
    rows = json.loads(out)
    assert {"egress_frame", "ingress_frame", "inner_bytes", "outer_bytes", "delay_ns"} <= set(rows[0])
    text, _ = run("correlate", *sides, "--explain", "f1", "-f", "csv")
    assert len(text.splitlines()) == len(rows) + 1


def test_output_goes_to_a_file_whole_or_not_at_all(run, sides, tmp_path):
    target = tmp_path / "links.csv"
    target.write_text("old")
    target.chmod(0o640)
    out, err = run("correlate", "-q", *sides, "-f", "csv", "-o", target)
    assert (out, err) == ("", "")
    assert target.read_text().startswith("flow,verdict")
    assert target.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [target]


def test_standard_input_serves_as_one_side(sides):
    with Path(sides[1]).open("rb") as egress:
        done = subprocess.run(
            [sys.executable, "-m", "vpnforensics.cli.main", "correlate", sides[0], "-", "-f", "json"],
            stdin=egress, capture_output=True, check=True,
        )  # fmt: skip
    links = json.loads(done.stdout)["links"]
    assert sum(link["verdict"] == "linked" for link in links) > 20


def test_progress_is_for_terminals_and_stays_off_standard_output(sides, tmp_path):
    def talk(*options):
        master, slave = pty.openpty()
        command = [sys.executable, "-m", "vpnforensics.cli.main", "correlate", *sides, "-f", "csv", *options]
        with (tmp_path / "out").open("wb") as out:
            running = subprocess.Popen(command, stdout=out, stderr=slave)
        os.close(slave)
        said = b""
        # Read while it runs: a terminal holds a few kilobytes, then writing to it waits.
        while piece := _read_terminal(master):
            said += piece
        os.close(master)
        assert running.wait(timeout=60) == 0
        assert (tmp_path / "out").read_bytes().startswith(b"flow,")
        return said

    assert b"\x1b" in talk()
    assert talk("-q") == b""
    assert b"reading ingress: " in talk("-v")


def _read_terminal(master):
    try:
        return os.read(master, 65536)
    except OSError:  # how Linux says that the other end was closed
        return b""


def test_strict_passes_a_sound_case(run, sides):
    run("correlate", *sides, "--strict", "-f", "csv")


def test_usage_logs_name_the_users(run, sides, tmp_path):
    case = json.loads(run("correlate", *sides, "-f", "json")[0])
    assert case["usage"] is None
    log = tmp_path / "sshd.log"
    log.write_text(
        "".join(
            f"[{t['first_ns'] // 10**9}.5] Accepted none for user{n} from"
            f" {t['client'].replace(':', ' port ')} ssh2\n"
            for n, t in enumerate(case["tunnels"])
        )
    )
    out, _ = run("correlate", *sides, "--logs", log)
    assert all(f"user{n}" in out for n in range(3))
    assert "3 sessions in 1 file, 3 of them tunnels" in out
    joined = json.loads(run("correlate", *sides, "--logs", log, "-f", "json")[0])
    assert [t["user"] for t in joined["tunnels"]] == ["user0", "user1", "user2"]
    assert joined["usage"]["files"][0]["formats"] == ["sshd"]
    rows = list(
        csv.DictReader(io.StringIO(run("correlate", *sides, "--logs", log, "-f", "csv")[0], newline=""))
    )
    assert {row["user"] for row in rows if row["tunnel"]} <= {"user0", "user1", "user2"}


def test_logs_of_zeek_give_names_and_uids(run, sides, tmp_path):
    conn, ssl = tmp_path / "conn.log", tmp_path / "ssl.log"
    run("correlate", *sides, "-f", "zeek", "-o", conn)
    flows = json.loads(run("correlate", *sides, "-f", "json")[0])["flows"]
    flow = next(each for each in flows if each["dst"].endswith(":443"))
    (source, sport), (destination, dport) = (flow[end].split(":") for end in ("src", "dst"))
    ends = {"id.orig_h": source, "id.orig_p": int(sport), "id.resp_h": destination, "id.resp_p": int(dport)}
    ssl.write_text(
        json.dumps({"ts": flow["first_ns"] / 1e9, "uid": "Cx9", **ends, "server_name": "Kelp.example"})
    )
    out, err = run("correlate", *sides, "--zeek", conn, "--zeek", ssl, "--dst", "kelp.example")
    assert f"{len(flows) + 1} rows of {len(flows)} flows" in out
    assert "kelp.example" in out
    saved = tmp_path / "case.json"
    run("correlate", *sides, "--zeek", conn, "--zeek", ssl, "-f", "json", "-o", saved)
    joined = next(each for each in json.loads(saved.read_text())["flows"] if each["id"] == flow["id"])
    assert joined["uids"] == [flow["id"], "Cx9"]
    assert "the same when made again" in run("verify", saved)[0]
    conn.write_text("")
    assert "changed" in run("verify", saved, code=4)[0]
    _, err = run("correlate", *sides, "--zeek", tmp_path / "none.log", code=3)
    assert "none.log: cannot be read" in err
    before = ssl.read_bytes()
    _, err = run("correlate", *sides, "--zeek", ssl, "-f", "json", "-o", ssl, code=2)
    assert "is an input" in err
    assert ssl.read_bytes() == before


@pytest.mark.parametrize("form", ["case", "zeek", "timesketch"])
def test_a_stated_date_gives_the_same_bytes(run, sides, form, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first, second = (run("correlate", *sides, "-f", form)[0] for _ in range(2))
    assert first == second
    assert "2023" in first or form == "timesketch"  # whose dates are those of the packets
