"""``info``, ``packets``, ``flows``, ``tunnels``, ``engines``, ``simulate``, ``lab doctor``."""

import csv
import hashlib
import io
import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

import vpnforensics as vf
from vpnforensics import options, samples
from vpnforensics.cli.main import main
from vpnforensics.engines.registry import ENGINES

BROWSING = Path(__file__).parents[1] / "features" / "names" / "browsing.pcap.zst"


@pytest.fixture
def run(capsys):
    def _run(*arguments):
        assert main([str(a) for a in arguments]) == 0
        return capsys.readouterr().out

    return _run


def test_info_counts_and_hashes(run, folder):
    path = folder / "egress.pcap"
    row = json.loads(run("info", path, "-f", "json"))[0]
    packets = vf.read_capture(path)
    assert row["packets"] == len(packets)
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert row["ip_bytes"] == int(packets.ip_len_bytes.sum())
    assert row["duration_ns"] == int(packets.ts_ns.max() - packets.ts_ns.min())
    assert row["packets_per_s"] == pytest.approx(len(packets) * 1e9 / row["duration_ns"], abs=1e-3)
    text = run("info", path)
    assert row["sha256"] in text
    assert "nothing amiss" in text
    flat = next(csv.DictReader(io.StringIO(run("info", path, "-f", "csv"), newline="")))
    assert flat["first_ns"] == str(row["first_ns"])
    assert flat["cut_tail_bytes"] == "0"


def test_info_of_a_capture_without_packets(run, folder, tmp_path):
    (tmp_path / "header.pcap").write_bytes((folder / "egress.pcap").read_bytes()[:24])
    assert "0 IP" in run("info", tmp_path / "header.pcap")


def test_packets_have_every_column(run, folder, tmp_path):
    path = folder / "egress.pcap"
    packets = vf.read_capture(path)
    rows = list(csv.DictReader(io.StringIO(run("packets", path, "-f", "csv", "-n", "9"), newline="")))
    assert list(rows[0]) == [spec.name for spec in packets.schema()]
    assert [int(row["ts_ns"]) for row in rows] == packets.ts_ns[:9].tolist()
    lines = [json.loads(line) for line in run("packets", path, "-f", "jsonl").splitlines()]
    assert len(lines) == len(packets)
    assert lines[0]["head"] == packets.head[0].tobytes().hex()
    run("packets", path, "-f", "parquet", "-o", tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet").num_rows == len(packets)


def test_the_packet_table_on_a_screen_is_short(run, folder):
    text = run("packets", folder / "egress.pcap", "-n", "3")
    assert "203.0.113.1:" in text
    assert "… and " in text
    assert len(text.splitlines()) == 7


def test_flow_ids_are_those_of_correlate(run, folder):
    flows = json.loads(run("flows", folder / "egress.pcap", "-f", "json"))
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    assert [(f["id"], f["src"], f["proto"]) for f in flows] == list(
        case.flows[["id", "src", "proto"]].itertuples(index=False, name=None)
    )
    assert "… and " in run("flows", folder / "egress.pcap", "--top", "2")


@pytest.mark.parametrize("name", ["sll2", "pcapng-two-interfaces"])
def test_ids_are_those_of_correlate_in_one_capture_of_both_sides_too(run, name):
    path = samples.load(name).ingress
    case = vf.correlate(path)
    flows = {f["id"]: f["community_id"] for f in json.loads(run("flows", path, "-f", "json"))}
    assert [flows[i] for i in case.flows["id"]] == case.flows["community_id"].tolist()
    tunnels = {t["id"]: t["client"] for t in json.loads(run("tunnels", path, "-f", "json"))}
    assert [tunnels[i] for i in case.tunnels["id"]] == case.tunnels["client"].tolist()
    assert set(case.links["tunnel"].dropna()) <= set(case.tunnels["id"])


def test_flows_have_their_names(run, tmp_path):
    path = tmp_path / "c.pcap"
    path.write_bytes(zstandard.ZstdDecompressor().decompress(BROWSING.read_bytes()))
    rows = json.loads(run("flows", path, "-f", "json"))
    assert all(row["names"] for row in rows)
    assert {name["source"] for row in rows for name in row["names"]} == {"query", "sni", "http", "dns"}
    cells = [row["names"] for row in csv.DictReader(io.StringIO(run("flows", path, "-f", "csv"), newline=""))]
    assert cells == [" ".join(name["name"] for name in row["names"]) for row in rows]


def test_tunnels(run, folder):
    rows = json.loads(run("tunnels", folder / "ingress.pcap", "-f", "json"))
    assert [row["protocol"] for row in rows] == ["wireguard"] * 3
    assert "3 tunnels" in run("tunnels", folder / "ingress.pcap")
    text = run("tunnels", folder / "ingress.pcap", "-f", "csv")
    assert len(text.splitlines()) == 4


def test_engines_are_listed(run):
    assert json.loads(run("engines", "-f", "json")) == [asdict(engine) for engine in ENGINES.values()]
    text = " ".join(run("engines").split())
    assert all(name in text for name in ENGINES)


def test_the_registry_is_the_engines_there_are():
    assert set(ENGINES) == set(options.Options().engines)
    for name, engine in ENGINES.items():
        assert engine.name == name
        assert name == import_module(f"vpnforensics.engines.{name}").NAME
        assert all(text for text in asdict(engine).values() if isinstance(text, str))


def test_simulate_writes_a_case(run, capsys, tmp_path):
    arguments = ["--tunnels", "1", "--flows", "2", "--duration", "5", "--scale", "0.05"]
    for name in ("a", "b"):
        run("simulate", "-o", tmp_path / name, *arguments)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "egress.pcap", "ingress.pcap", "manifest.json", "truth.json",
    ]  # fmt: skip
    assert (tmp_path / "a" / "egress.pcap").read_bytes() == (tmp_path / "b" / "egress.pcap").read_bytes()
    assert main(["simulate", "-o", str(tmp_path), "--protocol", "morse"]) == 2
    assert "wireguard" in capsys.readouterr().err


def test_the_lab_says_what_it_needs(capsys):
    assert main(["lab", "doctor", "-f", "json"]) in (0, 1)
    assert "wireguard" in {row["what"] for row in json.loads(capsys.readouterr().out)}
    assert main(["lab", "record", "--vpn", "morse", "-o", "/nonexistent/x"]) == 2
    assert "vpnf: error: " in capsys.readouterr().err


@pytest.mark.parametrize("columns", ["80", "100", "140"])
def test_a_dumb_terminal_is_as_wide_as_any_other(folder, monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    shown = []
    for terminal in ("xterm-256color", "dumb", "unknown"):
        monkeypatch.setenv("TERM", terminal)
        assert main(["flows", str(folder / "egress.pcap")]) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1] == shown[2]
    assert max(map(len, shown[0].splitlines())) <= int(columns)


def test_a_taps_wrapping_is_named_and_can_be_left_on(capsys):
    wrapped = str(Path(__file__).parent.parent / "cases/encap-vxlan.pcap")
    assert main(["info", wrapped]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "read out of VXLAN" in said
    assert "250 packets read out of a tap's encapsulation" in said
    assert main(["info", wrapped, "--decap", "none"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "250 packets in VXLAN, not read through: --decap vxlan reads what is inside" in said
    assert "duplicate" not in said
    assert main(["packets", wrapped, "--decap", "none", "-n", "1"]) == 0
    assert ":4789" in capsys.readouterr().out
    assert main(["packets", wrapped, "-n", "1"]) == 0
    assert ":4789" not in capsys.readouterr().out
