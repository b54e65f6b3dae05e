"""One case by one process and by several; and what becomes of it when one is killed, or a disk is full."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.context import SpawnProcess

import numpy as np
import pytest

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.simulate import frames, simulate
from vpnforensics.groundtruth.simulate.background import own_traffic, visit
from vpnforensics.groundtruth.simulate.client import carry
from vpnforensics.groundtruth.simulate.mixes import mixed_case
from vpnforensics.groundtruth.simulate.nat import Nat, translate_rows
from vpnforensics.groundtruth.simulate.outlines import Talks
from vpnforensics.groundtruth.simulate.player import Player, filler_seed, generator, late, protocol_of
from vpnforensics.groundtruth.simulate.spec import Background, Capture, Server
from vpnforensics.groundtruth.simulate.surroundings import joined
from vpnforensics.groundtruth.simulate.taps import Clocks

from .cases import small


def everything():
    """Datagrams, streams, relays, visitors, late time stamps, ports that clash, snapped frames."""
    spec = mixed_case(
        4,
        12,
        duration_s=20.0,
        scale=0.15,
        server=Server(random_ports=True),
        background=Background(ingress=5, egress=4),
        ingress=Capture(snaplen=96, jitter_s=0.0001, linktype="sll2", resolution_ns=1000),
        egress=Capture(1.5, -20.0, loss=0.02, jitter_s=0.00002, cut_bytes=5),
    )
    relayed = small("socks").clients[0]
    protocols = ("wireguard", "openvpn-tcp", "strongswan-kernel", "openvpn-udp")
    clients = [replace(c, protocol=p) for c, p in zip(spec.clients, protocols, strict=True)]
    clients.append(replace(relayed, protocol="socks", devices=(replace(relayed.devices[0], name="relayed"),)))
    return replace(spec, clients=tuple(clients), hosts=20, inner=True)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_any_number_of_processes_writes_the_same_bytes(tmp_path):
    told = [simulate(everything(), tmp_path / str(jobs), 7, jobs=jobs) for jobs in (1, 2, 3)]
    one, two, three = (files(tmp_path / str(jobs)) for jobs in (1, 2, 3))
    assert len(one) == 4 + 4  # a relay's client has no tunnel device
    assert min(len(content) for content in one.values()) > 1000
    assert one == two == three
    assert told[0] == told[1] == told[2]


def test_a_case_is_what_its_parts_are_one_after_the_other_in_memory(make, tmp_path):
    spec, seed = replace(everything(), inner=False), 7
    case = make(spec, seed)
    player = Player(spec, seed, tmp_path, tmp_path)
    around, nat = player.around, Nat(spec.server.random_ports)
    sides = {"ingress": [], "egress": []}

    def record(run, random, *, ports=True):
        if ports:
            talks = Talks.of(run.talks)
            public = nat.translate(talks, run.inner_port, around.population.address, random)
            translate_rows(run.packets, public)
        for side in sides:
            late(getattr(run.packets, side), getattr(spec, side), random)
            sides[side].append(getattr(run.packets, side))

    for index, client in enumerate(spec.clients):
        random = generator(seed, 2, index)
        record(carry(client, index, protocol_of(client, spec), around, random), random)
    for number in range(spec.background.ingress):
        random = generator(seed, 4, number)
        record(visit(number, around, random).run, random, ports=False)
    for number in range(spec.background.egress):
        random = generator(seed, 5, number)
        record(own_traffic(number, around, random), random)
    all_of = {side: joined(parts) for side, parts in sides.items()}
    clock = Clocks(spec, int(all_of["ingress"].rows["ts_ns"].min()))
    for side, records in all_of.items():
        capture, path = getattr(spec, side), tmp_path / f"{side}.pcap"
        order = np.argsort(records.rows["ts_ns"], kind="stable")
        shown = clock.shown(records.rows["ts_ns"][order], capture)
        with path.open("wb") as file:
            frames.write_header(file, capture)
            frames.write_frames(file, records.rows, records.content, order, shown, capture, filler_seed(seed))
        whole = path.read_bytes()
        assert len(order) > 1000
        assert (case.folder / path.name).read_bytes() == whole[: len(whole) - capture.cut_bytes]


def test_a_process_that_is_killed_leaves_nothing_behind(tmp_path):
    def kill():
        while not (children := multiprocessing.active_children()):
            time.sleep(0.01)
        os.kill(children[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ScenarioError, match="ended from outside"):
        simulate(small(), tmp_path, 7, jobs=2)
    killer.join()
    assert list(tmp_path.iterdir()) == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("later_s", [0.0, 0.003, 0.02, 0.5])
def test_a_process_that_is_killed_while_the_next_begins_is_the_same_error(tmp_path, monkeypatch, later_s):
    begun, begin = [], SpawnProcess.start

    def start(process):
        if begun:
            os.kill(begun[0].pid, signal.SIGKILL)
            time.sleep(later_s)
        begin(process)
        begun.append(process)

    monkeypatch.setattr(SpawnProcess, "start", start)
    with pytest.raises(ScenarioError, match="ended from outside"):
        simulate(small(), tmp_path, 7, jobs=2)
    assert len(begun) == 2
    assert list(tmp_path.iterdir()) == []
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_file_that_cannot_be_written_is_one_error_and_leaves_nothing_behind(tmp_path, jobs):
    def bound():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    words = ["simulate", "--tunnels", "2", "--duration", "20", "--jobs", jobs, "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "vpnforensics", *words],
        preexec_fn=bound,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == f"vpnf: error: {tmp_path / 'out'}: File too large\n"
    assert list((tmp_path / "out").iterdir()) == []
