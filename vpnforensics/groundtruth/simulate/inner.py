"""Inner packets at the client's tunnel device, as a capture there shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vpnforensics.groundtruth.simulate import frames
from vpnforensics.groundtruth.simulate.egress import Written, packet_records
from vpnforensics.groundtruth.simulate.network import Ints, Traffic
from vpnforensics.groundtruth.simulate.network import columns as k
from vpnforensics.groundtruth.simulate.outer import Protocol
from vpnforensics.groundtruth.simulate.scripts import Scripts
from vpnforensics.groundtruth.simulate.spec import Capture, Client
from vpnforensics.groundtruth.simulate.surroundings import DOWN, InnerRun, Packets, Surroundings


def tun_records(
    client: Client,
    scripts: Scripts,
    traffic: Traffic,
    written: Written,
    addresses: Ints,
    ports: Ints,
    protocol: Protocol,
    around: Surroundings,
) -> InnerRun:
    """Every inner packet that came to the device, on true time.

    Parameters
    ----------
    addresses : ndarray of int64
        Inner address of each of the client's devices.
    ports : ndarray of int64, shape (flows,)
        Source ports.
    """
    times = traffic.column(k.TUN_NS)
    keep = np.flatnonzero((times >= 0) & (times < around.end_ns))
    near = addresses[scripts.device]
    # A tunnel that rewrites the MSS does so behind the device.
    mss = protocol.mtu - 40 - around.spec.ip.inner_header_bytes
    records = packet_records(client, scripts, traffic, written, keep, times, near, ports, mss, around)
    rows = records.rows
    down = traffic.column(k.SIDE)[keep] == DOWN
    rows["ttl"] -= down
    rows["mss"] = np.where(down & (rows["mss"] > 0), protocol.inner_mss(around.spec.ip), rows["mss"])
    return InnerRun(records, traffic.column(k.FLOW)[keep], keep, traffic.column(k.OUT_NS)[keep])


def write_inner(path: Path, run: Packets, public: Ints, around: Surroundings, filler_seed: int) -> None:
    """Write a client's inner capture: whole packets without a link layer, payloads as at egress.

    Parameters
    ----------
    public : ndarray of int64, shape (flows,)
        The NATed port of each flow.
    filler_seed : int
        Of the egress capture's payload.
    """
    assert run.inner is not None
    rows = run.inner.records.rows
    outside = rows.copy()
    down = rows["outgoing"] == 0
    outside["src"] = np.where(down, rows["src"], around.egress_address)
    port = public[run.inner.flow]
    outside["sport"] = np.where(down, rows["sport"], port)
    outside["dport"] = np.where(down, port, rows["dport"])
    stamped = np.full(int(max(run.egress_packet.max(initial=-1), run.inner.packet.max(initial=-1))) + 1, -1)
    stamped[run.egress_packet] = run.egress.rows["ts_ns"]
    outside["ts_ns"] = np.where(stamped[run.inner.packet] >= 0, stamped[run.inner.packet], run.inner.out_ns)
    rows["filler"] = frames.usual_filler(outside) + 1
    order = np.argsort(rows["ts_ns"], kind="stable")
    shown = around.spec.epoch_s * 1_000_000_000 + rows["ts_ns"][order]
    capture = Capture(linktype="raw")
    with path.open("wb") as file:
        frames.write_header(file, capture)
        frames.write_frames(file, rows, run.inner.records.content, order, shown, capture, filler_seed)
