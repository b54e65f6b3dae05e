"""Length maps of tunnels that are proved by their lengths, and of those beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vpnforensics as vf
from vpnforensics.align import settle as module
from vpnforensics.align.alignment import same_clock
from vpnforensics.align.settle import settle
from vpnforensics.flows.assemble import assemble_flows
from vpnforensics.tunnels.find import find_tunnels

SAMPLE = Path(__file__).parents[2] / "samples" / "ssh-tun-gcm"


@pytest.mark.parametrize("server", ["", "192.0.2.99:22"])
def test_whose_handshake_was_not_captured_has_the_map_of_those_beside_it(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little to learn from, and of a variant of its own: but of one server, or of another."""
    conversations, flows = (
        assemble_flows(vf.read_capture(SAMPLE / f"{side}.pcap")) for side in ("ingress", "egress")
    )
    whole = find_tunnels(conversations)
    last = len(whole) - 1
    tunnels = list(whole.tunnels)
    assert [t.sure for t in tunnels] == [False] * len(tunnels)
    assert tunnels[last].variant == tunnels[0].variant != "lengths in clear"
    tunnels[last] = replace(tunnels[last], variant="lengths in clear", server=server or tunnels[last].server)
    found = replace(whole, tunnels=tuple(tunnels))
    learn = module.learn_length_map

    def of_others(records: Any, *more: Any, **options: Any) -> Any:
        return None if (records.tunnel == last).all() else learn(records, *more, **options)

    monkeypatch.setattr(module, "learn_length_map", of_others)
    settled = settle(found, flows, same_clock("of one recording"), np.random.default_rng(0))
    mapped = {t.client for t, m in zip(settled.tunnels.tunnels, settled.map_of_tunnel, strict=True) if m >= 0}
    assert tunnels[0].client in mapped
    assert (tunnels[last].client in mapped) is (not server)
