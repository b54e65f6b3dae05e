"""What the clients do: real programs, paced by a seeded generator.

Each activity is a function that runs programs in the client's namespace until its time is over. A client
runs several at once, each in its own thread, because concurrency is what makes attribution hard.
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SSH_ADDRESS, WEB_ADDRESSES
from vpnforensics.groundtruth.lab.processes import in_namespace
from vpnforensics.groundtruth.lab.services import Internet

_TYPED = (
    "ls -l /usr/lib | head -40",
    "uptime",
    "cat /etc/services | head -60",
    "echo hello world",
    "df",
    "id; date",
    "ps | head",
    "ls /etc",
)


@dataclass(frozen=True, slots=True)
class Host:
    """One client as its activities see it: where to run, what is out there, until when (monotonic seconds)."""

    namespace: str
    internet: Internet
    rng: random.Random
    until: float
    stop: threading.Event

    def left(self) -> float:
        """Seconds of traffic left."""
        return 0.0 if self.stop.is_set() else self.until - time.monotonic()

    def rest(self, mean_s: float) -> None:
        """Pause for an exponential time, but not beyond the end."""
        self.stop.wait(max(min(self.rng.expovariate(1 / mean_s), self.left()), 0.0))

    def run(self, argv: Sequence[str]) -> None:
        """Run a program to its end, or to the end of the traffic."""
        if self.left() <= 0:
            return
        with subprocess.Popen(
            in_namespace(self.namespace, argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            self.finish(process)

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        """Wait for a program, ending it when the time is over."""
        while process.poll() is None:
            if self.left() <= 0:
                process.kill()
            self.stop.wait(0.02) if self.left() > 0 else time.sleep(0.01)


def browse(host: Host) -> None:
    """Pages of several objects from several hosts, fetched in parallel, over HTTP/1.1, HTTPS or HTTP/2."""
    while host.left() > 0:
        site = host.rng.choice(host.internet.sites)
        objects = host.rng.sample(site.objects, min(len(site.objects), host.rng.randint(3, 14)))
        scheme = host.rng.choice(("http", "https", "https"))
        urls = [f"{scheme}://{host.rng.choice(site.hosts)}/{o}" for o in objects]
        version = ["--http1.1"] if host.rng.random() < 0.5 else []
        outputs = [part for url in urls for part in ("-o", "/dev/null", url)]
        host.run(
            ["curl", "-ksZ", "--parallel-immediate", "--parallel-max", "6", "-m", "20", *version, *outputs]
        )
        host.rest(2.0)


def download(host: Host) -> None:
    """Large files, one after the other."""
    while host.left() > 0:
        site = host.rng.choice(host.internet.sites)
        name = host.rng.choice(("bulk-2m", "bulk-6m", "bulk-6m", "bulk-16m"))
        host.run(
            ["curl", "-ks", "-m", "60", "-o", "/dev/null", f"https://{host.rng.choice(site.hosts)}/{name}"]
        )
        host.rest(3.0)


def upload(host: Host) -> None:
    """Bodies of a megabyte or so, posted to a web server."""
    while host.left() > 0:
        path = host.internet.ssh_config.parent / "www" / "bulk-2m"
        address = host.rng.choice(WEB_ADDRESSES)
        host.run(
            [
                "curl",
                "-ks",
                "-m",
                "30",
                "-o",
                "/dev/null",
                "--data-binary",
                f"@{path}",
                f"http://{address}/upload",
            ]
        )
        host.rest(4.0)


def ssh(host: Host) -> None:
    """Interactive sessions: keystrokes with human gaps, echoed by a terminal, and command output."""
    while host.left() > 3:
        argv = ["ssh", "-tt", "-F", str(host.internet.ssh_config), SSH_ADDRESS]
        with subprocess.Popen(
            in_namespace(host.namespace, argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        ) as process:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                host.rest(0.8)
                for command in host.rng.choices(_TYPED, k=host.rng.randint(2, 6)):
                    for key in command + "\n":
                        if host.left() <= 0 or process.poll() is not None:
                            break
                        process.stdin.write(key.encode())
                        host.rest(0.16)
                    host.rest(1.2)
                process.stdin.write(b"exit\n")
            host.finish(process)
        host.rest(2.0)


def dns(host: Host) -> None:
    """Lookups of names of varied length, single and in small bursts, and some that do not exist."""
    while host.left() > 0:
        for _ in range(host.rng.choice((1, 1, 2, 4))):
            name = host.rng.choice(host.internet.names)
            if host.rng.random() < 0.2:
                name = f"{host.rng.randrange(10 ** host.rng.randint(1, 12))}.{name}"
            kind = host.rng.choice(("A", "A", "AAAA", "MX", "TXT"))
            flags = host.rng.choice(([], ["+noedns"], ["+nocookie"]))
            host.run(["dig", f"@{DNS_ADDRESS}", "+tries=2", "+timeout=2", *flags, name, kind])
        host.rest(1.5)


def ping(host: Host) -> None:
    """Echo requests, a few at a time, of two sizes."""
    while host.left() > 0:
        size = host.rng.choice(("56", "56", "120"))
        host.run(
            [
                "ping",
                "-n",
                "-c",
                str(host.rng.randint(3, 8)),
                "-i",
                "0.5",
                "-s",
                size,
                host.rng.choice(WEB_ADDRESSES),
            ]
        )
        host.rest(5.0)


def idle(host: Host) -> None:
    """Almost nothing: a lookup and a small fetch once in a while."""
    while host.left() > 0:
        host.rest(9.0)
        site = host.rng.choice(host.internet.sites)
        host.run(
            [
                "curl",
                "-ks",
                "-m",
                "10",
                "-o",
                "/dev/null",
                f"https://{host.rng.choice(site.hosts)}/{host.rng.choice(site.objects)}",
            ]
        )


ACTIVITIES: dict[str, Callable[[Host], None]] = {
    "browse": browse,
    "download": download,
    "upload": upload,
    "ssh": ssh,
    "dns": dns,
    "ping": ping,
    "idle": idle,
}


def run_all(hosts: Sequence[tuple[Host, Sequence[str]]]) -> None:
    """Run every client's activities at once until all are over.

    An exception in the waiting thread (Ctrl-C) stops all programs before it goes on.
    """
    threads = []
    for host, activities in hosts:
        for activity in activities:
            own = Host(host.namespace, host.internet, random.Random(host.rng.random()), host.until, host.stop)
            threads.append(threading.Thread(target=ACTIVITIES[activity], args=(own,), daemon=True))
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        for host, _ in hosts:
            host.stop.set()
        for thread in threads:
            thread.join(3)
        raise
