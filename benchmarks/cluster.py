"""A case on the workers of a Dask cluster: one worker beside two, who waits, and what goes over the wire.

The case of scale.py, tiled (see tiling.py), is correlated by the same command line in a process of its own,
with a scheduler and one-threaded workers in others, all on this machine; each first on the case that is not
tiled, so that machine code is there. Then a case of ten thousand million packets is reckoned on paper, from
what a packet costs the process that asks, and the workers.

``--workers`` beyond the machine's cores say nothing: who asks, and the scheduler, want one, too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from correlating import simulate
from distributed import Client, LocalCluster, get_task_stream
from figures import figure, heading
from scale import DRIFT, PERIOD_NS
from tiling import tile

PACKETS, WORKERS = 1e10, 100


class Ran(NamedTuple):
    """A case correlated in a process of its own."""

    packets: int
    wall_s: float
    steps: dict[str, float]
    """Processor's seconds of the process that asks, by step."""
    result: str
    """Digest of its JSON."""
    tasks: dict[str, float]
    """Seconds by the clock that the workers were busy, by function."""
    workers_s: float
    """Processor's seconds of the workers, Dask's part of them included."""
    count: int
    """Tasks."""
    scheduler_s: float
    """Processor's seconds of the scheduler."""
    wire_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="folder for the captures, reused if they are there")
    parser.add_argument("--copies", type=int, default=4, help="of 2.6 M packets")
    parser.add_argument("--workers", type=int, default=2, help="beside one")
    parser.add_argument("--run", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        run(*options.run)
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch)
        one, many = root / "one", root / f"tiled-{options.copies}"
        if not (one / "egress.pcap").exists():
            simulate(one, 500, 300.0, 0.045, 1)
        if not (many / "egress.pcap").exists():
            many.mkdir(parents=True)
            tile(one / "ingress.pcap", many / "ingress.pcap", options.copies, PERIOD_NS)
            tile(one / "egress.pcap", many / "egress.pcap", options.copies, PERIOD_NS * (1 + DRIFT))
        alone, single, several = (on_workers(n, one, many) for n in (0, 1, options.workers))
        data = sum((many / f"{side}.pcap").stat().st_size for side in ("ingress", "egress"))
        report(alone, single, several, options.workers, data)
        on_paper(single)


def report(alone: Ran, single: Ran, several: Ran, workers: int, data: int) -> None:
    """One worker beside several."""
    heading(f"on workers: {single.packets:,} packets, engine packets; seconds by the clock")
    figure("in memory, in threads, without a cluster", f"{alone.wall_s:.1f}")
    figure("one worker", f"{single.wall_s:.1f}")
    figure(f"{workers} workers", f"{several.wall_s:.1f}")
    ratio = single.wall_s / several.wall_s
    least = 0.85 * workers
    figure("one worker / several", f"{ratio:.2f}", f">= {least:.1f}", ratio >= least)
    busy = sum(several.tasks.values()) / (workers * several.wall_s)
    figure("share of the time that workers have a task", f"{busy:.1%}", ">= 90 %", busy >= 0.9)
    busy = sum(single.tasks.values()) / single.wall_s
    figure("  of one worker's time", f"{busy:.1%}")
    sent = several.wire_bytes / data
    figure("bytes between processes / of the captures", f"{sent:.2%}", "<= 1 %", sent <= 0.01)
    each = 1e3 * several.scheduler_s / several.count
    figure("tasks, and the scheduler's milliseconds a task", f"{several.count:,}, {each:.1f}")
    same = alone.result == single.result == several.result
    figure("the same result", "yes" if same else "no", "yes", same)


def on_paper(single: Ran) -> None:
    """What each step would take of a case of PACKETS on WORKERS, if all went on as it begins."""
    heading(f"processor's ns a packet; on paper, {PACKETS:.0e} packets on {WORKERS} workers, in minutes")
    minutes = PACKETS / single.packets / 60
    total = 0.0
    by_clock = sum(single.tasks.values())
    tasks = {what: single.workers_s * seconds / by_clock for what, seconds in single.tasks.items()}
    for where, costs, at_once in (("asking", single.steps, 1), ("workers", tasks, WORKERS)):
        for what, seconds in costs.items():
            took = seconds * minutes / at_once
            total += took
            figure(f"{where}: {what}", f"{1e9 * seconds / single.packets:8,.0f} {took:8,.0f}")
    figure("all", f"{total:17,.0f}")
    serial = sum(single.steps.values()) * minutes
    figure("of it in the one process that asks", f"{serial / total:.0%}")


def on_workers(workers: int, one: Path, many: Path) -> Ran:
    """Correlate on so many workers; on none, without a cluster."""
    with ExitStack() as stack:
        if not workers:
            asked("", one)
            return asked("", many)
        here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "memory_limit": 0}
        cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, **here))
        client = stack.enter_context(Client(cluster))
        asked(cluster.scheduler_address, one)
        count_bytes()
        client.run(count_bytes)
        before, cpu_s, workers_s = wire(client), time.process_time(), processors_seconds(client)
        stream = stack.enter_context(get_task_stream(client))
        ran = asked(cluster.scheduler_address, many)
        cpu_s, wire_bytes = time.process_time() - cpu_s, wire(client) - before
        workers_s = processors_seconds(client) - workers_s
        time.sleep(1.0)  # the stream comes behind
        stack.pop_all().close()
        tasks: Counter[str] = Counter()
        for task in stream.data:
            for each in task["startstops"]:
                if each["action"] == "compute":
                    tasks[str(task["key"]).partition("-")[0]] += each["stop"] - each["start"]
        return ran._replace(
            tasks=dict(tasks.most_common()),
            workers_s=workers_s,
            count=len(stream.data),
            scheduler_s=cpu_s,
            wire_bytes=ran.wire_bytes + wire_bytes,
        )


def asked(address: str, folder: Path) -> Ran:
    """A case, correlated by a process of its own."""
    words = [sys.executable, __file__, "--run", str(folder), address]
    told = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Ran(**json.loads(told), tasks={}, workers_s=0.0, count=0, scheduler_s=0.0)


def run(folder: str, address: str) -> None:
    """Correlate, and say what it took."""
    import vpnforensics as vf

    sides = Path(folder) / "ingress.pcap", Path(folder) / "egress.pcap"
    steps: dict[str, float] = {}
    last, began = "", time.process_time()

    def tell(step: str, share: float) -> None:
        nonlocal last, began
        now = time.process_time()
        if last:
            steps[last] = steps.get(last, 0.0) + now - began
        last, began = step, now

    options: dict[str, Any] = {"engines": "packets", "progress": tell}
    with ExitStack() as stack:
        count_bytes()
        if address:
            options |= {"client": stack.enter_context(Client(address)), "scratch": Path(folder).parent}
        begin = time.perf_counter()
        case = vf.correlate(*sides, **options)
        tell("writing the result", 0.0)
        digest = sha256()
        for piece in case.json_pieces():
            if not piece.startswith(' "tool"'):  # which has the date
                digest.update(piece.encode())
        tell("", 0.0)
        wall_s = time.perf_counter() - begin
    packets = sum(side["packets"] for side in case.inputs)
    found = {"packets": packets, "wall_s": wall_s, "steps": steps, "wire_bytes": written()}
    print(json.dumps(found | {"result": digest.hexdigest()}))


def count_bytes() -> None:
    """Have this process count what it writes to others of the cluster."""
    from distributed.comm.tcp import TCP

    plain = TCP.write
    TCP.written_bytes = 0

    async def write(self: TCP, *message: Any, **how: Any) -> int:
        size: int = await plain(self, *message, **how)
        TCP.written_bytes += size
        return size

    TCP.write = write


def written() -> int:
    from distributed.comm.tcp import TCP

    return int(TCP.written_bytes)


def wire(client: Client) -> int:
    """Bytes written by the scheduler and the workers."""
    return written() + sum(client.run(written).values())


def processors_seconds(client: Client) -> float:
    """Of all workers so far."""
    return float(sum(client.run(time.process_time).values()))


if __name__ == "__main__":
    main()
