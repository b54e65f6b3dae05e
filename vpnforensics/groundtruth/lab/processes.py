"""Programs of a run: started in a namespace, bounded in time, ended by the handle that started them.

Each program is started through ``setpriv --pdeathsig KILL``, so that it dies with the thread that
started it even if the runner is killed with SIGKILL; ``clean`` catches what escapes that.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vpnforensics.errors import ScenarioError
from vpnforensics.groundtruth.lab.state import RunState, process_start

UML_AGENT = Path(__file__).with_name("uml_agent.py")
UML_PORT = 5555


def in_namespace(namespace: str, argv: Sequence[str | Path]) -> list[str]:
    """The command that runs `argv` in a network namespace and dies with its parent.

    A name ``NAMESPACE@ADDRESS`` is a User-Mode-Linux host that is reached from the namespace.
    """
    where, _, address = namespace.partition("@")
    prefix = ["setpriv", "--pdeathsig", "KILL", "ip", "netns", "exec", where]
    if address:
        prefix += [sys.executable, "-I", "-S", str(UML_AGENT), "call", address, str(UML_PORT)]
    return [*prefix, *map(str, argv)]


@dataclass(slots=True)
class Processes:
    """Starts programs and remembers them in the run's state.

    Parameters
    ----------
    state : RunState
        Where pids are written down; logs go to its folder.
    """

    state: RunState
    started: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)

    def start(self, name: str, namespace: str, argv: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        """Start a long-lived program; both its outputs go to ``NAME.log`` in the work folder."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                in_namespace(namespace, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.state.note("process", name=name, pid=process.pid, start=process_start(process.pid))
        self.started.append((name, process))
        return process

    def log(self, name: str) -> Path:
        """Where the output of a program goes."""
        return self.state.folder / f"{name}.log"

    def run(self, namespace: str, argv: Sequence[str | Path], *, timeout_s: float = 20.0) -> str:
        """Run a short command to its end and return its output.

        Raises
        ------
        ScenarioError
            It failed or took too long; the message holds what it said.
        """
        command = " ".join(map(str, argv))
        try:
            done = subprocess.run(
                in_namespace(namespace, argv),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ScenarioError(f"`{command}` did not end in {timeout_s:g} s") from error
        if done.returncode:
            said = (done.stderr or done.stdout).decode(errors="replace").strip()
            raise ScenarioError(f"`{command}` failed with status {done.returncode}: {said}")
        return done.stdout.decode(errors="replace")

    def succeeds(self, namespace: str, argv: Sequence[str | Path]) -> bool:
        """Whether a short command ends with status 0."""
        done = subprocess.run(
            in_namespace(namespace, argv),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
        return done.returncode == 0

    def wait_for(self, what: str, ready: Callable[[], bool], *, timeout_s: float = 15.0) -> None:
        """Poll until `ready()`; a long-lived program that ends meanwhile is an error with its last words."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            for name, process in self.started:
                if process.poll() is not None:
                    raise ScenarioError(
                        f"{name} ended with status {process.returncode}: {self.last_words(name)}"
                    )
            if time.monotonic() > deadline:
                logs = "; ".join(f"{name}: {self.last_words(name)}" for name, _ in self.started[-3:])
                raise ScenarioError(f"{what} was not ready after {timeout_s:g} s ({logs})")
            time.sleep(0.05)

    def last_words(self, name: str) -> str:
        """The last 400 characters that a program logged."""
        path = self.log(name)
        return path.read_text(errors="replace")[-400:].strip() if path.exists() else ""

    def stop(
        self,
        *processes: subprocess.Popen[bytes],
        with_signal: int = signal.SIGTERM,
        patience_s: float = 5.0,
    ) -> None:
        """End programs: a signal to each, some seconds for all of them together, then SIGKILL."""
        running = [process for process in processes if process.poll() is None]
        for process in running:
            process.send_signal(with_signal)
        deadline = time.monotonic() + patience_s
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0.0))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.started = [(n, p) for n, p in self.started if p not in processes]

    def stop_named(self, prefix: str) -> None:
        """End the programs whose names begin so, and wait until they have written what they have to say."""
        self.stop(*(process for name, process in self.started if name.startswith(prefix)))

    def stop_all(self) -> None:
        """End every program still running, the last started first; none has anything more to say."""
        self.stop(*(process for _, process in reversed(self.started)), patience_s=0.2)
