"""Pings that go on for longer than a session lives, between every pair of implementations."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from typing import Self

from .netlab import CLIENT_INNER, SERVER_INNER, NetLab, two_configs, without_address

PINGS, INTERVAL_S = 700, 0.19  # 133 s

PAIRS = ("our client, their server", "their client, our server", "our client, our server")


class Pings:
    """A series of pings, of which every one that was lost is known by its number.

    ping by itself stops listening soon after its last request, so that on a busy machine the last answer
    comes too late to count. With a deadline it goes on until as many *answers* came as were asked for: one
    that is late is waited for; one that is lost is made up for by a further one, but its number has no line.
    """

    def __init__(self, lab: NetLab, name: str, address: str, count: int, interval_s: float) -> None:
        self.count = count
        self._deadline_s = count * interval_s + 40
        self._path = lab.folder / f"{lab.interface(name)}.pings"
        options = ("-n", "-c", str(count), "-i", str(interval_s), "-w", str(int(self._deadline_s)))
        with self._path.open("wb") as out:
            self._process = lab.start(name, "ping", *options, address, stdout=out, stderr=subprocess.DEVNULL)

    def lost(self) -> list[int]:
        """Numbers, from 1, of the pings that had no answer, when all are done."""
        self._process.wait(self._deadline_s + 30)
        answered = {int(number) for number in re.findall(r" icmp_seq=(\d+) ttl=", self._path.read_text())}
        return sorted(set(range(1, self.count + 1)) - answered)


class LongTalk:
    """Three pairs of tunnels and a ping through each, running in the background."""

    def __init__(self, folder: Path) -> None:
        self.lab = NetLab(folder)
        self.pings: dict[str, Pings] = {}
        self.started_ns = 0

    def __enter__(self) -> Self:
        lab = self.lab.__enter__()
        self.started_ns = time.time_ns()
        try:
            for number, pair in enumerate(PAIRS):
                client, server = f"c{number}", f"s{number}"
                lab.add(client, server)
                lab.link(client, server, ["192.0.2.2/24"], ["192.0.2.1/24"])
                self._start_pair(pair, client, server)
                self.pings[pair] = Pings(lab, client, "10.77.0.1", PINGS, INTERVAL_S)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start_pair(self, pair: str, client: str, server: str) -> None:
        client_text, server_text, _, _ = two_configs()
        if "our server" in pair:
            self.lab.ours(server, server_text)
        else:
            self.lab.theirs(server, without_address(server_text), SERVER_INNER)
        if "our client" in pair:
            self.lab.ours(client, client_text)
        else:
            self.lab.theirs(client, without_address(client_text), CLIENT_INNER)

    def __exit__(self, *_: object) -> None:
        self.lab.__exit__()
