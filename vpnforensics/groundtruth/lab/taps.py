"""Recording: one tcpdump a capture point, nanosecond stamps, and a count of what it missed."""

from __future__ import annotations

import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.processes import Processes

_RING_KIB = "65536"
"""The kernel clears it before the capture begins: 0.1 s for this much. Some 45,000 full packets."""
_COUNTS = re.compile(r"(\d+) packets? (captured|received by filter|dropped by kernel)")


@dataclass(frozen=True, slots=True)
class TapCount:
    """What tcpdump said at its end."""

    captured: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Tap:
    """A running capture of one interface."""

    name: str
    path: Path
    process: subprocess.Popen[bytes]
    processes: Processes

    @classmethod
    def open(cls, processes: Processes, name: str, namespace: str, dev: str, path: Path) -> Tap:
        """Start tcpdump; :meth:`wait` says when it listens.

        Interfaces that carry bare IP packets (tun) give link type RAW.
        """
        process = processes.start(
            f"tap-{name}",
            namespace,
            [
                "tcpdump",
                "-i",
                dev,
                "-n",
                "-p",
                "-U",
                "-B",
                _RING_KIB,
                "-s",
                "262144",
                "-Z",
                "root",
                "--time-stamp-precision=nano",
                "-w",
                path,
            ],
        )
        return cls(name, path, process, processes)

    def wait(self) -> None:
        """Wait until it listens."""
        name = f"tap-{self.name}"
        self.processes.wait_for(name, lambda: "listening on" in self.processes.last_words(name))

    def close(self) -> TapCount:
        """End the capture.

        Raises
        ------
        ScenarioError
            The kernel dropped packets: the recording is not the whole truth.
        """
        self.processes.stop(self.process, with_signal=signal.SIGINT)
        counts = {what: int(n) for n, what in _COUNTS.findall(self.processes.last_words(f"tap-{self.name}"))}
        if "dropped by kernel" not in counts:
            said = self.processes.last_words(f"tap-{self.name}")
            raise ScenarioError(f"capture {self.name} ended without its counts: {said}")
        if counts["dropped by kernel"]:
            lost = counts["dropped by kernel"]
            raise ScenarioError(f"capture {self.name} dropped {lost} packets; the machine is too busy")
        return TapCount(counts.get("captured", 0), 0)
