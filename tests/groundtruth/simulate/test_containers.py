"""pcapng and single files hold the same packets."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.simulate import simulate
from vpnforensics.groundtruth.simulate.spec import Capture
from vpnforensics.packets.read import read_capture

from .cases import small


def test_pcapng_holds_what_the_pcap_holds(make):
    capture = Capture(snaplen=120)
    plain = make(small(ingress=capture))
    case = make(small(ingress=replace(capture, pcapng=True)))
    assert not (case.folder / "ingress.pcap").exists()
    a, b = read_capture(plain.folder / "ingress.pcap"), read_capture(case.folder / "ingress.pcapng")
    assert len(a) > 1000
    for spec, column in a.columns():
        assert (column == getattr(b, spec.name)).all(), spec.name
    manifest = json.loads((case.folder / "manifest.json").read_text())
    assert set(manifest["files"]) == {"ingress.pcapng", "egress.pcap", "truth.json"}


def test_one_file_with_two_interfaces_in_order_of_time(make):
    plain, case = make(small()), make(replace(small(), single_file=True))
    assert sorted(p.name for p in case.folder.iterdir()) == ["capture.pcapng", "manifest.json", "truth.json"]
    both = read_capture(case.folder / "capture.pcapng")
    assert (np.diff(both.ts_ns) >= 0).all()
    for number, name in enumerate(("ingress", "egress")):
        side = read_capture(plain.folder / f"{name}.pcap")
        mine = both.take(both.iface == number)
        assert (mine.ts_ns == side.ts_ns).all()
        assert (mine.ip_id == side.ip_id).all()


def test_a_cut_pcapng_is_refused(tmp_path):
    with pytest.raises(ScenarioError, match="cut short"):
        simulate(small(ingress=Capture(pcapng=True, cut_bytes=5)), tmp_path / "x", 1)
