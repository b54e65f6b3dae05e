"""Seeded, rootless captures of both sides of a VPN server, with truth.

:func:`simulate` takes a :class:`SimulationSpec` and writes ``ingress.pcap``, ``egress.pcap``, ``truth.json``
and ``manifest.json``. The same specification and seed give the same bytes.
"""

from __future__ import annotations

from vpnforensics.groundtruth.simulate.run import simulate
from vpnforensics.groundtruth.simulate.spec import SimulationSpec
from vpnforensics.groundtruth.simulate.truth import Truth

__all__ = ["SimulationSpec", "Truth", "simulate"]
