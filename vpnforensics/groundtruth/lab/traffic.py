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
from dataclasses import dataclass, replace

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.network import DNS_ADDRESS, SSH_ADDRESS
from vpnforensics.groundtruth.lab.processes import in_namespace
from vpnforensics.groundtruth.lab.services import CALL_PORT, POLL_PORT, Internet
from vpnforensics.groundtruth.places import DOWNLOADS_BYTES

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
    """One machine as its activities see it.

    Parameters
    ----------
    namespace : str
        Where its programs run.
    number : int
        From 0, unique; picks its call server.
    internet : Internet
        What is out there.
    rng : Random
        Decides what it does.
    until : float
        End of the traffic, monotonic seconds.
    stop : Event
        Set to end at once.
    start_s : float
        Wait before the first program.
    proxy : str or None
        Proxy of a relay, as a URL.
    cookies : bool
        Whether each fetch carries a cookie of its own, as browsers' fetches do.
    """

    namespace: str
    number: int
    internet: Internet
    rng: random.Random
    until: float
    stop: threading.Event
    start_s: float = 0.0
    proxy: str | None = None
    cookies: bool = False

    def left(self) -> float:
        """Seconds of traffic left."""
        return 0.0 if self.stop.is_set() else self.until - time.monotonic()

    def rest(self, mean_s: float) -> None:
        """Pause for an exponential time, but not beyond the end."""
        self.pause(self.rng.expovariate(1 / mean_s))

    def pause(self, seconds: float) -> None:
        """Pause, but not beyond the end."""
        self.stop.wait(max(min(seconds, self.left()), 0.0))

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
                process.wait()
            self.stop.wait(0.02)

    def curl(self, *argv: str) -> None:
        """Fetch, through the proxy if there is one."""
        proxy = ["--proxy", self.proxy] if self.proxy else []
        cookie = ["-b", f"id={self.rng.getrandbits(64):016x}"] if self.cookies else []
        self.run(["curl", "-ks", *proxy, *cookie, *argv])


def browse(host: Host) -> None:
    """Pages of several objects from several hosts, fetched in parallel, over HTTP/1.1, HTTPS or HTTP/2."""
    while host.left() > 0:
        site = host.rng.choice(host.internet.sites)
        objects = host.rng.sample(site.objects, min(len(site.objects), host.rng.randint(3, 14)))
        scheme = host.rng.choice(("http", "https", "https"))
        urls = [f"{scheme}://{host.rng.choice(site.hosts)}/o{o}" for o in objects]
        version = ["--http1.1"] if host.rng.random() < 0.5 else []
        outputs = [part for url in urls for part in ("-o", "/dev/null", url)]
        host.curl("-Z", "--parallel-immediate", "--parallel-max", "6", "-m", "20", *version, *outputs)
        host.rest(2.0)


def download(host: Host) -> None:
    """Large files, one after the other."""
    while host.left() > 0:
        site = host.rng.choice(host.internet.sites)
        name = f"bulk-{host.rng.choice(DOWNLOADS_BYTES) >> 20}m"
        host.curl("-m", "60", "-o", "/dev/null", f"https://{host.rng.choice(site.hosts)}/{name}")
        host.rest(3.0)


def upload(host: Host) -> None:
    """Bodies of two megabytes, posted to a web server."""
    path = host.internet.ssh_config.parent / "www" / "bulk-2m"
    while host.left() > 0:
        address = host.rng.choice(host.internet.web)
        host.curl("-m", "30", "-o", "/dev/null", "--data-binary", f"@{path}", f"http://{address}/upload")
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
        size, count = host.rng.choice(("56", "56", "120")), str(host.rng.randint(3, 8))
        host.run(["ping", "-n", "-c", count, "-i", "0.5", "-s", size, host.rng.choice(host.internet.web)])
        host.rest(5.0)


def voip(host: Host) -> None:
    """Calls: 160-byte datagrams at 64 kbit/s each way, some seconds long."""
    while host.left() > 2:
        seconds = str(max(1, min(host.rng.randint(5, 20), int(host.left()) - 1)))
        call = ["iperf3", "-c", host.internet.web[0], "-p", str(CALL_PORT + host.number), "-t", seconds]
        host.run([*call, "-u", "-b", "64k", "-l", "160", "--bidir"])
        host.rest(4.0)


def longpoll(host: Host) -> None:
    """Requests that the server answers after 2 to 20 seconds."""
    while host.left() > 0:
        url = f"http://{host.internet.web[0]}:{POLL_PORT}/poll"
        outputs = [part for _ in range(4) for part in ("-o", "/dev/null", url)]
        host.curl("-m", "90", *outputs)
        host.rest(0.5)


def idle(host: Host) -> None:
    """Almost nothing: a small fetch once in a while."""
    while host.left() > 0:
        host.rest(9.0)
        site = host.rng.choice(host.internet.sites)
        url = f"https://{host.rng.choice(site.hosts)}/o{host.rng.choice(site.objects)}"
        host.curl("-m", "10", "-o", "/dev/null", url)


ACTIVITIES: dict[str, Callable[[Host], None]] = {
    f.__name__: f for f in (browse, download, upload, ssh, dns, ping, voip, longpoll, idle)
}
THROUGH_PROXY = ("browse", "download", "upload", "longpoll", "idle")
"""Activities whose programs speak SOCKS."""


def _act(activity: str, host: Host) -> None:
    host.pause(host.start_s)
    ACTIVITIES[activity](host)


def run_all(hosts: Sequence[tuple[Host, Sequence[str]]]) -> None:
    """Run every client's activities at once until all are over.

    An exception in the waiting thread (Ctrl-C) stops all programs before it goes on.
    """
    threads = []
    failures: list[BaseException] = []

    def guarded(activity: str, host: Host) -> None:
        try:
            _act(activity, host)
        except Exception as error:  # the waiting thread raises it again
            failures.append(error)
            host.stop.set()

    for host, activities in hosts:
        for activity in activities:
            own = replace(host, rng=random.Random(host.rng.random()))
            threads.append(threading.Thread(target=guarded, args=(activity, own), daemon=True))
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
    if failures:
        raise ScenarioError(f"the traffic stopped: {failures[0]}") from failures[0]
