"""Pings that go on for longer than a session lives, between every pair of implementations."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Self

from .netlab import CLIENT_INNER, SERVER_INNER, NetLab, two_configs, without_address

PINGS, INTERVAL_S = 700, 0.19  # 133 s

PAIRS = ("our client, their server", "their client, our server", "our client, our server")


class LongTalk:
    """Three pairs of tunnels and a ping through each, running in the background."""

    def __init__(self, folder: Path) -> None:
        self.lab = NetLab(folder)
        self.pings: dict[str, subprocess.Popen[bytes]] = {}
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
                self.pings[pair] = lab.start(
                    client,
                    *("ping", "-n", "-q", "-c", str(PINGS), "-i", str(INTERVAL_S), "-W", "5", "10.77.0.1"),
                    stdout=subprocess.PIPE,
                )
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

    def received(self, pair: str) -> int:
        """How many pings were answered, when all are done."""
        out, _ = self.pings[pair].communicate(timeout=PINGS * INTERVAL_S + 30)
        (line,) = [line for line in out.decode().splitlines() if " received" in line]
        return int(line.split(",")[1].split()[0])

    def __exit__(self, *_: object) -> None:
        for process in self.pings.values():
            if process.stdout is not None:
                process.stdout.close()
        self.lab.__exit__()
