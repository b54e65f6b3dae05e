"""``vpnf show`` and ``vpnf verify``, and the questions that ``correlate`` and ``show`` take."""

import csv
import errno
import io
import json
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from vpnforensics.cli.main import main
from vpnforensics.cli.output import Output


@pytest.fixture(scope="module")
def saved(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "case.json"
    sides = [str(folder / f"{side}.pcap") for side in ("ingress", "egress")]
    assert main(["correlate", *sides, "-f", "json", "-o", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def contract(saved):
    return json.loads(saved.read_text())


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "csv"])
def test_a_saved_case_is_shown_as_it_was(run, folder, tmp_path, form):
    case = tmp_path / "case.json"
    sides = [str(folder / f"{side}.pcap") for side in ("ingress", "egress")]
    run("correlate", *sides, "-f", "json", "-o", case)
    shown, _ = run("show", case, "-f", form)
    if form == "json":
        assert shown == case.read_text()
        return
    direct, _ = run("correlate", *sides, "-f", form)
    if form == "jsonl":  # its command line is another
        direct, shown = (text.partition("\n")[2] for text in (direct, shown))
    assert shown == direct


def test_an_explanation_of_a_saved_case_reads_the_captures_again(run, folder, saved):
    sides = [str(folder / f"{side}.pcap") for side in ("ingress", "egress")]
    flow = "f2"
    direct, _ = run("correlate", *sides, "--explain", flow)
    assert run("show", saved, "--explain", flow)[0] == direct


def test_questions_are_answered(run, saved, contract):
    client = contract["tunnels"][0]["client"]
    mine = [link for link in contract["links"] if link["tunnel"] == contract["tunnels"][0]["id"]]
    out, err = run("show", saved, "--client", client, "--sort", "packets", "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    assert {row["flow"] for row in rows} == {link["flow"] for link in mine}
    packets = [int(row["packets"]) for row in rows]
    assert packets == sorted(packets, reverse=True)
    assert f"an excerpt: {len(mine)} of {len(contract['links'])} flows (client {client})" in err
    text, _ = run("show", saved, "--client", client, "--top", "3")
    assert f"{len(mine)} flows from" in text
    sums, _ = run("show", saved, "--by", "client", "-f", "json")
    groups = json.loads(sums)
    assert sum(group["flows"] for group in groups) == len(contract["links"])
    shown, _ = run("show", saved, "--by", "time")
    assert shown.startswith("by time, UTC")


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (("--tunnel", "t99"), "no tunnel 't99'; there are t1"),
        (("--from", "noon"), "'noon' is no time"),
        (("--dst", ":123456"), "123456 is no port"),
        (("--explain", "f99999"), "no flow 'f99999'; name one as f1 to f"),
        (("--verdict", "guilty"), "'guilty' is not one of"),
    ],
)
def test_questions_that_cannot_be_meant(run, saved, words, saying):
    _, err = run("show", saved, *words, code=2)
    assert saying in err


def test_csv_and_parquet_say_where_they_come_from(run, saved, contract, tmp_path):
    plain, _ = run("show", saved, "-f", "csv")
    told, _ = run("show", saved, "-f", "csv", "--provenance")
    comments = [line for line in told.split("\r\n") if line.startswith("# ")]
    assert told == "".join(f"{line}\r\n" for line in comments) + plain
    head = "\n".join(comments)
    for side in contract["inputs"]:
        assert side["files"][0]["sha256"] in head
    for part in (contract["tool"]["date"], contract["tool"]["host"], "expected_false_links", "decoy_rounds"):
        assert part in head
    run("show", saved, "-f", "parquet", "-o", tmp_path / "links.parquet")
    metadata = pq.read_schema(tmp_path / "links.parquet").metadata
    about = json.loads(metadata[b"vpnforensics"])
    assert about == {key: contract[key] for key in about}
    assert {"tool", "inputs", "schema_version"} <= about.keys()


def test_a_case_verifies(run, saved):
    out, _ = run("verify", saved)
    assert "the same when made again" in out
    out, _ = run("verify", saved, "--digests", "-f", "json")
    found = json.loads(out)
    assert [file["state"] for file in found["files"]] == ["unchanged"] * 2
    assert found["differences"] is None


def test_an_edited_case_does_not_verify(run, contract, tmp_path):
    links = [dict(link) for link in contract["links"]]
    linked = next(link for link in links if link["verdict"] == "linked")
    linked["llr"] = 6.0
    (tmp_path / "case.json").write_text(json.dumps({**contract, "links": links}))
    out, _ = run("verify", tmp_path / "case.json", code=4)
    assert "another one: 1 difference" in out
    assert f"llr of {linked['flow']} is" in out


def test_a_changed_capture_does_not_verify(run, folder, saved, tmp_path):
    changed = tmp_path / "egress.pcap"
    changed.write_bytes((folder / "egress.pcap").read_bytes() + b"more")
    out, _ = run("verify", saved, "--egress", changed, code=4)
    assert "changed: 4 bytes more" in " ".join(out.split())
    assert "not made again" in out
    _, err = run("show", saved, "--egress", "x", code=2)
    assert "No such option" in err


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        (b"", "there is nothing in it"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "not UTF-8, so no JSON"),
        (
            b'{"schema_version": 1, "tool": {"name": "vpnforensics", "version": "0.0.9"}}',
            "of schema_version 1",
        ),
        (b"flow,verdict", "no JSON"),
    ],
)
@pytest.mark.parametrize("command", ["show", "verify"])
def test_what_is_no_case(run, tmp_path, command, content, saying):
    (tmp_path / "x.json").write_bytes(content)
    out, err = run(command, tmp_path / "x.json", code=3)
    assert out == ""
    assert saying in err
    assert "Traceback" not in err


def test_several_files_are_one_side(run, folder, contract, tmp_path):
    raw = (folder / "egress.pcap").read_bytes()
    at = [24]
    while at[-1] < len(raw):
        at.append(at[-1] + 16 + int.from_bytes(raw[at[-1] + 8 : at[-1] + 12], "little"))
    half = at[len(at) // 2]
    (tmp_path / "late.pcap").write_bytes(raw[:24] + raw[half:])
    (tmp_path / "early.pcap").write_bytes(raw[:half])
    out, _ = run(
        "correlate", "--ingress", folder / "ingress.pcap", "--egress", tmp_path / "late.pcap",
        "--egress", tmp_path / "early.pcap", "-f", "json",
    )  # fmt: skip
    case = json.loads(out)
    assert case["links"] == contract["links"]
    assert [Path(f["path"]).name for f in case["inputs"][1]["files"]] == ["early.pcap", "late.pcap"]
    (tmp_path / "case.json").write_text(out)
    assert "the same when made again" in run("verify", tmp_path / "case.json")[0]
    last = max(contract["flows"], key=lambda flow: flow["last_ns"])["id"]
    rows, _ = run("show", tmp_path / "case.json", "--explain", last, "-f", "json")
    frames = [(Path(row["egress_file"]).name, row["egress_frame"]) for row in json.loads(rows)]
    assert frames[-1][0] == "late.pcap"
    assert frames[-1][1] <= len(at) - len(at) // 2


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        ((), "Missing argument 'IN' (or --ingress)"),
        (("a.pcap", "--ingress", "b.pcap"), "not both"),
        (("a.pcap", "b.pcap", "--egress", "c.pcap"), "not both"),
        (("--ingress", "-", "--egress", "-"), "only one of IN and OUT"),
    ],
)
def test_sides_that_cannot_be_told(run, words, saying):
    _, err = run("correlate", *words, code=2)
    assert saying in err


def test_a_full_disk_leaves_what_was_there(tmp_path):
    target = tmp_path / "case.json"
    target.write_text("the old one")

    def pieces():
        yield "half of "
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="cannot be written: No space left"):
        Output(str(target)).write(pieces())
    assert target.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_filters_for_wireshark(run, saved, contract):
    out, _ = run("show", saved, "--filter", "f2")
    assert out.startswith("# f2, egress (egress.pcap)\nframe.number in {")
    rows, _ = run("show", saved, "--filter", "f2", "-f", "json")
    assert [row["role"] for row in json.loads(rows)] == ["egress", "ingress"]
    _, err = run("show", saved, "--filter", "f99999", code=2)
    assert "--filter: no flow 'f99999'" in err


def test_a_case_for_other_programs(run, saved, contract):
    out, _ = run("show", saved, "-f", "timesketch")
    assert len(out.splitlines()) == 2 * (len(contract["flows"]) + len(contract["tunnels"]))
    out, _ = run("show", saved, "-f", "zeek")
    assert sum(not line.startswith("#") for line in out.splitlines()) == len(contract["flows"])
    out, _ = run("show", saved, "-f", "case")
    links = [node for node in json.loads(out)["@graph"] if node["@id"].startswith("kb:link-")]
    assert len(links) == sum(link["verdict"] == "linked" for link in contract["links"])
    for form in ("timesketch", "zeek", "case"):
        _, err = run("show", saved, "-f", form, "--by", "site", code=2)
        assert "of a whole case" in err


def test_a_report_to_hand_over(run, saved, contract, tmp_path):
    out, err = run("show", saved, "-f", "html")
    assert out.startswith("<!DOCTYPE html>")
    assert f"{len(contract['flows'])} flows" in out
    assert "no packets" not in err
    run("show", saved, "-f", "html", "--min-packets", "5", "-o", tmp_path / "report.html")
    assert "This report is an excerpt: at least 5 packets" in (tmp_path / "report.html").read_text()
    _, err = run("show", saved, "-f", "html", "--by", "site", code=2)
    assert "of a whole case" in err


def test_a_report_of_captures_that_are_gone(run, contract, tmp_path):
    contract = json.loads(json.dumps(contract))  # others' is left as it is
    for side in contract["inputs"]:
        side["path"] = side["files"][0]["path"] = str(tmp_path / f"{side['role']}-gone.pcap")
    (tmp_path / "case.json").write_text(json.dumps(contract))
    out, err = run("show", tmp_path / "case.json", "-f", "html")
    assert "the report has no packets" in err
    assert out.startswith("<!DOCTYPE html>")


def test_annotating_a_saved_case_or_two_captures_is_the_same(run, folder, saved, tmp_path):
    sides = [folder / f"{side}.pcap" for side in ("ingress", "egress")]
    run("annotate", saved, "-w", tmp_path / "a.pcapng")
    run("annotate", *sides, "-w", tmp_path / "b.pcapng")
    assert (tmp_path / "a.pcapng").read_bytes() == (tmp_path / "b.pcapng").read_bytes()
    assert (tmp_path / "a.pcapng").read_bytes()[:4] == b"\x0a\x0d\x0d\x0a"


@pytest.mark.parametrize(
    ("words", "saying"),
    [
        (("-", "out.pcap", "-w", "x"), "standard input cannot be read a second time"),
        (("a", "b", "c", "-w", "x"), "name a saved case, or the two captures"),
        (("a",), "Missing option '-w'"),
    ],
)
def test_annotating_nothing(run, tmp_path, monkeypatch, words, saying):
    monkeypatch.chdir(tmp_path)
    _, err = run("annotate", *words, code=2)
    assert saying in err


def test_annotating_does_not_write_over_evidence(run, folder, saved):
    before = (folder / "egress.pcap").read_bytes()
    _, err = run("annotate", saved, "-w", folder / "egress.pcap", code=2)
    assert "would destroy the evidence" in err
    assert (folder / "egress.pcap").read_bytes() == before


@pytest.mark.parametrize("table", ["tunnels", "flows", "scores", "packets"])
def test_every_table_can_be_had(run, saved, contract, tmp_path, table):
    out, _ = run("show", saved, "-f", "csv", "--table", table)
    rows = list(csv.DictReader(io.StringIO(out, newline="")))
    if table == "packets":
        linked = {link["flow"] for link in contract["links"] if link["verdict"] == "linked"}
        assert {row["flow"] for row in rows} == linked
        assert sum(flow["packets"] for flow in contract["flows"] if flow["id"] in linked) == len(rows)
    else:
        assert len(rows) == len(contract[table])
    if table == "tunnels":
        assert [row["client"] for row in rows] == [tunnel["client"] for tunnel in contract["tunnels"]]
        assert [int(row["first_ns"]) for row in rows] == [t["first_ns"] for t in contract["tunnels"]]
    run("show", saved, "-f", "parquet", "--table", table, "-o", tmp_path / "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").num_rows == len(rows)
    _, err = run("show", saved, "--table", table, "-f", "json", code=2)
    assert "--table is for" in err
