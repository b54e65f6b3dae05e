"""Scrubbed copies: one field of what travels up, and the echo of what travels down."""

from __future__ import annotations

import numpy as np

from vpnforensics.audit.copies import scrubbing
from vpnforensics.audit.copies.belonging import Belonging
from vpnforensics.audit.copies.change import Change
from vpnforensics.packets.table import PacketTable


def _changed(known: Belonging, scrub: scrubbing.Scrub) -> tuple[set[str], PacketTable]:
    copy = Change(scrubs=(scrub,)).apply(known, 0)
    names = {
        spec.name
        for was, now in ((known.ingress, copy.ingress), (known.egress, copy.egress))
        for spec, column in was.columns()
        if (column != getattr(now, spec.name)).any()
    }
    return names, copy.egress


def test_timestamps_get_a_line_of_their_own(known: Belonging) -> None:
    names, egress = _changed(known, scrubbing.timestamps)
    assert names == {"tsval", "tsecr"}
    flows = known.case.flows
    for flow in range(len(flows)):
        rows = np.flatnonzero((flows.flow == flow) & flows.up & (egress.has_ts == 1))
        if len(rows) < 20:
            continue
        was = known.egress.tsval[rows].astype(np.int64)
        now = egress.tsval[rows].astype(np.int64)
        elapsed = (now - now[0]) % 2**32
        assert (np.abs(elapsed - (was - was[0])) <= (was - was[0]) * 1e-3 + 1).all()
        # What comes back names a value that was sent.
        back = np.flatnonzero(
            (flows.flow == flow) & ~flows.up & (egress.has_ts == 1) & (egress.tcp_flags & 0x10 > 0)
        )
        before = np.isin(known.egress.tsecr[back], known.egress.tsval[rows])
        assert np.isin(egress.tsecr[back[before]], egress.tsval[rows]).all()
        break
    else:
        raise AssertionError("no flow with timestamps")


def test_ip_ids_become_random(known: Belonging) -> None:
    names, egress = _changed(known, scrubbing.ip_ids)
    assert names == {"ip_id"}
    up = known.case.flows.up
    assert (egress.ip_id[~up] == known.egress.ip_id[~up]).all()
    assert len(np.unique(egress.ip_id[up])) > 0.5 * up.sum()


def test_one_ttl(known: Belonging) -> None:
    names, egress = _changed(known, scrubbing.ttl(61))
    assert names == {"ttl"}
    assert (egress.ttl[known.case.flows.up] == 61).all()
