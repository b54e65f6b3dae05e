"""Protocols of other packages: the documented one is recognised, and broken ones change nothing."""

from __future__ import annotations

import json
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vpnforensics as vf
from tests.documented import installed_from
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.tunnels import find, plugged
from vpnforensics.tunnels.tcp_streams import STREAM_PROTOCOLS

MODULE = """
from vpnforensics.tunnels.length_map import LengthMap
from vpnforensics.tunnels.protocol import Handshake, Recognition, Records
import numpy as np
name = "toy"
server_ports = (40404,)
def recognise(sample): return Recognition(1.0)
def records(datagrams, variant): n = len(datagrams); return Records(np.ones(n, bool), np.arange(n))
def length_maps(datagrams, variant): return (LengthMap(37),)
"""


@pytest.fixture(autouse=True)
def forget_toys() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith(("toy", "vpnf_marked"))]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clients of a VPN that nobody knows; in clear a mark and a counter."""
    place = tmp_path_factory.mktemp("marked")
    simulate(mixed_case(tunnels=3, flows=8, protocol="custom", duration_s=30.0, scale=0.1), place, 1)
    path = place / "ingress.pcap"
    data = bytearray(path.read_bytes())
    at, sent = 24, Counter[bytes]()
    while at < len(data):
        kept = struct.unpack_from("<I", data, at + 8)[0]
        frame, at = at + 16, at + 16 + kept
        ends = bytes(data[frame + 26 : frame + 38])
        assert data[frame + 23] == 17
        sent[ends] += 1
        struct.pack_into(">II", data, frame + 42, 0xFEEDC0DE, sent[ends])
    path.write_bytes(data)
    return place


def contract(folder: Path) -> dict[str, Any]:
    case = vf.correlate(folder / "ingress.pcap", folder / "egress.pcap")
    told: dict[str, Any] = json.loads(case.to_json())
    return told


def toy(place: Path, module: str = MODULE, *, name: str = "toy") -> Path:
    (place / "toy_protocol.py").write_text(module)
    info = place / "toy_protocol-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-protocol\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[vpnforensics.protocols]\n{name} = toy_protocol\n")
    return place


@pytest.fixture(scope="module")
def without(folder: Path) -> dict[str, Any]:
    return contract(folder)


def test_the_documented_protocol_is_named_and_linked(
    folder: Path, without: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {t["protocol"] for t in without["tunnels"]} == {"unknown"}
    monkeypatch.syspath_prepend(str(installed_from("own-protocol.md", tmp_path)))
    found = contract(folder)
    assert [t["protocol"] for t in found["tunnels"]] == ["marked"] * 3
    assert {t["length_map"]["formula"] for t in found["tunnels"]} == {"P = L + 37"}
    assert found["tool"]["parameters"]["protocols"] == {"marked": "vpnf-marked 0.1"}
    linked = [link for link in found["links"] if link["verdict"] == "linked"]
    assert len(linked) >= 0.9 * len(found["links"])
    truth = json.loads((folder / "truth.json").read_text())
    client_of = {(flow["src"], flow["dst"]): flow["client"] for flow in truth["flows"]}
    tunnel, flow = ({row["id"]: row for row in found[part]} for part in ("tunnels", "flows"))
    for link in linked:
        ends = flow[link["flow"]]["src"], flow[link["flow"]]["dst"]
        assert client_of.get(ends, client_of.get(ends[::-1])) == tunnel[link["tunnel"]]["client"]
    assert any(  # its clear counter is heard
        row["engines"]["counters"]["score"] is not None for row in found["scores"]
    )


def test_ours_are_found_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = vf.samples.load("openvpn-udp")
    before = json.loads(vf.correlate(sample.ingress, sample.egress).to_json())
    monkeypatch.syspath_prepend(str(installed_from("own-protocol.md", tmp_path)))
    after = json.loads(vf.correlate(sample.ingress, sample.egress).to_json())
    assert {key: value for key, value in before.items() if key != "tool"} == {
        key: value for key, value in after.items() if key != "tool"
    }


BROKEN = {
    "cannot be imported": ("import no_such_module", "ModuleNotFoundError"),
    "no recogniser": (MODULE.replace("recognise", "recognize"), "it has no function recognise"),
    "another name": (MODULE.replace('"toy"', '"tay"'), "it is named 'tay'"),
    "ports": (MODULE.replace("40404,", "70000,"), "its server_ports are (70000,)"),
    "raises": (MODULE.replace("return Recognition(1.0)", "1 / 0"), "ZeroDivisionError: division by zero"),
    "surer than sure": (MODULE.replace("Recognition(1.0)", "Recognition(7)"), "not between 0 and 1"),
    "sure to nan": (MODULE.replace("Recognition(1.0)", "Recognition(float('nan'))"), "not between 0 and 1"),
    "says yes": (MODULE.replace("Recognition(1.0)", "True"), "it returned a bool, not Recognition"),
    "too few records": (MODULE.replace("np.ones(n, bool)", "np.ones(2, bool)"), "one a datagram"),
    "records of text": (MODULE.replace("np.arange(n)", "['1'] * n"), "one a datagram"),
    "sizes of too few": (
        MODULE.replace("np.arange(n))", "np.arange(n), np.arange(3))"),
        "one a datagram",
    ),
    "no map": (MODULE.replace("(LengthMap(37),)", "LengthMap(37)"), "returned a LengthMap, not a tuple"),
    "a map of numbers": (MODULE.replace("LengthMap(37)", "37"), "it returned a int, not LengthMap"),
    "a handshake beyond": (
        MODULE + "def handshake(opening): return Handshake((10**6,), ())",
        "names a datagram that is not there",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_one_gives_a_warning_and_changes_nothing(
    how: str, folder: Path, without: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, reason = BROKEN[how]
    monkeypatch.syspath_prepend(str(toy(tmp_path, module)))
    found = contract(folder)
    (told,) = set(found["warnings"]) - set(without["warnings"])
    assert told.startswith("the protocol 'toy' of toy-protocol 1.2 was set aside: ")
    assert reason in told
    for part in ("links", "scores", "flows", "tunnels", "expected_false_links", "decoys"):
        assert found[part] == without[part], part


def test_a_name_of_ours_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = {*find.PROTOCOLS, *(each.name for each in STREAM_PROTOCOLS.values())}
    assert ours <= set(plugged.OURS)
    monkeypatch.syspath_prepend(str(toy(tmp_path, MODULE.replace('"toy"', '"wireguard"'), name="wireguard")))
    assert "has a protocol of this name" in str(plugged.installed().broken["wireguard"])
