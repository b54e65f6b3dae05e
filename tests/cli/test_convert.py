"""``vpnf convert``, and its folders where captures are named."""

import json

import vpnforensics as vf


def test_a_folder_of_columns_takes_the_place_of_a_capture(run, folder, tmp_path):
    for side in ("ingress", "egress"):
        out, err = run("convert", folder / f"{side}.pcap", "-o", tmp_path / side)
        assert not out
        assert f"{len(vf.read_capture(folder / f'{side}.pcap')):,} packets in 1 part" in err
    sides = [folder / "ingress.pcap", folder / "egress.pcap"], [tmp_path / "ingress", tmp_path / "egress"]
    for command in (["info", "-f", "json"], ["packets", "-f", "csv"], ["flows", "-f", "csv"], ["tunnels"]):
        for capture, columns in zip(*sides, strict=True):
            assert run(*command, capture)[0] == run(*command, columns)[0]
    told = [json.loads(run("correlate", *each, "-f", "json", "-q")[0]) for each in sides]
    for each in told:
        del each["tool"]
    assert told[0] == told[1]


def test_bad_use_is_one_line(run, folder, tmp_path):
    run("convert", folder / "egress.pcap", "-o", tmp_path / "a")
    _, err = run("convert", folder / "egress.pcap", "-o", tmp_path / "a", code=2)
    assert err.count("\n") == 1
    assert "nothing is written over" in err
    _, err = run("convert", folder / "none.pcap", "-o", tmp_path / "b", code=3)
    assert "none.pcap" in err
    assert not (tmp_path / "b").exists()
    part = tmp_path / "a" / "packets" / "00001-00001.parquet"
    _, err = run("info", tmp_path / "a", "-o", part, code=2)
    assert "destroy the evidence" in err
    part.unlink()
    _, err = run("correlate", folder / "ingress.pcap", tmp_path / "a", code=3)
    assert "a part is missing" in err


def test_what_was_selected_is_said_and_verified(run, folder, tmp_path):
    packets = vf.read_capture(folder / "ingress.pcap").to_pandas()
    server = packets["dst"].value_counts().index[0]
    port = packets.loc[packets["dst"] == server, "dport"].mode()[0]
    saved = tmp_path / "case.json"
    sides = (folder / "ingress.pcap", folder / "egress.pcap")
    _, err = run(
        "correlate", *sides, "--server", f"{server}:{port}", "--select-out", "tcp", "-f", "json", "-o", saved
    )
    assert f"(host {server} and port {port}); tunnels that were left out" in err
    told = json.loads(saved.read_text())
    assert [side["selection"]["which"] for side in told["inputs"]] == [
        f"host {server} and port {port}",
        "tcp",
    ]
    assert "the same when made again" in run("verify", saved)[0]
    assert "IP packets captured: tcp" in run("info", sides[1], "--select", "tcp")[0]
    for bad in (["--server", "example.org"], ["--select-out", "tcp or"]):
        _, err = run("correlate", *sides, *bad, code=2)
        assert "Invalid value" in err
