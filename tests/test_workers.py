"""A case on the workers of a cluster: the same result, whatever the parts and whoever is lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from importlib.util import find_spec
from math import isclose

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import vpnforensics as vf
from tests.small_case import write_case
from vpnforensics import samples, scratch, workers
from vpnforensics.cli.main import main
from vpnforensics.engines import containment
from vpnforensics.errors import WorkersError
from vpnforensics.evidence.joint import graph, rounds

ADDRESS = "tcp://127.0.0.1:9"
needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="needs the extra scale")


@pytest.fixture(scope="module")
def distributed():
    return pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client(distributed):
    """Of two workers that are threads of this process."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def small(monkeypatch):
    """Any array is large, and a few flows are worth a task."""
    monkeypatch.setattr(scratch, "_LEAST_BYTES", 1)
    monkeypatch.setattr(containment, "_LEAST_PIECE", 4)
    monkeypatch.setattr(graph, "_PACKETS", 50)
    monkeypatch.setattr(rounds, "_LINKS", 50)


@pytest.fixture(scope="module")
def folder_of_case(tmp_path_factory):
    return write_case(tmp_path_factory.mktemp("case"))


def told(case: vf.CaseResult) -> dict[str, object]:
    return {key: value for key, value in case.to_dict().items() if key != "tool"}


def alike(one: object, other: object) -> bool:
    """The same, but for the last digits of floating-point numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return one == other


@needs_dask
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["wireguard", "openvpn-tcp", "two-clocks", "reftunnel-padded", "shadowsocks"]),
    piece=st.integers(10, 60),
    most=st.integers(2, 16),
)
def test_any_parts_give_the_same_case(client, tmp_path, name, piece, most):
    sample = samples.load(name)
    wanted = told(vf.correlate(sample.ingress, sample.egress))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scratch, "_LEAST_BYTES", 1)
        patch.setattr(scratch, "_MOST_PARTS", most)
        patch.setattr(containment, "_LEAST_PIECE", piece)
        patch.setattr(graph, "_PACKETS", 4 * piece)
        patch.setattr(rounds, "_LINKS", 4 * piece)
        found = told(vf.correlate(sample.ingress, sample.egress, client=client, scratch=tmp_path))
    assert alike(found, wanted)
    assert found["links"] == wanted["links"]
    assert not any(tmp_path.iterdir())


def test_packets_in_memory_are_put_where_workers_see_them(client, small, tmp_path):
    sample = samples.load("wireguard")
    sides = vf.read_capture(sample.ingress), vf.read_capture(sample.egress)
    with pytest.MonkeyPatch.context() as patch:
        asked = []
        patch.setattr(
            client, "map", lambda *a, **k: asked.append(k["key"]) or type(client).map(client, *a, **k)
        )
        found = told(vf.correlate(*sides, client=client, scratch=tmp_path))
    assert found == told(vf.correlate(*sides))
    assert {key.partition("-")[0] for key in asked} >= {
        "candidates",
        "scores",
        "edges_of",
        "part",
        "one_round",
        "worst_errors",
    }
    assert sides[0].head.any()


@pytest.fixture
def processes(distributed):
    """Of two workers that are processes; one that is lost has a successor."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def test_a_worker_killed_in_the_middle_changes_nothing(processes, small, tmp_path, monkeypatch):
    sample = samples.load("openvpn-udp")
    wanted = told(vf.correlate(sample.ingress, sample.egress))
    first, *_ = processes.run(os.getpid).values()
    killed = []

    def mapped(*arguments: object, **named: object) -> object:
        futures = type(processes).map(processes, *arguments, **named)
        if not killed and len(futures) > 2:
            os.kill(first, signal.SIGKILL)
            killed.append(futures[0].key)
        return futures

    monkeypatch.setattr(processes, "map", mapped)
    assert told(vf.correlate(sample.ingress, sample.egress, client=processes, scratch=tmp_path)) == wanted
    assert killed
    assert not any(tmp_path.iterdir())


def test_a_part_that_costs_one_worker_after_the_other_is_one_error(processes, tmp_path):
    with (
        workers.Workers(processes, tmp_path) as place,
        pytest.raises(WorkersError, match="lost one after the other over the same part"),
    ):
        list(place.each(ended, [0, 1], "x"))


def ended(part: int, what: str) -> None:
    os._exit(3)


def test_the_command_asks_workers_and_says_the_same(processes, small, folder_of_case, tmp_path, capsys):
    sides = [str(folder_of_case / "ingress.pcap"), str(folder_of_case / "egress.pcap")]
    written = []
    for name, options in (("a", []), ("b", ["--scheduler", processes.scheduler.address, "-v"])):
        out = tmp_path / name
        assert main(["correlate", *sides, *options, "-f", "json", "-o", str(out)]) == 0
        case = json.loads(out.read_text())
        del case["tool"]["argv"]
        written.append(json.dumps(case))
    assert written[0] == written[1]
    assert "shows what the workers do" in capsys.readouterr().err


def test_progress_of_parts_that_take_long(client, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.05)
    said = []
    with workers.Workers(client, tmp_path, lambda step, share: said.append((step, share))) as place:
        place.tell("waiting", 0.0)
        assert list(place.each(slept, [0.0, 0.5, 0.5, 0.1], "x")) == ["0.0x", "0.5x", "0.5x", "0.1x"]
    assert {step for step, _ in said} == {"waiting"}
    assert any(0 < share < 1 for _, share in said)


def slept(part: float, what: str) -> str:
    time.sleep(part)
    return f"{part}{what}"


def broken(part: int, how: str) -> None:
    if how == "full":
        raise OSError(28, "scratch files cannot be written: No space left on device", "/there")
    raise ZeroDivisionError(how)


def test_a_fault_of_a_part_is_that_of_the_case(client, tmp_path):
    with workers.Workers(client, tmp_path) as place:
        with pytest.raises(ZeroDivisionError, match="really"):
            list(place.each(broken, [1, 2], "really"))
        with pytest.raises(OSError, match="No space left") as caught:
            list(place.each(broken, [1, 2], "full"))
        assert caught.value.filename == "/there"


def test_a_file_that_has_gone_is_one_error(client, small, tmp_path):
    with workers.Workers(client, tmp_path) as place:
        array = place.full(1000, 1, "i8")
        for file in place.path.iterdir():
            file.unlink()
        with pytest.raises(WorkersError, match="has gone, which is still needed"):
            list(place.each(slept, [1, 2], array))


def test_who_does_not_see_the_folder_or_is_of_another_version(client, tmp_path, monkeypatch):
    version, told_by_one = vf.__version__, workers._introduced
    monkeypatch.setattr(workers, "_introduced", lambda folder: ("0.0.1", True, socket.gethostname()))
    with pytest.raises(WorkersError, match=r"has vpnforensics 0\.0\.1, not .* results might differ"):
        vf.correlate("in.pcap", "out.pcap", client=client, scratch=tmp_path)
    told = told_by_one(str(tmp_path)), told_by_one(str(tmp_path / "none"))
    assert told == ((version, True, socket.gethostname()), (version, False, socket.gethostname()))
    monkeypatch.setattr(workers, "_introduced", lambda folder: (version, False, "there"))
    with pytest.raises(WorkersError, match=r"does not see .* the same on all machines"):
        workers.Workers(client, tmp_path)
    assert not any(tmp_path.iterdir())
    # What is written reaches workers on another machine before they are asked.
    monkeypatch.setattr(workers, "_introduced", lambda folder: (version, True, "there"))
    flushed = []
    monkeypatch.setattr(workers.Workers, "flush", lambda self: flushed.append(self))
    with workers.Workers(client, tmp_path) as place:
        list(place.each(slept, [0, 0], ""))
        assert flushed == [place]


def test_no_worker_there(distributed, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "_PATIENCE_S", 0.3)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        distributed.Client(cluster) as client,
        pytest.raises(WorkersError, match="has no workers, or they do not answer"),
    ):
        workers.Workers(client, tmp_path)


@pytest.mark.parametrize(
    ("lost", "said"),
    [("scheduler", "connection to the scheduler was lost"), ("workers", "none came back within 1 s")],
)
def test_who_is_lost_for_good_ends_the_case_soon(distributed, tmp_path, monkeypatch, lost, said):
    with distributed.LocalCluster(
        n_workers=1, protocol="tcp", processes=False, dashboard_address="127.0.0.1:0"
    ) as cluster:

        def lose() -> None:
            cluster.sync(cluster.scheduler.close if lost == "scheduler" else cluster.workers[0].close)

        with workers.workers_at(cluster.scheduler_address, tmp_path) as place:
            monkeypatch.setattr(workers, "_RETURN_S", 1.0)
            timer = threading.Timer(0.5, lose)
            timer.start()
            begin = time.monotonic()
            with pytest.raises(WorkersError, match=said):
                list(place.each(slept, [3.0, 3.0], ""))
            assert time.monotonic() - begin < 60
            timer.join()
    assert not any(tmp_path.iterdir())


@needs_dask
def test_nobody_answers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers, "_PATIENCE_S", 0.5)
    sample = samples.load("wireguard")
    sides = [str(sample.ingress), str(sample.egress)]
    out = tmp_path / "case.json"
    for address in (ADDRESS, "tcp://nowhere.invalid:1", "carrier-pigeon://loft"):
        assert main(["correlate", *sides, "--scheduler", address, "-f", "json", "-o", str(out)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1, lines
        assert f"no Dask scheduler answers at {address}" in lines[0]
    assert not any(tmp_path.iterdir())


def test_without_the_extra_its_packages_are_named(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    sample = samples.load("wireguard")
    assert main(["correlate", str(sample.ingress), "--scheduler", ADDRESS]) == 2
    assert "this needs distributed, which is not installed" in capsys.readouterr().err
